"""Registers the Gymnasium environments; the one module that does so when imported, as Gymnasium's "module:id" wants.

>>> gymnasium.make("skimo_sim.envs:skimo/Kitchen-v0", task="kitchen", noise=True, arm="panda")
"""

import gymnasium

KITCHEN_ID = "skimo/Kitchen-v0"

gymnasium.register(id=KITCHEN_ID, entry_point="skimo_sim.env:KitchenEnv", max_episode_steps=280)
