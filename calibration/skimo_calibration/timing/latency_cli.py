"""`skimo calibrate latency`: how late commands take effect, and joint states and pictures are stamped, from a log."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig import BARE, Camera, Latency, Made, Rig
from skimo_core.domain.rig_file import LATENCY_MAX_S, write_rig
from skimo_core.domain.robot import RobotLimits, load_limits

from ..dynamics.logs import file_digest
from ..report import Page
from ..rig_entries import open_rig
from .latency import Late, Timing, command_timing
from .latency_page import latency_page
from .seen import camera_shift, read_seen
from .shift import Shift
from .timing import ArmLog, checked
from .timing_mcap import read_timing

METHOD = "skimo calibrate latency"
EARLY_S = 0.003
"""A latency may come out below 0 by chance, and by a driver that looks ahead by a cycle or two; not by more."""


def latency(
    *,
    log: Path,
    rig: Path | None = None,
    robot: str = "panda",
    serial: str = "",
    topic: str = "",
    seen: Path | None = None,
    camera: str = "",
    point_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
    out: Path | None = None,
    accept: bool = False,
    seed: int = 0,
) -> None:
    """Find how late commands take effect and joint states are stamped, or how late a camera stamps its pictures.

    Args:
        log: an MCAP file with joint states and what the driver was sent: a recording of ours (of an episode with starts
            from rest), or ros2 bag's. Where it holds the driver's own reference, states are told from servos.
        rig: rig file to write command and state into, or the camera's latency.
        robot: whose log it is.
        serial: of the arm.
        topic: of the joint states, where the log holds several.
        seen: a file of what a camera saw meanwhile (t, x, y, z); then the camera's latency is found, and no other.
        camera: its name in the rig.
        point_m: where what it saw is: on the flange if the camera stands, in the arm's base frame if it is in the hand.
        out: the page; beside the log where not given.
        accept: write into the rig although a criterion fails.
        seed: of the bootstrap.
    """
    limits = load_limits(robot)
    ours = None if rig is None else open_rig(rig, robot, serial)
    found, rng = read_timing(log, limits, topic=topic), np.random.default_rng(seed)
    if seen is None:
        timing = command_timing(found, rng)
        entries = _arm_entries(timing, _made(found, "commands and joint states"))
        page, changed = latency_page(found, timing, "", None, 0.0), None if ours is None else replace(ours, **entries)
        words = _words(timing)
    else:
        mounted = _camera_of(ours, camera)
        shifted = _seen(found, seen, limits, ours or BARE, mounted, np.array(point_m, np.float64), rng)
        entry = _camera_entry(found, seen, shifted, ours or BARE)
        page, changed = latency_page(found, None, camera, shifted, entry.latency_s), _with(ours, camera, entry)
        words = [f"camera {camera} stamps {_ms(entry)} late"]
    _tell(page, words, out or log.with_suffix(".latency.html"))
    if rig is not None and changed is not None:
        _write(rig, changed, page, accept)


def _arm_entries(timing: Timing, made: Made) -> dict[str, Latency]:
    """What a rig says of command and, where the log tells it, of state."""
    entries = {"command": _latency("commands", timing.command, made)}
    if timing.state is not None:
        entries["state"] = _latency("joint states", timing.state, made)
    return entries


def _latency(what: str, late: Late, made: Made) -> Latency:
    if not -EARLY_S - 3 * late.sigma_s <= late.late_s <= LATENCY_MAX_S:
        raise SpecError(
            f"{what} would be {1e3 * late.late_s:.1f} +- {1e3 * late.sigma_s:.1f} ms late, which can't be; synchronise "
            "the clocks of driver and sender (chrony, PTP), and record anew"
        )
    return Latency(latency_s=max(0.0, late.late_s), sigma_s=late.sigma_s, made=made)


def _camera_of(rig: Rig | None, name: str) -> Camera:
    cameras = {} if rig is None else rig.cameras
    if name not in cameras:
        known = ", ".join(sorted(cameras)) or "none"
        raise SpecError(
            f"no camera {name!r} in the rig, there are: {known}; name one (--rig, --camera), or put it there first "
            "(skimo calibrate camera)"
        )
    return cameras[name]


def _seen(
    log: ArmLog,
    path: Path,
    limits: RobotLimits,
    rig: Rig,
    camera: Camera,
    point_m: Array,
    rng: np.random.Generator,
) -> Shift:
    states = checked(log.states, log.name)
    true = replace(states, values=states.values - rig.offset_rad)
    return camera_shift(true, read_seen(path, log.begin_ns), limits, camera.mount, point_m, rng)


def _camera_entry(log: ArmLog, path: Path, found: Shift, rig: Rig) -> Latency:
    """States are stamped late themselves, so a picture of the same stamp is of a later moment."""
    made = replace(_made(log, "sightings against joint states"), source=path.name, digest=file_digest(path))
    late = Late(late_s=found.late_s + rig.state_s, sigma_s=found.sigma_s)
    return _latency("pictures", late, made)


def _with(rig: Rig | None, name: str, entry: Latency) -> Rig | None:
    if rig is None:
        return None
    return replace(rig, cameras={**rig.cameras, name: replace(rig.cameras[name], latency=entry)})


def _made(log: ArmLog, how: str) -> Made:
    now = datetime.datetime.now(datetime.timezone.utc)
    then = datetime.datetime.fromtimestamp(log.begin_ns * 1e-9, datetime.timezone.utc)
    recorded = then if datetime.timedelta(0) <= now - then < datetime.timedelta(days=36500 / 4) else now
    return Made(date=recorded.date(), method=f"{METHOD}, {how}", source=log.name, digest=log.digest)


def _words(timing: Timing) -> list[str]:
    told = [f"commands take effect {_ms(timing.command)} after they are sent"]
    if timing.at_most_s:
        told.append(f"  (somewhen within {1e3 * timing.at_most_s:.0f} ms: the log tells no more, and no more matters)")
    if timing.state is None:
        told.append(f"joint states lie {_ms(timing.lag)} behind the path; of servos or stamps, without a reference")
    else:
        told.append(f"joint states are stamped {_ms(timing.state)} late")
        told.append(f"and lie {_ms(timing.lag)} behind the path, servos included")
    return told


def _ms(late: Late | Latency) -> str:
    value = late.late_s if isinstance(late, Late) else late.latency_s
    return f"{1e3 * value:.1f} +- {1e3 * late.sigma_s:.1f} ms"


def _tell(page: Page, words: list[str], out: Path) -> None:
    for line in words:
        print(line)
    for criterion in page.criteria:
        print(f"{'passed' if criterion.passed else 'FAILED'}  {criterion.words}")
    try:
        print(f"page: {page.write(out)}")
    except OSError as error:
        raise SpecError(f"{out} can't be written: {error.strerror}; choose another place (--out)") from None


def _write(path: Path, rig: Rig, page: Page, accept: bool) -> None:
    if not page.passed and not accept:
        raise SpecError(
            f"{path} is left as it was: {'; '.join(page.failures)}. Record for longer, with more starts from rest, or "
            "take it as it is with --accept"
        )
    try:
        write_rig(path, rig)
    except OSError as error:
        raise SpecError(f"{path} can't be written: {error.strerror}; choose another folder") from None
