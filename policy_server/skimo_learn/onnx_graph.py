"""Torch's networks as nodes of ONNX graphs.

Where many rows are computed at once, ELU is written as max(x, 0) + exp(min(x, 0)) with its -1 folded into the next
layer's bias, because ONNX Runtime's Elu costs as much as the matrix product there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from skimo_server.graph_builder import GraphBuilder

from .models.hand import NEAR_M, HandPose, Reach

Array = npt.NDArray[np.float32]


class NetworkBuilder(GraphBuilder):
    """Builds a graph of torch's layers."""

    def __init__(self, inputs: Mapping[str, Sequence[int]], *, fast_elu: bool = False) -> None:
        """Args: inputs: dimensions without the batch axis, by name; fast_elu: rewrite ELU (see above)."""
        super().__init__(inputs)
        self.fast_elu = fast_elu

    def linear(self, x: str, weight: Array, bias: Array) -> str:
        """x W^T + b, W as torch keeps it [out, in]."""
        return self.op("Gemm", x, self.constant(weight.T), self.constant(bias))

    def mlp(self, x: str, net: nn.Sequential) -> str:
        """Layers in a row, as `mlp` and `bounded_mlp` of models.networks make them."""
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
            elif isinstance(layer, nn.Tanh):
                x = self.op("Tanh", x)
            elif isinstance(layer, nn.SiLU):
                x = self.op("Mul", x, self.op("Sigmoid", x))
            elif self.fast_elu:
                negative = self.op("Exp", self.op("Min", x, self.constant(0.0)))
                x, shift = self.op("Add", self.op("Relu", x), negative), 1.0
            else:
                x = self.op("Elu", x)
        return x

    def waves(self, x: str, octaves: int) -> tuple[str, str]:
        """Sines and cosines of x [B, O], as `models.networks.waves` has them."""
        scaled = self.op("Concat", *(self.op("Mul", x, self.constant(2.0**k)) for k in range(octaves)), axis=1)
        return self.op("Sin", scaled), self.op("Cos", scaled)

    def hand_pose(self, q_rad: str, hand: HandPose) -> str:
        """The hand's pose [..., P] at joint angles [..., J], as `HandPose.forward` reckons it."""
        cos, sin = self.op("Cos", q_rad), self.op("Sin", q_rad)
        x, turns_J3PP, offsets_JP = "", hand.turn_J3PP.numpy(), hand.offset_JP.numpy()
        for joint in reversed(range(len(offsets_JP))):
            if x:
                turned = [self.op("MatMul", x, self.constant(turn)) for turn in turns_J3PP[joint]]
            else:
                turned = [self.constant(hand.tool_P.numpy() @ turn) for turn in turns_J3PP[joint]]
            c, s = (self.op("Mul", self.slice(x, joint, joint + 1), t) for x, t in zip((cos, sin), turned))
            x = self.op("Add", self.op("Add", self.op("Add", c, s), turned[2]), self.constant(offsets_JP[joint]))
        return x

    def reach(self, observation: str, pose: str, reach: Reach, axis: int) -> str:
        """Where bodies are from the hand [..., 6 R], as `Reach.forward` reckons it; `axis` is that of the channels."""
        turned = (self.op("MatMul", pose, self.constant(matrix)) for matrix in reach.pose_7PQ.numpy())
        from_tool, ahead, opens, *crossed = turned
        placed = self.op("Add", self.op("MatMul", observation, self.constant(reach.place_OQ.numpy())), from_tool)
        offset = self.op("Add", placed, self.constant(reach.place_Q.numpy()))
        across = self.op("Add", self.op("Mul", *crossed[:2]), self.op("Mul", *crossed[2:]))
        each = (self.op("Mul", offset, direction) for direction in (ahead, opens, across))
        summed = [self.op("MatMul", part, self.constant(reach.sum_QR.numpy())) for part in each]
        seen = self.op("Concat", *summed, axis=axis)
        return self.op("Concat", seen, self.op("Tanh", self.op("Mul", seen, self.constant(1.0 / NEAR_M))), axis=axis)

    def lstm(self, x: str, net: nn.LSTM) -> str:
        """The last output [B, hidden] of a one-layer LSTM over x [B, T, features]."""

        def gates(matrix: Array) -> Array:  # torch: input, forget, cell, output; ONNX: input, output, forget, cell
            i, f, c, o = np.split(matrix, 4)
            return np.concatenate([i, o, f, c])[None]

        parts = [p.detach().numpy() for p in net.parameters()]  # input and recurrent weights, then biases
        w, r, bias_in, bias_rec = (gates(p) for p in parts)
        weights = (w, r, np.concatenate([bias_in, bias_rec], axis=1))
        return self.last_of_lstm(x, *(self.constant(part) for part in weights), hidden=net.hidden_size)
