"""What the evaluator counts, from messages that a test says in the stack's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skimo_msgs.msg import EpisodeEvent, EpisodeStep, ObjectStates

from skimo_core.domain.domain import load_domain
from skimo_eval.full_stack import summarise_watched
from skimo_ros import evaluator
from skimo_ros.nodes import Names

pytestmark = pytest.mark.ros
DOMAIN = load_domain()
SPEC = DOMAIN.observation
ARM = SPEC.joints + SPEC.fingers


class FakeOperator:
    """Every request succeeds; who waits hears the script."""

    def __init__(self, namespace: str, *, timeout_s: float) -> None:
        self.node = self
        self.hears: dict[str, Callable[[Any], None]] = {}
        self.script: list[tuple[str, Any]] = []
        self.asked: list[str] = []

    def create_subscription(self, kind: type, topic: str, hear: Callable[[Any], None], qos: object) -> None:
        self.hears[topic] = hear

    def trigger(self, name: str) -> None: ...

    def reset_stop(self, generation: int) -> None: ...

    def reset_twin(self, task: str, seed: int) -> tuple[bool, str, float]:
        self.asked.append(task)
        return True, "", 0.0

    def start(self, task: str, seed: int) -> tuple[bool, str, str]:
        self.asked.append(task)
        return True, "", "e"

    def within(self, over: Callable[[], bool], limit_s: float) -> bool:
        while self.script:
            topic, message = self.script.pop(0)
            self.hears[topic](message)
        return over()


def objects(**values: float) -> tuple[str, ObjectStates]:
    told = [values.get(name, 5.0) for name in SPEC.objects]
    return "object_states", ObjectStates(names=list(SPEC.objects), values=told)


def step(arm: Any) -> tuple[str, EpisodeStep]:
    observation = np.full(SPEC.size, 9.0, np.float32)
    observation[:ARM] = arm
    return Names.EPISODE_STEP, EpisodeStep(episode_id="e", kind="act", observation=observation)


def watch(task: str, script: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch) -> evaluator.Watched:
    monkeypatch.setattr(evaluator, "Operator", FakeOperator)
    made = evaluator.Evaluator(DOMAIN)
    operator: Any = made._operator
    operator.script = [*script, (Names.EPISODE, EpisodeEvent(kind=EpisodeEvent.END, episode_id="e"))]
    watched = made.run_episode(task, 0, lambda: True)
    assert operator.asked == [task, task]
    return watched


def test_objects_count_by_the_twin_and_the_arm_by_what_the_policy_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    home = np.zeros(ARM, np.float32)
    home[: SPEC.joints] = DOMAIN.goals["home"].goal
    script = [objects(microwave=-0.4), step(home + 1), objects(microwave=-0.4), step(home)]
    watched = watch("microwave=-0.4,home", script, monkeypatch)
    assert [name for name, _ in watched.completed] == ["microwave=-0.4+-0.1", "home"] == list(watched.task)
    assert not watched.troubles


def test_an_arm_that_was_not_heard_of_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [objects(microwave=-0.4), objects(microwave=-0.4)]
    assert watch("panda_joint1=0+-3", script, monkeypatch).completed == []
    assert len(watch("microwave=-0.4", script, monkeypatch).completed) == 1


def test_a_goal_that_comes_again_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    doors = [objects(microwave=angle) for angle in (0.0, -0.7, 0.0, -0.7)]
    watched = [watch("microwave,microwave closed,microwave", doors[:k], monkeypatch) for k in (3, 4)]
    assert [len(w.completed) for w in watched] == [2, 3]
    success = summarise_watched(watched)["success_per_subtask"]
    assert success == {"microwave": 1.0, "microwave closed": 1.0, "microwave (2)": 0.5}
