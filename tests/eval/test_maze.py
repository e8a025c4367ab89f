"""The whole way without an arm: play, training, export, a real server, and an episode; the same parts as an arm's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.policy_server import WAIT_S, running

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import FloatArray
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.link.client import PolicyClient
from skimo_eval.evaluate import Args, evaluate
from skimo_eval.inprocess import World
from skimo_eval.trials import Trial, run_episode
from skimo_learn.data import load_episodes
from skimo_learn.export import export_bundle, load_run
from skimo_learn.readback import model_of
from skimo_learn.recipes import for_domain, maze
from skimo_learn.run import train_run
from skimo_server.bundle import load_bundle
from skimo_server.inprocess import open_policy
from skimo_sim.play.collect import collect, make_episode

MAZE = load_domain("maze")
SMALL = {"samples": 16, "elites": 4, "horizon": 2}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of play, learned from for a second by the maze's own recipe, small."""
    folder = tmp_path_factory.mktemp("maze")
    collect(folder / "play", episodes=3, seed=0, workers=1, make=lambda seed: make_episode("maze", seed))
    base = for_domain(maze(), MAZE)
    recipe = replace(
        base,
        model=replace(base.model, latent=16, hidden=16, lstm=16, policy_hidden=16, value_hidden=16),
        pretrain=replace(base.pretrain, updates=20, batch=4, threads=1, evaluate_every=20, checkpoint_every=20),
        value=replace(base.value, updates=10, batch=8),
    )
    train_run(recipe, MAZE, load_episodes(folder / "play", domain=MAZE), folder / "run", device="cpu")
    export_bundle(load_run(folder / "run"), folder / "bundle", MAZE)
    return folder / "bundle"


def test_a_bundle_says_that_it_is_of_no_robot_and_reads_back(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.manifest.robot == load_limits(MAZE.robot).named and loaded.manifest.domain == MAZE.named
    assert loaded.manifest.action.joints == 0 and loaded.manifest.recipe["model"]["skill_encoder"] == "mlp"
    model, recipe = model_of(loaded, MAZE)
    assert recipe.name == "maze" and model.hand is None


def test_the_pilot_flies_it_through_gate_and_twin_and_nothing_is_missed_or_refused(bundle: Path) -> None:
    lab = World(domain="maze").build()
    task = replace(MAZE.task(), step_limit=45)
    trial = Trial(lab, open_policy(bundle, SMALL), task, seed=1)
    while trial.step():
        pass
    result = trial.result
    assert (result.steps, result.missed, result.stops, result.late_plans, result.error) == (45, 0, 0, 0, "")
    assert not result.verdicts and len(result.plans) == 5
    for record in trial.records[:-1]:
        assert record.applied_A is not None and record.step.action_A is not None
        assert np.array_equal(record.applied_A, record.step.action_A)
    assert not np.array_equal(trial.truths[0], trial.truths[-1])


class Patient(PolicyClient):
    """Time stands still in a twin while a busy machine answers."""

    def act(self, *asked: Any, deadline_s: float) -> FloatArray:
        return super().act(*asked, deadline_s=WAIT_S)


def test_over_a_real_server_the_same_seed_makes_the_same_way(bundle: Path) -> None:
    lab, task = World(domain="maze").build(), replace(MAZE.task(), step_limit=25)
    policy = open_policy(bundle, SMALL)
    ways: list[np.ndarray] = []

    def note(trial: Trial) -> None:
        ways[-1] = np.concatenate([ways[-1], lab.twin.read_objects().values[None]])

    with running(policy) as endpoint, Patient(endpoint) as client:
        client.connect()
        for flown in (policy, client):
            ways.append(np.zeros((0, 4)))
            assert run_episode(lab, flown, task, 3, before_step=note).missed == 0
    assert len(ways[0]) > 25 and np.array_equal(ways[0], ways[1])


def test_it_is_evaluated_by_the_same_command_and_the_ros_stack_says_where(bundle: Path) -> None:
    short = Args(bundle=str(bundle), domain="maze", task="x=10 y=24", condition="papers", episodes=1, workers=1)
    with pytest.raises(SpecError, match="has no arm, and the ROS stack commands one"):
        evaluate(replace(short, stack="full"))
    with pytest.raises(SpecError, match="is not this caller's"):
        evaluate(replace(short, domain="kitchen", task=""))
