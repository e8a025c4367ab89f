"""Where a board's corners should be in every view, for a guess of all that is unknown, and how that changes with it.

Frames: skimo_core.domain.rig's. Eye-in-hand: the mount is the flange, and the board stands in the base frame;
eye-to-base: the mount is the base, and the flange bears the board. An encoder reads true + offset. Units m, rad, px.
Dimensions: V views, N corners in a view (unused places have weight 0), J joints, G common unknowns: the camera's pose
(6), the board's (6), the joints' offsets (J), the lens (9), the board's scale (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from ..rigid import inverse, joints_and_flange, moved, skew
from .board import Board, Corners
from .camera import lens_slope, point_slope, project


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the views saw, and where the joints read to be.

    Attributes:
        pixels: [V, N, 2] corners.
        points_m: [V, N, 3] the same on the board.
        weight: [V, N] 1 where there is a corner, else 0.
        q_rad: [V, J] as read.
        mount: "flange" or "base": what bears the camera.
    """

    pixels: Array
    points_m: Array
    weight: Array
    q_rad: Array
    mount: str

    def of(self, views: npt.NDArray[np.int64] | Sequence[int]) -> Seen:
        """Some of the views."""
        index = np.asarray(views, np.int64)
        return replace(
            self,
            pixels=self.pixels[index],
            points_m=self.points_m[index],
            weight=self.weight[index],
            q_rad=self.q_rad[index],
        )


def seen_of(board: Board, corners: Sequence[Corners], q_rad: Array, mount: str) -> Seen:
    """Pack the corners of all views."""
    most, points_m = max(len(c.ids) for c in corners), board.points_m
    pixels, points = np.zeros((len(corners), most, 2)), np.zeros((len(corners), most, 3))
    weight = np.zeros((len(corners), most))
    for k, found in enumerate(corners):
        count = len(found.ids)
        pixels[k, :count], points[k, :count], weight[k, :count] = found.pixels, points_m[found.ids], 1.0
    points[weight == 0] = points_m.mean(axis=0)
    return Seen(pixels=pixels, points_m=points, weight=weight, q_rad=q_rad, mount=mount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A value for every unknown.

    Attributes:
        camera: [4, 4] mount_from_camera.
        board: [4, 4] the board's pose on the other side: base_from_board, or flange_from_board.
        offset_rad: [J].
        lens: [9] fx, fy, cx, cy, k1, k2, p1, p2, k3.
        noise_rad: [V, J] what each joint reads beyond its true position and offset.
        scale: of the board: its true size over the declared one.
    """

    camera: Array
    board: Array
    offset_rad: Array
    lens: Array
    noise_rad: Array
    scale: float = 1.0


def stepped(guess: Guess, common: Array, own: Array) -> Guess:
    """The guess moved by common unknowns [G], poses in their own frames, and the joints' noise [V, J]."""
    joints = len(guess.offset_rad)
    return Guess(
        camera=moved(guess.camera, common[:6]),
        board=moved(guess.board, common[6:12]),
        offset_rad=guess.offset_rad + common[12 : 12 + joints],
        lens=guess.lens + common[12 + joints : -1],
        noise_rad=guess.noise_rad + own,
        scale=guess.scale + float(common[-1]),
    )


def predict(limits: RobotLimits, seen: Seen, guess: Guess) -> Array:
    """Pixels [V, N, 2] where the corners should be."""
    return project(_Geometry.of(limits, seen, guess).in_camera, guess.lens)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Geometry:
    """Where everything is for a guess.

    Attributes:
        axes, origins: [V, J, 3] of the joints in the base frame.
        camera_from_base: [V, 4, 4].
        camera_from_board: [V, 4, 4].
        in_base, in_camera: [V, N, 3] the corners.
    """

    axes: Array
    origins: Array
    camera_from_base: Array
    camera_from_board: Array
    in_base: Array
    in_camera: Array

    @classmethod
    def of(cls, limits: RobotLimits, seen: Seen, guess: Guess) -> _Geometry:
        axes, origins, flange = joints_and_flange(limits, seen.q_rad - guess.offset_rad - guess.noise_rad)
        if seen.mount == "flange":
            camera_from_base, base_from_board = inverse(flange @ guess.camera), guess.board
        else:
            camera_from_base, base_from_board = inverse(guess.camera), flange @ guess.board
        camera_from_base = np.broadcast_to(camera_from_base, flange.shape)
        base_from_board = np.broadcast_to(base_from_board, flange.shape)
        in_base = _through(base_from_board, seen.points_m * guess.scale)
        return cls(
            axes=axes,
            origins=origins,
            camera_from_base=camera_from_base,
            camera_from_board=camera_from_base @ base_from_board,
            in_base=in_base,
            in_camera=_through(camera_from_base, in_base),
        )


def _through(poses: Array, points_m: Array) -> Array:
    return points_m @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]


def slopes(limits: RobotLimits, seen: Seen, guess: Guess) -> tuple[Array, Array, Array]:
    """Residuals [V, 2 N] in px, and their derivatives by the common unknowns [V, 2 N, G] and by the noise [V, 2 N, J].

    In the camera's frame a corner moves by -shift - turn x point with the camera, by R (shift + turn x point) with the
    board, and by R (axis x (point - origin)) with a joint that bears the board, the opposite with one that bears the
    camera; R turns from the frame in which it is said.
    """
    place = _Geometry.of(limits, seen, guess)
    views, count, _ = place.in_camera.shape
    points_m = seen.points_m * guess.scale
    by_point = point_slope(place.in_camera, guess.lens)
    by_camera = np.concatenate([np.broadcast_to(-np.eye(3), (views, count, 3, 3)), skew(place.in_camera)], axis=-1)
    board_turn = place.camera_from_board[:, None, :3, :3]
    by_board = np.concatenate([np.broadcast_to(board_turn, (views, count, 3, 3)), -board_turn @ skew(points_m)], -1)
    arms = place.in_base[:, :, None] - place.origins[:, None]
    swing = np.cross(place.axes[:, None], arms) @ np.swapaxes(place.camera_from_base[:, None, :3, :3], -1, -2)
    sign = 1.0 if seen.mount == "flange" else -1.0  # true = read - offset: a larger offset turns the joint back
    by_joint = by_point @ np.swapaxes(sign * swing, -1, -2)
    by_lens = lens_slope(place.in_camera, guess.lens)
    by_scale = by_point @ (board_turn @ seen.points_m[..., None])
    common = np.concatenate([by_point @ by_camera, by_point @ by_board, by_joint, by_lens, by_scale], axis=-1)
    residual = (project(place.in_camera, guess.lens) - seen.pixels) * seen.weight[..., None]
    weight = seen.weight[..., None, None]
    return (
        residual.reshape(views, -1),
        (common * weight).reshape(views, 2 * count, -1),
        (by_joint * weight).reshape(views, 2 * count, -1),
    )
