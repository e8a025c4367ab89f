"""The Python surface: docs/first_plan.py runs and is what docs/python.md shows; environments by their ids; tables."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from house.repository import ROOT

import skimo_sim.envs
from skimo_core.contract.errors import BundleError, EpisodeError, SetupError, SpecError
from skimo_core.contract.specs import Named
from skimo_core.domain.domain import load_domain
from skimo_core.episodes import table
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import read_episode, write_episode
from skimo_eval import api
from skimo_server.api import Agent, load_bundle

SCRIPT, PAGE = ROOT / "docs/first_plan.py", ROOT / "docs/python.md"
KITCHEN = load_domain("kitchen")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


@pytest.fixture(scope="module")
def agent() -> Agent:
    return api.load_bundle("kitchen", settings={"samples": 32, "elites": 8, "iterations": 1})


# --- the notebook ---------------------------------------------------------------------------------------------------


def cells() -> list[tuple[str, str]]:
    """Title and code of each cell of the script that isn't words alone."""
    parts = [part.partition("\n") for part in re.split(r"(?m)^# %% ?", SCRIPT.read_text())[1:]]
    return [(title, code.strip("\n")) for title, _, code in parts if not title.startswith("[markdown]")]


def test_the_notebook_runs_and_says_what_its_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capsys.readouterr().out
    page = PAGE.read_text()
    shown = {NUMBER.sub("N", line) for line in page.splitlines()}  # another processor's last bits make other figures
    for line in said.splitlines():
        assert NUMBER.sub("N", line) in shown or "GL" in line, f"docs/python.md does not show {line!r}"
    assert "done: ['microwave'" in said


def test_the_page_shows_the_notebook_s_cells_in_order() -> None:
    page, at = PAGE.read_text(), 0
    for title, code in cells():
        block = f"## {title}\n```python\n{code.replace('  # noqa: E402', '')}\n```"
        assert block in page[at:], f"docs/python.md does not show the cell {title!r} as it is"
        at = page.index(block, at)


# --- bundles --------------------------------------------------------------------------------------------------------


def test_a_bundle_plans_as_its_policy_does_and_acts(agent: Agent) -> None:
    start_O = KITCHEN.start
    plan = agent.plan(start_O, "microwave", seed=5)
    goals = KITCHEN.task("microwave").goals(0, 30)
    again = agent.policy.plan(start_O, goals, seed=5, warm_start_PZ=None, deadline_s=60.0)
    np.testing.assert_array_equal(plan.skills_PZ, again.skills_PZ)
    assert agent.plan(start_O.tolist(), "microwave", seed=5).value == plan.value
    action_A = agent.act(start_O, plan)
    np.testing.assert_array_equal(action_A, agent.act(start_O, plan.skills_PZ[0]))
    assert action_A.shape == (9,) and np.abs(action_A).max() <= 1
    warm = agent.plan(start_O, "microwave", seed=5, after=plan)
    assert warm.bundle_id == agent.bundle_id


def test_goals_in_words_are_the_domain_s(agent: Agent) -> None:
    assert agent.goals().values_KO.shape == (4, 30)
    assert agent.goals("microwave,kettle", done=1).values_KO.shape == (1, 30)
    with pytest.raises(SpecError, match="2 sub-tasks"):
        agent.goals("microwave,kettle", done=2)


@pytest.mark.parametrize("wrong", [[1.0, 2.0], np.full(30, np.nan), np.zeros((30, 1))])
def test_what_is_no_observation_is_refused(agent: Agent, wrong: object) -> None:
    with pytest.raises(SpecError, match="observation"):
        agent.plan(wrong, "microwave")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="observation"):
        agent.act(wrong, np.zeros(10))  # type: ignore[arg-type]


def test_a_bundle_in_another_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="name the domain that it was made for"):
        load_bundle("kitchen", domain="table")
    with pytest.raises(BundleError, match="no bundle"):
        load_bundle(tmp_path / "gone")


def test_without_the_policy_server_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimo_server.api", None)
    with pytest.raises(SetupError, match=r"pip install \./policy_server"):
        api.load_bundle("kitchen")


def test_an_episode_that_is_flown_comes_as_arrays(agent: Agent) -> None:
    once = api.rollout(agent, "microwave=-0.1+-0.05", seed=1)
    steps = len(once.times_s)
    assert once.observations_TO.shape == once.truths_TO.shape == (steps, 30) and once.actions_TA.shape == (steps, 9)
    assert np.allclose(np.diff(once.times_s), KITCHEN.action.period_s)
    assert once.success == (once.result.subtasks_done == 1) and 0 in once.plans


# --- environments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [skimo_sim.envs.KITCHEN_ID, skimo_sim.envs.TABLE_ID, skimo_sim.envs.MAZE_ID])
def test_each_id_makes_an_environment_as_long_as_its_domain(name: str) -> None:
    env = gymnasium.make(name)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    step, reward, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(step) and reward >= 0
    assert env.spec is not None
    domain = env.spec.kwargs.get("domain", "kitchen")
    assert env.spec.max_episode_steps == load_domain(domain).step_limit
    env.close()


def test_an_environment_of_a_domain_ends_with_its_step_limit() -> None:
    env = api.make_env("kitchen", twin="kinematic", gate=False, task="microwave")
    env.reset(seed=0)
    still = np.zeros(9, np.float32)
    ends = [env.step(still)[2:4] for _ in range(KITCHEN.step_limit)]
    assert ends[-1] == (False, True) and not any(map(any, ends[:-1]))
    env.close()


def test_plain_ids_in_processes_of_their_own() -> None:
    code = (
        "import gymnasium, numpy as np, skimo_sim.envs\n"
        "envs = gymnasium.make_vec('skimo/Domain-v0', num_envs=2, vectorization_mode='async', twin='kinematic')\n"
        "seen, _ = envs.reset(seed=[1, 2])\n"
        "seen, *_ = envs.step(envs.action_space.sample())\n"
        "print(seen.shape, bool((seen[0] != seen[1]).any()))\n"
        "envs.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout == "(2, 30) True\n", done.stderr


# --- recordings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    meta = EpisodeMeta(
        episode_id="one", source="teleop", domain=KITCHEN.named, channels=KITCHEN.observation.names, rate_hz=12.5
    )
    observations = rng.normal(size=(5, 30)).astype(np.float32)
    actions = rng.uniform(-1, 1, (4, 9)).astype(np.float32)
    write_episode(tmp_path / "one.mcap", Episode(observations=observations, actions=actions, meta=meta))
    return tmp_path / "one.mcap"


def test_a_recording_is_arrays_with_names_and_units(recorded: Path) -> None:
    found = api.read_recording(str(recorded))
    episode = read_episode(str(recorded))
    np.testing.assert_array_equal(found.observations_TO, episode.observations)
    np.testing.assert_array_equal(found.column("microwave"), episode.observations[:, 22])
    assert found.names == KITCHEN.observation.names and found.units == KITCHEN.observation.units
    np.testing.assert_allclose(found.times_s, np.arange(5) / 12.5)
    with pytest.raises(SpecError, match="no channel 'oven'"):
        found.column("oven")


def test_a_recording_is_a_table_of_named_columns(recorded: Path) -> None:
    found = api.read_recording(recorded).as_table()
    assert found.rows == 5 and len(found) == 1 + 30 + 9
    assert found.units["time_s"] == "s" and found.units["kettle.x"] == "m"
    last = found["action.panda_joint1.velocity"]
    assert np.isnan(last[-1]) and np.isfinite(last[:-1]).all()
    with pytest.raises(SpecError, match="no column"):
        found["oven"]
    arrow = found.arrow()
    assert arrow.num_rows == 5 and arrow.schema.field("kettle.x").metadata == {b"unit": b"m"}


def test_a_data_frame_where_pandas_is_there_and_words_where_it_is_not(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = api.read_recording(recorded).as_table()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SetupError, match="pip install pandas"):
        found.pandas()


def test_a_recording_of_a_domain_that_is_not_known_here_has_names_and_no_units(tmp_path: Path, recorded: Path) -> None:
    episode = read_episode(recorded)
    foreign = replace(episode, meta=replace(episode.meta, domain=Named(name="elsewhere", digest="0" * 64)))
    write_episode(tmp_path / "foreign.mcap", foreign)
    found = api.read_recording(tmp_path / "foreign.mcap")
    assert found.names == KITCHEN.observation.names and set(found.units) == {""}
    assert found.action_names == tuple(map(str, range(9)))
    assert api.read_recording(tmp_path / "foreign.mcap", domain="kitchen").units == KITCHEN.observation.units
    with pytest.raises(EpisodeError, match="name its own domain"):
        api.read_recording(tmp_path / "foreign.mcap", domain="table")


def test_what_is_no_recording_is_said(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError):
        table.read_recording(str(tmp_path / "gone.mcap"))
