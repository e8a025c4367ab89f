"""`skimo replay` on a twin: what was recorded is led again, and what was not is told: where, by how much, from when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skimo_core.control.executed import FingerIntents, joint_actions, velocities_rad_s
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_core.episodes.replay_cli import replay

WORKBENCH = Path(__file__).with_name("workbench.yaml")
DOMAIN, LIMITS = load_domain(WORKBENCH), load_limits("fr3")
STEPS = 50


def teleoperated(seed: int) -> Episode:
    """An episode as `skimo record` writes them: an arm from rest to rest, a hand that closes on the way."""
    rng, period_s = np.random.default_rng(seed), DOMAIN.action.period_s
    phase = np.linspace(0.0, np.pi, STEPS + 1)[:, None]
    q_rad = LIMITS.home_q_rad + np.sin(phase) ** 2 * rng.normal(0, 0.15, 7)
    width_m = np.interp(np.arange(STEPS + 1), [0, 20, 25, 50], [0.08, 0.08, 0.0, 0.0])
    times_s = period_s * np.arange(STEPS + 1, dtype=np.float64)
    joints, excess = joint_actions(velocities_rad_s(times_s, q_rad, times_s[:-1], period_s), DOMAIN.action, LIMITS)
    assert excess is None
    intents = FingerIntents(float(width_m[0]), LIMITS.hand_width_max_m)
    fingers = np.array([[intents.next(float(width))] * 2 for width in width_m[1:]], np.float32)
    cube = np.tile([0.5, 0.1, 0.02], (STEPS + 1, 1))
    hand = np.repeat(width_m[:, None] / 2, 2, axis=1)
    meta = EpisodeMeta(
        episode_id=f"teleop-{seed}",
        source="teleop",
        rate_hz=DOMAIN.action.rate_hz,
        domain=DOMAIN.named,
        robot=LIMITS.named,
        channels=DOMAIN.observation.names,
    )
    observations = np.concatenate([q_rad, hand, cube], axis=1).astype(np.float32)
    return Episode(observations=observations, actions=np.concatenate([joints, fingers], axis=1), meta=meta)


def led(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = replay([str(path), "--domain", str(WORKBENCH), *words])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_actions_that_were_read_off_a_path_lead_along_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "whole.mcap"
    write_episode(path, teleoperated(0))
    code, told = led(path, capsys, "--tolerance", "0.02")
    assert code == 0, told
    assert f"replayed {STEPS} of {STEPS} steps" in told and "the gate had no objection" in told
    assert "3 of 3 object channels stay within" in told and "led again within the tolerance of 0.02 rad" in told
    code, told = led(path, capsys, "--speed", "0.5", "--tolerance", "0.001")
    assert code == 0 and "of the recorded speed" in told


def test_where_it_departs_is_said_by_joint_step_and_millimetre(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episode, path = teleoperated(1), tmp_path / "stuck.mcap"
    actions = episode.actions.copy()
    actions[15:, 3] = 0.0
    write_episode(path, replace(episode, actions=actions))
    code, told = led(path, capsys)
    assert code == 1 and "NOT led again" in told
    (line,) = [line for line in told.splitlines() if line.startswith("departs by more than 0.05 from step")]
    assert 15 < int(line.split("step ")[1].split()[0]) < 35 and "fr3_joint4 first" in line
    worst = max(told.splitlines()[2:9], key=lambda row: float(row.split()[1]))
    assert worst.split()[0] == "fr3_joint4"


def test_what_can_t_be_led_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episode, path = teleoperated(2), tmp_path / "other.mcap"
    write_episode(path, episode)
    assert replay([str(path)]) == 1
    assert "give its file with --domain" in capsys.readouterr().err
    assert replay([str(path), "--domain", "kitchen"]) == 1
    assert "was made in domain 'workbench'" in capsys.readouterr().err
    assert led(path, capsys, "--speed", "3") == (1, "skimo replay: speed is 3, must lie in 0.02 to 1\n")
    assert "can't be read" in led(tmp_path / "no.mcap", capsys)[1]
