"""`skimo replay` where there is no arm: the maze's ball goes the recorded way again, walls included, or it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.types import JointCommand, JointTrajectory
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_core.episodes.replay_cli import replay
from skimo_sim.maze.twin import MazeTwin

DOMAIN, LIMITS = load_domain("maze"), load_limits("none")
STEPS = 400


@pytest.fixture(scope="module")
def bounced() -> Episode:
    """A ball that is pushed about, and comes off walls on the way."""
    twin, rng = MazeTwin(DOMAIN, LIMITS), np.random.default_rng(1)
    twin.reset(seed=4)
    actions = np.repeat(rng.uniform(-1, 1, (STEPS // 40, 2)), 40, axis=0).astype(np.float32)
    seen, still = [twin.read_objects().values], np.zeros((1, 0))
    for action_A in actions:
        lasts = JointTrajectory(
            start_s=twin.now_s(), times_s=np.array([0.01]), q_rad=still, dq_rad_s=still, ddq_rad_s2=still
        )
        twin.write(JointCommand(trajectory=lasts, others=action_A.astype(np.float64)))
        twin.advance(DOMAIN.action.period_s)
        seen.append(twin.read_objects().values)
    observations = np.array(seen, np.float32)
    assert np.abs(np.diff(observations[:, 2:], axis=0)).max() > 0.5  # a push makes 0.2 m/s of a step
    meta = EpisodeMeta(
        episode_id="bounced",
        source="play",
        rate_hz=DOMAIN.action.rate_hz,
        domain=DOMAIN.named,
        robot=LIMITS.named,
        channels=DOMAIN.observation.names,
    )
    return Episode(observations=observations, actions=actions, meta=meta)


def led(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = replay([str(path), *words])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_the_same_pushes_lead_the_same_way(
    bounced: Episode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_episode(tmp_path / "whole.mcap", bounced)
    code, told = led(tmp_path / "whole.mcap", capsys)
    assert code == 0 and f"replayed {STEPS} of {STEPS} steps" in told, told
    assert "the gate had no objection" in told and "led again within the tolerance of 0.05 of x, y" in told


def test_other_pushes_are_told(bounced: Episode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actions = bounced.actions.copy()
    actions[100:140] *= -1
    write_episode(tmp_path / "other.mcap", replace(bounced, actions=actions))
    code, told = led(tmp_path / "other.mcap", capsys)
    assert code == 1 and "NOT led again within the tolerance of 0.05 of x, y" in told
    assert "departs by more than 0.05 from step 1" in told  # some steps after the hundredth


@pytest.mark.parametrize("words", [("--speed", "0.5"), ("--on", "robot")])
def test_nothing_is_led_as_an_arm_is(
    bounced: Episode, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_episode(tmp_path / "whole.mcap", bounced)
    code, told = led(tmp_path / "whole.mcap", capsys, *words)
    assert code == 1 and "domain maze has no arm that could be led" in told and "leave --on and --speed out" in told
