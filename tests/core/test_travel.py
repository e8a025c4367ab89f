"""A long way goes through the gate in pieces, arrives, and ends at rest wherever its pieces stop coming."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JointCommand, Verdict
from skimo_core.control.travel import EVERY_S, Travel, piece
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.safety.gate import Decision, Gate
from skimo_core.safety.gated import GatedBackend
from skimo_sim.twins import make_twin

LIMITS = load_limits()
FAR_RAD = LIMITS.home_q_rad + np.array([1.2, -0.5, 0.9, -0.4, 1.0, 0.8, -1.1])


def arm() -> tuple[GatedBackend, list[Decision]]:
    heard: list[Decision] = []
    gated = GatedBackend(make_twin(load_domain(), LIMITS, "kinematic"), Gate(LIMITS), heard.append)
    gated.reset()
    return gated, heard


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_long_way_passes_the_gate_and_arrives(share: float) -> None:
    gated, heard = arm()
    path = Travel(LIMITS, gated.read().q_rad, FAR_RAD, start_s=gated.now_s(), share=share)
    while (now_s := gated.now_s()) < path.end_s:
        gated.write(JointCommand(trajectory=piece(path, now_s, LIMITS)))
        gated.advance(EVERY_S)
    gated.advance(1.0)
    assert {decision.verdict for decision in heard} == {Verdict.PASS}
    assert np.abs(gated.read().q_rad - FAR_RAD).max() < 1e-6


def test_silence_ends_at_rest_within_a_second_or_two() -> None:
    gated, _ = arm()
    path = Travel(LIMITS, gated.read().q_rad, FAR_RAD, start_s=gated.now_s(), share=0.3)
    gated.advance(path.end_s / 3)
    gated.write(JointCommand(trajectory=piece(path, path.start_s, LIMITS)))
    gated.advance(2.0)
    assert np.abs(gated.read().dq_rad_s).max() < 1e-9


def test_limits_hold_all_along_the_way() -> None:
    path = Travel(LIMITS, LIMITS.home_q_rad, FAR_RAD, start_s=3.0, share=0.4)
    _, dq_rad_s, ddq_rad_s2 = path.sample(np.linspace(3.0, path.end_s, 500))
    assert (np.abs(dq_rad_s).max(0) <= 0.4 * LIMITS.dq_max_rad_s + 1e-9).all()
    assert (np.abs(ddq_rad_s2).max(0) <= 0.4 * LIMITS.ddq_max_rad_s2 + 1e-9).all()


def test_what_lies_outside_the_range_is_refused() -> None:
    beyond = LIMITS.home_q_rad.copy()
    beyond[3] = 0.2
    with pytest.raises(SpecError, match=r"joint 4 is to go to 0\.2 rad, its range is -3\.0718 to -0\.0698"):
        Travel(LIMITS, LIMITS.home_q_rad, beyond, start_s=0.0, share=0.2)
