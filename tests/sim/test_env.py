"""The Gymnasium environment over the twin."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from skimo_core.domain.domain import load_domain
from skimo_sim.env import SkillEnv

ID = "skimo_sim.envs:skimo/Kitchen-v0"


@pytest.mark.parametrize("twin", ["kitchen", "kitchen_own_arm", "kinematic"])
def test_gymnasiums_checker_passes(twin: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not created.*")
        check_env(gymnasium.make(ID, twin=twin).unwrapped, skip_render_check=True)


def test_spaces_and_truncation() -> None:
    env = gymnasium.make(ID, task="misaligned")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (30,) and env.action_space.shape == (9,)
    still = np.zeros(9, np.float32)
    for step in range(1, 281):
        _, reward, terminated, truncated, _ = env.step(still)
        assert reward == 0 and not terminated
        assert truncated == (step == 280)


def test_same_seed_same_episode_and_noise_is_the_papers() -> None:
    first, second, quiet = SkillEnv(), SkillEnv(), SkillEnv(noise=False)
    a, _ = first.reset(seed=3)
    b, _ = second.reset(seed=3)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, second.reset(seed=4)[0])
    truth, _ = quiet.reset(seed=3)
    assert (np.abs(a - truth) <= load_domain().noise + 1e-6).all()
    assert np.abs(a - truth)[:7].max() > 1e-3


def test_reward_counts_in_order_only() -> None:
    env = SkillEnv(task="microwave,kettle", noise=False)
    env.reset(seed=0)

    def put(name: str) -> tuple[float, bool]:
        subtask = env.domain.subtasks[name]
        state = env.twin.data.qpos.copy()
        state[list(subtask.channels)] = subtask.goal
        env.twin.set_state(state)
        _, reward, terminated, _, info = env.step(np.zeros(9, np.float32))
        assert info["subtasks_done"] == len(info["completed"])
        return reward, terminated

    assert put("kettle") == (0.0, False)
    assert put("microwave") == (2.0, True)


def test_typed_goals_are_rewarded_in_order_and_may_undo_each_other() -> None:
    env = gymnasium.make(ID, task="microwave=-23deg+-5,microwave closed", noise=False).unwrapped
    assert isinstance(env, SkillEnv)
    _, info = env.reset(seed=0)
    assert info["completed"] == []
    rewards = []
    for angle_rad in (-0.3, -0.4, -0.4, 0.0):
        state = env.twin.data.qpos.copy()
        state[22] = angle_rad
        env.twin.set_state(state)
        _, reward, terminated, _, info = env.step(np.zeros(9, np.float32))
        rewards.append(reward)
    assert rewards == [0, 1, 0, 1] and terminated
    assert info["completed"] == ["microwave=-0.401426+-0.0872665", "microwave closed"]


def test_a_diverged_simulation_ends_the_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it is
    env = SkillEnv()
    env.reset(seed=0)
    env.twin.data.qvel[:] = 1e8
    _, _, terminated, _, info = env.step(np.zeros(9, np.float32))
    assert terminated and "diverged" in info["diverged"]


def test_importing_registers_nothing_but_in_envs() -> None:
    code = (
        "import gymnasium, skimo_core, skimo_sim, skimo_sim.env; n = [i for i in gymnasium.registry if 'skimo' in i]; "
        "assert not n, n; e = gymnasium.make('skimo_sim.envs:skimo/Domain-v0', domain='kitchen', twin='kinematic'); "
        "e.reset(seed=0); assert e.step(0.1 * e.action_space.sample())[4]['verdict']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
