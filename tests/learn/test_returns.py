"""A task's returns: rewards told from what was observed, critics that tell skills apart, and what comes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from learn.robot import recorded, small_bundle

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.tasks import Progress
from skimo_core.episodes.recording import write_episode
from skimo_learn.data import EpisodeSet
from skimo_learn.finetune import Learner
from skimo_learn.finetune_config import FinetuneConfig
from skimo_learn.graphs import bundle_graphs
from skimo_learn.hindsight import subtask_arrays
from skimo_learn.models.agent import SkillModel
from skimo_learn.models.networks import TaskHeads
from skimo_learn.posterior import latents, posteriors
from skimo_learn.readback import model_of
from skimo_learn.recipes import Recipe
from skimo_learn.replay import open_replay
from skimo_learn.returns import learn_returns, rewards, with_heads
from skimo_learn.returns_config import ReturnsConfig
from skimo_server.bundle import load_bundle
from skimo_server.inprocess import open_policy

HORIZON = 10
MICROWAVE = 22
ROBOT = load_limits("panda")
RETURNS = FinetuneConfig(objective="returns", task="microwave,kettle", every=2, offline_episodes=6)


def test_rewards_are_what_an_episode_counts(domain: Domain) -> None:
    task = domain.task("microwave,kettle,light switch")
    rng = np.random.default_rng(0)
    windows, goals = 40, [np.array(s.goal, np.float32) for s in task.subtasks]
    observations = np.zeros((windows, 3 * HORIZON + 1, 30), np.float32)
    observations[:] = rng.uniform(-0.1, 0.1, observations.shape)
    for window in observations:  # each goal comes at its own time, or was there before, or never comes
        for subtask, goal in zip(task.subtasks, goals):
            window[rng.integers(-5, 45) if rng.random() < 0.8 else 99 :, list(subtask.channels)] = goal
    arrays = subtask_arrays(task.subtasks, 30)
    found_BN, ended_BN = rewards(torch.from_numpy(observations), *arrays, HORIZON)
    assert found_BN.sum() > 20 and ended_BN.any() and not ended_BN.all()
    for window, found_N, ended_N in zip(observations, found_BN.tolist(), ended_BN.tolist()):
        progress = Progress(task)
        progress.update(window[0])
        for i in range(3):
            rows = window[1 + i * HORIZON : 1 + (i + 1) * HORIZON]
            assert sum(progress.update(row) for row in rows) == found_N[i]
            assert progress.finished == ended_N[i]


def two_ways(episodes: int = 24) -> tuple[EpisodeSet, np.ndarray]:
    """From the same place one way opens the microwave within a skill, the other doesn't; and which went the first."""
    observations, actions, opens = [], [], np.arange(episodes) % 2 == 0
    for i, first in enumerate(opens):
        action = np.zeros((40, 9), np.float32)
        action[:, 0] = (0.8 if first else -0.8) + np.random.default_rng(i).normal(0.0, 0.05, 40)
        observation = np.zeros((41, 30), np.float32)
        observation[1:, :9] = np.cumsum(0.02 * action, axis=0)
        if first:
            observation[5:, MICROWAVE] = -0.75
        observations.append(observation)
        actions.append(action)
    return EpisodeSet.from_arrays(observations, actions, source="two ways"), opens


def test_critics_and_policy_find_the_way_that_earns(domain: Domain, recipe: Recipe) -> None:
    episodes, opens = two_ways()
    torch.manual_seed(0)
    model = SkillModel(recipe.model)
    model.mount(ROBOT)
    model.fit_normalisation(episodes.observations_RO)
    with torch.no_grad():  # skills that are far apart, as those of a trained model are
        list(model.skill_encoder.head.parameters())[-2][: recipe.model.skill] *= 20.0
    model = with_heads(model, 0)
    asked = ReturnsConfig(task="microwave", updates=300, batch=32, prior_weight=0.01, learning_rate=3e-3)
    before = [p.clone() for net in (model.skill_encoder, model.skill_policy) for p in net.parameters()]
    curve = learn_returns(model, episodes, domain.task("microwave").subtasks, asked, recipe.loss, skills=2)
    assert curve[-1]["update"] == 300 and curve[-1]["reward"] < 0.3 * curve[0]["reward"]
    assert isinstance(model.heads, TaskHeads)
    starts = episodes.starts_E
    latent_ED = latents(model, episodes)[starts]
    skills_EZ = torch.tanh(posteriors(model, episodes)[1][starts])
    with torch.no_grad():
        value_E = TaskHeads.least(model.heads.critics, latent_ED, skills_EZ).numpy()
        earned_E = model.reward(latent_ED, skills_EZ).numpy()
        chosen_Z = torch.tanh(model.task_policy(latent_ED[:1])[0])[0]
    assert value_E[opens].min() > value_E[~opens].max() and earned_E[opens].min() > earned_E[~opens].max()
    assert np.mean(earned_E[opens]) == pytest.approx(1.0, abs=0.3)
    way, other = (skills_EZ[torch.from_numpy(which)].mean(0) for which in (opens, ~opens))
    assert (chosen_Z - way).norm() < (chosen_Z - other).norm()
    after = [p for net in (model.skill_encoder, model.skill_policy) for p in net.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after))  # skills keep their meaning


def test_a_frozen_encoder_stays(domain: Domain, recipe: Recipe) -> None:
    episodes, _ = two_ways()
    model = SkillModel(recipe.model)
    model.mount(ROBOT)
    model = with_heads(model, 0)
    asked = ReturnsConfig(task="microwave", updates=3, batch=8, encoder_rate=0.0)
    before = [p.clone() for p in (*model.encoder.parameters(), *model.dynamics.parameters())]
    learn_returns(model, episodes, domain.task("microwave").subtasks, asked, recipe.loss, skills=2)
    assert all(torch.equal(a, b) for a, b in zip(before, (*model.encoder.parameters(), *model.dynamics.parameters())))


def test_a_model_without_networks_for_it_is_refused(domain: Domain, recipe: Recipe, episodes: EpisodeSet) -> None:
    asked = ReturnsConfig(task="microwave", updates=1)
    with pytest.raises(SpecError, match=r"set model\.task_heads"):
        learn_returns(
            SkillModel(recipe.model), episodes, domain.task("microwave").subtasks, asked, recipe.loss, skills=2
        )


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("parent"))


@pytest.fixture(scope="module")
def made(parent: Path, tmp_path_factory: pytest.TempPathFactory, domain: Domain, episodes: EpisodeSet) -> Path:
    """A candidate that has learned returns."""
    folder = tmp_path_factory.mktemp("returns")
    (folder / "robot").mkdir()
    for seed in range(2):
        write_episode(folder / "robot" / f"e{seed}.mcap", recorded(domain, seed))
    with open_replay(folder / "replay", domain, ROBOT) as replay:
        replay.take_from([folder / "robot"])
        return Learner(load_bundle(parent), folder, replay, domain, ROBOT, episodes, RETURNS).learn().folder


def test_a_candidate_plans_by_what_it_learned_and_for_its_task_alone(made: Path, domain: Domain) -> None:
    manifest = load_bundle(made).manifest
    assert {"reward", "value", "task_policy"} <= set(manifest.graphs)
    assert (manifest.planner.proposer, manifest.planner.score) == ("task_policy", "learned_reward+learned_value")
    policy = open_policy(made, {})
    assert policy.spec.task == "microwave,kettle"
    policy.spec.check_task(["microwave", "kettle"])
    with pytest.raises(SpecError, match="was trained on the reward of 'microwave,kettle' alone"):
        policy.spec.check_task(["kettle"])
    task = domain.task("microwave,kettle")
    plan = policy.plan(np.zeros(30, np.float32), task.goals(0, 30), seed=1, warm_start_PZ=None, deadline_s=9.0)
    assert np.isfinite(plan.value)
    as_before = open_policy(made, {"proposer": "prior", "score": "value"})
    assert as_before.spec.task == ""


def test_its_networks_come_back_as_they_were(made: Path, domain: Domain) -> None:
    bundle = load_bundle(made)
    model, _ = model_of(bundle, domain)
    rng = np.random.default_rng(0)
    for name, data in bundle_graphs(model).items():
        before, after = (ort.InferenceSession(graph) for graph in (bundle.graphs[name], data))
        given = {port.name: rng.uniform(-1, 1, [5, *port.shape[1:]]).astype(np.float32) for port in before.get_inputs()}
        for one, other in zip(map(np.asarray, before.run(None, given)), map(np.asarray, after.run(None, given))):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (FinetuneConfig(), "which objective corrections would leave as they are"),
        (replace(RETURNS, task="kettle"), "has learned the returns of 'microwave,kettle'"),
    ],
)
def test_learning_something_else_from_it_is_refused(
    tmp_path: Path, made: Path, domain: Domain, changed: FinetuneConfig, told: str
) -> None:
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay, pytest.raises(SpecError, match=told):
        Learner(load_bundle(made), tmp_path, replay, domain, ROBOT, None, changed)


def test_learning_goes_on_from_it(tmp_path: Path, made: Path, domain: Domain, episodes: EpisodeSet) -> None:
    (tmp_path / "robot").mkdir()
    write_episode(tmp_path / "robot" / "e5.mcap", recorded(domain, 5))
    with open_replay(tmp_path / "replay", domain, ROBOT) as replay:
        replay.take_from([tmp_path / "robot"])
        again = Learner(load_bundle(made), tmp_path, replay, domain, ROBOT, episodes, RETURNS).learn()
    assert again.manifest.parent_id == load_bundle(made).manifest.bundle_id
    assert again.manifest.policy_spec.task == "microwave,kettle"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"updates": 1, "task": ""}, "task is empty"),
        ({"discount": 1.5}, "discount is 1.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"prior_weight": -1.0}, "prior_weight is -1.0"),
        ({"batch": 0}, "batch 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(changed: dict[str, object], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        ReturnsConfig(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"objective": "returns"}, {"task": "kitchen"}])
def test_returns_are_of_a_task(changed: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="returns are of one task"):
        FinetuneConfig(**changed)  # type: ignore[arg-type]
