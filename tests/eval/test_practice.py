"""Practice: a robot's recordings from the twin, complete, and help where the policy asks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.control.doubt import DoubtConfig
from skimo_core.episodes.experience import transitions
from skimo_core.episodes.recording import read_episode
from skimo_eval.helper import ScriptedHelper
from skimo_eval.inprocess import World, bundle_policy
from skimo_eval.practice import Args, Schedule, main, practise
from skimo_eval.trials import Lab, Trial
from skimo_server.bundle import resolve_bundle

STIFF = "doors_x6"


@pytest.fixture(scope="module")
def stiff() -> Lab:
    return World().build(STIFF)


def test_what_is_recorded_is_all_that_learning_needs(tmp_path: Path) -> None:
    args = Args(out=tmp_path, task="microwave", condition=STIFF, episodes=1, seed=3, helper="scripted", ask_below=0.45)
    (result,) = practise(args)
    assert result.helps == 1
    episode = read_episode(tmp_path / "practice-0000003.mcap")
    assert episode.kinds is not None and episode.rewards is not None and episode.bundle_ids is not None
    assert set(episode.kinds) == {"act", "intervene", "done"} and episode.rewards.sum() == 1.0
    by_hand = episode.kinds[:-1] == "intervene"
    np.testing.assert_array_equal(episode.shown_T, by_hand)
    assert set(episode.bundle_ids[~by_hand]) == {episode.meta.bundle_id}
    kinds = [transition.kind for transition in transitions(episode, 10)]
    assert set(kinds[:-1]) <= {"whole", "held"} and kinds[-1] in ("intervened", "held", "whole", "cut")
    assert episode.promises is not None
    told = episode.promises[np.isfinite(episode.promises).all(1)]
    plans = [(plan.value, plan.predicted_success) for plan in result.plans]
    np.testing.assert_allclose(told[: len(plans)], plans, rtol=1e-6)
    assert len(plans) <= len(told) <= len(plans) + 1  # one may take effect as the last sub-task is done
    assert episode.actions_proposed is not None and np.isfinite(episode.actions_proposed).all()
    with pytest.raises(SpecError, match="is there already"):
        practise(args)


def test_who_gives_up_ends_the_episode(stiff: Lab) -> None:
    class Nobody:
        def begin(self, subtask: str, seed: int) -> None:
            assert subtask == "microwave"

        def act(self) -> None:
            return None

    policy = bundle_policy(resolve_bundle("kitchen"), {})
    task = stiff.domain.task("microwave")
    trial = Trial(stiff, policy, task, 3, helper=Nobody(), doubt=DoubtConfig(bound=0.45, hold=True))
    while trial.step():
        pass
    assert trial.result.helps == 1 and trial.result.subtasks_done == 0 and "in doubt" in trial.result.error


def test_the_scripted_teleoperator_says_what_it_can_t_do(stiff: Lab) -> None:
    helper = ScriptedHelper(stiff)
    helper.begin("microwave=-0.3", 0)
    assert helper.act() is None


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--episodes", "0"], "episodes 0"),
        (["--ask-below", "0.9"], "bound is 0.9"),
        (["--bundle", "nothing"], "nothing"),
        (["--condition", "nowhere"], "no condition 'nowhere'"),
        (["--set", "samples=0"], "samples"),
        (["--explore", "2.5"], "planner explore is 2.5, must lie in 0 to 2"),
        (["--explore", "-0.1"], "planner explore is -0.1"),
        (["--explore", "0.5", "--explore-end", "-1"], "explore-end -1"),
        (["--explore", "0.5", "--explore-end", "3", "--explore-episodes", "2"], "planner explore is 3.0"),
        (["--explore-episodes", "5"], "but explore is 0; give --explore"),
        (["--explore", "0.5", "--set", "explore=0.1"], "are the same setting"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], told: str
) -> None:
    assert main(["--out", str(tmp_path / "out"), *asked]) == 1
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_exploration_falls_linearly_by_an_episode_s_number() -> None:
    falls = Schedule(begin=0.5, end=0.01, episodes=20)
    assert [falls.at(number) for number in (0, 20, 21)] == [0.5, 0.01, 0.01]
    assert falls.at(10) == pytest.approx(0.255)
    assert Schedule(begin=0.3).at(1000) == 0.3 and Schedule().at(0) == 0.0


def test_an_episode_explores_by_its_seed_and_number_alone_and_its_recording_says_how(tmp_path: Path) -> None:
    common = {"task": "microwave", "condition": STIFF, "explore": 0.6, "explore_end": 0.0, "explore_episodes": 2}
    both = Args(out=tmp_path / "both", episodes=2, seed=3, workers=1, **common)  # type: ignore[arg-type]
    second = Args(out=tmp_path / "one", episodes=1, seed=4, explore_from=1, workers=1, **common)  # type: ignore[arg-type]
    plain = Args(out=tmp_path / "plain", task="microwave", condition=STIFF, episodes=1, seed=4, workers=1)
    for args in (both, second, plain):
        practise(args)
    first, one = (read_episode(tmp_path / "both" / f"practice-000000{seed}.mcap") for seed in (3, 4))
    same, unmoved = (read_episode(tmp_path / name / "practice-0000004.mcap") for name in ("one", "plain"))
    assert [e.meta.explore for e in (first, one, same, unmoved)] == [0.6, 0.3, 0.3, 0.0]
    assert one.skills is not None and same.skills is not None and unmoved.skills is not None
    np.testing.assert_array_equal(one.skills, same.skills)
    np.testing.assert_array_equal(one.observations, same.observations)
    assert not np.array_equal(one.skills[0], unmoved.skills[0])


def test_exploring_takes_a_sampled_elite_unless_told_otherwise() -> None:
    out = Path("out")
    assert Args(out=out).settings == ()
    assert Args(out=out, explore=0.5).settings == ("execute=elite_sample", "explore=0.5")
    assert Args(out=out, explore=0.5, set=("execute=mean",)).settings[1:] == ("execute=mean", "explore=0.5")
