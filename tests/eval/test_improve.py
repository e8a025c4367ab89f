"""Learning on in the twin, with the real commands and next to no learning: rounds, what they leave, going on."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import forked

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.episodes.recording import recordings
from skimo_eval import improve as module
from skimo_eval.improve import HASTE, ImproveConfig, Round, _Work, improve
from skimo_eval.learn_demo import draw, table
from skimo_learn.overrides import with_settings
from skimo_learn.recipes import compact, finetuned

SHORT = (
    "pretrain.updates=2",
    "pretrain.batch=8",
    "refine.updates=2",
    "correct.updates=2",
    "distil.updates=2",
    "value.updates=2",
)


@pytest.fixture
def config() -> ImproveConfig:
    """One round of two episodes and next to no learning."""
    return ImproveConfig(
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


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are processes that begin where their imports are done; one as it stands fails below."""

    def run(line: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert line[1:3] == ["-m", "skimo_core.cli"]
        return forked.skimo(*line[3:], timeout_s=300.0)

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run))


@pytest.mark.usefixtures("begun")
@pytest.mark.timeout(400)
def test_a_round_leaves_what_it_did_and_a_run_that_was_broken_off_goes_on(
    tmp_path: Path, config: ImproveConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = module._run, []

    def dies_in_the_trial(command: str, *arguments: object, may_refuse: bool = False) -> list[str]:
        calls.append(command)
        if may_refuse:
            raise SetupError("the machine went down")
        return real(command, *arguments, may_refuse=may_refuse)

    said: list[str] = []
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(SetupError, match="went down"):
        patch.setattr(module, "_run", dies_in_the_trial)
        improve(config, out, said.append)
    assert calls == ["promote", "eval", "eval", "finetune", "eval", "eval", "promote"]
    first, second = improve(config, out, said.append)
    assert len(recordings(out / "recordings")) == 2
    assert first.promoted and second.drove == first.candidate and second.candidate != first.candidate
    assert len(second.practised) == 2 and len(second.worth) == len(second.unchanged) == 1 and second.robot_s > 1.0
    assert not second.promoted and "not shown to be better" in second.why[-1]
    assert json.loads((out / "rounds.json").read_bytes())[1]["candidate"] == second.candidate
    assert (out / "store" / "incumbent").resolve().name == first.candidate
    assert improve(config, out, said.append) == [first, second]
    draw(out / "learning.png", [first, second], config)
    assert (out / "learning.png").stat().st_size > 10_000
    assert table([first, second]).count("\n") == 4 and second.candidate[:8] in table([first, second])


def test_a_command_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"skimo promote ended with 1: .*nothing"):
        improve(ImproveConfig(bundle="nothing"), tmp_path / "out", print)


@pytest.mark.parametrize("field", ["rounds", "episodes", "measured", "pairs"])
def test_settings_out_of_bounds_are_refused(field: str) -> None:
    with pytest.raises(SpecError):
        ImproveConfig(**{field: 0})  # type: ignore[arg-type]


def test_haste_is_a_tenth_of_what_learning_takes() -> None:
    recipe = finetuned(compact())
    hasty = with_settings(recipe, HASTE)
    for part in ("pretrain", "refine", "correct", "distil", "value"):
        assert getattr(hasty, part).updates == getattr(recipe, part).updates / 10


@pytest.mark.usefixtures("begun")
@pytest.mark.timeout(240)
def test_play_is_collected_once_where_there_is_no_data(tmp_path: Path, config: ImproveConfig) -> None:
    said: list[str] = []
    work = _Work(replace(config, play=2), tmp_path, said.append)
    work.begin()
    work.write([Round(number=0, candidate=work.incumbent)])
    folders = work.collected()
    assert [folder.name for folder in folders] == ["play", "corrections"] and len(said) == 2
    assert all(len(recordings(folder)) == 2 for folder in folders)
    assert work.collected() == folders and len(said) == 2
    assert _Work(config, tmp_path, said.append).collected() == []
