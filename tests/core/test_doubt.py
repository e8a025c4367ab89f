"""When a plan's promises are doubted."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Plan
from skimo_core.control.doubt import Doubt, DoubtConfig


def plan(promise: float, skills: int = 3) -> Plan:
    return Plan(
        skills_PZ=np.zeros((skills, 2), np.float32),
        warm_start_PZ=np.zeros((skills, 2), np.float32),
        value=0.0,
        predicted_PO=np.zeros((skills, 4), np.float32),
        success_probability=promise,
        bundle_id="fake",
    )


def said(promises: list[float], config: DoubtConfig | None = None, subtask: str = "kettle") -> list[int]:
    """At which plans it is said."""
    doubt = Doubt(config)
    return [k for k, promise in enumerate(promises) if doubt.note(subtask, plan(promise))]


def test_three_plans_in_a_row_that_promise_little_are_said_once() -> None:
    assert said([0.1, 0.19, 0.0, 0.1, 0.1]) == [2]
    assert said([0.1, 0.1, 0.3, 0.1, 0.1, 0.1]) == [5]
    assert said([0.1, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1]) == [2, 6]
    assert said([0.1, 0.1, 0.1], DoubtConfig(plans=2)) == [1]


def test_firm_promises_are_doubted_once_three_are_over_and_broken() -> None:
    # a plan of 3 skills is over when the third plan after it begins: of 6 plans, the first three are
    assert said([0.9] * 8) == [5]
    assert said([0.9, 0.5, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5]) == [7]
    doubt = Doubt()
    assert [doubt.note("kettle", plan(0.95, skills=1)) for _ in range(4)] == [False, False, False, True]
    assert doubt.words == "3 plans in a row promised kettle with at least 0.95, and it is not done"


def test_another_sub_task_or_an_operator_begins_anew() -> None:
    doubt = Doubt()
    for _ in range(3):
        doubt.note("kettle", plan(0.1))
    assert doubt.words
    doubt.note("microwave", plan(0.1))
    assert not doubt.words
    doubt.note("microwave", plan(0.1))
    doubt.clear()
    assert not doubt.note("microwave", plan(0.1))


def test_no_promise_is_no_doubt() -> None:
    assert said([float("nan")] * 9) == [] and said([0.0] * 9, DoubtConfig(bound=0.0)) == []


@pytest.mark.parametrize("settings", [{"bound": 0.6}, {"bound": -0.1}, {"plans": 0}])
def test_contradictory_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=next(iter(settings))):
        DoubtConfig(**settings)  # type: ignore[arg-type]
