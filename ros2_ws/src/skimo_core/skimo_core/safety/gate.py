"""The gate: lets a command through, limits it, refuses it, or stops the arm and stays stopped.

    PASS   the command goes on, spliced to the path under way
    LIMIT  a mixture of the command and of the motion already under way goes on: as much as the limits allow
    HOLD   nothing goes on; the arm brakes along the path already checked (every trajectory let through ends at rest),
           and the next good command moves it again
    STOP   the shortest way to rest goes out, and then nothing until a human resets this very stop (`generation`)

The gate models what the arm has been told (`ToldPath`), so a command is judged by the motion that it would really make
from the desired state of that moment, and the arm by whether it makes it. Its own brakes are judged like commands: one
that would break a limit does not go out, and the arm stops along the path already checked. It knows nothing of policies
and tasks, never clears a robot's error, and is not a certified safety function: it does not replace the emergency stop.
Pure: time is an argument. The gate notices when it was not called (asleep) and when time went backwards.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field

import numpy as np

from ..contract.errors import SpecError
from ..contract.types import Array, GripperCommand, JointCommand, JointTrajectory, RobotState, Verdict
from ..control.braking import braking_trajectory
from ..control.trajectory import TrajectoryFollower, quintics
from ..domain.cell import FREE, Cell, load_cell
from ..domain.robot import RobotLimits
from .bounds import control_values
from .checks import CHECKS, FORM_CHECKS, MOTION_CHECKS, ROBOT_CHECKS, Check, assess
from .collision import Collision
from .path import LEAD_S, Proposal, ToldPath, blend, splice
from .situation import Finding, GateConfig, Motion, Situation, foresee

RESYNC_RAD = 0.001
MEASURED_RESYNC_RAD = 0.05
"""An arm that came to rest where it was told to, and whose reference then lies this far from there, was moved by
somebody else (a reset, a hand), and is taken where it is. Measured positions lag behind references, so theirs is the
wider bound."""
PRESSES_NM = 8.0
"""An arm that feels more than this from outside lies where it does because it presses on something: its controller
still wants it where it was told to be."""
REST_S = 0.1
STANDSTILL_RAD_S = 0.02
"""Measured joint speeds below this are standstill: encoder noise, and an arm that settles."""
_TOO_LATE = "start_gap: every point of the trajectory lies in the past"
JUMP_S = 0.05
"""Time that goes back by less is a clock being slewed."""


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
        cell: what stands around the arm; None: nothing (`cells/open.yaml`).
        checks: what to look at; the whole table unless a test says otherwise.

    Raises:
        SpecError: the cell was made for an arm with another number of joints.
    """

    def __init__(
        self,
        limits: RobotLimits,
        config: GateConfig | None = None,
        *,
        cell: Cell | None = None,
        checks: tuple[Check, ...] = CHECKS,
    ) -> None:
        cell = cell or load_cell("open")
        self.config = _within(config or GateConfig(), cell, limits)
        self.counts = GateCounts()
        self.generation = 0
        self.stopped_for: tuple[str, ...] = ()
        self._limits = limits
        self._collision = Collision(limits, cell) if limits.joints else None
        self._checks = checks
        self._robot_checks = tuple(c for c in checks if c in ROBOT_CHECKS)
        self._motion_checks = tuple(c for c in checks if c in MOTION_CHECKS)
        self._told: ToldPath | None = None
        self._arrived = True
        self._last_start_s = -np.inf
        self._called_s = -np.inf
        self._awake_s = -np.inf

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
        return self._look(robot, now_s, self._checks, gripper=goal)

    def watch(self, robot: RobotState | None, now_s: float) -> Decision:
        """Look at the robot alone (call it regularly); a silent policy is no fault, a silent robot is.

        Before the first fresh state of all there is nothing to stop, and nothing is found.
        """
        if self._told is None and (robot is None or now_s - robot.stamp_s > self.config.state_age_max_s):
            return self._decide(Verdict.STOP if self.stopped else Verdict.PASS, self.stopped_for)
        return self._look(robot, now_s, self._robot_checks)

    def stop(self, reason: str, now_s: float) -> Decision:
        """Stop for a reason from outside (an operator, a caller)."""
        return self._stop((f"asked: {reason}",), now_s)

    def hold(self, robot: RobotState | None, now_s: float) -> Decision:
        """Brake to rest now; the next good command moves on. While a stop is latched nothing goes out."""
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        if (jump := self._note_time(now_s)) is not None:
            return self._stop((jump,), now_s)
        self._take_note_of(robot, now_s)
        return self._decide(Verdict.HOLD, ("asked: hold",), self._brake(now_s))

    def reset(self, generation: int, robot: RobotState | None, now_s: float) -> tuple[bool, str]:
        """Clear the stop of that generation, if the robot is fit and at rest; only ever on a human's word.

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
        if moving := self._moving(robot, now_s):
            return False, moving
        self.stopped_for = ()
        self.resync(robot, now_s)
        return True, f"stop {generation} cleared"

    def resync(self, robot: RobotState | None, now_s: float) -> None:
        """Take the robot's reference as the desired position: the arm was put there by somebody else."""
        known = robot is not None and bool(np.isfinite(robot.reference_q_rad).all())
        self._told = ToldPath(robot.reference_q_rad, now_s) if known and robot is not None else None
        self._arrived = True
        self._last_start_s = -np.inf
        self._called_s = now_s

    def __deepcopy__(self, memo: dict[int, object]) -> Gate:
        """A gate that goes its own way from here; what never changes is shared."""
        twin = copy.copy(self)
        twin.counts, twin._told = copy.deepcopy((self.counts, self._told), memo)
        return twin

    # --- judging -----------------------------------------------------------------------------------------------------

    def _look(
        self,
        robot: RobotState | None,
        now_s: float,
        checks: tuple[Check, ...],
        gripper: GripperCommand | None = None,
    ) -> Decision:
        """Judge what is not a trajectory."""
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        if (jump := self._note_time(now_s)) is not None:
            return self._stop((jump,), now_s)
        desired = self._take_note_of(robot, now_s)
        situation = dataclasses.replace(self._bare(robot, now_s, desired), gripper=gripper)
        verdict, findings = assess(situation, self._limits, self.config, checks)
        reasons = _words(findings)
        return self._stop(reasons, now_s) if verdict is Verdict.STOP else self._decide(verdict, reasons)

    def _consider(self, command: JointCommand, robot: RobotState | None, now_s: float) -> Decision:
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        slept_s = now_s - self._called_s
        if (jump := self._note_time(now_s)) is not None:
            return self._stop((jump,), now_s)
        desired = self._take_note_of(robot, now_s)
        current = self._told.now if self._told is not None else TrajectoryFollower(desired, now_s)
        situation, proposal = self._foreseen(command, self._bare(robot, now_s, desired), current)
        verdict, findings = assess(situation, self._limits, self.config, self._checks)
        if verdict is not Verdict.STOP and self.config.sleep_max_s < slept_s < np.inf:
            verdict, findings = Verdict.HOLD, (*findings, _slept(slept_s))
        if verdict is Verdict.STOP:
            return self._stop(_words(findings), now_s)
        if verdict is Verdict.LIMIT:
            assert proposal is not None, "what leads nowhere can't be too much"
            proposal, verdict, findings = self._limited(proposal, situation, current, findings)
        if verdict is Verdict.HOLD or proposal is None:
            return self._decide(Verdict.HOLD, _words(findings) or (_TOO_LATE,))
        self._last_start_s = command.trajectory.start_s
        self._tell(proposal)
        return self._decide(verdict, _words(findings), dataclasses.replace(command, trajectory=proposal.trajectory))

    def _bare(self, robot: RobotState | None, now_s: float, desired_q_rad: Array) -> Situation:
        told = self._told
        expected = reference = None
        if told is not None and robot is not None:
            expected = reference = told.expected(robot.stamp_s)
            if robot.mode_stamp_s is not None:
                reference = told.expected(robot.mode_stamp_s)
        return Situation(
            now_s=now_s,
            robot=robot,
            awake_s=self._awake_s,
            desired_q_rad=desired_q_rad,
            expected_q_rad=expected,
            expected_reference_q_rad=reference,
            rested_s=max(0.0, now_s - told.now.end_s) if told is not None else 0.0,
            last_start_s=self._last_start_s,
        )

    def _foreseen(
        self, command: JointCommand, bare: Situation, current: TrajectoryFollower
    ) -> tuple[Situation, Proposal | None]:
        """The situation with the command and its motion, and what would go out."""
        situation = dataclasses.replace(bare, trajectory=command.trajectory, gripper=command.gripper)
        if assess(situation, self._limits, self.config, FORM_CHECKS)[0] is not Verdict.PASS:
            return situation, None
        proposal = splice(current, command.trajectory, bare.now_s, self.config.leave_after_s)
        if proposal is None:
            return situation, None
        return dataclasses.replace(situation, motion=self._motion(proposal)), proposal

    def _motion(self, proposal: Proposal) -> Motion:
        return foresee(proposal.follower, self._limits, self.config, self._collision)

    def _limited(
        self, proposal: Proposal, situation: Situation, current: TrajectoryFollower, findings: tuple[Finding, ...]
    ) -> tuple[Proposal | None, Verdict, tuple[Finding, ...]]:
        """As much of the proposal as the limits allow; HOLD if the mixture still breaks one."""
        mixture = self._mix(current, proposal, situation.now_s)
        if mixture is None:
            return None, Verdict.HOLD, findings
        again = dataclasses.replace(
            situation, trajectory=mixture.trajectory, motion=self._motion(mixture), last_start_s=-np.inf
        )
        verdict, left = assess(again, self._limits, self.config, self._checks)
        if verdict is not Verdict.PASS:
            return None, Verdict.HOLD, findings + left
        return mixture, Verdict.LIMIT, findings

    def _mix(self, current: TrajectoryFollower, proposal: Proposal, now_s: float) -> Proposal | None:
        """(1 - share) current + share proposed from `now_s` on, with the largest share that keeps the limits."""
        durations_s, ours, theirs = blend(current, proposal.follower, now_s)
        share = _share(durations_s, ours, theirs, self._limits)
        if share <= 0:
            return None
        mixed = (1 - share) * ours + share * theirs
        mixed[-1, 1:] = 0.0
        trajectory = JointTrajectory(
            start_s=now_s - LEAD_S,
            times_s=LEAD_S + np.append(0.0, np.cumsum(durations_s)),
            q_rad=mixed[:, 0],
            dq_rad_s=mixed[:, 1],
            ddq_rad_s2=mixed[:, 2],
        )
        return Proposal.make(current, trajectory, now_s)

    # --- stopping ----------------------------------------------------------------------------------------------------

    def _stop(self, reasons: tuple[str, ...], now_s: float) -> Decision:
        if self.stopped:
            return self._decide(Verdict.STOP, self.stopped_for)
        self.stopped_for = reasons
        self.generation += 1
        return self._decide(Verdict.STOP, reasons, self._brake(now_s))

    def _brake(self, now_s: float) -> JointCommand | None:
        """The shortest way to rest; None where the arm rests, or where the path already checked is the better way."""
        if self._told is None or self._told.at_rest(now_s):
            return None
        current, limits = self._told.now, self._limits
        leave_s = now_s + self.config.leave_after_s
        stop = braking_trajectory(current.at(leave_s), leave_s, limits.ddq_max_rad_s2, limits.dddq_max_rad_s3)
        proposal = splice(current, stop, now_s, self.config.leave_after_s) if stop is not None else None
        if proposal is None:
            return None
        motion = self._motion(proposal)
        situation = Situation(now_s=now_s, robot=None, desired_q_rad=current.at(now_s)[0], motion=motion)
        if assess(situation, limits, self.config, self._motion_checks)[0] is not Verdict.PASS:
            return None
        self._tell(proposal)
        return JointCommand(trajectory=proposal.trajectory)

    def _tell(self, proposal: Proposal) -> None:
        """Note what goes out."""
        assert self._told is not None
        self._told.take(proposal.follower)
        self._arrived = False

    # --- what is known of time and of the arm ------------------------------------------------------------------------

    def _note_time(self, now_s: float) -> str | None:
        """Notice sleep and jumps of the clock; returns the reason to stop for a jump back."""
        back_s, slept_s = self._called_s - now_s, now_s - self._called_s
        self._called_s = now_s
        if back_s > JUMP_S:
            self._told = None  # by how much exactly is not known, so neither is the state to brake from
            self._last_start_s, self._awake_s = -np.inf, now_s
            return f"clock_jumped: time went back by {back_s:.3f} s or more; set the clock, then reset"
        if self.config.sleep_max_s < slept_s < np.inf:
            self._awake_s = now_s
        return None

    def _take_note_of(self, robot: RobotState | None, now_s: float) -> Array:
        """The position desired now, after looking whether the arm has arrived, and whether somebody else moved it."""
        if robot is not None and (self._told is None or self._was_moved(robot, now_s)):
            self.resync(robot, now_s)
        return self._limits.home_q_rad if self._told is None else self._told.now.at(now_s)[0]

    def _was_moved(self, robot: RobotState, now_s: float) -> bool:
        """Whether the arm, told to be at rest and having come to rest there, lies elsewhere."""
        assert self._told is not None
        if robot.stamp_s <= self._told.now.end_s + REST_S or now_s <= self._told.now.end_s + REST_S:
            return False
        gap_rad = np.abs(robot.reference_q_rad - self._told.now.at(now_s)[0])
        bound_rad = MEASURED_RESYNC_RAD if robot.desired_q_rad is None else RESYNC_RAD
        if gap_rad.max() <= bound_rad:
            self._arrived = True
            return False
        return self._arrived and not self._presses(robot, gap_rad)

    def _presses(self, robot: RobotState, gap_rad: Array) -> bool:
        """Whether an arm that tells no reference lies `gap_rad` [7] off because it presses on something."""
        contact = self.config.contact or FREE
        felt = robot.tau_ext_nm is not None and bool(np.abs(robot.tau_ext_nm).max() > PRESSES_NM)
        return felt and robot.desired_q_rad is None and bool((gap_rad <= contact.tracking_stop_rad).all())

    def _moving(self, robot: RobotState | None, now_s: float) -> str:
        """Why the arm does not count as at rest; empty if it does."""
        assert robot is not None
        speed = np.abs(robot.dq_rad_s)
        joint = int(np.argmax(speed))
        if speed[joint] > STANDSTILL_RAD_S:
            return (
                f"the arm still moves: joint {joint + 1} at {speed[joint]:.3f} rad/s, bound {STANDSTILL_RAD_S:g}; "
                "wait until it rests"
            )
        if self._told is not None and not self._told.at_rest(now_s):
            return f"the arm is told to rest in {self._told.now.end_s - now_s:.2f} s; wait until then"
        return ""

    def _decide(self, verdict: Verdict, reasons: tuple[str, ...], command: JointCommand | None = None) -> Decision:
        return Decision(verdict=verdict, reasons=reasons, command=command, generation=self.generation)


def _within(config: GateConfig, cell: Cell, limits: RobotLimits) -> GateConfig:
    """The config with the cell's workspace and contact where it has none of its own."""
    contact = config.contact or cell.contact
    for name in ("tracking_hold_rad", "tracking_stop_rad"):
        if (count := len(getattr(contact, name))) not in (1, limits.joints):
            raise SpecError(f"cell {cell.name}: contact: {name} has {count} numbers for {limits.joints} joints, or 1")
    low, high = tuple(map(float, cell.workspace_low_m)), tuple(map(float, cell.workspace_high_m))
    return dataclasses.replace(
        config,
        workspace_low_m=config.workspace_low_m or low,
        workspace_high_m=config.workspace_high_m or high,
        contact=contact,
    )


def _words(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{f.check}: {f.reason}" for f in findings))


def _slept(slept_s: float) -> Finding:
    reason = (
        f"this gate was not run for {slept_s:.2f} s (the machine paused, or its clock jumped ahead); commands of that "
        "time are void"
    )
    return Finding(check="gate_slept", verdict=Verdict.HOLD, reason=reason)


def _share(durations_s: Array, ours: Array, theirs: Array, limits: RobotLimits) -> float:
    """The largest share s in [0, 1] for which (1 - s) ours + s theirs keeps every joint limit.

    The Bernstein coefficients of a mixture are the mixtures of the two, so each of them bounds s (`bounds`).
    """
    share = 1.0
    both = np.concatenate([quintics(durations_s, ours), quintics(durations_s, theirs)], axis=2)
    bounds = (limits.dq_max_rad_s, limits.ddq_max_rad_s2, limits.dddq_max_rad_s3)
    for derivative, (low, high) in enumerate([(limits.q_min_rad, limits.q_max_rad), *((-b, b) for b in bounds)]):
        now, then = np.split(control_values(both, durations_s, derivative), 2, axis=2)
        for bound, sign in ((high, 1.0), (low, -1.0)):
            over = sign * (then - bound) > 0
            room, step = (sign * (bound - now))[over], (sign * (then - now))[over]
            if room.size:
                share = min(share, float((room / np.maximum(step, 1e-12)).min()))
    return max(share, 0.0)
