"""Registers the Gymnasium environments; the one module that does so when imported, as Gymnasium's "module:id" wants.

>>> gymnasium.make("skimo_sim.envs:skimo/Kitchen-v0", task="kitchen", noise=True)
>>> gymnasium.make("skimo_sim.envs:skimo/Domain-v0", domain="my_table.yaml", condition="papers")
Gymnasium 1.0 took the entry points out by which an installed package could register its own without an import.
"""

import gymnasium

KITCHEN_ID = "skimo/Kitchen-v0"
DOMAIN_ID = "skimo/Domain-v0"

gymnasium.register(id=KITCHEN_ID, entry_point="skimo_sim.env:SkillEnv", max_episode_steps=280)
gymnasium.register(id=DOMAIN_ID, entry_point="skimo_sim.env:SkillEnv")
