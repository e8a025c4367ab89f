"""A canary drives a real server's control loop slowly; the incumbent comes back, or never plans again, as meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.following import OBSERVATION_O, flying, id_of, plan, point, serving, toys, until
from support.forged import nan_weights
from support.policy_server import WAIT_S

from skimo_core.contract.errors import SpecError
from skimo_core.control.loop import StepKind
from skimo_core.link.client import PolicyClient
from skimo_server.cli import Serve

JOINTS = 7


@pytest.mark.alone
def test_a_canary_drives_at_half_speed_until_its_link_is_gone(tmp_path: Path) -> None:
    one, two = toys(tmp_path)
    old, new, link, canary = id_of(one), id_of(two), tmp_path / "incumbent", tmp_path / "canary"
    link.symlink_to(one)
    with serving(link) as (_, address), flying(address) as flight, PolicyClient(address) as client:
        client.connect(WAIT_S)
        flight.fly(lambda step: step.new_plan is not None, WAIT_S)
        canary.symlink_to(two)
        flight.fly(lambda step: step.bundle_id == new and step.kind is StepKind.ACT, WAIT_S)
        slow = flight.steps[-1]
        assert slow.action_A is not None and slow.skill_Z is not None
        told_A = client.act(OBSERVATION_O, slow.skill_Z, new, deadline_s=WAIT_S)
        health = client.health()
        assert (health["canary"], health["bundle"], health["refused_bundle"]) == (new, new, "")
        assert isinstance(health["count_canary_plans"], int) and health["count_canary_plans"] >= 1
        canary.unlink()
        flight.fly(lambda step: step.bundle_id == old and step.kind is StepKind.ACT, WAIT_S)
        assert (client.health()["canary"], client.health()["swaps"]) == ("", 2)
    np.testing.assert_array_equal(slow.action_A[:JOINTS], np.float32(0.5) * told_A[:JOINTS])
    np.testing.assert_array_equal(slow.action_A[JOINTS:], told_A[JOINTS:])
    speeds = {step.bundle_id: step.new_plan.speed for step in flight.steps if step.new_plan}
    assert speeds == {old: 1.0, new: 0.5}
    lasted = [step.step_in_skill for step in flight.steps if step.bundle_id == new]
    assert lasted[: flight.loop.lead_steps] == list(range(flight.loop.lead_steps)) and max(lasted) >= 9


def test_a_promoted_canary_goes_on_at_full_speed_and_the_former_incumbent_never_plans_again(tmp_path: Path) -> None:
    one, two = toys(tmp_path)
    new, link, canary = id_of(two), tmp_path / "incumbent", tmp_path / "canary"
    link.symlink_to(one)
    with serving(link, "--canary-speed", "0.25") as (_, address), PolicyClient(address) as client:
        client.connect(WAIT_S)
        canary.symlink_to(two)
        until(lambda: plan(client).bundle_id == new, "the canary")
        made = [plan(client)]
        point(link, two)
        until(lambda: made.append(plan(client)) or len(made) > 20, "plans while both links point to it")
        canary.unlink()
        until(lambda: made.append(plan(client)) or made[-1].speed == 1.0, "full speed")
        until(lambda: client.health()["canary"] == "", "its promotion")
        made += [plan(client) for _ in range(5)]
        assert client.health()["swaps"] == 1
    assert {p.bundle_id for p in made} == {new}
    speeds = [p.speed for p in made]
    assert set(speeds) == {0.25, 1.0} and speeds == sorted(speeds)


def test_a_refused_canary_leaves_the_incumbent_driving(tmp_path: Path) -> None:
    one, two = toys(tmp_path)
    link = tmp_path / "incumbent"
    link.symlink_to(one)
    nan_weights(tmp_path / "broken", two)
    with serving(link) as (_, address), PolicyClient(address) as client:
        client.connect(WAIT_S)
        (tmp_path / "canary").symlink_to(tmp_path / "broken")
        until(lambda: client.health()["refused_bundle"] != "", "a refusal")
        health, made = client.health(), plan(client)
        assert "decode.onnx: weight" in str(health["refused_bundle"]) and health["canary"] == ""
        assert (made.bundle_id, made.speed) == (id_of(one), 1.0)


@pytest.mark.parametrize("speed", [0.0, 1.5, float("nan")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(SpecError, match="canary speed is"):
        Serve(canary_speed=speed)


def test_what_drives_explores_and_a_shadow_does_not() -> None:
    asked = Serve(planner=("samples=64",), explore=0.4)
    assert asked.settings == ("samples=64", "explore=0.4") and asked.planner == ("samples=64",)
    assert Serve(planner=("explore=0.4",)).settings == ("explore=0.4",)
