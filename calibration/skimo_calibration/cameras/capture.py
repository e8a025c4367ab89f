"""A capture: what a camera calibration is made from, as a folder that a person can read and prune.

    <capture>/capture.yaml      the camera, what it is mounted on, the robot, the board, who and when
              views/000.png     a picture
              views/000.yaml    where the arm was when it was taken: joints as the encoders read them, rad, rad/s

Promises
  - A view is written as it is taken, the picture first; what a stopped capture leaves is whole.
  - Reading refuses what is damaged, missing, of another camera or robot, or in other units, and says what to do.
  - Dropping marks a view and keeps it.
Units m, rad, s.
"""

from __future__ import annotations

import datetime
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import MOUNTS
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.domain.tables import Table, read_yaml
from skimo_core.process.whole import write_whole

from .board import Board, Picture, read_board

FORMAT = 1
HEAD, VIEWS = "capture.yaml", "views"
UNIT = "rad"
RANGE_SLACK_RAD = 0.25
"""How far beyond a joint's range its encoder may read: a badly calibrated arm may, degrees go further."""
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One picture and where the arm was.

    Attributes:
        name: of its files.
        stamp_s: when the picture was taken.
        q_rad, dq_rad_s: [7] the joints' positions and velocities then, as the encoders read them.
        q_after_rad: [7] positions right after, where they were read; tells whether the arm stood still.
        dropped: why it is left out; empty: it isn't.
    """

    name: str
    stamp_s: float
    q_rad: Array
    dq_rad_s: Array
    q_after_rad: Array | None = None
    dropped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A capture's data without its pictures.

    Attributes:
        folder: where it lies.
        camera, frame: the camera's name in the rig, and TF's of its optical frame.
        mount: what bears the camera: "flange" (the board stands in the cell) or "base" (the flange bears the board).
        robot, serial: the model, and the arm's number where it was given.
        board: what is looked at.
        date, by: when, and who or what took it.
        views: in order.
    """

    folder: Path
    camera: str
    frame: str
    mount: str
    robot: str
    serial: str
    board: Board
    date: datetime.date
    by: str
    views: tuple[View, ...] = ()

    @property
    def kept(self) -> tuple[View, ...]:
        """The views that weren't dropped."""
        return tuple(view for view in self.views if not view.dropped)

    def view(self, name: str) -> View:
        """The view of a name.

        Raises:
            SpecError: there is none.
        """
        for view in self.views:
            if view.name == name:
                return view
        raise SpecError(f"{self.folder} has no view {name!r}; there are {', '.join(v.name for v in self.views)}")

    @property
    def digest(self) -> str:
        """SHA-256 of what a calibration takes from it: its head, and the files of the views that are kept."""
        total = hashlib.sha256(_text(_head_data(self)).encode())
        for view in self.kept:
            total.update(_text(_view_data(self, replace(view, dropped=""))).encode())
            total.update(picture_path(self, view.name).read_bytes())
        return total.hexdigest()


def picture_path(capture: Capture, name: str) -> Path:
    """Where a view's picture lies."""
    return capture.folder / VIEWS / f"{name}.png"


# --- writing --------------------------------------------------------------------------------------------------------


def create_capture(capture: Capture) -> Capture:
    """Begin a capture in its folder; returns it without views.

    Raises:
        SpecError: the folder holds something already.
    """
    if capture.folder.exists() and any(capture.folder.iterdir()):
        raise SpecError(f"{capture.folder} holds something already; give a folder that doesn't exist yet")
    (capture.folder / VIEWS).mkdir(parents=True, exist_ok=True)
    begun = replace(capture, views=())
    write_whole(capture.folder / HEAD, _text(_head_data(begun)).encode())
    return begun


def add_view(
    capture: Capture,
    picture: Picture,
    *,
    stamp_s: float,
    q_rad: Array,
    dq_rad_s: Array,
    q_after_rad: Array | None = None,
) -> Capture:
    """Write one more view; returns the capture with it."""
    taken = [int(view.name) for view in capture.views if view.name.isdecimal()]
    view = View(
        name=f"{max(taken, default=-1) + 1:03d}",
        stamp_s=stamp_s,
        q_rad=q_rad,
        dq_rad_s=dq_rad_s,
        q_after_rad=q_after_rad,
    )
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    write_whole(picture_path(capture, view.name), cv2.imencode(".png", pixels)[1].tobytes())
    return _with_view(capture, view)


def drop_view(capture: Capture, name: str, why: str) -> Capture:
    """Leave a view out from now on, its files stay; `keep_view` takes it in again."""
    return _with_view(capture, replace(capture.view(name), dropped=why or "dropped"))


def keep_view(capture: Capture, name: str) -> Capture:
    """Take in a view that was dropped."""
    return _with_view(capture, replace(capture.view(name), dropped=""))


def _with_view(capture: Capture, view: View) -> Capture:
    write_whole(capture.folder / VIEWS / f"{view.name}.yaml", _text(_view_data(capture, view)).encode())
    others = [other for other in capture.views if other.name != view.name]
    return replace(capture, views=tuple(sorted([*others, view], key=lambda view: view.name)))


def _head_data(capture: Capture) -> dict[str, Any]:
    robot = {"model": capture.robot, **({"serial": capture.serial} if capture.serial else {})}
    return {
        "capture": FORMAT,
        "camera": capture.camera,
        "frame": capture.frame,
        "mount": capture.mount,
        "robot": robot,
        "joints_unit": UNIT,
        "board": capture.board.data,
        "made": {"date": capture.date, "by": capture.by},
    }


def _view_data(capture: Capture, view: View) -> dict[str, Any]:
    vectors = {"q_rad": view.q_rad, "dq_rad_s": view.dq_rad_s, "q_after_rad": view.q_after_rad}
    return {
        "camera": capture.camera,
        "robot": capture.robot,
        "stamp_s": float(view.stamp_s),
        **{key: [float(x) for x in vector] for key, vector in vectors.items() if vector is not None},
        **({"dropped": view.dropped} if view.dropped else {}),
    }


def _text(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120)


# --- reading --------------------------------------------------------------------------------------------------------


def load_capture(folder: Path) -> Capture:
    """Read a capture's data.

    Raises:
        SpecError: a file that is missing or malformed, an unknown robot, a view of another camera or robot, joints in
            other units.
    """
    head = folder / HEAD
    if not head.is_file():
        raise SpecError(f"{folder} is no capture: it has no {HEAD}; give the folder that a capture was written to")
    root = Table(read_yaml(head.read_text(encoding="utf-8"), str(head)), str(head))
    version = root.whole("capture", low=1)
    if version != FORMAT:
        raise SpecError(
            f"{head}: capture is format {version}, this version reads {FORMAT}; take it again, or update skimo"
        )
    if root.text("joints_unit") != UNIT:
        raise SpecError(f"{head}: joints_unit is {root.text('joints_unit')!r}, must be {UNIT}; convert the joints")
    robot, made = root.table("robot"), root.table("made")
    capture = Capture(
        folder=folder,
        camera=root.text("camera"),
        frame=root.text("frame"),
        mount=root.choice("mount", MOUNTS),
        robot=robot.text("model"),
        serial=robot.text("serial") if "serial" in robot else "",
        board=read_board(root.table("board")),
        date=day(made),
        by=made.text("by"),
    )
    for table in (root, robot, made):
        table.refuse_others()
    limits = load_limits(capture.robot)
    return replace(capture, views=tuple(_view(capture, name, limits) for name in _names(folder)))


def day(made: Table) -> datetime.date:
    """The day that stands under `date`; raises SpecError if none does."""
    value = made.value("date")
    if isinstance(value, datetime.datetime) or not isinstance(value, datetime.date):
        raise SpecError(f"{made.where}: date must be a day, as 2026-01-31, is {value!r}")
    return value


def _names(folder: Path) -> Sequence[str]:
    """Names of all views; each has both its files."""
    files = {kind: {path.stem for path in (folder / VIEWS).glob(f"*.{kind}")} for kind in ("yaml", "png")}
    if lone := sorted(files["png"] - files["yaml"]):
        raise SpecError(
            f"{folder}/{VIEWS}/{lone[0]}.png has no {lone[0]}.yaml, which says where the arm was; delete the picture "
            "(a capture that was stopped leaves its last one), or bring the file back"
        )
    if lone := sorted(files["yaml"] - files["png"]):
        raise SpecError(
            f"{folder}/{VIEWS}/{lone[0]}.yaml has no picture {lone[0]}.png; bring it back, or delete the view's file"
        )
    return sorted(files["yaml"])


def _view(capture: Capture, name: str, limits: RobotLimits) -> View:
    path = capture.folder / VIEWS / f"{name}.yaml"
    row = Table(read_yaml(path.read_text(encoding="utf-8"), str(path)), str(path))
    for key, ours in (("camera", capture.camera), ("robot", capture.robot)):
        if row.text(key) != ours:
            raise SpecError(
                f"{path} was taken with {key} {row.text(key)}, the capture is of {ours}; keep each camera and robot in "
                "a capture of its own"
            )
    view = View(
        name=name,
        stamp_s=row.number("stamp_s"),
        q_rad=row.vector("q_rad", limits.joints),
        dq_rad_s=row.vector("dq_rad_s", limits.joints),
        q_after_rad=row.vector("q_after_rad", limits.joints) if "q_after_rad" in row else None,
        dropped=row.text("dropped") if "dropped" in row else "",
    )
    row.refuse_others()
    beyond = np.maximum(view.q_rad - limits.q_max_rad, limits.q_min_rad - view.q_rad)
    worst = int(np.argmax(beyond))
    if beyond[worst] > RANGE_SLACK_RAD:
        raise SpecError(
            f"{path}: joint {worst + 1} at {view.q_rad[worst]:g} rad is beyond its range {limits.q_min_rad[worst]:g} "
            f"to {limits.q_max_rad[worst]:g} rad; degrees, or joints in another order? Give rad, joints 1 to "
            f"{limits.joints}"
        )
    return view


def read_picture(capture: Capture, view: View) -> Picture:
    """Read a view's picture, RGB [H, W, 3].

    Raises:
        SpecError: it is empty, cut short, damaged, or no PNG.
    """
    path = picture_path(capture, view.name)
    data = path.read_bytes()
    if not data:
        raise SpecError(f"{path} is empty; drop the view (skimo calibrate views), or copy the file again")
    if not _whole_png(data):
        raise SpecError(
            f"{path} is cut short or damaged ({len(data)} bytes); copy it again, or drop the view (skimo calibrate "
            "views)"
        )
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise SpecError(f"{path} holds no picture; copy it again, or drop the view (skimo calibrate views)")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _whole_png(data: bytes) -> bool:
    """Whether every chunk is there with its check sum: a decoder fills up what is missing and says nothing."""
    place = len(PNG)
    if not data.startswith(PNG):
        return False
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, end = data[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
        place = end + 4
    return False
