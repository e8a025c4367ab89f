"""The gate of a domain without an arm: finite, fresh, in order and within bounds, or nothing goes on.

There is no motion to look ahead along and no room to collide in; what is left of the gate's work is the same, and so
are its words: PASS, HOLD (this action is not passed on, and the one before it ends by itself) and STOP, latched until a
human resets it. `gate_for` gives whoever needs a gate the right one. Times s; actions in [-1, 1], as their domain says.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..contract.types import GripperCommand, JointCommand, RobotState, Verdict
from ..control.trajectory import TrajectoryFollower
from ..domain.cell import Cell
from ..domain.robot import RobotLimits
from .command_checks import command_is_finite, command_is_in_sequence, command_is_in_time, command_is_well_formed
from .gate import Decision, Gate
from .path import Proposal
from .robot_checks import robot_mode_is_fit, robot_state_is_fresh
from .situation import Check, Finding, GateConfig, Situation

MAX_ACTION = 1.0


def gate_for(limits: RobotLimits, config: GateConfig | None = None, *, cell: Cell | None = None) -> Gate:
    """A new gate for what has these limits: an arm's in its cell, or one without an arm."""
    return Gate(limits, config, cell=cell) if limits.joints else ArmlessGate(limits, config, cell=cell)


def actions_are_finite(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.others is None or np.isfinite(s.others).all():
        return None
    reason = f"the actions {s.others} are not all finite; their sender is broken"
    return Finding(check="action_finite", verdict=Verdict.STOP, reason=reason)


def actions_are_within_bounds(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.trajectory is None:
        return None
    if s.others is None or s.others.ndim != 1 or not s.others.size:
        reason = "there are none; a domain without an arm is told its own actions"
    elif (worst := float(np.abs(s.others).max())) > MAX_ACTION:
        reason = f"one is {worst:g} in size, bound {MAX_ACTION:g}; clip them where they are made"
    else:
        return None
    return Finding(check="action_bounds", verdict=Verdict.HOLD, reason=f"actions: {reason}")


def action_is_not_over(s: Situation, limits: RobotLimits, config: GateConfig) -> Finding | None:
    if s.trajectory is None or not len(s.trajectory.times_s):
        return None
    over_s = s.now_s - (s.trajectory.start_s + float(s.trajectory.times_s[-1]))
    if over_s < 0:
        return None
    reason = f"the time for which the action was meant ended {over_s * 1e3:.0f} ms ago; is the machine overloaded?"
    return Finding(check="action_over", verdict=Verdict.HOLD, reason=reason)


CHECKS: tuple[Check, ...] = (
    robot_state_is_fresh,
    robot_mode_is_fit,
    command_is_finite,
    command_is_well_formed,
    command_is_in_time,
    command_is_in_sequence,
    actions_are_finite,
    actions_are_within_bounds,
    action_is_not_over,
)
"""Those of an arm's that look at no joint, and those of actions."""


class ArmlessGate(Gate):
    """Judges actions that move no joint; see the module."""

    def __init__(self, limits: RobotLimits, config: GateConfig | None = None, *, cell: Cell | None = None) -> None:
        super().__init__(limits, config, cell=cell, checks=CHECKS)

    def consider_hand(self, goal: GripperCommand, robot: RobotState | None, now_s: float) -> Decision:
        """There is no hand."""
        return self._decide(Verdict.HOLD, (f"gripper: the hand is asked to {goal.kind}, and there is none",))

    def _foreseen(
        self, command: JointCommand, bare: Situation, current: TrajectoryFollower
    ) -> tuple[Situation, Proposal]:
        """What is proposed goes out as it is, or not at all."""
        situation = dataclasses.replace(bare, trajectory=command.trajectory, others=command.others)
        return situation, Proposal(trajectory=command.trajectory, follower=current)

    def _tell(self, proposal: Proposal) -> None:
        """No path is under way that a later command would begin on."""

    def _was_moved(self, robot: RobotState, now_s: float) -> bool:
        """There is nothing that somebody else could have moved."""
        return False

    def _moving(self, robot: RobotState | None, now_s: float) -> str:
        """Without an action nothing is driven, whatever still rolls."""
        return ""
