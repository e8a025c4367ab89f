"""The rig of one cell: what was measured of its arm, cameras, furniture and clocks, as data that says how it was found.

A robot file says what every arm of a model can do; a rig file says what is true of the one that stands here. It is
made by `skimo calibrate` and read by node, gate, twin and evaluator (`rig:=`); its digest stands in every episode.
Each entry bears its uncertainty (one standard deviation), its date, the method, and the data that it came from. Every
section but `robot` may be left out: what nobody measured is taken as the robot and cell files have it.

Conventions
    joints      an encoder reads the joint's angle and its offset: true = read - offset
    poses       position_m and quat_wxyz of a frame in the one it is mounted on: base and furniture's in the room and
                the arm's base frame, cameras' optical frames (x right, y down, z ahead) in the flange's or the base's
    latency     how much later something is stamped, or takes effect, than it happened, or was sent
Units rad, m, s, kg, Nm, px.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contract.specs import UNKNOWN, Named
from ..contract.types import JOINTS, Array
from .rotations import quaternion

FORMAT = 1
MOUNTS = ("flange", "base")
DIGITS = 9
"""Significant digits of a number in the file."""
TURN_DECIMALS, DIGEST_DECIMALS = 14, 9
"""Decimals of a rotation's quaternion in the file, and as the digest takes it: made to have length 1 when it is read,
its last digits change, and that must not change what names the rig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How an entry came about.

    Attributes:
        date: of the measurement, UTC.
        method: the command and its method, in words.
        source: the data's name, and `digest` the SHA-256 of it; empty where it was typed in.
    """

    date: datetime.date
    method: str
    source: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointOffsets:
    """What each encoder reads beyond its joint's angle, [7], and its standard deviation [7]; rad."""

    offset_rad: Array
    sigma_rad: Array
    made: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where something stands: position [3] and rotation [3, 3], with the standard deviation of each coordinate."""

    position_m: Array
    rotation: Array
    sigma_m: float
    sigma_rad: float
    made: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """A camera's intrinsics in OpenCV's model.

    Attributes:
        width, height: of its images, px.
        focal_px, centre_px: [2] focal lengths and principal point.
        distortion: [5] k1, k2, p1, p2, k3.
        sigma_px: reprojection error on views that were not used.
    """

    width: int
    height: int
    focal_px: Array
    centre_px: Array
    distortion: Array
    sigma_px: float
    made: Made

    @property
    def matrix(self) -> Array:
        """The camera matrix [3, 3]."""
        (fx, fy), (cx, cy) = self.focal_px, self.centre_px
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How late something is, and its standard deviation; s."""

    latency_s: float
    sigma_s: float
    made: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A camera of the cell.

    Attributes:
        frame: TF frame of its optical frame.
        mount: "flange" (it moves with the hand) or "base".
        lens, pose, latency: as far as they were measured; the pose is the optical frame's in the mount's.
    """

    frame: str
    mount: str
    lens: Lens | None = None
    pose: Placement | None = None
    latency: Latency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What the flange carries beside the hand: its mass, and its centre [3] in the flange's frame."""

    mass_kg: float
    centre_m: Array
    sigma_kg: float
    sigma_m: float
    made: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """The arm's own dynamics beyond its links' inertias, each [7], with standard deviations.

    Attributes:
        friction_nm: Coulomb friction.
        damping_nm_s: viscous friction, Nm s/rad.
        armature_kg_m2: inertia of the rotors, seen from the joints.
    """

    friction_nm: Array
    damping_nm_s: Array
    armature_kg_m2: Array
    sigma_friction_nm: Array
    sigma_damping_nm_s: Array
    sigma_armature_kg_m2: Array
    made: Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The outcome of the newest `skimo calibrate check`."""

    date: datetime.date
    passed: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What was measured of one cell; None: not measured.

    Attributes:
        robot: name of the robot model (`robots/`).
        serial: of the arm; empty: not said.
        base: of the arm in the room.
        tool: the tool's centre point in the flange's frame.
        furniture: by name, in the arm's base frame.
        state, command: how much later joint states are stamped than measured, and commands take effect than sent.
        check: not part of the digest.
    """

    name: str
    robot: str
    serial: str = ""
    joints: JointOffsets | None = None
    base: Placement | None = None
    tool: Placement | None = None
    payload: Payload | None = None
    dynamics: Dynamics | None = None
    cameras: Mapping[str, Camera] = field(default_factory=dict)
    furniture: Mapping[str, Placement] = field(default_factory=dict)
    state: Latency | None = None
    command: Latency | None = None
    check: Check | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says, but for its check."""
        data = as_data(self, DIGEST_DECIMALS)
        data.pop("check", None)
        return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def named(self) -> Named:
        """What names it; nothing, where nothing was measured."""
        return Named(name=self.name, digest=self.digest) if self.name else UNKNOWN

    @property
    def offset_rad(self) -> Array:
        """The encoders' offsets [7]; zeros where nobody measured them."""
        return np.zeros(JOINTS) if self.joints is None else self.joints.offset_rad

    @property
    def command_s(self) -> float:
        """How late commands take effect; 0 where nobody measured it."""
        return 0.0 if self.command is None else self.command.latency_s

    @property
    def camera_s(self) -> float:
        """How late the slowest camera stamps its images; 0 where nobody measured it."""
        return max((camera.latency.latency_s for camera in self.cameras.values() if camera.latency), default=0.0)

    @property
    def state_s(self) -> float:
        """How late joint states are stamped; 0 where nobody measured it."""
        return 0.0 if self.state is None else self.state.latency_s

    def made(self) -> dict[str, Made]:
        """How each entry came about, by its place in the file."""
        entries: dict[str, Any] = {
            key: getattr(self, key) for key in ("joints", "base", "tool", "payload", "dynamics", "state", "command")
        }
        entries |= {f"furniture: {name}": placement for name, placement in self.furniture.items()}
        for name, camera in self.cameras.items():
            entries |= {f"cameras: {name}: {part}": getattr(camera, part) for part in ("lens", "pose", "latency")}
        return {where: entry.made for where, entry in entries.items() if entry is not None}


BARE = Rig(name="", robot="")
"""That of a cell in which nothing was measured: joints and clocks are taken at their word."""


def as_data(rig: Rig, decimals: int = TURN_DECIMALS) -> dict[str, Any]:
    """What the file says of it, as plain YAML values, rotations' quaternions to so many decimals."""
    data: dict[str, Any] = {"rig": FORMAT, "name": rig.name, "robot": {"model": rig.robot}}
    if rig.serial:
        data["robot"]["serial"] = rig.serial
    sections = {key: value for key, value in _fields(rig).items() if key not in ("name", "robot", "serial")}
    return {**data, **{key: _plain(value, decimals) for key, value in sections.items() if value}}


def _plain(value: Any, decimals: int) -> Any:
    """Dataclasses as tables without what is not there, arrays as lists, rotations as quaternions."""
    if isinstance(value, Placement):
        turn = [round(part, decimals) + 0.0 for part in quaternion(value.rotation).tolist()]  # -0.0 is 0.0
        table = {key: _plain(entry, decimals) for key, entry in _fields(value).items() if key != "rotation"}
        return {"position_m": table.pop("position_m"), "quat_wxyz": turn, **table}
    if dataclasses.is_dataclass(value):
        given = {key: entry for key, entry in _fields(value).items() if entry is not None}
        return {
            key: _plain(entry, decimals) for key, entry in given.items() if not (isinstance(entry, str) and not entry)
        }
    if isinstance(value, dict):
        return {key: _plain(entry, decimals) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry, decimals) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist(), decimals)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
