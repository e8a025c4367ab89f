"""ONNX graphs built node by node: the same weights give the same bytes, on any machine, whatever made the weights.

No exporter is used, so there is nothing of the machine to strip (torch's writes source paths), and an operator's form
is the builder's choice. Weights are float32, the batch axis "B" is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from .graphs import OPSET

IR_VERSION = 8


class GraphBuilder:
    """Collects nodes, then builds one graph. Values are referred to by name."""

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        """Args: inputs: dimensions without the batch axis, by name."""
        self.inputs = [self._value(name, dims) for name, dims in inputs.items()]
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

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

    def last_of_lstm(self, x: str, *weights: str, hidden: int) -> str:
        """The last output [B, hidden] of an LSTM over x [B, T, features]; `weights` as ONNX's operator takes them."""
        steps, last = self.op("Transpose", x, perm=[1, 0, 2]), f"t{len(self.nodes)}"
        node = helper.make_node("LSTM", [steps, *weights], ["", last], name=f"n{len(self.nodes)}", hidden_size=hidden)
        self.nodes.append(node)
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
