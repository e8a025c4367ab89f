"""Learning on: a bundle's networks read back, rounds of candidates, and what a learner that was killed does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from learn.misfortunes import impatient, killed_at, out_of_room_at
from learn.robot import recorded, small_bundle
from support.forked import run

from skimo_core.contract.errors import EpisodeError, SpecError
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.recording import write_episode
from skimo_learn import finetune as module
from skimo_learn.data import EpisodeSet
from skimo_learn.finetune import Candidate, Learner, as_set, parted, widened
from skimo_learn.finetune_config import FinetuneConfig
from skimo_learn.graphs import bundle_graphs
from skimo_learn.readback import model_of
from skimo_learn.replay import Replay, open_replay
from skimo_server.bundle import Bundle, load_bundle, read_bundle, resolve_bundle

ROBOT = load_limits("panda")
CONFIG = FinetuneConfig(every=2, offline_episodes=6)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("parent"))


@pytest.fixture
def robot(tmp_path: Path, domain: Domain) -> Path:
    folder = tmp_path / "robot"
    folder.mkdir()
    for seed in range(3):
        write_episode(folder / f"e{seed}.mcap", recorded(domain, seed))
    return folder


def learner(folder: Path, parent: Path, replay: Replay, domain: Domain, offline: EpisodeSet | None) -> Learner:
    return Learner(load_bundle(parent), folder, replay, domain, ROBOT, offline, CONFIG)


def round_of(folder: Path, parent: Path, robot: Path, domain: Domain, offline: EpisodeSet | None) -> Candidate:
    with open_replay(folder / "replay", domain, ROBOT) as replay:
        replay.take_from([robot])
        return learner(folder, parent, replay, domain, offline).learn()


@pytest.mark.parametrize("which", ["small", "kitchen"])
def test_a_bundles_networks_come_back_as_they_were(which: str, parent: Path, domain: Domain) -> None:
    bundle: Bundle = load_bundle(parent if which == "small" else resolve_bundle("kitchen"))
    model, recipe = model_of(bundle, domain)
    assert recipe.name == bundle.manifest.recipe["name"]
    rng = np.random.default_rng(0)
    for name, data in bundle_graphs(model).items():
        before, after = (ort.InferenceSession(graph) for graph in (bundle.graphs[name], data))
        given = {port.name: rng.uniform(-1, 1, [5, *port.shape[1:]]).astype(np.float32) for port in before.get_inputs()}
        for one, other in zip(before.run(None, given), after.run(None, given)):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-5, err_msg=name)


def test_a_bundle_of_other_networks_is_not_read_back(parent: Path, domain: Domain) -> None:
    bundle = read_bundle(parent)
    recipe = json.loads(json.dumps(bundle.manifest.recipe))
    recipe["model"]["layers"] += 1
    with pytest.raises(SpecError, match=r"a layer is|fewer Gemm"):
        model_of(replace(bundle, manifest=replace(bundle.manifest, recipe=recipe)), domain)


def test_a_round_gives_a_candidate_that_says_where_it_comes_from(
    tmp_path: Path, parent: Path, robot: Path, domain: Domain, episodes: EpisodeSet
) -> None:
    made = round_of(tmp_path / "out", parent, robot, domain, episodes)
    before, candidate = load_bundle(parent).manifest, load_bundle(made.folder).manifest
    assert candidate.parent_id == before.bundle_id and candidate.bundle_id != before.bundle_id
    assert set(candidate.dataset_digests) == {"play", "replay"}
    assert candidate.planner == before.planner and candidate.planner.calibration
    assert candidate.recipe["name"] == "finetuned" and candidate.robot == before.robot
    assert all(low <= was for low, was in zip(candidate.ranges["low"], before.ranges["low"]))


def test_a_round_depends_on_its_episodes_alone(
    tmp_path: Path, parent: Path, robot: Path, domain: Domain, episodes: EpisodeSet
) -> None:
    one, other = (round_of(tmp_path / name, parent, robot, domain, episodes) for name in ("one", "other"))
    assert one.manifest.files == other.manifest.files


def test_a_learner_that_was_killed_finishes_the_round_that_it_had_begun(
    tmp_path: Path, parent: Path, robot: Path, domain: Domain, episodes: EpisodeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = round_of(tmp_path / "whole", parent, robot, domain, episodes)
    folder = tmp_path / "out"

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for stage in ("train_run", "load_run", "export_bundle"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, stage, dies)
            round_of(folder, parent, robot, domain, episodes)
        write_episode(robot / f"late-{stage}.mcap", recorded(domain, 20 + len(stage)))
    with open_replay(folder / "replay", domain, ROBOT) as replay:
        replay.take_from([robot])
        again = learner(folder, parent, replay, domain, episodes)
        assert again.unfinished
        made = again.learn()
        assert made.number == 1 and made.manifest.files == wanted.manifest.files
        assert not again.unfinished and again.waiting == 3


def test_what_another_learner_has_learned_from_makes_no_round_by_itself(
    tmp_path: Path, parent: Path, robot: Path, domain: Domain
) -> None:
    with open_replay(tmp_path / "out" / "replay", domain, ROBOT) as replay:
        replay.take_from([robot])
        old = [entry.digest for entry in replay.taken]
        later = Learner(load_bundle(parent), tmp_path / "out", replay, domain, ROBOT, None, CONFIG, old=old)
        assert later.waiting == 0
        write_episode(robot / "e9.mcap", recorded(domain, 9))
        replay.take_from([robot])
        assert later.waiting == 1


def test_other_settings_or_data_do_not_go_on_in_the_same_folder(
    tmp_path: Path, parent: Path, robot: Path, domain: Domain, episodes: EpisodeSet
) -> None:
    round_of(tmp_path / "out", parent, robot, domain, episodes)
    with pytest.raises(SpecError, match="another bundle, other data or settings"):
        round_of(tmp_path / "out", parent, robot, domain, None)


def test_what_a_learner_sees_of_a_robot(domain: Domain) -> None:
    found = [recorded(domain, seed) for seed in range(2)]
    given = {"steps": 10, "least": 20, "robot": ROBOT, "digest": "d"}
    by_hand = as_set(found, by="corrections", **given)  # type: ignore[arg-type]
    assert len(by_hand) == 2 and int(by_hand.shown_R[:-1].sum()) == 2 * 30 + 1  # and the row after each last step
    besides = as_set(found, by="successes", **given)  # type: ignore[arg-type]
    assert int(besides.shown_R.sum()) == int(by_hand.shown_R.sum()) + 2 * 10
    with pytest.raises(EpisodeError, match="none of 2 episodes ran for 200 control steps"):
        as_set(found, by="corrections", **{**given, "least": 200})  # type: ignore[arg-type]


def test_whole_episodes_are_held_out_that_are_long_enough_for_every_part_of_the_training(domain: Domain) -> None:
    long, short = recorded(domain, 0), replace(recorded(domain, 1), kinds=np.array(["act", "hold"] * 40 + ["done"]))
    train, held_out = parted([long, short, short], 0.05, least=40)  # what is held makes parts of one step
    assert [id(e) for e in train] == [id(short), id(short)] and [id(e) for e in held_out] == [id(long)]
    train, held_out = parted([long] * 40, 0.05, least=40)
    assert (len(train), len(held_out)) == (38, 2)
    for some, said in (([long], "1 episodes, 1 of them with 40 control"), ([short, short], "2 episodes, 0 of them")):
        with pytest.raises(EpisodeError, match=said):
            parted(some, 0.05, least=40)


def test_ranges_hold_both() -> None:
    one, other = {"low": [0.0, -1.0], "high": [1.0, 2.0]}, {"low": [-1.0, 0.0], "high": [0.5, 3.0]}
    assert widened(one, other) == {"low": [-1.0, -1.0], "high": [1.0, 3.0]}
    assert widened({}, other) == other


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"share": 1.0}, "share is 1.0"),
        ({"every": 0}, "every 0"),
        ({"threads": 0}, "threads 0"),
        ({"offline_episodes": 1}, "offline_episodes 1"),
        ({"emphasis": 0}, "emphasis is 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(changed: dict[str, float], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        FinetuneConfig(**changed)  # type: ignore[arg-type]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own: it takes the lowest of priorities, and keeps it."""
    line = [sys.executable, "-m", "skimo_core.cli", "finetune", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def test_a_second_learner_of_the_same_folder_is_refused(
    tmp_path: Path, parent: Path, robot: Path, domain: Domain
) -> None:
    with open_replay(tmp_path / "out" / "replay", domain, ROBOT) as replay:
        asked = ["--bundle", str(parent), "--out", str(tmp_path / "out"), "--recordings", str(robot)]
        refused = run(impatient, *asked)
        assert refused.returncode == 1 and not replay.taken
        assert "another learner is at work" in refused.stderr and "let it finish" in refused.stderr
        assert len(replay.take_from([robot])) == 3


STAGES = (
    "skimo_learn.replay:write_atomic",  # before an episode is copied
    "skimo_learn.replay:Replay._note",  # copied, not yet noted
    "skimo_learn.finetune:train_run",  # a round is begun
    "skimo_learn.run:refine_policy",  # in the midst of its training
    "skimo_learn.finetune:load_run",  # trained
    "pathlib:Path.write_bytes",  # in mid-export
)
"""Where it is killed; in this order, each a process that goes on after the one before."""


@pytest.mark.timeout(240)
def test_a_learner_killed_outright_at_every_stage_gives_the_candidate_that_it_would_have_given(
    tmp_path: Path, parent: Path, robot: Path, domain: Domain
) -> None:
    out, bundle = tmp_path / "out", read_bundle(parent).manifest
    asked = ["--bundle", str(parent), "--out", str(out), "--recordings", str(robot)]
    for stage in STAGES:
        died = run(killed_at, stage, *asked)
        assert died.returncode == -signal.SIGKILL, (stage, died.stderr)
        assert not list(out.glob("candidates/[!.]*")), stage
    done = run(impatient, *asked)
    assert done.returncode == 0 and "1 candidates from 3 episodes, 0 refused" in done.stdout, done.stderr
    (candidate,) = out.glob("candidates/[!.]*")
    wanted = round_of(tmp_path / "whole", parent, robot, domain, None)
    assert load_bundle(candidate).manifest.files == wanted.manifest.files
    assert len(list((out / "replay" / "episodes").glob("*.mcap"))) == 3
    assert load_bundle(parent).manifest == bundle


BOUNDS = {  # bytes that a file may have from there on
    "skimo_learn.replay:write_atomic": 2000,
    "skimo_learn.finetune:write_atomic": 50,
    "skimo_learn.run:pretrain": 100,
    "skimo_learn.run:refine_policy": 20_000,
    "skimo_learn.finetune:export_bundle": 5000,
}


@pytest.mark.timeout(240)
def test_a_learner_whose_disk_fills_up_at_any_stage_says_so_and_goes_on_with_room(
    tmp_path: Path, parent: Path, robot: Path
) -> None:
    out = tmp_path / "out"
    asked = ["--bundle", str(parent), "--out", str(out), "--recordings", str(robot)]
    for stage, bound in BOUNDS.items():
        full = run(out_of_room_at, stage, bound, *asked)
        assert full.returncode == 1 and "File too large" in full.stderr and "make room" in full.stderr, full.stderr
        assert "Traceback" not in full.stderr, stage
        assert not list(out.glob("candidates/*")), stage
    done = run(impatient, *asked)
    assert done.returncode == 0 and "1 candidates from 3 episodes" in done.stdout, done.stderr


def test_the_command_learns_from_what_is_there_and_goes_on(tmp_path: Path, parent: Path, robot: Path) -> None:
    (robot / "torn.mcap").write_bytes(b"not a recording")
    asked = ("--bundle", parent, "--out", tmp_path / "out")
    done = command(*asked, "--recordings", robot)
    assert done.returncode == 0, done.stderr
    assert "took e0.mcap" in done.stdout and "refused torn.mcap" in done.stdout
    assert "1 candidates from 3 episodes, 1 refused" in done.stdout
    again = run(impatient, *map(str, asked), "--recordings", str(robot))
    assert again.returncode == 0 and "0 candidates from 3 episodes" in again.stdout, again.stderr
    refused = run(impatient, *map(str, asked), "--recordings", str(tmp_path / "nowhere"))
    assert refused.returncode == 1 and "no such folder" in refused.stderr
