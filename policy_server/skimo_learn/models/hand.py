"""Where the hand is, as something that networks read beside the joint angles it follows from.

The angles alone leave it to each network to learn the arm's geometry from play; a grip asks for centimetres. The arm's
Denavit-Hartenberg parameters are in its data sheet, so forward kinematics is a layer with known weights: everything at
and after a joint turns about it, c = cos q, s = sin q,

    x_{j-1} = c (x_j C_j) + s (x_j S_j) + x_j Z_j + t_j                       (Craig's convention)

for a row x of the point between the finger tips and the directions in which the hand points and its fingers open, from
the last joint to the first. Ours, not part of SkiMo.

Dimensions: J joints, P = 9.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from skimo_core.domain.kinematics import joint_offsets, joint_turns
from skimo_core.domain.robot import RobotLimits

WIDTH = 9


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
