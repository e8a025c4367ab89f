"""A simulated arm behind the gate: judged apart, tried again, looked at between commands, as in the gate's node."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Array, GripperCommand, JointCommand, Verdict
from skimo_core.control.actuate import Actuator
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.starts import Starts
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend
from skimo_sim.kinematic import KinematicTwin

LIMITS, SPEC = load_limits("panda"), load_domain().action


def good_command(now_s: float = 0.0, q_rad: Array = LIMITS.home_q_rad) -> JointCommand:
    actuator = Actuator(LIMITS, SPEC)
    actuator.reset(q_rad, now_s)
    command = actuator.command(np.full(SPEC.size, 0.3, np.float32), now_s)
    return dataclasses.replace(command, gripper=None)


def changed(command: JointCommand, **changes: Any) -> JointCommand:
    return dataclasses.replace(command, trajectory=dataclasses.replace(command.trajectory, **changes))


GOOD = good_command()


class Told:
    """A kinematic twin's commands as they come, and what the gate says."""

    def __init__(self) -> None:
        domain = dataclasses.replace(load_domain(), starts=Starts())
        self.twin = KinematicTwin(domain, LIMITS)
        self.said: list[Decision] = []
        self.gated = GatedBackend(self.twin, Gate(LIMITS), self.said.append)
        self.gated.reset()


def test_a_gated_arm_passes_holds_and_stops() -> None:
    told = Told()
    gated = told.gated
    gated.write(GOOD)
    gated.write(changed(GOOD, start_s=-0.3))
    assert [d.verdict for d in told.said] == [Verdict.PASS, Verdict.HOLD] and told.said[-1] is gated.last
    with pytest.raises(BackendError, match="command_finite"):
        gated.write(changed(GOOD, q_rad=GOOD.trajectory.q_rad * np.nan))
    with pytest.raises(BackendError):
        gated.write(good_command(0.0))
    cleared, why = gated.reset_stop(gated.gate.generation)
    assert not cleared and "is told to rest in" in why
    gated.advance(1.0)
    assert gated.path_at_rest and gated.reset_stop(gated.gate.generation)[0]
    gated.write(good_command(1.0, gated.desired()[0]))
    assert told.said[-1].verdict is Verdict.PASS


def test_a_hand_goal_is_judged_apart_and_tried_again_until_it_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    busy = Decision(verdict=Verdict.HOLD, reasons=("test: wait",), command=None, generation=0)
    monkeypatch.setattr(told.gated.gate, "consider_hand", lambda *_: busy)
    closed = GripperCommand(kind="grasp", width_m=0.0, speed_m_s=0.1, force_n=10.0)
    told.gated.write(dataclasses.replace(GOOD, gripper=closed))
    told.gated.advance(0.1)
    assert told.said[0].verdict is Verdict.PASS and not told.twin.hand_busy and not told.gated.path_at_rest
    monkeypatch.undo()
    told.gated.advance(0.4)
    assert told.twin.hand_width_m < 0.07


def test_the_gate_looks_at_a_gated_arm_between_commands() -> None:
    told = Told()
    told.gated.write(GOOD)
    told.twin.stop("somebody pressed the user stop")
    told.gated.advance(0.1)
    assert told.said[-1].verdict is Verdict.STOP and "user_stopped" in " ".join(told.said[-1].reasons).lower()
