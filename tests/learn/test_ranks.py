"""Several ranks train as one: the losses of a single process, and an end in words where one of them is gone.

Real processes, started by torchrun, that speak over the loopback. Where nothing of it is at stake, it forks its ranks
from where torch is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from learn import misfortunes
from learn.robot import recorded, small_bundle
from support.forked import run

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain
from skimo_core.episodes.recording import write_episode
from skimo_learn import ranks
from skimo_learn.checkpoint import read_checkpoint
from skimo_learn.cli import pretrain

TOLERANCE = 1e-4
"""Relative, of every logged loss: float32 adds up in another order, and Adam follows. Seen: 1e-6."""
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, domain: Domain) -> Path:
    """A robot's recordings: a person shows 30 of their 80 steps, so that the ranks see more or less of it."""
    folder = tmp_path_factory.mktemp("ranks") / "data"
    folder.mkdir()
    for seed in range(10):
        write_episode(folder / f"e{seed}.mcap", recorded(domain, seed))
    return folder


@pytest.fixture(scope="module")
def alone(data: Path) -> Path:
    """The run of a single process."""
    run = data.parent / "alone"
    assert pretrain(asked(data, run)) == 0
    return run


def asked(data: Path, run: Path, *more: str) -> list[str]:
    smoke = ["--recipe", "smoke", "--threads", "1", "--set", "value.skills=1", "value.updates=100", *more]
    return ["--data", str(data), "--out", str(run), *smoke]


def skimo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of two ranks as a person starts it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "skimo_core.cli", "pretrain", *arguments]
    return subprocess.run(
        command, env={**os.environ, **LOOPBACK}, capture_output=True, text=True, timeout=100, check=False
    )


FORKED = "--start-method", "fork", "--run-path"
"""torchrun's own way to begin ranks where it stands, with a program that ends by itself where all went well."""


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    return run(misfortunes.torchrun, "--nproc-per-node", "2", *words, environment=LOOPBACK)


def assert_same_losses(one: Path, other: Path) -> None:
    """Of every line that was logged, and of the curves of what is trained after joint pre-training."""
    ours, theirs = (list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines())) for run in (one, other))
    assert len(ours) == len(theirs) > 0
    for mine, its in zip(ours, theirs):
        figures = {name for name in mine if name not in ("kind", "elapsed_s")}
        assert mine["kind"] == its["kind"] and figures <= set(its)
        for name in sorted(figures):
            assert its[name] == pytest.approx(mine[name], rel=TOLERANCE, abs=TOLERANCE), (mine["update"], name)
    mine, its = (read_checkpoint(run)[1]["curves"] for run in (one, other))
    assert {"refine", "correct", "distil", "value"} <= set(mine)
    for part, curve in mine.items():
        assert its[part] == [pytest.approx(row, rel=TOLERANCE) for row in curve], part


def test_two_ranks_have_the_losses_of_one(data: Path, alone: Path, tmp_path: Path) -> None:
    done = skimo(*asked(data, tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert_same_losses(alone, tmp_path / "two")
    assert done.stdout.count("wrote ") == 1 and done.stderr.count("goal value: 100%") == 1
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in alone.iterdir()}
    assert json.loads((tmp_path / "two/report.json").read_bytes())["ranks"] == 2
    ours, theirs = (read_checkpoint(run)[0] for run in (alone, tmp_path / "two"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("rng/"))


@pytest.mark.timeout(240)
def test_two_ranks_learn_on_as_one(data: Path, tmp_path: Path) -> None:
    """The returns of a task: what other objectives train besides, `pretrain` has shown."""
    bundle = small_bundle(tmp_path)
    asked = ["--bundle", str(bundle), "--recordings", str(data)]
    asked += ["--learn.objective", "returns", "--learn.task", "microwave"]
    program = tmp_path / "learn.py"
    program.write_text(IMPATIENT)
    outs = [tmp_path / name for name in ("alone", "two")]
    for done in (
        run(misfortunes.impatient, *asked, "--out", str(outs[0])),
        torchrun(*FORKED, str(program), *asked, "--out", str(outs[1])),
    ):
        assert done.returncode == 0 and "1 candidates from 10 episodes" in done.stdout, done.stderr
    ours, theirs = (next(out.glob("from-*/rounds/001")) for out in outs)
    mine, its = (read_checkpoint(run)[1]["curves"] for run in (ours, theirs))
    assert mine["returns"] and mine["distil"] and mine["value"]
    for part, curve in mine.items():
        assert its[part] == [pytest.approx(row, rel=1e-3, abs=TOLERANCE) for row in curve], part
    assert [len(list((out / "candidates").iterdir())) for out in outs] == [1, 1]


IMPATIENT = """
import sys
from skimo_learn import finetune as module
from skimo_learn.finetune_cli import finetune
module.be_polite = lambda: None  # beside other tests it would wait for them
if code := finetune(sys.argv[1:]):
    sys.exit(code)
"""


DYING = """
import os, sys
from skimo_learn.cli import pretrain
from skimo_learn.pretrain import Pretrainer

step = Pretrainer.step

def dies(trainer, progress):
    if trainer.update == 13 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os._exit(9)
    return step(trainer, progress)

Pretrainer.step = dies
if code := pretrain(sys.argv[1:]):
    sys.exit(code)
"""


def test_a_rank_that_dies_ends_all_and_the_same_command_goes_on(
    data: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time torchrun restarts them: at update 10, as they were the time before, and once more."""
    monkeypatch.setitem(LOOPBACK, "TMPDIR", str(tmp_path))  # a rank that was killed leaves its folder there
    program, out = tmp_path / "dying.py", tmp_path / "run"
    program.write_text(DYING)
    assert torchrun(str(program), *asked(data, out)).returncode != 0
    assert read_checkpoint(out)[1]["update"] == 10
    done = torchrun("--max-restarts", "1", str(program), *asked(data, out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("from update 10") == 2
    assert_same_losses(alone, out)


RANKS = """
import sys
from pathlib import Path
import torch
from skimo_core.contract.errors import SpecError
from skimo_learn import ranks
from skimo_learn.data import EpisodeSet, episodes_of_first
from learn.conftest import make_arrays

def nothing_here():
    raise AssertionError("another rank than the first was asked for its data")

folder = Path(sys.argv[1])
with ranks.together(torch.device("cpu")):
    made = EpisodeSet.from_arrays(*make_arrays(), source="play")
    sent = episodes_of_first((lambda: made) if ranks.first() else nothing_here)
    assert torch.equal(sent.observations_RO, made.observations_RO) and torch.equal(sent.shown_R, made.shown_R)
    assert sent.digests == made.digests and sent.robot == made.robot and torch.equal(sent.starts_E, made.starts_E)
    assert ranks.bytes_of_first(b"" if ranks.first() else b"other") == b""
    with ranks.folder_of_first(folder if ranks.first() else Path("elsewhere") / folder.name, "a", "b") as mine:
        assert mine.name == folder.name and (mine == folder) == ranks.first()
        assert (mine / "a").read_bytes() == b"whole" and not (mine / "b").exists()
    ranks.agree("words", "the same")
    try:
        ranks.agree("words", "first" if ranks.first() else "other")
    except SpecError as error:
        sys.stderr.write(f"{error}\\n")
"""


def test_rank_0_alone_needs_data_and_folders(tmp_path: Path) -> None:
    program, folder = tmp_path / "ranks.py", tmp_path / "run"
    folder.mkdir()
    (folder / "a").write_bytes(b"whole")
    tests = str(Path(__file__).parents[1])
    program.write_text(f"import sys\nsys.path.insert(0, {tests!r})\n{RANKS}")
    done = torchrun(*FORKED, str(program), str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the 2 ranks were not given the same words") == 2
    assert not list(tmp_path.glob("elsewhere"))


def test_a_batch_that_can_t_be_shared_alike_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "count", lambda: 3)
    assert ranks.share(9, "value") == 3
    with pytest.raises(
        SpecError, match=r"value batch is 8, must be a multiple of the number of ranks, 3; set value\.batch"
    ):
        ranks.share(8, "value")


def test_the_ranks_rows_together_are_what_one_process_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(rows: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        with ranks.drawing(generator):
            chosen = torch.randint(100, (rows,), generator=generator)
            noise = torch.randn(chosen.unsqueeze(1).expand(-1, 3).shape, generator=generator)
            return [chosen, noise, torch.rand((2 * rows, 4), generator=generator)]

    whole = drawn(6)
    other = torch.Generator().manual_seed(1)
    monkeypatch.setattr(ranks, "count", lambda: 2)
    halves = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        halves.append(drawn(3))
        with ranks.drawing(other):
            assert len(torch.rand((3,))) == 3
    for one, *parts in zip(whole, *halves):
        assert torch.equal(one, torch.cat(parts))


def test_without_torchrun_nothing_is_shared() -> None:
    with ranks.together(torch.device("cpu")):
        assert ranks.count() == 1 and ranks.first() and ranks.threads(2) == 2 and ranks.share(7, "value") == 7
    tensor = torch.ones(2)
    ranks.average([tensor])
    assert ranks.total(tensor) is tensor and ranks.number_of_first(0.5) == 0.5 and ranks.bytes_of_first(b"a") == b"a"
