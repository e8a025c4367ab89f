"""Goals in hindsight: the steps until they hold are what brute force finds, and they are drawn as asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain
from skimo_learn.data import EpisodeSet
from skimo_learn.hindsight import NEVER, Goals, GoalSource, channel_sets, draw_goals, goal_source, steps_until
from skimo_learn.value_config import ValueConfig

LATER = ValueConfig(named=0.0, other=0.0, redraws=0)
CHANNELS = {"joint 1": 0, "microwave": 22, "kettle.y": 24}


def source_of(episodes: EpisodeSet, domain: Domain, **changes: object) -> GoalSource:
    subtasks = list(domain.subtasks.values())
    noise = torch.from_numpy(domain.noise)
    known = {"noise_O": noise, "std_floor": 0.02, **changes}
    return goal_source(episodes.observations_RO, episodes.steps_E, domain.observation, subtasks, **known)  # type: ignore[arg-type]


def drawn(source: GoalSource, config: ValueConfig, count: int = 4000, seed: int = 0) -> tuple[Tensor, Goals]:
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(source.observations_RO), (count,), generator=rng)
    return rows, draw_goals(source, rows, 10, config, rng)


def distances(source: GoalSource, rows: Tensor, goals: Goals) -> Tensor:
    return ((source.observations_RO[rows] - goals.values_BO) * goals.weights_BO).norm(dim=1)


def test_steps_until_a_goal_holds_are_those_of_brute_force(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    rows, goals = drawn(source, ValueConfig(), 300)
    rows = torch.minimum(rows, source.ends_R[rows] - 20).clamp(min=0)
    found = steps_until(source, rows, goals, [0, 10, 20], 81)
    reached = 0
    for b, row in enumerate(rows.tolist()):
        for i, offset in enumerate((0, 10, 20)):
            wait = NEVER
            for later in range(row + offset, int(source.ends_R[row]) + 1):
                off = (episodes.observations_RO[later] - goals.values_BO[b]) * goals.weights_BO[b]
                if float(off.norm()) < 1.0:
                    wait = later - row - offset
                    break
            assert int(found[i, b]) == wait
            reached += wait != NEVER
    assert 100 < reached < 890  # both kinds are among them


def test_a_tolerance_is_how_far_off_a_goal_still_holds(domain: Domain) -> None:
    ramp = np.zeros((11, 30), np.float32)
    ramp[:, CHANNELS["microwave"]] = 0.1 * np.arange(11)
    episodes = EpisodeSet.from_arrays([ramp], [np.zeros((10, 9), np.float32)])
    source = source_of(episodes, domain)
    values, weights = torch.zeros(3, 30), torch.zeros(3, 30)
    values[:, CHANNELS["microwave"]] = 0.7
    weights[:, CHANNELS["microwave"]] = 1.0 / torch.tensor([0.05, 0.25, 0.75])
    goals = Goals(values_BO=values, weights_BO=weights, named_B=torch.zeros(3, dtype=torch.bool))
    rows = torch.zeros(3, dtype=torch.long)
    assert steps_until(source, rows, goals, [0, 6, 8], 11).tolist() == [[7, 5, 0], [1, 0, 0], [NEVER, 0, 0]]


def test_goals_may_be_asked_to_be_over_just_what_a_sub_task_is_over(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    known = {tuple(sorted(subtask.channels)) for subtask in domain.subtasks.values()}

    def share(alike: float) -> float:
        over = drawn(source, replace(LATER, alike=alike))[1].weights_BO > 0
        return float(np.mean([tuple(row.nonzero().flatten().tolist()) in known for row in over]))

    assert share(1.0) == 1.0 > share(0.5) > share(0.0)
    assert share(0.5) == pytest.approx((1.0 + share(0.0)) / 2, abs=0.05)


def test_a_later_row_reaches_its_goal_and_near_ones_soon(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    rows, goals = drawn(source, LATER)
    assert not goals.named_B.any()
    wait = steps_until(source, rows, goals, [0], 81)[0]
    assert int(wait.max()) < NEVER
    for share, bound in ((1.0, 20), (0.0, 80)):
        rows, goals = drawn(source, replace(LATER, near=share, near_skills=2))
        wait = steps_until(source, rows, goals, [0], 81)[0]
        assert bound / 2 < int(wait.max()) <= bound


def test_goals_that_hold_already_are_drawn_anew(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    held = []
    for redraws in (0, 1, 3):
        rows, goals = drawn(source, replace(LATER, redraws=redraws))
        held.append(float((distances(source, rows, goals) < 1.0).float().mean()))
        assert int(steps_until(source, rows, goals, [0], 81).max()) < NEVER  # still of the same episode
    assert held[0] > held[1] + 0.05 > held[2] + 0.05 > 0.05


def test_goals_come_in_the_shares_asked_for(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    _, goals = drawn(source, ValueConfig(named=0.4, other=0.2), 8000)
    assert float(goals.named_B.float().mean()) == pytest.approx(0.4, abs=0.03)
    named = {tuple(row.tolist()) for row in source.named_KO}
    assert {tuple(row.tolist()) for row in goals.values_BO[goals.named_B]} == named
    # an episode far from all others tells where a goal came from
    apart = replace(source, observations_RO=source.observations_RO + 100.0 * source.episodes_R.unsqueeze(1))
    rows, goals = drawn(apart, ValueConfig(named=0.0, other=0.2), 8000)
    asked = goals.weights_BO > 0
    off = ((goals.values_BO - apart.observations_RO[rows]).abs() * asked).amax(1)
    assert float((off > 50.0).float().mean()) == pytest.approx(0.2, abs=0.02)
    rows, goals = drawn(apart, ValueConfig(named=0.0, other=1.0))
    assert float(distances(apart, rows, goals).min()) > 10.0


def test_no_named_goal_is_drawn_where_there_is_none(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, replace(domain, subtasks={}))
    assert not drawn(source, ValueConfig())[1].named_B.any()


def test_tolerances_keep_their_bounds_and_the_noises(episodes: EpisodeSet, domain: Domain) -> None:
    config = replace(LATER, tolerance_named=0.0, tolerance_spread=1.0, joints=0.0, subset=0.0, pair=0.0)
    source = source_of(episodes, domain, noise_O=torch.zeros(30))
    _, goals = drawn(source, config)
    asked = goals.weights_BO > 0
    size = asked.sum(1, keepdim=True).float().sqrt()
    relative = (1.0 / goals.weights_BO / source.deviations_O / size)[asked]
    assert 0.05 <= float(relative.min()) < 0.06 and 0.9 < float(relative.max()) <= 1.0001
    assert float(relative.log().mean()) == pytest.approx((np.log(0.05) + np.log(1.0)) / 2, abs=0.1)
    noisy = source_of(episodes, domain, noise_O=torch.full((30,), 0.3))
    _, goals = drawn(noisy, replace(config, tolerance_named=0.5))
    assert float(goals.weights_BO.max()) <= 1.0 / 0.6 + 1e-5
    _, goals = drawn(source, replace(config, tolerance_named=1.0))
    at = goals.weights_BO[:, CHANNELS["microwave"]]
    assert at[at > 0].tolist() == pytest.approx([1.0 / 0.3] * int((at > 0).sum()))


def test_goals_lie_off_the_row_by_a_part_of_their_tolerance(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    last = source.ends_E[torch.arange(4000) % len(source.ends_E)]  # whose later row is itself
    goals = draw_goals(source, last, 10, replace(LATER, jitter=0.5), torch.Generator().manual_seed(0))
    off = distances(source, last, goals)
    assert 0.4 < float(off.max()) <= 0.5 + 1e-4
    exact = draw_goals(source, last, 10, replace(LATER, jitter=0.0), torch.Generator().manual_seed(0))
    assert float(distances(source, last, exact).max()) == 0.0


def test_channel_sets_are_objects_sub_tasks_and_what_moved(domain: Domain) -> None:
    moving = torch.zeros(30, dtype=torch.bool)
    moving[[0, 11, CHANNELS["microwave"], CHANNELS["kettle.y"]]] = True
    sets = {tuple(row.nonzero().flatten().tolist()) for row in channel_sets(domain.observation, [], moving)}
    assert sets == {(11,), (22,), (24,), tuple(range(23, 30))}
    named = channel_sets(domain.observation, list(domain.subtasks.values()), moving)
    with_tasks = {tuple(row.nonzero().flatten().tolist()) for row in named}
    assert with_tasks == sets | {(11, 12)} and len(named) == len(with_tasks)  # the bottom burner's; none twice
    none = channel_sets(domain.observation, [], torch.zeros(30, dtype=torch.bool))
    assert none.sum(1).tolist() == [21]


def test_joints_subsets_and_pairs_come_as_often_as_asked_for(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    alone = replace(LATER, joints=0.0, subset=0.0, pair=0.0)
    sets = {tuple(row.tolist()) for row in source.sets_SO}

    def asked(config: ValueConfig) -> list[Tensor]:
        return list((drawn(source, config)[1].weights_BO > 0).unbind())

    assert {tuple(row.tolist()) for row in asked(alone)} == sets
    arm = asked(replace(alone, joints=0.3))
    whole = [row for row in arm if row[:7].all()]
    assert len(whole) / len(arm) == pytest.approx(0.3, abs=0.03) and not any(row[7:].any() for row in whole)
    some = asked(replace(alone, joints=1.0, subset=1.0))
    assert {int(row.sum()) for row in some} >= {1, 2, 3, 4} and all(row.any() for row in some)
    still = ~source.moving_O
    assert not any(row[still].any() and not row[source.moving_O].any() for row in asked(replace(alone, subset=1.0)))
    pairs = asked(replace(alone, joints=1.0, subset=0.0, pair=1.0))
    assert all(row[:7].all() for row in pairs)
    pairs = asked(replace(alone, pair=0.5))
    joined = [row for row in pairs if tuple(row.tolist()) not in sets]
    assert 0.1 < len(joined) / len(pairs) < 0.5


def test_the_same_seed_draws_the_same_goals(episodes: EpisodeSet, domain: Domain) -> None:
    source = source_of(episodes, domain)
    one, two, other = (drawn(source, ValueConfig(), seed=seed)[1] for seed in (3, 3, 4))
    assert torch.equal(one.values_BO, two.values_BO) and torch.equal(one.weights_BO, two.weights_BO)
    assert not torch.equal(one.values_BO, other.values_BO)


@pytest.mark.parametrize(
    "bad",
    [
        {"named": 1.5},
        {"named": 0.8, "other": 0.3},
        {"near_skills": 0},
        {"redraws": -1},
        {"tolerance_low": 0.0},
        {"tolerance_low": 2.0},
        {"tolerance_spread": 0.5},
        {"jitter": 1.0},
        {"discount": 1.0},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="value"):
        ValueConfig(**bad)  # type: ignore[arg-type]
