"""The gate: lets a command through, limits it, refuses it, or stops the arm and stays stopped.

    PASS   the command goes on unchanged
    LIMIT  a mixture of the command and of the motion already under way goes on: as much as the limits allow
    HOLD   nothing goes on; the arm brakes along the path already checked (every trajectory let through ends at rest),
           and the next good command moves it again
    STOP   a braking trajectory goes out, and then nothing until a human resets this very stop (`generation`)

The gate models what the arm has been told (`TrajectoryFollower`), so a command is judged by the motion that it would
really make from the desired state of that moment. It knows nothing of policies and tasks, never clears a robot's
error, and is not a certified safety function: it does not replace the emergency stop. Pure: time is an argument.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np

from ..backend import Backend
from ..errors import BackendError, MissingError
from ..trajectory import TrajectoryFollower
from ..types import JOINTS, Array, GripperCommand, JointCommand, JointTrajectory, ObjectStates, RobotState, Verdict
from .checks import CHECKS, ROBOT_CHECKS, Check, Finding, GateConfig, Motion, Situation, assess, sample_motion
from .limits import RobotLimits

RESYNC_RAD = 0.001
MEASURED_RESYNC_RAD = 0.05
"""An arm at rest whose reference lies this far from what the gate sent was moved by somebody else (a reset, a hand),
and is taken where it is. Measured positions lag behind references, so theirs is the wider bound."""
REST_S = 0.1
KNOT_S = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The gate's answer.

    Attributes:
        verdict: the most restrictive of all checks.
        reasons: every objection, the gravest first, as "check: what".
        command: what is to go on to the arm; None for nothing.
        generation: counts stops; a reset must name it.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    command: JointCommand | None
    generation: int


@dataclass(slots=True)
class GateCounts:
    """Decisions on commands so far, by verdict."""

    by_verdict: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))


class Gate:
    """One arm's gate.

    Args:
        limits: the robot's.
        config: how strict.
        checks: what to look at; the whole table unless a test says otherwise.
    """

    def __init__(
        self, limits: RobotLimits, config: GateConfig | None = None, *, checks: tuple[Check, ...] = CHECKS
    ) -> None:
        self.config = config or GateConfig()
        self.counts = GateCounts()
        self.generation = 0
        self.stopped_for: tuple[str, ...] = ()
        self._limits = limits
        self._checks = checks
        self._robot_checks = tuple(c for c in checks if c in ROBOT_CHECKS)
        self._follower: TrajectoryFollower | None = None
        self._last_start_s = -np.inf

    @property
    def stopped(self) -> bool:
        """Whether a stop is latched."""
        return bool(self.stopped_for)

    def consider(self, command: JointCommand, robot: RobotState | None, now_s: float) -> Decision:
        """Judge one command; what is returned in `command` is what the arm must be sent."""
        decision = self._consider(command, robot, now_s)
        self.counts.by_verdict[decision.verdict] += 1
        return decision

    def consider_hand(self, goal: GripperCommand, robot: RobotState | None, now_s: float) -> Decision:
        """Judge a hand goal that comes without a trajectory; it may go on if the verdict is PASS."""
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        situation = Situation(now_s=now_s, robot=robot, desired_q_rad=self._desired(robot, now_s), gripper=goal)
        verdict, findings = assess(situation, self._limits, self.config, self._checks)
        return self._stop_or(verdict, findings, now_s)

    def watch(self, robot: RobotState | None, now_s: float) -> Decision:
        """Look at the robot alone (call it regularly); a silent policy is no fault, a silent robot is.

        Before the first fresh state of all there is nothing to stop, and nothing is found.
        """
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        if self._follower is None and (robot is None or now_s - robot.stamp_s > self.config.state_age_max_s):
            return self._decide(Verdict.PASS, ())
        situation = Situation(now_s=now_s, robot=robot, desired_q_rad=self._desired(robot, now_s))
        verdict, findings = assess(situation, self._limits, self.config, self._robot_checks)
        return self._stop_or(verdict, findings, now_s)

    def stop(self, reason: str, now_s: float) -> Decision:
        """Stop for a reason from outside (an operator, a caller)."""
        return self._stop((f"asked: {reason}",), now_s)

    def hold(self, now_s: float) -> Decision:
        """Brake to rest now; the next good command moves on."""
        return self._decide(Verdict.HOLD, ("asked: hold",), self._brake(now_s))

    def reset(self, generation: int, robot: RobotState | None, now_s: float) -> tuple[bool, str]:
        """Clear the stop of that generation, if the robot is fit; only ever on a human's word.

        Returns:
            whether it is clear now, and why not.
        """
        if not self.stopped:
            return True, "not stopped"
        if generation != self.generation:
            return False, f"stop {generation} is not the newest, which is {self.generation}; look again, then reset"
        situation = Situation(now_s=now_s, robot=robot, desired_q_rad=self._limits.home_q_rad)
        verdict, findings = assess(situation, self._limits, self.config, self._robot_checks)
        if verdict is not Verdict.PASS:
            return False, "; ".join(_words(findings))
        self.stopped_for = ()
        self.resync(robot, now_s)
        return True, f"stop {generation} cleared"

    def resync(self, robot: RobotState | None, now_s: float) -> None:
        """Take the robot's reference as the desired position: the arm was put there by somebody else."""
        known = robot is not None and bool(np.isfinite(robot.reference_q_rad).all())
        self._follower = TrajectoryFollower(robot.reference_q_rad, now_s) if known and robot is not None else None
        self._last_start_s = -np.inf

    def _consider(self, command: JointCommand, robot: RobotState | None, now_s: float) -> Decision:
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        desired = self._desired(robot, now_s)
        current = self._follower or TrajectoryFollower(desired, now_s)
        situation = self._situation(command, robot, now_s, current)
        start_s = command.trajectory.start_s
        verdict, findings = assess(situation, self._limits, self.config, self._checks)
        if verdict is Verdict.STOP:
            return self._stop(_words(findings), now_s)
        if verdict is Verdict.LIMIT:
            command, verdict, findings = self._limited(command, situation, current, findings)
        if verdict is Verdict.HOLD:
            return self._decide(verdict, _words(findings))
        self._follower = copy.copy(current)
        self._follower.set(command.trajectory, now_s)
        self._last_start_s = start_s
        return self._decide(verdict, _words(findings), command)

    def _situation(
        self, command: JointCommand, robot: RobotState | None, now_s: float, current: TrajectoryFollower
    ) -> Situation:
        base = Situation(now_s=now_s, robot=robot, desired_q_rad=_at(current, now_s), trajectory=command.trajectory)
        bare = assess(base, self._limits, self.config, _FORM_CHECKS)[0] is Verdict.PASS
        motion = self._motion(command.trajectory, current, now_s) if bare else None
        return Situation(
            now_s=now_s,
            robot=robot,
            desired_q_rad=base.desired_q_rad,
            last_start_s=self._last_start_s,
            trajectory=command.trajectory,
            gripper=command.gripper,
            motion=motion,
        )

    def _motion(self, trajectory: JointTrajectory, current: TrajectoryFollower, now_s: float) -> Motion:
        proposed = copy.copy(current)
        proposed.set(trajectory, now_s)
        return sample_motion(proposed, now_s, self._limits, self.config)

    def _limited(
        self, command: JointCommand, situation: Situation, current: TrajectoryFollower, findings: tuple[Finding, ...]
    ) -> tuple[JointCommand, Verdict, tuple[Finding, ...]]:
        """As much of the command as the limits allow; HOLD if the mixture still breaks one."""
        assert situation.motion is not None
        now_s = situation.now_s
        share = _share(situation.motion, current, self._limits)
        mixed = JointCommand(trajectory=_mix(command.trajectory, current, share, now_s), gripper=command.gripper)
        again = self._situation(mixed, situation.robot, now_s, current)
        verdict, left = assess(again, self._limits, self.config, self._checks)
        if share <= 0 or verdict is not Verdict.PASS:
            return command, Verdict.HOLD, findings + left
        return mixed, Verdict.LIMIT, findings

    def _stop_or(self, verdict: Verdict, findings: tuple[Finding, ...], now_s: float) -> Decision:
        reasons = _words(findings)
        return self._stop(reasons, now_s) if verdict is Verdict.STOP else self._decide(verdict, reasons)

    def _stop(self, reasons: tuple[str, ...], now_s: float) -> Decision:
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        self.stopped_for = reasons
        self.generation += 1
        return self._decide(Verdict.STOP, reasons, self._brake(now_s))

    def _brake(self, now_s: float) -> JointCommand | None:
        """The shortest way to rest from the desired state; None where nothing was ever desired."""
        if self._follower is None:
            return None
        self._follower.hold(now_s, self._limits.ddq_max_rad_s2)
        end_s = self._follower.end_s
        rest = np.zeros((1, JOINTS))
        trajectory = JointTrajectory(
            start_s=now_s,
            times_s=np.array([end_s - now_s]),
            q_rad=_at(self._follower, end_s)[None],
            dq_rad_s=rest,
            ddq_rad_s2=rest,
        )
        return JointCommand(trajectory=trajectory)

    def _desired(self, robot: RobotState | None, now_s: float) -> Array:
        """The position desired now, after looking whether somebody else moved the arm."""
        if robot is not None and (self._follower is None or _was_moved(robot, self._follower, now_s)):
            self.resync(robot, now_s)
        return self._limits.home_q_rad if self._follower is None else _at(self._follower, now_s)

    def _decide(self, verdict: Verdict, reasons: tuple[str, ...], command: JointCommand | None = None) -> Decision:
        return Decision(verdict=verdict, reasons=reasons, command=command, generation=self.generation)


class GatedBackend:
    """A backend behind a gate: a caller sees the same arm, and feels the same gate as on the real one."""

    def __init__(self, backend: Backend, gate: Gate) -> None:
        self.gate = gate
        self.last: Decision | None = None
        self._backend = backend

    def now_s(self) -> float:
        return self._backend.now_s()

    def read(self) -> RobotState:
        return self._backend.read()

    def read_objects(self) -> ObjectStates:
        return self._backend.read_objects()

    def write(self, command: JointCommand) -> None:
        """Judge the command and pass on what may go on; `last` then says what happened.

        Raises:
            BackendError: stopped.
        """
        self.last = self.gate.consider(command, self._robot(), self.now_s())
        if self.last.verdict is Verdict.STOP:
            self._backend.stop("; ".join(self.last.reasons))
            raise BackendError(f"the gate stopped the arm: {'; '.join(self.last.reasons)}; reset the gate")
        if self.last.command is not None:
            self._backend.write(self.last.command)

    def hold(self) -> None:
        self.last = self.gate.hold(self.now_s())
        self._backend.hold()

    def stop(self, reason: str) -> None:
        self.last = self.gate.stop(reason, self.now_s())
        self._backend.stop(reason)

    def reset(self, generation: int) -> tuple[bool, str]:
        """Clear the gate's stop on a human's word; the backend behind it has a reset of its own."""
        return self.gate.reset(generation, self._robot(), self.now_s())

    def _robot(self) -> RobotState | None:
        try:
            return self._backend.read()
        except MissingError:
            return None


_FORM_CHECKS: tuple[Check, ...] = CHECKS[len(ROBOT_CHECKS) : len(ROBOT_CHECKS) + 2]
"""Finite and well formed: only then is there a motion to look at."""


def _at(follower: TrajectoryFollower, time_s: float) -> Array:
    return follower.sample(np.array([time_s]))[0][0]


def _was_moved(robot: RobotState, follower: TrajectoryFollower, now_s: float) -> bool:
    """Whether the arm, told to be at rest, lies elsewhere."""
    bound_rad = MEASURED_RESYNC_RAD if robot.desired_q_rad is None else RESYNC_RAD
    gap_rad = float(np.abs(robot.reference_q_rad - _at(follower, now_s)).max())
    return now_s > follower.end_s + REST_S and gap_rad > bound_rad


def _words(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{f.check}: {f.reason}" for f in findings))


def _share(motion: Motion, current: TrajectoryFollower, limits: RobotLimits) -> float:
    """The largest share s in [0, 1] for which (1 - s) current + s proposed keeps every joint limit at every sample.

    Positions, velocities and accelerations of the mixture are the mixtures of the two, so each sample bounds s.
    """
    q, dq, ddq = current.sample(motion.times_s)
    share = 1.0
    for now, then, low, high in (
        (q, motion.q_rad, limits.q_min_rad, limits.q_max_rad),
        (dq, motion.dq_rad_s, -limits.dq_max_rad_s, limits.dq_max_rad_s),
        (ddq, motion.ddq_rad_s2, -limits.ddq_max_rad_s2, limits.ddq_max_rad_s2),
    ):
        for bound, sign in ((high, 1.0), (low, -1.0)):
            over = sign * (then - bound) > 0
            room, step = (sign * (bound - now))[over], (sign * (then - now))[over]
            if room.size:
                share = min(share, float((room / np.maximum(step, 1e-9)).min()))
    return max(share, 0.0)


def _mix(trajectory: JointTrajectory, current: TrajectoryFollower, share: float, now_s: float) -> JointTrajectory:
    """(1 - share) current + share proposed from `now_s` on, as a trajectory over the knots of both (exact)."""
    proposed = copy.copy(current)
    proposed.set(trajectory, now_s)
    knots = np.concatenate([current.knots_s, proposed.knots_s])
    times = np.unique(np.ceil((knots[knots > now_s + KNOT_S] - now_s) / KNOT_S)) * KNOT_S
    mixed = [(1 - share) * a + share * b for a, b in zip(current.sample(now_s + times), proposed.sample(now_s + times))]
    mixed[1][-1] = mixed[2][-1] = 0.0
    return JointTrajectory(start_s=now_s, times_s=times, q_rad=mixed[0], dq_rad_s=mixed[1], ddq_rad_s2=mixed[2])
