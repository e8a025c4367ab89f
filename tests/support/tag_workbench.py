"""A table with a door, a drawer and a cup, tagged and looked at by two cameras: for tests of tracking."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
from support.tag_views import camera_at, sightings

from skimo_calibration.objects.tags import Mount
from skimo_calibration.objects.tracker_file import TrackerSpec, load_tracker
from skimo_calibration.objects.tracking import Look, Tracker
from skimo_calibration.objects.viewpoint import Viewpoint
from skimo_calibration.rigid import turn
from skimo_core.contract.types import Array
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.rig import Camera, Latency, Lens, Made, Placement, Rig
from skimo_core.domain.rotations import matrix, quaternion

DOMAIN = """
name: workbench
robot: panda
cell: open
rate_hz: 12.5
horizon: 10
step_limit: 100
action: {velocity_scale_rad_s: 1.0}
objects: {max_age_s: 0.3, hidden_s: 0.5}
channels:
  - {name: panda_joint1, source: joint, unit: rad}
  - {name: panda_joint2, source: joint, unit: rad}
  - {name: panda_joint3, source: joint, unit: rad}
  - {name: panda_joint4, source: joint, unit: rad}
  - {name: panda_joint5, source: joint, unit: rad}
  - {name: panda_joint6, source: joint, unit: rad}
  - {name: panda_joint7, source: joint, unit: rad}
  - {name: panda_finger_joint1, source: finger, unit: m}
  - {name: panda_finger_joint2, source: finger, unit: m}
  - {name: door, source: object, unit: rad}
  - {name: lamp, source: object, unit: m}
  - {name: drawer, source: object, unit: m}
  - {name: shelf, source: object, unit: m}
  - {name: cup.x, source: object, unit: m}
  - {name: cup.y, source: object, unit: m}
  - {name: cup.z, source: object, unit: m}
  - {name: cup.qw, source: object, unit: "1", start: 1.0}
  - {name: cup.qx, source: object, unit: "1"}
  - {name: cup.qy, source: object, unit: "1"}
  - {name: cup.qz, source: object, unit: "1"}
threshold: 0.1
subtasks: {open: {goal: {door: -1.0}}}
"""
FRONT = "quat_wxyz: [0.5, 0.5, -0.5, -0.5]"
"""Upright, looking at the arm, along -x."""
TRACKER = f"""
name: workbench
domain: workbench.yaml
cameras: [left, right]
shift_px: 0.1
shape_px: 0.05
together_s: 0.005
carry_s: 0.1
parts:
  - name: door
    kind: hinge
    channel: door
    point_m: [0.7, 0.4, 0.3]
    axis: [0.0, 0.0, 1.0]
    range: [-1.6, 0.0]
    max_speed: 3.0
    max_sigma: 0.05
    tags:
      - {{id: 1, size_m: 0.06, position_m: [0.69, 0.30, 0.40], {FRONT}}}
      - {{id: 2, size_m: 0.06, position_m: [0.69, 0.20, 0.40], {FRONT}}}
      - {{id: 3, size_m: 0.06, position_m: [0.69, 0.25, 0.25], {FRONT}}}
  - name: drawer
    kind: slide
    channel: drawer
    axis: [-1.0, 0.0, 0.0]
    range: [0.0, 0.3]
    max_speed: 1.0
    max_sigma: 0.01
    tags:
      - {{id: 4, size_m: 0.06, position_m: [0.69, -0.20, 0.30], {FRONT}}}
  - name: cup
    kind: pose
    channels: [cup.x, cup.y, cup.z, cup.qw, cup.qx, cup.qy, cup.qz]
    up: [0.0, 0.0, 1.0]
    max_speed: [1.0, 6.0]
    max_sigma: [0.02, 0.2]
    tags:
      - {{id: 10, size_m: 0.04, position_m: [-0.03, 0.0, 0.05], {FRONT}}}
      - {{id: 11, size_m: 0.04, position_m: [0.0, 0.0, 0.1], quat_wxyz: [1.0, 0.0, 0.0, 0.0]}}
  - {{name: lamp, kind: coupled, channel: lamp, to: door, factor: 0.1, offset: 0.02}}
  - {{name: shelf, kind: constant, channel: shelf, value: 0.25}}
"""
LATENCY_S = 0.03
MADE = Made(date=datetime.date(2026, 1, 15), method="test")
TRUTH = {"door": -0.7, "drawer": 0.12}
CUP_M = np.array([0.5, 0.0, 0.1])


def files(folder: Path, tracker: str = TRACKER) -> tuple[TrackerSpec, Domain]:
    """The workbench's files, written into a folder and read."""
    (folder / "workbench.yaml").write_text(DOMAIN)
    (folder / "tracker.yaml").write_text(tracker)
    return load_tracker(folder / "tracker.yaml"), load_domain(folder / "workbench.yaml")


def cameras() -> dict[str, Viewpoint]:
    target = np.array([0.6, 0.1, 0.25])
    eyes = {"left": np.array([-0.05, 0.55, 0.7]), "right": np.array([-0.05, -0.45, 0.75])}
    return {name: camera_at(name, eye, target, latency_s=LATENCY_S) for name, eye in eyes.items()}


class Workbench:
    """Its truth, and what its cameras see of it.

    Args:
        moved: tags that are not where the file has them: by id, how far they are shifted, m.
    """

    def __init__(self, folder: Path, seed: int = 0, tracker: str = TRACKER) -> None:
        self.spec, self.domain = files(folder, tracker)
        self.tracker = Tracker(self.spec, cameras(), self.domain)
        self.rng = np.random.default_rng(seed)
        self.door, self.drawer = TRUTH["door"], TRUTH["drawer"]
        self.cup_m, self.cup = CUP_M.copy(), np.eye(3)
        self.moved: dict[int, Array] = {}
        self.covered: set[int] = set()

    def tags(self) -> list[Mount]:
        """All that isn't covered, in the base frame, where it is now."""
        found = []
        for part in self.spec.joints:
            value = np.array(self.door if part.channel == "door" else self.drawer)
            for tag in part.tags:
                frame = part.moved(np.vstack([tag.position_m, tag.position_m + tag.rotation.T]), value)
                found.append((tag, (frame[1:] - frame[0]).T, frame[0]))
        found += [
            (tag, self.cup @ tag.rotation, self.cup @ tag.position_m + self.cup_m) for tag in self.spec.bodies[0].tags
        ]
        return [
            Mount(
                tag_id=tag.tag_id,
                size_m=tag.size_m,
                rotation=rotation,
                position_m=position_m + self.moved.get(tag.tag_id, 0.0),
            )
            for tag, rotation, position_m in found
            if tag.tag_id not in self.covered
        ]

    def look(self, camera: str, stamp_s: float, noise_px: float = 0.05) -> Look:
        """What a camera would find in a picture stamped then."""
        view = self.tracker.views[camera]
        seen = sightings(self.tags(), view, self.rng, noise_px)
        return Look(camera=camera, exposure_s=stamp_s - view.latency_s, seen=seen)

    def truth(self) -> Array:
        """[K] the domain's object channels."""
        return np.array(
            [self.door, 0.02 + 0.1 * self.door, self.drawer, 0.25, *self.cup_m, *quaternion(self.cup).tolist()]
        )

    def turn_cup(self, vector_rad: Array) -> None:
        self.cup = turn(np.asarray(vector_rad, float)) @ self.cup


def sign_free(values: Array) -> Array:
    """Channels [K] with the cup's quaternion as the one that has w >= 0."""
    return np.concatenate([values[:7], quaternion(matrix(values[7:]))])


def rig_of(bench: Workbench, *, lens: bool = True) -> Rig:
    """The workbench's cameras, with or without their lenses."""
    cameras = {}
    for name, view in bench.tracker.views.items():
        own = view.intrinsics
        told = Lens(
            width=own.width,
            height=own.height,
            focal_px=np.array([own.fx, own.fy]),
            centre_px=np.array([own.cx, own.cy]),
            distortion=own.distortion,
            sigma_px=0.1,
            made=MADE,
        )
        pose = Placement(position_m=view.position_m, rotation=view.rotation, sigma_m=0.0, sigma_rad=0.0, made=MADE)
        late = Latency(latency_s=LATENCY_S, sigma_s=0.001, made=MADE)
        cameras[name] = Camera(frame=name, mount="base", lens=told if lens else None, pose=pose, latency=late)
    return Rig(name="bench", robot="panda", cameras=cameras)
