"""Learning on in the twin, with the real commands and next to no learning: rounds, what they leave, going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.episodes.recording import recordings
from skimo_eval import improve as module
from skimo_eval.improve import ImproveConfig, improve
from skimo_eval.learn_demo import draw, table

SHORT = (
    "pretrain.updates=2",
    "pretrain.batch=8",
    "refine.updates=2",
    "correct.updates=2",
    "distil.updates=2",
    "value.updates=2",
)


@pytest.fixture
def config(tmp_path: Path) -> ImproveConfig:
    """One round of two episodes and next to no learning."""
    return ImproveConfig(
        out=tmp_path / "out",
        task="microwave",
        condition="drawn",
        objective="successes",  # those that there are for certain
        rounds=1,
        episodes=2,
        measured=1,
        pairs=1,
        threads=1,
        set=SHORT,
        workers=1,
    )


@pytest.mark.timeout(400)
def test_a_round_leaves_what_it_did_and_a_run_that_was_broken_off_goes_on(
    config: ImproveConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = module._run, []

    def dies_in_the_trial(command: str, *arguments: object, may_refuse: bool = False) -> list[str]:
        calls.append(command)
        if may_refuse:
            raise SetupError("the machine went down")
        return real(command, *arguments, may_refuse=may_refuse)

    said: list[str] = []
    with monkeypatch.context() as patch, pytest.raises(SetupError, match="went down"):
        patch.setattr(module, "_run", dies_in_the_trial)
        improve(config, said.append)
    assert calls == ["promote", "eval", "eval", "finetune", "eval", "eval", "promote"]
    first, second = improve(config, said.append)
    assert len(recordings(config.out / "recordings")) == 2
    assert first.promoted and second.drove == first.candidate and second.candidate != first.candidate
    assert len(second.practised) == 2 and len(second.worth) == len(second.unchanged) == 1 and second.robot_s > 1.0
    assert not second.promoted and "not shown to be better" in second.why[-1]
    assert json.loads((config.out / "rounds.json").read_bytes())[1]["candidate"] == second.candidate
    assert (config.out / "store" / "incumbent").resolve().name == first.candidate
    assert improve(config, said.append) == [first, second]
    draw(config.out / "learning.png", [first, second], config)
    assert (config.out / "learning.png").stat().st_size > 10_000
    assert table([first, second]).count("\n") == 4 and second.candidate[:8] in table([first, second])


def test_a_command_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"skimo promote ended with 1: .*nothing"):
        improve(ImproveConfig(out=tmp_path / "out", bundle="nothing"), print)


@pytest.mark.parametrize("field", ["rounds", "episodes", "measured", "pairs"])
def test_settings_out_of_bounds_are_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(SpecError):
        ImproveConfig(out=tmp_path, **{field: 0})  # type: ignore[arg-type]
