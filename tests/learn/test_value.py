"""The goal value: its targets are what play did, it learns them, and its report says how well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.tasks import Subtask
from skimo_learn.data import EpisodeSet
from skimo_learn.hindsight import Goals
from skimo_learn.models.agent import SkillModel
from skimo_learn.recipes import Recipe
from skimo_learn.value import UNKNOWN, discounted_times, prepare, train_value, value_batch, value_loss
from skimo_learn.value_config import ValueConfig
from skimo_learn.value_report import auc, reliability, value_report


def named(data: object, rows: torch.Tensor, k: int = 0) -> Goals:
    values, weights = (a[k].expand(len(rows), -1) for a in (data.goals.named_KO, data.goals.weights_KO))  # type: ignore[attr-defined]
    return Goals(values_BO=values, weights_BO=weights, named_B=torch.ones(len(rows), dtype=torch.bool))


def fitted(recipe: Recipe, episodes: EpisodeSet) -> SkillModel:
    torch.manual_seed(0)
    model = SkillModel(recipe.model)
    model.mount(load_limits("panda"))
    model.fit_normalisation(episodes.observations_RO)
    return model


def test_targets_are_discounted_waits_with_the_end_unknown(recipe: Recipe, domain: Domain) -> None:
    observation = np.zeros((11, 30), np.float32)
    observation[6:8, 22] = 1.0
    episodes = EpisodeSet.from_arrays([observation], [np.zeros((10, 9), np.float32)])
    subtask = Subtask(name="microwave", channels=(22,), goal=(1.0,), threshold=0.3)
    data = prepare(fitted(recipe, episodes), episodes, replace(domain, subtasks={"microwave": subtask}))
    rows = torch.arange(9)
    config = ValueConfig(discount=0.5, censor_steps=2)
    target = discounted_times(data, rows, named(data, rows), [0, 2], config)
    wanted = [0.5**6, 0.5**5, 0.5**4, 0.5**3, 0.25, 0.5, 1.0, 1.0, 0.0, UNKNOWN, UNKNOWN]
    assert target[0].tolist() == pytest.approx(wanted[:9])
    assert target[1].tolist() == pytest.approx(wanted[2:])


def test_each_state_of_a_window_has_its_goal_and_its_own_target(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet
) -> None:
    model = fitted(recipe, episodes)
    data = prepare(model, episodes, domain)
    config = ValueConfig(skills=2)
    rows = episodes.windows(20)[:7]
    batch = value_batch(model, data, rows, config, torch.Generator().manual_seed(0))
    assert batch.latents_BD.shape[0] == batch.targets_B.shape[0] == 7 * 5
    encoded, goals = batch.latents_BD[: 7 * 3].view(3, 7, -1), batch.goals_BO.view(5, 7, -1)
    targets = batch.targets_B.view(5, 7)
    for i in range(3):
        assert torch.equal(encoded[i], data.latents_RD[rows + 10 * i])
        assert torch.equal(goals[i], goals[0])
        asked = Goals(values_BO=goals[0], weights_BO=batch.weights_BO[:7], named_B=torch.zeros(7, dtype=torch.bool))
        torch.testing.assert_close(targets[i], discounted_times(data, rows + 10 * i, asked, [0], config)[0])
    assert torch.equal(targets[3:], targets[1:3])  # predicted latents stand for the same states


def test_it_learns_from_play_and_leaves_the_rest_alone(recipe: Recipe, domain: Domain, episodes: EpisodeSet) -> None:
    model = fitted(recipe, episodes)
    before = {n: p.clone() for n, p in model.named_parameters() if not n.startswith("value.")}
    config = replace(recipe.value, updates=300, batch=64, skills=1, censor_steps=10, learning_rate=1e-2)
    data = prepare(model, episodes, domain)
    rows = episodes.windows(10)
    batch = value_batch(model, data, rows, config, torch.Generator().manual_seed(5))
    at_first = float(value_loss(model, batch).detach())
    assert train_value(model, episodes, domain, config)[-1]["update"] == 300
    assert float(value_loss(model, batch).detach()) < 0.65 * at_first
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)
    rows = torch.arange(len(data.latents_RD))
    microwave = named(data, rows, list(domain.subtasks).index("microwave"))
    target = discounted_times(data, rows, microwave, [0], config)[0]
    done, far = target == 1.0, target == 0.0
    assert done.any() and far.any()
    value = model.goal_value(data.latents_RD, microwave.values_BO, microwave.weights_BO).detach()
    assert float(value[done].mean()) > float(value[far].mean()) + 0.2
    # a wide tolerance is met sooner than a narrow one
    goal = torch.zeros(len(rows), 30)
    goal[:, 22] = -0.35
    weight = (goal != 0).float()
    wide, narrow = (model.goal_value(data.latents_RD, goal, weight / t).detach().mean() for t in (0.2, 0.02))
    assert float(wide) > float(narrow) + 0.1


def test_the_report_says_how_good_it_is_for_named_and_for_drawn_goals(
    recipe: Recipe, domain: Domain, episodes: EpisodeSet
) -> None:
    model = fitted(recipe, episodes)
    data = prepare(model, episodes, domain)
    config = replace(recipe.value, skills=2, censor_steps=10)
    report = value_report(model, episodes, data, config, plan_steps=30)
    for kind in ("named", "hindsight"):
        assert set(report[kind]) == {"encoded", "predicted"}
        for entry in report[kind].values():
            within = entry["within"]
            assert 0.0 < within["share"] < 1.0 and 0.0 <= within["brier"] <= 1.0
            assert all(b["at_least"] <= b["at_most"] + 1e-6 for b in within["bins"])
            assert 0 < entry["ahead"]["count"] < within["count"] == sum(b["count"] for b in within["bins"])
    assert value_report(model, episodes, data, config, plan_steps=30) == report


def test_reliability_leaves_out_what_is_unknown_and_bounds_what_values_imply() -> None:
    value = torch.tensor([0.05, 0.05, 0.95, 0.95, 0.5])
    found = reliability(value, torch.tensor([0.0, 1.0, 1.0, 1.0, UNKNOWN]), 0.4)
    assert found["share"] == pytest.approx(0.75) and found["count"] == 4
    assert reliability(value[4:], torch.tensor([UNKNOWN]), 0.4) == {"count": 0}
    low, high = found["bins"]
    assert (low["count"], low["reached"], high["count"], high["reached"]) == (2, 0.5, 2, 1.0)
    assert (low["at_least"], low["at_most"]) == pytest.approx((0.0, 0.125))
    assert (high["at_least"], high["at_most"]) == pytest.approx((0.55 / 0.6, 1.0))


@pytest.mark.parametrize(
    ("score", "true", "wanted"),
    [
        ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 1.0),
        ([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 1], 0.0),
        ([0.1, 0.3, 0.3, 0.4], [0, 0, 1, 1], 0.875),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0.5),
        ([0.1, 0.2], [1, 1], 0.5),
    ],
)
def test_auc_is_the_chance_of_ranking_right(score: list[float], true: list[int], wanted: float) -> None:
    assert auc(torch.tensor(score), torch.tensor(true).float()) == pytest.approx(wanted)
