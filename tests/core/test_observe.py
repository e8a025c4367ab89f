"""Observations: assembled by name, and refused by the channel's name where a number is missing or no number."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.errors import MissingError, ObservationError, SpecError, StaleError
from skimo_core.contract.types import ObjectStates, RobotState
from skimo_core.control.observe import Observer, object_values
from skimo_core.domain.domain import load_domain

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
