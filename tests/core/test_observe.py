"""Observations: assembled by name, and refused by the channel's name where a number is missing or no number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skimo_core.contract.errors import MissingError, ObservationError, SpecError, StaleError
from skimo_core.contract.types import ObjectStates, RobotState
from skimo_core.control.observe import Observer, object_values
from skimo_core.domain.domain import Tracking, load_domain

SPEC = load_domain().observation
RNG = np.random.default_rng(1)


def robot(**changes: object) -> RobotState:
    fields: dict = {
        "stamp_s": 0.0,
        "q_rad": np.arange(7.0),
        "dq_rad_s": np.zeros(7),
        "tau_nm": np.zeros(7),
        "finger_m": np.array([0.01, 0.02]),
    }
    return RobotState(**{**fields, **changes})


def objects(order: np.ndarray | None = None, **changes: float) -> ObjectStates:
    names = SPEC.objects
    values = np.arange(len(names), dtype=float) / 10
    for name, value in changes.items():
        values[names.index(name)] = value
    order = np.arange(len(names)) if order is None else order
    return ObjectStates(stamp_s=0.0, names=tuple(names[i] for i in order), values=values[order])


def observer() -> Observer:
    return Observer(SPEC, max_age_s=0.08)


def test_objects_are_taken_by_name_whatever_their_order() -> None:
    shuffled = objects(RNG.permutation(len(SPEC.objects)))
    np.testing.assert_array_equal(
        observer().observe(robot(), shuffled, 0.0), observer().observe(robot(), objects(), 0.0)
    )
    np.testing.assert_array_equal(object_values(shuffled, SPEC.objects), objects().values)
    with pytest.raises(MissingError, match="lack channel 'other'"):
        object_values(shuffled, ("other",))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_channel_that_is_not_finite_is_named_and_the_next_observation_is_good(value: float) -> None:
    watch, channel = observer(), SPEC.objects[3]
    with pytest.raises(ObservationError, match=f"object states: channel '{channel}'") as refused:
        watch.observe(robot(), objects(**{channel: value}), 0.0)
    assert not isinstance(refused.value, (SpecError, StaleError))
    with pytest.raises(ObservationError, match="robot state: channel"):
        watch.observe(robot(q_rad=np.full(7, value)), objects(), 0.0)
    assert np.isfinite(watch.observe(robot(), objects(), 0.0)).all()


def test_absent_fingers_are_missing() -> None:
    with pytest.raises(MissingError, match="0 finger positions, 2 are wanted"):
        observer().observe(robot(finger_m=np.zeros(0)), objects(), 0.0)


def tracked(**settings: float) -> Observer:
    return Observer(SPEC, max_age_s=0.08, tracking=Tracking(**settings))


def test_objects_may_be_as_old_as_the_domain_says_and_the_arm_no_older() -> None:
    watch = tracked(max_age_s=0.3)
    assert np.isfinite(watch.observe(robot(stamp_s=0.25), objects(), 0.29)).all()
    with pytest.raises(StaleError, match="object states is 310 ms old, bound 300 ms"):
        watch.observe(robot(stamp_s=0.3), objects(), 0.31)
    with pytest.raises(StaleError, match="robot state is 90 ms old, bound 80 ms"):
        watch.observe(robot(stamp_s=0.2), objects(), 0.29)


@pytest.mark.parametrize("left_out", [False, True])
def test_a_hidden_channel_keeps_its_last_value_for_as_long_as_the_domain_says(left_out: bool) -> None:
    watch, name = tracked(max_age_s=0.1, hidden_s=0.5), SPEC.objects[3]
    column = SPEC.names.index(name)

    def seen(at_s: float, value: float) -> np.ndarray:
        sent = objects(**{name: value})
        if np.isnan(value) and left_out:
            kept = [k for k, n in enumerate(sent.names) if n != name]
            sent = replace(sent, names=tuple(sent.names[k] for k in kept), values=sent.values[kept])
        return watch.observe(robot(stamp_s=at_s), replace(sent, stamp_s=at_s), at_s)

    assert seen(1.0, 0.7)[column] == np.float32(0.7) and watch.hidden == ()
    assert seen(1.4, np.nan)[column] == np.float32(0.7) and watch.hidden == (name,)
    with pytest.raises(MissingError, match=rf"'{name}' has been hidden for 0.60 s, bound 0.5 s"):
        seen(1.6, np.nan)
    assert seen(1.7, 0.9)[column] == np.float32(0.9) and watch.hidden == ()


def test_what_was_never_seen_has_no_last_value_and_infinity_is_no_hiding() -> None:
    name = SPEC.objects[0]
    with pytest.raises(MissingError, match="hidden from the start on"):
        tracked(max_age_s=0.1, hidden_s=0.5).observe(robot(), objects(**{name: np.nan}), 0.0)
    with pytest.raises(ObservationError, match=f"channel '{name}' is inf"):
        tracked(max_age_s=0.1, hidden_s=0.5).observe(robot(), objects(**{name: np.inf}), 0.0)
