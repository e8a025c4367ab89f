"""ONNX graphs built node by node: the same weights give the same bytes, on any machine, with any torch version.

No exporter is used, so there is nothing of the machine to strip (torch's writes source paths), and an operator's form
is our choice: where many rows are computed at once, ELU is written as max(x, 0) + exp(min(x, 0)) with its -1 folded
into the next layer's bias, because ONNX Runtime's Elu costs as much as the matrix product there.

Weights are float32, opset 17, batch axis "B" free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET = 17
IR_VERSION = 8

Array = npt.NDArray[np.float32]


class GraphBuilder:
    """Collects nodes, then builds one graph. Values are referred to by name."""

    def __init__(self, inputs: Mapping[str, Sequence[int]], *, fast_elu: bool = False) -> None:
        """Args: inputs: dimensions without the batch axis, by name; fast_elu: rewrite ELU (see above)."""
        self.inputs = [self._value(name, dims) for name, dims in inputs.items()]
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.fast_elu = fast_elu

    @staticmethod
    def _value(name: str, dims: Sequence[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *dims])

    def constant(self, value: npt.NDArray[np.generic] | float | Sequence[float]) -> str:
        """A weight (float32 unless it is an int64 array); returns its name."""
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        name = to or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def linear(self, x: str, weight: Array, bias: Array) -> str:
        """x W^T + b, W as torch keeps it [out, in]."""
        return self.op("Gemm", x, self.constant(weight.T), self.constant(bias))

    def mlp(self, x: str, net: nn.Sequential) -> str:
        """Linear layers with ELU, or LayerNorm and SiLU, between, as `models.networks.mlp` makes them."""
        shift = 0.0
        for layer in net:
            if isinstance(layer, nn.Linear):
                weight = layer.weight.detach().double().numpy()
                bias = layer.bias.detach().double().numpy() - shift * weight.sum(1)
                x = self.linear(x, weight.astype(np.float32), bias.astype(np.float32))
                shift = 0.0
            elif isinstance(layer, nn.LayerNorm):
                scale, offset = (self.constant(p.detach().numpy()) for p in (layer.weight, layer.bias))
                x = self.op("LayerNormalization", x, scale, offset, axis=-1, epsilon=layer.eps)
            elif isinstance(layer, nn.SiLU):
                x = self.op("Mul", x, self.op("Sigmoid", x))
            elif self.fast_elu:
                negative = self.op("Exp", self.op("Min", x, self.constant(0.0)))
                x, shift = self.op("Add", self.op("Relu", x), negative), 1.0
            else:
                x = self.op("Elu", x)
        return x

    def lstm(self, x: str, net: nn.LSTM) -> str:
        """The last output [B, hidden] of a one-layer LSTM over x [B, T, features]."""
        hidden = net.hidden_size

        def gates(matrix: Array) -> Array:  # torch: input, forget, cell, output; ONNX: input, output, forget, cell
            i, f, c, o = np.split(matrix, 4)
            return np.concatenate([i, o, f, c])[None]

        parts = [p.detach().numpy() for p in net.parameters()]  # input and recurrent weights, then biases
        w, r, bias_in, bias_rec = (gates(p) for p in parts)
        bias = np.concatenate([bias_in, bias_rec], axis=1)
        steps = self.op("Transpose", x, perm=[1, 0, 2])
        last = f"t{len(self.nodes)}"
        inputs = [steps, self.constant(w), self.constant(r), self.constant(bias)]
        self.nodes.append(helper.make_node("LSTM", inputs, ["", last], name=f"n{len(self.nodes)}", hidden_size=hidden))
        return self.op("Squeeze", last, self.constant(np.array([0], np.int64)))

    def slice(self, x: str, first: int, end: int) -> str:
        """Columns first..end of the last axis."""
        bounds = [self.constant(np.array([n], np.int64)) for n in (first, end, -1)]
        return self.op("Slice", x, *bounds)

    def output(self, x: str, name: str, dims: Sequence[int] = ()) -> None:
        """Give a value out under a name."""
        self.op("Identity", x, to=name)
        self.outputs.append(self._value(name, dims))

    def build(self) -> bytes:
        """The ONNX file."""
        graph = helper.make_graph(self.nodes, "skimo", self.inputs, self.outputs, self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="skimo", ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)
