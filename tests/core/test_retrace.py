"""Back along the way that the arm came: when, how far, and over which places."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.control.retrace import REMEMBERED, Retrace, RetraceConfig
from skimo_core.domain.domain import load_domain

SPEC = load_domain().action
STEP_RAD = 0.05
FAST = STEP_RAD / SPEC.period_s / SPEC.scale_rad_s


def place(k: float) -> np.ndarray:
    """Where a joint-by-joint different way leads after `k` control periods."""
    return STEP_RAD * k * np.linspace(1.0, 0.4, SPEC.joints)


def walked(steps: int, config: RetraceConfig | None = None) -> Retrace:
    way = Retrace(SPEC, config or RetraceConfig(refused=3, steps=4))
    for k in range(steps):
        way.note(place(k), refused=False)
    return way


def refuse(way: Retrace, told_rad: np.ndarray, times: int) -> None:
    for _ in range(times):
        way.note(told_rad, refused=True)


def back(way: Retrace, told_rad: np.ndarray) -> list[np.ndarray]:
    """The places that an arm which does what it is told passes on its way back."""
    passed = []
    while (action_A := way.action(told_rad)) is not None:
        told_rad = told_rad + action_A[: SPEC.joints] * SPEC.scale_rad_s * SPEC.period_s
        way.note(told_rad, refused=False)
        passed.append(told_rad)
    return passed


def test_so_many_refusals_in_a_row_lead_back_over_the_same_places() -> None:
    way = walked(20)
    refuse(way, place(19), 2)
    assert way.action(place(19)) is None
    way.note(place(19), refused=False)
    refuse(way, place(19), 2)
    assert way.action(place(19)) is None, "a command that goes on begins the count anew"
    refuse(way, place(19), 1)
    first_A = way.action(place(19))
    assert first_A is not None and way.left == 3
    np.testing.assert_allclose(first_A[: SPEC.joints], -FAST * np.linspace(1.0, 0.4, SPEC.joints), rtol=1e-5)
    assert not first_A[SPEC.joints :].any(), "the hand stays as it is"
    passed = back(way, place(18))
    np.testing.assert_allclose(passed, [place(17), place(16), place(15)], atol=1e-6)


def test_it_goes_further_back_each_time_until_a_sub_task_is_done() -> None:
    way = walked(30)
    refuse(way, place(29), 3)
    assert len(back(way, place(29))) == 4
    for k in range(26, 30):
        way.note(place(k), refused=False)
    refuse(way, place(29), 3)
    assert len(back(way, place(29))) == 8
    way.moved_on()
    for k in range(22, 30):
        way.note(place(k), refused=False)
    refuse(way, place(29), 3)
    assert len(back(way, place(29))) == 4


def test_nobody_goes_further_than_the_way_is_long_nor_back_from_where_he_stands() -> None:
    way = walked(2)
    refuse(way, place(1), 3)
    np.testing.assert_allclose(back(way, place(1)), [place(0)], atol=1e-6)
    refuse(way, place(0), 6)
    assert way.action(place(0)) is None
    way = walked(REMEMBERED + 50, RetraceConfig(refused=1, steps=REMEMBERED))
    refuse(way, place(REMEMBERED + 49), 1)
    assert len(back(way, place(REMEMBERED + 49))) == REMEMBERED - 1


def test_a_way_back_ends_where_somebody_else_decides_and_never_begins_where_it_is_off() -> None:
    way = walked(20)
    refuse(way, place(19), 3)
    assert way.action(place(19)) is not None
    way.stop()
    assert way.action(place(18)) is None
    refuse(way, place(18), 3)
    way.clear()
    assert way.action(place(18)) is None
    way = walked(20, RetraceConfig(refused=0))
    refuse(way, place(19), 50)
    assert way.action(place(19)) is None


def test_a_way_back_that_is_refused_too_is_given_up_until_there_is_a_new_one() -> None:
    way = walked(20)
    refuse(way, place(19), 3)
    for _ in range(3):
        assert way.action(place(19)) is not None
        way.note(place(19), refused=True)
    assert way.action(place(19)) is None
    refuse(way, place(19), 3)
    assert way.action(place(19)) is None
    for k in range(20, 23):
        way.note(place(k), refused=False)
    refuse(way, place(22), 3)
    np.testing.assert_allclose(back(way, place(22)), [place(21), place(20)], atol=1e-6)


def test_an_arm_far_off_its_way_asks_for_full_speed_at_most() -> None:
    way = walked(20)
    refuse(way, place(19), 3)
    action_A = way.action(place(60))
    assert action_A is not None and action_A.min() == -1.0
    SPEC.check(action_A)


@pytest.mark.parametrize("wrong", [{"refused": -1}, {"steps": 0}, {"steps": REMEMBERED + 1}])
def test_settings_out_of_bounds_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=r"retrace: refused is .*, steps "):
        RetraceConfig(**wrong)
