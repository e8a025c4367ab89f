"""Where the hand is, as something that networks read beside the joint angles it follows from.

The angles alone leave it to each network to learn the arm's geometry from play; a grip asks for centimetres. The arm's
Denavit-Hartenberg parameters are in its data sheet, so forward kinematics is a layer with known weights: everything at
and after a joint turns about it, c = cos q, s = sin q,

    x_{j-1} = c (x_j C_j) + s (x_j S_j) + x_j Z_j + t_j                       (Craig's convention)

for a row x of the point between the finger tips and the directions in which the hand points and its fingers open, from
the last joint to the first. What a grip is about is not where hand and things are but where things are from the hand;
`Reach` is that difference, again with known weights. Ours, not part of SkiMo.

Dimensions: O observation, J joints, P = 9, R bodies, Q = 3 R.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from skimo_core.domain.kinematics import joint_offsets, joint_turns
from skimo_core.domain.pose import HERE, Pose
from skimo_core.domain.robot import RobotLimits

WIDTH = 9
WIDTH_PER_BODY = 6
NEAR_M = 0.04
"""Within about so much of the fingertips a body's place is told finely: a finger's way."""


class HandPose(nn.Module):
    """[..., J] joint angles, rad, to [..., P]: tool point, m, and two unit vectors, in the arm's base frame.

    All zero until `mount` gives it an arm; a checkpoint carries the arm.
    """

    turn_J3PP: Tensor
    offset_JP: Tensor
    tool_P: Tensor

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.register_buffer("turn_J3PP", torch.zeros(joints, 3, WIDTH, WIDTH))
        self.register_buffer("offset_JP", torch.zeros(joints, WIDTH))
        self.register_buffer("tool_P", torch.zeros(WIDTH))

    def mount(self, limits: RobotLimits) -> None:
        """Take the geometry of an arm (of as many joints)."""
        angles_rad = np.outer([0.0, np.pi / 2, np.pi], np.ones(limits.joints))
        still, quarter, half = joint_turns(limits, angles_rad).swapaxes(0, 1)
        rest = (still + half) / 2
        for k, part_J33 in enumerate(((still - half) / 2, quarter - rest, rest)):
            blocks = np.stack([np.kron(np.eye(3), part.T) for part in part_J33])
            self.turn_J3PP[:, k] = torch.from_numpy(blocks)
        self.offset_JP.zero_()
        self.offset_JP[:, :3] = torch.from_numpy(joint_offsets(limits)).float()
        opens = -np.sin(limits.hand_yaw_rad), np.cos(limits.hand_yaw_rad), 0.0
        self.tool_P.copy_(torch.tensor([0.0, 0.0, limits.tool_m, 0.0, 0.0, 1.0, *opens]))

    def forward(self, q_rad: Tensor) -> Tensor:
        """See the class."""
        c, s = torch.cos(q_rad), torch.sin(q_rad)
        x = self.tool_P
        for joint in reversed(range(len(self.offset_JP))):
            cos, sin, rest = self.turn_J3PP[joint]
            x = c[..., joint : joint + 1] * (x @ cos) + s[..., joint : joint + 1] * (x @ sin) + x @ rest
            x = x + self.offset_JP[joint]
        return x


class Reach(nn.Module):
    """[..., O] raw observations and [..., P] hand poses to [..., 6 R]: where each body is, as the hand sees it.

    Along the direction in which the hand points, along that in which its fingers open, and across both, for all bodies
    each: m; then the same three as tanh(x / NEAR_M). Bodies are taken to be told in the arm's base frame until `mount`.

    Args:
        observation: O.
        bodies: [R][3] the channels of each body's x, y and z.
    """

    place_OQ: Tensor
    place_Q: Tensor
    pose_7PQ: Tensor
    sum_QR: Tensor

    def __init__(self, observation: int, bodies: Sequence[Sequence[int]]) -> None:
        super().__init__()
        count = len(bodies)
        self._bodies = [list(body) for body in bodies]
        xyz, yzx, zxy = [0, 1, 2], [1, 2, 0], [2, 0, 1]
        tool, ahead, opens = range(3)
        crossed = (1, ahead, yzx), (1, opens, zxy), (-1, ahead, zxy), (1, opens, yzx)
        parts = (-1, tool, xyz), (1, ahead, xyz), (1, opens, xyz), *crossed
        self.register_buffer("place_OQ", torch.zeros(observation, 3 * count))
        self.register_buffer("place_Q", torch.zeros(3 * count))
        self.register_buffer("pose_7PQ", torch.zeros(len(parts), WIDTH, 3 * count))
        self.register_buffer("sum_QR", torch.kron(torch.eye(count), torch.ones(3, 1)))
        for matrix_PQ, (sign, vector, order) in zip(self.pose_7PQ, parts):
            matrix_PQ[3 * vector : 3 * vector + 3] = sign * torch.eye(3)[:, order].repeat(1, count)
        self.mount(HERE)

    def mount(self, frame: Pose) -> None:
        """Take where the frame that bodies are told in stands in the arm's base frame."""
        self.place_OQ.zero_()
        for k, body in enumerate(self._bodies):
            self.place_OQ[body, 3 * k : 3 * k + 3] = torch.from_numpy(frame.rotation.T).float()
        self.place_Q.copy_(torch.from_numpy(np.tile(frame.position_m, len(self._bodies))))

    def forward(self, observation: Tensor, pose: Tensor) -> Tensor:
        """See the class."""
        from_tool, ahead, opens, *crossed = (pose @ matrix_PQ for matrix_PQ in self.pose_7PQ)
        offset = observation @ self.place_OQ + self.place_Q + from_tool
        across = crossed[0] * crossed[1] + crossed[2] * crossed[3]
        seen = torch.cat([(offset * direction) @ self.sum_QR for direction in (ahead, opens, across)], dim=-1)
        return torch.cat([seen, torch.tanh(seen / NEAR_M)], dim=-1)
