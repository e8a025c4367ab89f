"""A lab's own table, as one YAML outside the package, from recordings to an evaluated bundle: by commands alone.

The nodes fly it in tests/ros.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import forked

from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_sim.env import SkillEnv

EPISODES, STEPS = 6, 120


def skimo(*words: object, code: int = 0) -> str:
    """Run a command, in a process of its own; returns what it printed."""
    done = forked.skimo(*words)
    said = done.stdout + done.stderr
    assert done.returncode == code and "Traceback" not in said, said
    return said


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The domain's file, somewhere of its own."""
    folder = tmp_path_factory.mktemp("lab")
    return Path(shutil.copy(Path(__file__).with_name("workbench.yaml"), folder))


def play(table: Path, seed: int) -> Episode:
    """Somebody moves the arm about, through the environment that the domain is."""
    env = SkillEnv(domain=str(table), gate=False)
    rng, domain = np.random.default_rng(seed), env.domain
    observation, _ = env.reset(seed=seed)
    observations, actions = [observation], []
    wanted = np.zeros(domain.action.size, np.float32)
    for step in range(STEPS):
        if step % 10 == 0:
            wanted = rng.uniform(-0.5, 0.5, domain.action.size).astype(np.float32)
        observation, _, _, _, info = env.step(wanted)
        observations.append(observation)
        actions.append(info["action_applied"])
    meta = EpisodeMeta(
        episode_id=f"play-{seed}",
        source="teleop",
        rate_hz=domain.action.rate_hz,
        channels=domain.observation.names,
        domain=domain.named,
        robot=load_limits(domain.robot).named,
    )
    return Episode(observations=np.stack(observations), actions=np.stack(actions), meta=meta)


@pytest.fixture(scope="module")
def bundle(table: Path) -> Path:
    """Recordings, pre-training, export and verification."""
    recordings, run, folder = table.parent / "recordings", table.parent / "run", table.parent / "bundle"
    recordings.mkdir()
    for seed in range(EPISODES):
        write_episode(recordings / f"{seed}.mcap", play(table, seed))
    skimo("pretrain", "--data", recordings, "--out", run, "--domain", table, "--recipe", "smoke", "--threads", 1)
    skimo("export", "--checkpoint", run, "--out", folder)
    assert "ok" in skimo("verify", folder)
    return folder


def test_it_becomes_a_bundle_that_says_what_it_is_for(table: Path, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    domain = load_domain(table)
    assert manifest["domain"] == {"name": "workbench", "digest": domain.digest}
    assert manifest["robot"] == {"name": "fr3", "digest": load_limits("fr3").digest}
    assert len(manifest["observation"]["names"]) == 12 and manifest["skill_horizon"] == 8


def test_it_is_evaluated_in_process_in_its_own_words(table: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    said = skimo(
        "eval", "--bundle", bundle, "--domain", table, "--episodes", 2, "--seed", 2, "--workers", 1, "--json", out
    )
    figures = json.loads(out.read_text())
    assert figures["task"] == "tour" and figures["subtasks"] == 3 and figures["episodes"] == 2, said
    assert figures["stops"] == 0 and all(e["steps"] == 60 for e in figures["episodes_detail"]), said
    assert str(table.parent) not in out.read_text()


def test_a_bundle_of_another_domain_is_refused_and_both_are_named(table: Path, bundle: Path) -> None:
    said = skimo("eval", "--bundle", bundle, "--domain", "kitchen", "--episodes", 1, code=1)
    assert "observation is not this caller's" in said
    other = table.with_name("other.yaml")
    other.write_text(table.read_text().replace("horizon: 8", "horizon: 10").replace("name: workbench", "name: bench"))
    said = skimo("eval", "--bundle", bundle, "--domain", other, "--episodes", 1, code=1)
    assert f"domain is {load_domain(table).named}, wanted {load_domain(other).named}" in said


def test_goals_may_change_under_a_bundle(table: Path, bundle: Path) -> None:
    other = table.with_name("goals.yaml")
    other.write_text(table.read_text().replace("fr3_joint1: 0.4", "fr3_joint1: -0.3"))
    assert "of 3" in skimo("eval", "--bundle", bundle, "--domain", other, "--episodes", 1, "--workers", 1)
