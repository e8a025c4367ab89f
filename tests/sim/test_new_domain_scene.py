"""The scene that `skimo new-domain` writes is a twin as it stands, with the model that comes along or a lab's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skimo_core.domain.domain import load_domain
from skimo_core.setup.new_domain import new_domain
from skimo_sim.env import SkillEnv

LAB = """
<mujoco model="lab">
  <worldbody>
    <geom type="plane" size="2 2 0.1"/>
    <body name="cabinet" pos="0.7 0.3 0.1">
      <geom type="box" size="0.1 0.1 0.1"/>
      <body name="drawer_body" pos="-0.12 0 0">
        <joint name="drawer" type="slide" axis="-1 0 0" range="0 0.15" damping="5"/>
        <geom type="box" size="0.01 0.08 0.08" mass="0.3"/>
      </body>
    </body>
    <body name="cup" pos="0.5 -0.2 0.05"><freejoint/><geom type="box" size="0.03 0.03 0.05" mass="0.1"/></body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize(("robot", "scene"), [("fr3", ""), ("panda", ""), ("fr3", LAB)])
def test_it_is_a_twin_as_it_stands(tmp_path: Path, robot: str, scene: str) -> None:
    options = ["--robot", robot]
    if scene:
        (tmp_path / "lab.xml").write_text(scene)
        options += ["--scene", str(tmp_path / "lab.xml")]
    assert new_domain(["bench", "--out", str(tmp_path / "out"), *options]) == 0
    domain = load_domain(str(tmp_path / "out/bench/domain.yaml"))
    env = SkillEnv(domain=domain.source, noise=False)
    env.reset(seed=1)
    still_O = env.truth()
    for _ in range(5):
        *_, over, _, info = env.step(np.zeros(9, np.float32))
        assert not over and info["verdict"] == "PASS", info
    objects = slice(9, None)
    np.testing.assert_allclose(env.truth()[objects], still_O[objects], atol=2e-3)  # at rest, where the domain says
    thing = "cup" if scene else "block"
    z = domain.observation.names.index(f"{thing}.z")
    assert abs(still_O[z] - domain.start[z]) < 0.01
