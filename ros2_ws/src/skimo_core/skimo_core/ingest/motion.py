"""Actions out of motions: joint velocities from positions or from poses' changes, finger intents from a hand's width.

Joint positions and velocities are of the domain's arm, rad and rad/s; poses of the flange in the base's frame or its
own, m and rad. Pure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract.types import Array
from ..control.executed import velocities_rad_s
from ..domain.kinematics import joint_frames
from ..domain.robot import RobotLimits

DAMPING = 0.02
"""Of the least squares (m and rad in one): below this singular value a direction is given up gradually."""
LIKE_POSITIONS = 0.95
"""Correlation with the positions from which on actions are taken for positions."""
MOVED_RAD = 0.02
"""Standard deviation of a joint that moved enough to be compared."""
OPEN, CLOSED = 1.0, -1.0
"""Intents."""


def velocities(q_rad: Array, period_s: float) -> Array:
    """Joint velocities [N - 1, J] that lead along positions [N, J], one per control period.

    By the rule of `control.executed`: row k is the velocity when its period ends, on this grid the central difference
    over two periods, (q[k + 2] - q[k]) / 2T, and at the end the last one. What is executed is then the path smoothed
    with weights that add up to 1 over three rows; the sums telescope, so that nothing drifts.
    """
    times_s = period_s * np.arange(len(q_rad), dtype=np.float64)
    return velocities_rad_s(times_s, q_rad, times_s[:-1], period_s)


def joint_velocities(robot: RobotLimits, q_rad: Array, twist: Array, frame: str) -> Array:
    """Joint velocities [K, J] that move the flange at positions [K, J] by twists [K, 3] (m/s) or [K, 6] (and rad/s).

    Damped least squares on the geometric Jacobian: J^T (J J^T + DAMPING^2)^-1 v (Nakamura and Hanafusa
    1986; Wampler 1986).

    Args:
        frame: whose axes the twist is along: "base" or "tool" (the flange's).
    """
    jacobian, rotation = flange_jacobian(robot, q_rad)
    size = twist.shape[1]
    if frame == "tool":
        twist = np.concatenate(
            [np.einsum("kij,kj->ki", rotation, twist[:, i : i + 3]) for i in range(0, size, 3)], axis=1
        )
    jacobian = jacobian[:, :size]
    square = jacobian @ jacobian.transpose(0, 2, 1) + DAMPING**2 * np.eye(size)
    return np.einsum("kij,ki->kj", jacobian, np.linalg.solve(square, twist[..., None])[..., 0])


def flange_jacobian(robot: RobotLimits, q_rad: Array) -> tuple[Array, Array]:
    """The flange's geometric Jacobian [K, 6, J] (m/rad, then rad/rad) in the base's axes; its rotation [K, 3, 3]."""
    rotations, origins = joint_frames(robot, q_rad)
    flange = origins[-1] + rotations[-1][:, :, 2] * robot.flange_m
    axes = rotations[1:, :, :, 2]
    shift = np.cross(axes, flange[None] - origins[1:])
    jacobian: Array = np.concatenate([shift, axes], axis=2, dtype=np.float64).transpose(1, 2, 0)
    return jacobian, rotations[-1]


def intents_of_width(width_m: Array, threshold_m: float) -> Array:
    """Intents [T], 1 open and -1 closed, of a hand whose width [T] was measured.

    An intent changes where the width comes back from its furthest by the threshold (hysteresis), and is dated back to
    the last row that was within a quarter of it: where the hand set out. A hand whose first move is an opening was
    closed until then, and the other way round; one that never moves is open if it stands wider than the threshold.
    """
    state = _first_intent(width_m, threshold_m)
    intents, turn, set_out = np.full(len(width_m), state), 0, 0
    for row, width in enumerate(width_m):
        back = state * (width_m[turn] - width)
        if back <= 0:
            turn = row
        if back <= threshold_m / 4:
            set_out = row
        elif back > threshold_m:
            state = -state
            intents[set_out:] = state
            turn = set_out = row
    return intents


def _first_intent(width_m: Array, threshold_m: float) -> float:
    away = np.flatnonzero(np.abs(width_m - width_m[0]) > threshold_m)
    if not len(away):
        return OPEN if width_m[0] > threshold_m else CLOSED
    return CLOSED if width_m[away[0]] > width_m[0] else OPEN


def intents_of_command(command: Array, open_at: float, closed_at: float) -> Array:
    """Intents [T] of a command [T]: 1 at `open_at`, -1 at `closed_at`, in between in proportion, never beyond."""
    share = (command - closed_at) / (open_at - closed_at)
    return np.clip(2 * share - 1, CLOSED, OPEN)


def yaws(quaternions: Array) -> Array:
    """Turns [N] about z, rad, that go on beyond a half turn, of unit quaternions [N, 4] (w first)."""
    w, x, y, z = quaternions.T
    return np.unwrap(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def why_positions(actions_TJ: npt.NDArray[np.floating], q_rad: Array) -> str:
    """Why actions [T, J] look like positions [T + 1, J] and not like velocities; empty: they don't."""
    with_positions, with_motion = [], []
    for action, q in zip(actions_TJ.T, q_rad.T):
        if np.std(action) > 1e-9 and np.std(q) > MOVED_RAD and len(action) > 2:
            with_positions.append(max(_correlation(action, q[1:]), _correlation(action, q[:-1])))
            with_motion.append(_correlation(action, np.diff(q)))
    if not with_positions or np.median(with_positions) < max(LIKE_POSITIONS, float(np.median(with_motion))):
        return ""
    return (
        f"they correlate {np.median(with_positions):.2f} with the joints' positions and {np.median(with_motion):.2f} "
        "with their velocities (medians over the joints that move), so they are positions; say `arm: {kind: "
        "velocities, field: ..., columns: ..., unit: ...}`, which derives velocities from them"
    )


def _correlation(one: Array, other: Array) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if np.std(one) > 1e-12 and np.std(other) > 1e-12 else 0.0
