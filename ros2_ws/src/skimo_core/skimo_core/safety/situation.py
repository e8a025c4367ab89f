"""What the gate's checks look at, and how strictly: the robot, the command, the clock, and the motion to come.

Data only. Units rad, s, m, Nm; joint vectors [7].
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..contract.errors import SpecError
from ..contract.types import Array, GripperCommand, JointTrajectory, RobotState, Verdict
from ..control.rigged import beyond_arrival_s
from ..control.trajectory import SHORTEST_S, TrajectoryFollower
from ..domain.cell import Contact
from ..domain.kinematics import arm_points, joint_frames, points_in
from ..domain.rig import Rig
from ..domain.robot import RobotLimits
from .bounds import Extent, extents
from .collision import Collision, Room
from .looks import Travel
from .path import TRANSIT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """How strict the gate is. The limits themselves are the robot's.

    Attributes:
        state_age_max_s: with an older robot state no command is followed.
        state_lost_s: with one older than this the arm is stopped; so it is with a robot mode older than this.
        skew_max_s: how far ahead of the gate's clock a robot state's stamp may lie.
        sleep_max_s: a gate that was not called for longer was asleep: the next command is refused.
        leave_after_s: how long the path under way goes on while a new command, or a brake, is on its way to the arm.
        command_age_max_s, command_ahead_max_s: a command whose start lies further back or ahead is refused.
        duration_max_s: a trajectory must be at rest by then.
        points_max, segment_min_s: most points of a trajectory, and the least time between two of them. Shorter ones
            turn the last bits of positions into jerk.
        start_gap_rad: how far a point may lie from the desired position, beyond what full speed covers by then.
        tolerance: of a limit, below which an excess is not noticed; covers what the bounds exceed the motion by.
        excess_max: of a limit, above which a command is refused rather than limited.
        position_slack_rad, velocity_slack: a measured position this far outside the joint range, or a measured speed
            this many times the limit, is no measurement.
        arrival_s: an arm that is still that far off this long after it was to rest does not follow, and is stopped.
        reference_hold_rad, reference_stop_rad: how far the controller's own reference may lie from what it was told.
        contact: how far the arm may lie from where it was told to be, and what it may feel from outside; None: the
            cell's.
        workspace_low_m, workspace_high_m: box in the base frame; None: the cell's.
        glance_m: the motion is looked at so densely that no point of the arm goes further between two looks;
        travel_m: the same where that doesn't tell that workspace and tool speed are kept. Collisions are looked for as
            closely as need be.
        retreat_m: how much nearer an arm that is too near already may come on its way out; covers the looks.
    """

    state_age_max_s: float = 0.1
    state_lost_s: float = 0.5
    skew_max_s: float = 0.02
    sleep_max_s: float = 0.5
    leave_after_s: float = TRANSIT_S
    command_age_max_s: float = 0.06
    command_ahead_max_s: float = 0.02
    duration_max_s: float = 2.0
    points_max: int = 200
    segment_min_s: float = SHORTEST_S
    start_gap_rad: float = 0.05
    tolerance: float = 0.005
    excess_max: float = 0.5
    position_slack_rad: float = 0.2
    velocity_slack: float = 1.5
    arrival_s: float = 0.5
    reference_hold_rad: float = 0.05
    reference_stop_rad: float = 0.15
    contact: Contact | None = None
    workspace_low_m: tuple[float, float, float] | None = None
    workspace_high_m: tuple[float, float, float] | None = None
    travel_m: float = 0.03
    glance_m: float = 0.06
    retreat_m: float = 0.002

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise SpecError(f"gate: {name} is {value}, must be positive")
        if not 0 <= self.tolerance <= self.excess_max:
            raise SpecError(f"gate: tolerance {self.tolerance} must be in [0, excess_max {self.excess_max}]")
        if self.reference_hold_rad > self.reference_stop_rad:
            raise SpecError(
                f"gate: reference_hold_rad {self.reference_hold_rad} exceeds reference_stop_rad "
                f"{self.reference_stop_rad}"
            )


def gate_in_time(config: GateConfig, rig: Rig) -> GateConfig:
    """A gate under which the path goes on for as long as a command takes to the arm by the rig.

    A brake that left it sooner would come too late, and be harder than was judged.
    """
    return replace(config, leave_after_s=config.leave_after_s + beyond_arrival_s(rig))


_POSITIVE = (
    "state_age_max_s",
    "state_lost_s",
    "skew_max_s",
    "sleep_max_s",
    "leave_after_s",
    "command_age_max_s",
    "duration_max_s",
    "points_max",
    "segment_min_s",
    "start_gap_rad",
    "position_slack_rad",
    "velocity_slack",
    "arrival_s",
    "reference_hold_rad",
    "travel_m",
    "glance_m",
    "retreat_m",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Where the arm is at some times of a motion.

    Attributes:
        times_s: [K], from the start to rest.
        points_m: [K, 4, 3] the arm's `POINTS` then, in the base frame.
        stray_m: no point of the arm is further than this from where it is at the nearest look.
    """

    times_s: Array
    points_m: Array
    stray_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """The desired motion that a command leads to, from now to rest.

    Attributes:
        q, dq, ddq, dddq: between which values it stays, part by part, at every instant (`bounds`).
        start_q_rad: [7] where it begins.
        glance: looks that tell enough in most cases.
        closely: looks as close as `GateConfig.travel_m` asks; made when they are asked for.
        collision, room: the arm in its cell, and what room it has on the way; None: not looked at, because nobody
            asked, or because the motion breaks a joint's limits and so won't be followed.
    """

    q: Extent
    dq: Extent
    ddq: Extent
    dddq: Extent
    start_q_rad: Array
    glance: Looks
    closely: Callable[[], Looks]
    collision: Collision | None = None
    room: Room | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that a check may look at.

    Attributes:
        now_s: the gate's clock.
        robot: newest robot state; None if none ever came.
        awake_s: since when the gate has been awake: what came late while it slept is not the robot's fault.
        desired_q_rad: [7] the position desired now.
        expected_q_rad, expected_reference_q_rad: [7] the position that the arm was told for the time of the robot
            state, and for that of the controller's own reference; None: not known.
        rested_s: for how long that has been a place of rest.
        last_start_s: start of the last trajectory let through.
        trajectory: the one proposed; None when only the robot is looked at.
        gripper: the hand goal proposed, if any.
        others: [K] the actions proposed, of a domain without an arm.
        motion: where the trajectory leads; None if there is none, or it is malformed.
    """

    now_s: float
    robot: RobotState | None
    desired_q_rad: Array
    awake_s: float = -np.inf
    expected_q_rad: Array | None = None
    expected_reference_q_rad: Array | None = None
    rested_s: float = 0.0
    last_start_s: float = -np.inf
    trajectory: JointTrajectory | None = None
    gripper: GripperCommand | None = None
    others: Array | None = None
    motion: Motion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's objection."""

    check: str
    verdict: Verdict
    reason: str


Check = Callable[[Situation, RobotLimits, GateConfig], "Finding | None"]


def foresee(
    follower: TrajectoryFollower, limits: RobotLimits, config: GateConfig, collision: Collision | None = None
) -> Motion:
    """The motion of `follower` from its start to rest; `collision` is the arm in its cell."""
    q, dq, ddq, dddq = extents(follower.coefficients, np.diff(follower.knots_s))
    travel = Travel.of(follower.knots_s, dq)
    times_s, stray_m = travel.looks(limits, config.glance_m)
    q_rad = follower.positions(times_s)
    frames = joint_frames(limits, q_rad)
    kept = all(
        (extent.size <= limit * (1 + config.tolerance)).all()
        for extent, limit in ((dq, limits.dq_max_rad_s), (ddq, limits.ddq_max_rad_s2), (dddq, limits.dddq_max_rad_s3))
    )

    @functools.cache
    def closely() -> Looks:
        dense_s, near_m = travel.looks(limits, config.travel_m)
        return Looks(times_s=dense_s, points_m=arm_points(limits, follower.positions(dense_s)), stray_m=near_m)

    return Motion(
        q=q,
        dq=dq,
        ddq=ddq,
        dddq=dddq,
        start_q_rad=q_rad[0],
        glance=Looks(times_s=times_s, points_m=points_in(limits, frames), stray_m=stray_m),
        closely=closely,
        collision=collision,
        room=collision.along(times_s, frames, follower.positions, travel.until) if collision and kept else None,
    )
