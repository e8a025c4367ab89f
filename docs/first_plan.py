# %% [markdown]
# # The first plan
# A bundle, its twin and a recording from Python, without ROS and without a server: what docs/python.md explains, cell
# by cell. Runs as a script (`python docs/first_plan.py`), and as a notebook in editors that know `# %%` cells, or
# through jupytext. It takes some seconds on one core.

# %% A bundle plans and acts
import tempfile
from pathlib import Path

import gymnasium
import numpy as np

import skimo_sim.envs
from skimo_eval import api

OUT = Path(tempfile.mkdtemp(prefix="first_plan-"))
agent = api.load_bundle("kitchen")  # or a folder that `skimo export` made
print(f"bundle {agent.bundle_id[:12]} for {agent.domain.name}: {', '.join(agent.domain.subtasks)}")

# %% An environment over the twin; an observation has the domain's channels
gymnasium.register_envs(skimo_sim.envs)  # importing it registers the ids; this line only says that the import is meant
env = gymnasium.make("skimo/Kitchen-v0", task="microwave,kettle", render_mode="rgb_array")
observation, info = env.reset(seed=3)
spec = agent.domain.observation
for name, unit, value in zip(spec.names[:3], spec.units, observation):
    print(f"{name}: {value:.3f} {unit}")

# %% A plan: skills towards goals, and what they promise
plan = agent.plan(observation, "microwave,kettle", seed=0)
length, numbers = plan.skills_PZ.shape
print(f"{length} skills of {numbers} numbers, planned in {plan.timings_ms['total']:.0f} ms")
print(f"the microwave is open by their end with a chance of {plan.success_probability:.0%}")

# %% A few skills, one after the other, each for the domain's horizon of control steps
for _ in range(7):
    plan = agent.plan(observation, agent.goals("microwave,kettle", done=info["subtasks_done"]), seed=0, after=plan)
    for _ in range(agent.domain.horizon):
        observation, reward, terminated, truncated, info = env.step(agent.act(observation, plan))
print(f"done: {info['completed']}; the gate says {info['verdict']}")

# %% A picture, where a GL library is installed
from PIL import Image  # noqa: E402

from skimo_core.contract.errors import SetupError  # noqa: E402

try:
    Image.fromarray(np.asarray(env.render())).save(OUT / "after.png")
    print("painted after.png")
except SetupError as error:
    print(error)
env.close()

# %% A whole episode, by the stack's own pilot: what `skimo eval` counts
flown = api.rollout(agent, "microwave", seed=4)
print(f"success {flown.success} after {flown.result.steps} control steps, {len(flown.plans)} plans")

# %% Its recording: anything with observations, executed actions and where it comes from can be written as one
from skimo_core.domain.robot import load_limits  # noqa: E402
from skimo_core.episodes.episode import Episode, EpisodeMeta  # noqa: E402
from skimo_core.episodes.recording import write_episode  # noqa: E402

meta = EpisodeMeta(
    episode_id="first",
    source="policy",
    task="microwave",
    domain=agent.domain.named,
    robot=load_limits(agent.domain.robot).named,
    rate_hz=agent.domain.action.rate_hz,
    channels=spec.names,
    success=flown.success,
)
write_episode(OUT / "first.mcap", Episode(observations=flown.observations_TO, actions=flown.actions_TA[:-1], meta=meta))

# %% A recording as arrays, and as a table
recording = api.read_recording(OUT / "first.mcap")
door = recording.column("microwave")
print(f"observations {recording.observations_TO.shape}, actions {recording.actions_TA.shape}, {recording.meta.success}")
table = recording.as_table()  # a mapping of columns; .pandas() and .arrow() where those are installed
print(f"the microwave went from {door[0]:.2f} to {door[-1]:.2f} {table.units['microwave']}")
print(f"{table.rows} rows, {len(table)} columns: {', '.join(list(table)[:3])}, ..., {list(table)[-1]}")

# %% Several environments at once (vectorization_mode="async": each in a process of its own)
envs = gymnasium.make_vec("skimo/Kitchen-v0", num_envs=2, vectorization_mode="sync", task="microwave,kettle")
observations, _ = envs.reset(seed=[1, 2])
for _ in range(3):
    plans = [agent.plan(seen, "microwave,kettle") for seen in observations]
    actions = np.array([agent.act(seen, made) for seen, made in zip(observations, plans)])
    observations, rewards, *_ = envs.step(actions)
print(f"two environments: {observations.shape}, moved {np.abs(actions[:, :7]).max(axis=1) > 0}")
envs.close()
