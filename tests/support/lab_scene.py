"""A lab's own domain with its scene, written to a folder as a lab would: a bench with a door, a cup and a tray."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skimo_core.domain.domain import Domain, load_domain

MODEL = """
<mujoco model="bench">
  <compiler angle="radian"/>
  <option cone="elliptic" gravity="0 0 -9.7"/>
  <default>
    <geom friction="0.8"/>
    <default class="visual"><geom contype="0" conaffinity="0" rgba="1 0 0 1"/></default>
  </default>
  <worldbody>
    <body name="bench" pos="0 0 0.8">
      <geom name="bench" type="box" size="0.8 0.8 0.05" pos="0.3 0 -0.05"/>
      <site name="corner" pos="0.7 0.4 0"/>
    </body>
    <body name="cupboard" pos="0.6 0.3 0.95">
      <geom type="box" size="0.1 0.1 0.1"/>
      <body name="door" pos="-0.11 0.1 0">
        <joint name="door" type="hinge" axis="0 0 1" range="-1.6 0" damping="0.5"/>
        <geom type="box" size="0.005 0.09 0.09" pos="0 -0.09 0" contype="0" mass="0.4"/>
        <site name="knob" pos="-0.02 -0.17 0"/>
      </body>
    </body>
    <body name="cup" pos="0.5 -0.1 0.84" euler="0 0 0.5">
      <freejoint/>
      <geom type="cylinder" size="0.03 0.04" mass="0.1"/>
      <geom class="visual" type="box" size="0.01 0.01 0.01" pos="0.03 0 0"/>
    </body>
    <body name="tray" pos="0.45 -0.4 0.805">
      <joint name="tray" type="slide" axis="0 1 0" range="-0.2 0.2" damping="1"/>
      <geom type="box" size="0.05 0.05 0.005" mass="0.3" pos="0 0 0.003"/>
    </body>
    <body name="curtain" pos="0.3 0 1.2"><geom type="box" size="0.6 0.6 0.01"/></body>
    <camera name="ceiling" pos="0.4 0 2.5"/>
  </worldbody>
  <actuator><position joint="tray" kp="20"/></actuator>
  <keyframe><key name="elsewhere" qpos="-1 0 0 2 1 0 0 0 0.1"/></keyframe>
</mujoco>
"""

SCENE = """
name: bench
model: bench.xml
arm: {body: bench, xyz_m: [0.0, 0.1, 0.0], rpy_rad: [0.0, 0.0, 0.3]}
channels:
  door: {joint: door}
  knob: {site: knob}
  cup: {body: cup}
  tray.at: {joint: tray}
visual: [curtain]
cameras:
  side: {eye_m: [1.5, 1.5, 1.5], target_m: [0.4, 0.0, 0.8]}
"""

DOMAIN = """
name: bench
robot: fr3
cell: open
twin: scene.yaml
rate_hz: 20
horizon: 5
step_limit: 100
action: {velocity_scale_rad_s: 1.0}
base: {position_m: [0.0, 0.1, 0.8], quat_wxyz: [0.98877108, 0.0, 0.0, 0.14943813]}
channels:
  - {name: fr3_joint1, source: joint, unit: rad}
  - {name: fr3_joint2, source: joint, unit: rad}
  - {name: fr3_joint3, source: joint, unit: rad}
  - {name: fr3_joint4, source: joint, unit: rad}
  - {name: fr3_joint5, source: joint, unit: rad}
  - {name: fr3_joint6, source: joint, unit: rad}
  - {name: fr3_joint7, source: joint, unit: rad}
  - {name: fr3_finger_joint1, source: finger, unit: m}
  - {name: fr3_finger_joint2, source: finger, unit: m}
  - {name: door, source: object, unit: rad}
  - {name: knob.x, source: object, unit: m, start: 0.47}
  - {name: cup.x, source: object, unit: m, start: 0.5}
  - {name: cup.y, source: object, unit: m, start: -0.1}
  - {name: cup.z, source: object, unit: m, start: 0.84}
  - {name: cup.qw, source: object, unit: "1", start: 1.0}
  - {name: cup.qx, source: object, unit: "1"}
  - {name: cup.qy, source: object, unit: "1"}
  - {name: cup.qz, source: object, unit: "1"}
  - {name: tray.at, source: object, unit: m}
threshold: 0.05
subtasks:
  open: {goal: {door: -1.0}, threshold: 0.2}
  move: {goal: {cup.x: 0.6, cup.y: 0.0}}
starts: {arm_rad: 0.05, offsets: {cup.x: 0.05}, turns: {cup: 0.5}, begun: 0.3}
"""


def write_lab(
    folder: Path, *, model: str = MODEL, scene: str = SCENE, domain: str = DOMAIN, model_name: str = "bench.xml"
) -> Domain:
    """Write the three files and load the domain."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / model_name).write_text(model, encoding="utf-8")
    (folder / "scene.yaml").write_text(scene, encoding="utf-8")
    (folder / "domain.yaml").write_text(domain, encoding="utf-8")
    return load_domain(str(folder / "domain.yaml"))


def observation(domain: Domain, **values: float) -> np.ndarray:
    """The domain's start [O] with other values of some channels; `__` stands for a dot."""
    found = domain.start.astype(np.float64)
    for name, value in values.items():
        found[domain.observation.names.index(name.replace("__", "."))] = value
    return found
