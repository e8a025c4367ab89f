"""Registers the Gymnasium environments when it is imported; nothing else of this package does.

>>> import gymnasium, skimo_sim.envs                           # then plain ids, also for make_vec
>>> gymnasium.make("skimo/Kitchen-v0", task="kitchen", noise=True)
>>> gymnasium.make_vec("skimo/Table-v0", num_envs=4, vectorization_mode="async")
>>> gymnasium.make("skimo_sim.envs:skimo/Domain-v0", domain="my_table.yaml", condition="papers")     # imports it itself

Gymnasium 1.0 took out the entry points by which an installed package could register its own without an import; an id
with the module before a colon imports that module. `gymnasium.register_envs(skimo_sim.envs)` does nothing but show a
reader, and a linter, that the import is meant.
"""

from __future__ import annotations

from typing import Any

import gymnasium

KITCHEN_ID = "skimo/Kitchen-v0"
TABLE_ID = "skimo/Table-v0"
MAZE_ID = "skimo/Maze-v0"
DOMAIN_ID = "skimo/Domain-v0"
ENVIRONMENTS: dict[str, dict[str, Any]] = {
    KITCHEN_ID: {"max_episode_steps": 280},
    TABLE_ID: {"max_episode_steps": 700, "kwargs": {"domain": "table"}},
    MAZE_ID: {"max_episode_steps": 2000, "kwargs": {"domain": "maze"}},
    DOMAIN_ID: {},
}
"""How each is registered; the lengths are the domains' own. Domain-v0 has any length: give `max_episode_steps`."""

for _id, _options in ENVIRONMENTS.items():
    gymnasium.register(id=_id, entry_point="skimo_sim.env:SkillEnv", **_options)
