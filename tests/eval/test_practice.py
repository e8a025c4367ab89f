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
from skimo_eval.practice import Args, main, practise
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
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], told: str
) -> None:
    assert main(["--out", str(tmp_path / "out"), *asked]) == 1
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()
