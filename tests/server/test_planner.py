"""The planner: on a linear model whose right answers are known, and on a bundle's networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skimo_core.contract.errors import PolicyError, SpecError
from skimo_core.contract.policy import FloatArray, Goals
from skimo_server.inprocess import InProcessPolicy
from skimo_server.planner import Planner
from skimo_server.planner_config import PlannerConfig, skimo_table_2, with_settings

SMALL = PlannerConfig(execute="best", samples=64, elites=8, horizon=3, iterations=3, policy_samples=5)
KINDS = ("gaussian", "prior", "mixed")


class LinearModel:
    """A point in the plane; a skill moves it by 0.5 z. Latent = observation = position (and two idle channels).

    What it learned of a task: a skill earns its first component and ten times the first coordinate of where it starts,
    a state is worth its first coordinate, and its policy goes to the upper right.
    """

    def __init__(self, *without: str) -> None:
        self.graphs = {"encode", "dynamics", "decode", "prior", "goal_value", "reward", "value", "task_policy"}
        self.graphs -= set(without)
        self.skill_dim = 2
        self.now_s = 0.0
        self.steps = 0
        self.broken = False

    def clock(self) -> float:
        return self.now_s

    def encode(self, observation_BO: FloatArray) -> FloatArray:
        return observation_BO

    def prior(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        shape = (len(latent_BD), 2)
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)

    def dynamics(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        self.steps += 1
        self.now_s += 1.0
        moved = latent_BD.copy()
        moved[:, :2] += 0.5 * skill_BZ
        return (moved * np.nan if self.broken else moved), None

    def decode(self, latent_BD: FloatArray) -> FloatArray:
        return latent_BD

    def goal_value(self, latent_BD: FloatArray, goal_BO: FloatArray, weight_BO: FloatArray) -> FloatArray:
        return np.exp(-np.linalg.norm((latent_BD - goal_BO) * (weight_BO > 0), axis=1)).astype(np.float32)

    def reward(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> FloatArray:
        return 10.0 * latent_BD[:, 0] + skill_BZ[:, 0]

    def value(self, latent_BD: FloatArray) -> FloatArray:
        return latent_BD[:, 0]

    def task_policy(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        shape = (len(latent_BD), 2)
        return np.full(shape, 0.7, np.float32), np.full(shape, 0.01, np.float32)


START = np.zeros(4, np.float32)


def goal(*points: tuple[float, float], threshold: float = 0.2) -> Goals:
    values = np.array([(*p, 0.0, 0.0) for p in points], np.float32)
    masks = np.tile(np.array([1, 1, 0, 0], np.float32), (len(points), 1))
    return Goals(values_KO=values, weights_KO=masks, thresholds_K=np.full(len(points), threshold, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("execute", ["best", "elite_sample", "mean"])
def test_reaches_the_goal_of_a_linear_model(kind: str, execute: str) -> None:
    config = with_settings(SMALL, [f"proposals={kind}", f"execute={execute}", "samples=256", "temperature=20"])
    plan = Planner(LinearModel(), config).plan(START, goal((0.9, -0.7)), seed=0)
    nearest = np.linalg.norm(plan.predicted_PO[:, :2] - (0.9, -0.7), axis=1).min()
    assert nearest < 0.2
    assert plan.success_probability > 0.9
    travelled = START[:2] + 0.5 * np.cumsum(plan.skills_PZ, axis=0)
    np.testing.assert_allclose(plan.predicted_PO[:, :2], travelled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_later_rounds_draw_as_many_as_they_are_told(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = LinearModel(), list[int]()
    step = model.dynamics
    monkeypatch.setattr(model, "dynamics", lambda h, z: (rows.append(len(h)), step(h, z))[1])
    config = with_settings(SMALL, [f"proposals={kind}", "policy_samples=0", "later_samples=21"])
    plan = Planner(model, config).plan(START, goal((0.9, -0.7)), seed=0)
    assert rows == [1] * 3 + [64] * 3 + [21] * 6 and np.isfinite(plan.value)
    with pytest.raises(SpecError, match="elites 8 exceed later_samples 7"):
        replace(SMALL, later_samples=7)


def test_sub_tasks_count_in_order_and_each_once() -> None:
    ahead, behind = (0.4, 0.0), (-0.4, 0.0)
    config = with_settings(SMALL, ["score=reward", "samples=2048", "horizon=4"])
    plan = Planner(LinearModel(), config).plan(START, goal(ahead, behind), seed=0)
    to_first = np.linalg.norm(plan.predicted_PO[:, :2] - ahead, axis=1)
    to_second = np.linalg.norm(plan.predicted_PO[:, :2] - behind, axis=1)
    first, second = int(np.argmax(to_first < 0.2)), int(np.argmax(to_second < 0.2))
    assert to_first[first] < 0.2 and to_second[second] < 0.2 and first < second
    # Jumpy eq. 3: each completion is worth the discount to the power of its time
    assert plan.value == pytest.approx(0.99 ** (first + 1) + 0.99 ** (second + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_plan(policy: InProcessPolicy, observation_O, goals: Goals, kind: str) -> None:
    planner = Planner(policy.engine, with_settings(SMALL, [f"proposals={kind}", "execute=elite_sample"]))
    one, same = (planner.plan(observation_O, goals, seed=5) for _ in range(2))
    other = planner.plan(observation_O, goals, seed=6)
    np.testing.assert_array_equal(one.skills_PZ, same.skills_PZ)
    np.testing.assert_array_equal(one.predicted_PO, same.predicted_PO)
    assert one.value == same.value
    assert not np.array_equal(one.skills_PZ, other.skills_PZ)


@pytest.mark.parametrize("kind", KINDS)
def test_skills_and_the_elites_mean_stay_within_bounds(
    policy: InProcessPolicy, observation_O, goals: Goals, kind: str
) -> None:
    config = with_settings(SMALL, [f"proposals={kind}", "warm_start=mean", "initial_std=10"])
    found = Planner(policy.engine, config).search(observation_O, goals, seed=0)
    assert np.abs(found.elites.skills_NPZ).max() <= config.skill_clip
    assert np.abs(found.mean_PZ).max() <= config.skill_clip
    low, high = found.elites.skills_NPZ.min(axis=0), found.elites.skills_NPZ.max(axis=0)
    mean = np.einsum("e,epz->pz", found.weights_E, found.elites.skills_NPZ)
    assert (mean >= low - 1e-6).all() and (mean <= high + 1e-6).all()
    assert found.weights_E.sum() == pytest.approx(1.0)


def test_rounds_only_get_better_and_elites_come_best_first(policy: InProcessPolicy, observation_O, goals) -> None:
    found = Planner(policy.engine, skimo_table_2()).search(observation_O, goals, seed=0)
    assert len(found.rounds) == 6 and found.rounds == sorted(found.rounds)
    assert (np.diff(found.elites.scores_N) <= 0).all()


@pytest.mark.parametrize("kind", ["gaussian", "prior"])
def test_a_warm_start_shifts_by_one(kind: str) -> None:
    warm_PZ = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
    config = with_settings(SMALL, [f"proposals={kind}", "warm_start=mean", "momentum=1", "execute=mean"])
    plan = Planner(LinearModel(), config).plan(START, goal((9, 9)), seed=0, warm_start_PZ=warm_PZ)
    # with momentum 1 the mean never moves: what comes back is where it started
    np.testing.assert_allclose(plan.warm_start_PZ, [[0.3, 0.4], [0.5, 0.6], [0, 0]], atol=1e-5)


def test_a_warm_start_as_candidate_is_never_lost() -> None:
    there = goal((0.45, 0.45), threshold=0.01)
    warm_PZ = np.array([[0.0, 0.0], [0.45, 0.45], [0.45, 0.45]], np.float32)
    config = with_settings(SMALL, ["samples=8", "elites=4", "iterations=1"])
    plan = Planner(LinearModel(), config).plan(START, there, seed=0, warm_start_PZ=warm_PZ)
    np.testing.assert_allclose(plan.skills_PZ[:2], warm_PZ[1:], atol=1e-6)
    assert plan.success_probability > 0


def test_at_the_deadline_it_answers_with_the_best_so_far() -> None:
    def after(seconds: float) -> tuple[float, int]:
        model = LinearModel()
        found = Planner(model, SMALL, clock=model.clock).search(START, goal((1, 1)), seed=0, deadline_s=seconds)
        assert model.now_s <= max(seconds, 3.0)  # 3: the first plan, which is always made
        return float(found.chosen.scores_N[0]), len(found.rounds)

    scores, rounds = zip(*(after(float(s)) for s in range(14)))
    assert rounds[0] == 0 and rounds[5] == 0 and rounds[7] == 1 and rounds[13] == 3
    assert list(scores) == sorted(scores)


def test_a_deadline_only_drops_rounds() -> None:
    model = LinearModel()
    cut = Planner(model, SMALL, clock=model.clock).search(START, goal((1, 1)), seed=3, deadline_s=10.0)
    one = Planner(LinearModel(), replace(SMALL, iterations=len(cut.rounds))).search(START, goal((1, 1)), seed=3)
    np.testing.assert_array_equal(cut.chosen.skills_NPZ, one.chosen.skills_NPZ)


def test_the_networks_are_called_once_per_skill_and_round() -> None:
    model = LinearModel()
    Planner(model, replace(SMALL, proposals="mixed")).plan(START, goal((1, 1)), seed=0)
    assert model.steps == SMALL.horizon * (1 + SMALL.iterations)  # the first plan, then each round


def test_valuing_every_state_reaches_the_goal_sooner() -> None:
    def first_distance(value_at: str) -> float:
        config = with_settings(SMALL, [f"value_at={value_at}", "score=value", "samples=512", "execute=best"])
        plans = [Planner(LinearModel(), config).plan(START, goal((0.4, 0.0)), seed=s) for s in range(5)]
        return float(np.mean([np.linalg.norm(p.predicted_PO[0, :2] - (0.4, 0.0)) for p in plans]))

    assert first_distance("every") < 0.1 < first_distance("end")
    assert first_distance("best") < 0.1


def test_patience_takes_turns_and_ends_what_plans_put_off() -> None:
    """By their ends alone, plans put off what one skill would do, and who runs only first skills never does it."""
    config = with_settings(SMALL, ["score=value", "samples=512", "execute=best", "patience=3"])
    turns = [config.after(spent).value_at for spent in range(10)]
    assert turns == ["end"] * 3 + ["best"] * 3 + ["end"] * 3 + ["best"]
    assert with_settings(config, ["patience=0"]).after(1000).value_at == "end"
    planner, goals = Planner(LinearModel(), config), goal((0.4, 0.0))

    def off(spent: int, seed: int) -> float:
        plan = planner.plan(START, goals, seed=seed, spent=spent)
        return float(np.linalg.norm(plan.predicted_PO[0, :2] - (0.4, 0.0)))

    for seed in range(3):
        assert off(3, seed) < 0.1 and off(0, seed) == off(2, seed) == off(6, seed)
    assert np.mean([off(0, seed) for seed in range(5)]) > 0.1


def test_learned_rewards_count_from_where_each_skill_starts_and_learned_values_from_where_it_ends() -> None:
    def value(*settings: str) -> tuple[float, FloatArray, FloatArray]:
        plan = Planner(LinearModel(), with_settings(SMALL, settings)).plan(START, goal((1, 1)), seed=0)
        return plan.value, plan.skills_PZ[:, 0].astype(np.float64), plan.predicted_PO[:, 0].astype(np.float64)

    powers = 0.99 ** np.arange(4)
    found, skill_P, after_P = value("score=learned_reward")
    before_P = np.array([0.0, *after_P[:-1]])
    assert found == pytest.approx(powers[:3] @ (10.0 * before_P + skill_P), rel=1e-5) and found > 10.0
    found, _, after_P = value("score=learned_value")
    assert found == pytest.approx(powers[3] * after_P[-1], rel=1e-5)
    found, _, after_P = value("score=learned_value", "value_at=every")
    assert found == pytest.approx(powers[1:] @ after_P / 3, rel=1e-5)
    found, _, after_P = value("score=learned_value", "value_at=best")
    assert found == pytest.approx((powers[1:] * after_P).max(), rel=1e-5)
    found, skill_P, after_P = value("score=learned_reward+learned_value")
    rewards_P = 10.0 * np.array([0.0, *after_P[:-1]]) + skill_P
    assert found == pytest.approx(powers[:3] @ rewards_P + powers[3] * after_P[-1], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warm_start", ["candidate", "mean"])
def test_without_a_prior_skills_come_from_a_standard_normal(kind: str, warm_start: str) -> None:
    """The linear model's prior is one, so leaving it out changes nothing."""
    config = with_settings(SMALL, [f"proposals={kind}", f"warm_start={warm_start}"])
    warm_PZ = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
    planners = [Planner(LinearModel(*without), config) for without in ((), ("prior",))]
    one, other = (p.plan(START, goal((0.9, -0.7)), seed=0, warm_start_PZ=warm_PZ) for p in planners)
    np.testing.assert_array_equal(one.skills_PZ, other.skills_PZ)
    assert one.value == other.value


def test_a_task_s_policy_proposes_where_it_is_asked_to() -> None:
    """Its skills are all near tanh 0.7, those of the prior anywhere."""
    planner = Planner(LinearModel("prior"), with_settings(SMALL, ["proposer=task_policy", "score=learned_value"]))
    first = planner.search(START, goal((1, 1)), seed=0, deadline_s=0.0)  # the proposer's mode, before any round
    np.testing.assert_allclose(first.chosen.skills_NPZ, np.tanh(0.7), atol=1e-6)
    drawn = planner.search(START, goal((1, 1)), seed=0).elites.skills_NPZ
    np.testing.assert_allclose(drawn, np.tanh(0.7), atol=0.03)
    assert np.ptp(drawn) > 0


def test_a_task_s_policy_fills_the_last_place_of_a_warm_start() -> None:
    class Near(LinearModel):
        """Worth most is to have gone one skill of the policy far."""

        def value(self, latent_BD: FloatArray) -> FloatArray:
            return -np.abs(latent_BD[:, 0] - 0.5 * np.tanh(np.float32(0.7)))

    planner = Planner(Near(), with_settings(SMALL, ["proposer=task_policy", "score=learned_value"]))
    still_PZ = np.zeros((3, 2), np.float32)
    found = planner.search(START, goal((1, 1)), seed=0, warm_start_PZ=still_PZ, deadline_s=0.0)
    np.testing.assert_allclose(found.best.skills_NPZ[0], [[0, 0], [0, 0], [np.tanh(0.7)] * 2], atol=1e-6)


def test_a_model_is_asked_only_for_what_it_has() -> None:
    """Whoever asks for more is refused before there is a plan, with the setting and the graph."""

    class Bare(LinearModel):
        prior = goal_value = reward = value = task_policy = None  # type: ignore[assignment]

    bare = Bare("prior", "goal_value", "reward", "value", "task_policy")
    for kind in KINDS:
        config = with_settings(SMALL, [f"proposals={kind}", "score=reward+value"])
        assert Planner(bare, config).plan(START, goal((0.4, 0.0)), seed=0).value > 0
    with pytest.raises(SpecError, match="score is 'value', which asks for graph 'goal_value', and there are only"):
        Planner(bare, SMALL)


def test_guards_lower_the_score_of_what_the_model_is_unsure_of(policy: InProcessPolicy, observation_O, goals) -> None:
    def best(*settings: str) -> float:
        return Planner(policy.engine, with_settings(SMALL, settings)).plan(observation_O, goals, seed=0).value

    assert best("surprise_weight=0.1") < best()
    assert best("consistency_weight=0.1") < best()
    surprised = Planner(policy.engine, with_settings(SMALL, ["surprise_weight=5", "score=reward", "samples=512"]))
    calm = surprised.search(observation_O, goals, seed=0).chosen.noise_NPZ
    assert np.mean(calm**2) < 0.5  # far below the 1 of a draw from the prior


def test_penalising_disagreement_needs_an_ensemble(policy: InProcessPolicy, observation_O, goals) -> None:
    with pytest.raises(SpecError, match="no disagreement"):
        Planner(policy.engine, replace(SMALL, disagreement_weight=1.0)).plan(observation_O, goals, seed=0)


def test_a_model_that_diverges_is_an_error_not_a_plan() -> None:
    model = LinearModel()
    model.broken = True
    with pytest.raises(PolicyError, match="non-finite"):
        Planner(model, SMALL).plan(START, goal((1, 1)), seed=0)


def test_bad_arguments_are_refused() -> None:
    planner = Planner(LinearModel(), SMALL)
    with pytest.raises(SpecError, match="0 open sub-tasks"):
        planner.plan(
            START, Goals(values_KO=START[None][:0], weights_KO=START[None][:0], thresholds_K=START[:0]), seed=0
        )
    with pytest.raises(SpecError, match="seed"):
        planner.plan(START, goal((1, 1)), seed=-1)
    with pytest.raises(SpecError, match="warm start"):
        planner.plan(START, goal((1, 1)), seed=0, warm_start_PZ=np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    "setting",
    [
        *("samples=0", "samples=1.5", "elites=99999", "proposals=random", "colour=red", "discount=2", "noise_clip=nan"),
        *("x", "score=", "score=reward+", "score=value+value", "score=worth", "score_terms=x", "proposer=encode"),
    ],
)
def test_bad_settings_are_refused(setting: str) -> None:
    with pytest.raises(SpecError):
        with_settings(PlannerConfig(), [setting])


def test_a_setting_changes_what_it_names() -> None:
    assert with_settings(PlannerConfig(), ["samples=256", "score=value"]) == PlannerConfig(samples=256, score="value")
    assert with_settings(PlannerConfig(), ["preset=skimo_table_2"]) == skimo_table_2()


# --- exploration ----------------------------------------------------------------------------------------------------


ONE_SKILL = replace(SMALL, horizon=1, iterations=8, samples=256, temperature=20.0)
"""Finds the one skill (0.6, -0.4) that leads to AHEAD, much the same for every seed."""
AHEAD = goal((0.3, -0.2))


def first_skills(config: PlannerConfig, seeds: int = 200) -> FloatArray:
    planner = Planner(LinearModel(), config)
    return np.stack([planner.plan(START, AHEAD, seed=seed).skills_PZ[0] for seed in range(seeds)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("execute", ["best", "elite_sample", "mean"])
def test_without_exploration_no_plan_changes(
    policy: InProcessPolicy, observation_O, goals: Goals, kind: str, execute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_settings(SMALL, [f"proposals={kind}", f"execute={execute}"])
    plan = Planner(policy.engine, with_settings(config, ["explore=0"])).plan(observation_O, goals, seed=3)
    monkeypatch.delattr(Planner, "_explored")
    same = Planner(policy.engine, config).plan(observation_O, goals, seed=3)
    assert plan.skills_PZ.tobytes() == same.skills_PZ.tobytes() and plan.value == same.value


@pytest.mark.parametrize("kind", KINDS)
def test_exploration_moves_the_first_skill_by_as_much_as_asked(kind: str) -> None:
    config = with_settings(ONE_SKILL, [f"proposals={kind}"])
    none, little, much = (first_skills(with_settings(config, [f"explore={e}"])) for e in (0, 0.05, 0.2))
    slope = 1.0 if kind == "gaussian" else 1.0 - np.array([0.6, -0.4]) ** 2  # of tanh, through which noise goes
    assert none.std(axis=0).max() < 0.02
    np.testing.assert_allclose(little.mean(axis=0), (0.6, -0.4), atol=0.03)
    if kind != "mixed":  # there it depends on how the elite was proposed
        np.testing.assert_allclose(little.std(axis=0), 0.05 * slope, rtol=0.25)
    assert (much.std(axis=0) > 2 * little.std(axis=0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_explored_skills_stay_within_bounds_and_the_plan_says_what_comes_of_them(
    policy: InProcessPolicy, observation_O, goals: Goals, kind: str
) -> None:
    config = with_settings(SMALL, [f"proposals={kind}", "execute=elite_sample", "explore=2", "skill_clip=0.9"])
    planner = Planner(policy.engine, config)
    one, same = (planner.plan(observation_O, goals, seed=5) for _ in range(2))
    assert one.skills_PZ.tobytes() == same.skills_PZ.tobytes()
    assert np.abs(one.skills_PZ).max() <= np.float32(0.9)
    latent = policy.engine.encode(observation_O[None])
    for skill_Z, predicted_O in zip(one.skills_PZ, one.predicted_PO):
        latent, _ = policy.engine.dynamics(latent, skill_Z[None])
        np.testing.assert_allclose(policy.engine.decode(latent)[0], predicted_O, atol=1e-4)


def test_the_prior_s_noise_is_moved_within_its_clip() -> None:
    config = with_settings(ONE_SKILL, ["proposals=prior", "execute=mean", "explore=2", "noise_clip=0.5"])
    assert np.abs(first_skills(config, seeds=50)).max() <= np.tanh(0.5) + 1e-6


def test_refits_keep_the_width_that_is_explored() -> None:
    narrow = Planner(LinearModel(), replace(ONE_SKILL, proposals="gaussian"))
    wide = Planner(LinearModel(), replace(narrow.config, explore=0.5))
    kept = [p.search(START, AHEAD, seed=0).elites.skills_NPZ[:, 0].std(axis=0).mean() for p in (narrow, wide)]
    assert kept[0] < 0.01 < 0.03 < kept[1]


def test_a_plan_without_a_whole_round_is_not_explored() -> None:
    model = LinearModel()
    config = with_settings(SMALL, ["explore=1", "execute=elite_sample"])
    late = Planner(model, config, clock=model.clock).plan(START, goal((0.9, -0.7)), seed=0, deadline_s=4.0)
    np.testing.assert_array_equal(late.skills_PZ, np.zeros((3, 2), np.float32))


def test_what_a_policy_explores_stands_in_its_spec(policy: InProcessPolicy) -> None:
    assert policy.spec.explore == 0.0
    wide = policy.exploring(0.3)
    assert (wide.spec.explore, wide.planner.config.explore, wide.engine) == (0.3, 0.3, policy.engine)
    with pytest.raises(SpecError, match=r"planner explore is 2\.5, must lie in 0 to 2"):
        policy.exploring(2.5)
