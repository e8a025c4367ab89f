"""Rig files (skimo_core.domain.rig): read with every check, written in whole, refused where they don't fit.

A value beyond what is possible is refused as a mistake of units.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import yaml

from ..contract.errors import SpecError
from ..contract.types import JOINTS, Array
from ..process.whole import write_whole
from . import library
from .rig import (
    BARE,
    FORMAT,
    MOUNTS,
    Camera,
    Check,
    Dynamics,
    JointOffsets,
    Latency,
    Lens,
    Made,
    Payload,
    Placement,
    Rig,
    as_data,
)
from .robot import RobotLimits, load_limits
from .tables import Table, read_yaml

KIND = "rigs"
OFFSET_MAX_RAD = 0.2
"""A larger joint offset is a mistake of units, or an arm to be mended before it is calibrated."""
LATENCY_MAX_S = 1.0
ROOM_M, ARM_M = 100.0, 2.0
"""Nothing stands further off in a room, nor on an arm or from a camera's mount."""
PAYLOAD_MAX_KG = 50.0
HEAD = "# A cell's rig, made by `skimo calibrate`; what it means stands in skimo_core.domain.rig.\n"
Entry = TypeVar("Entry")


def load_rig(name_or_path: str | Path) -> Rig:
    """Load a rig file by its path, or one that is installed by its name (`library`); empty: `BARE`.

    Raises:
        SpecError: no such file, or it is malformed.
    """
    if not str(name_or_path):
        return BARE
    source = library.find(KIND, name_or_path)
    return parse_rig(source.text, source.where)


def check_rig(
    rig: Rig,
    robot: RobotLimits,
    *,
    serial: str = "",
    max_age_days: float | None = None,
    today: datetime.date | None = None,
) -> None:
    """Refuse a rig that may not be used here.

    Args:
        robot: that moves here.
        serial: of the arm that is there, where known.
        max_age_days: of the oldest entry; None: any.

    Raises:
        SpecError: it is another robot's or arm's; its check failed; it is too old, or from the future.
    """
    if not robot.accepts(load_limits(rig.robot).digest):
        raise SpecError(
            f"rig {rig.name} was made for a {rig.robot}, and a {robot.name} moves here; give that robot's rig, or "
            "calibrate this one (skimo calibrate)"
        )
    if serial and rig.serial and serial != rig.serial:
        raise SpecError(
            f"rig {rig.name} was made for the arm with serial number {rig.serial}, this one is {serial}; give its own "
            "rig, or calibrate it (skimo calibrate)"
        )
    if rig.check is not None and not rig.check.passed:
        why = "; ".join(rig.check.reasons)
        raise SpecError(
            f"rig {rig.name} failed its check on {rig.check.date}: {why}; calibrate again what is named, then run "
            "`skimo calibrate check`"
        )
    today = today or datetime.datetime.now(datetime.timezone.utc).date()
    for where, made in rig.made().items():
        age_days = (today - made.date).days
        if age_days < -1:
            raise SpecError(
                f"rig {rig.name}: {where} was made on {made.date}, after today ({today}); set the clock right"
            )
        if max_age_days is not None and age_days > max_age_days:
            raise SpecError(
                f"rig {rig.name}: {where} is {age_days} days old, bound {max_age_days:g} days; run `skimo calibrate "
                "check`, and calibrate it again if that fails, or allow more (rig_max_age_days)"
            )


def write_rig(path: Path, rig: Rig) -> None:
    """Write a rig file; one that stands there is replaced in whole, or not at all.

    Raises:
        OSError: it can't be written.
        SpecError: it could not be read again: an entry can't be true.
    """
    words = HEAD + yaml.dump(as_data(rig), Dumper=_Plain, sort_keys=False, default_flow_style=None, width=120)
    parse_rig(words, f"rig {path.name}")
    write_whole(path, words.encode())


class _Plain(yaml.SafeDumper):
    """Writes a value that stands in two places twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


# --- reading --------------------------------------------------------------------------------------------------------


def parse_rig(text: str, where: str) -> Rig:
    """Read the words of a rig file; `where` names it in errors.

    Raises:
        SpecError: not YAML; a key missing, unknown, or of the wrong type, size or sign; an unknown robot; a value
            beyond what is possible (a mistake of units).
    """
    root = Table(read_yaml(text, where), where)
    version = root.whole("rig", low=1)
    if version != FORMAT:
        raise SpecError(
            f"{where}: rig is format {version}, this version reads {FORMAT}; make it again, or update skimo"
        )
    robot = root.table("robot")
    model = robot.text("model")
    load_limits(model)
    rig = Rig(
        name=root.text("name"),
        robot=model,
        serial=robot.text("serial") if "serial" in robot else "",
        joints=_joints(root.table("joints")) if "joints" in root else None,
        base=_placement(root.table("base"), ROOM_M) if "base" in root else None,
        tool=_placement(root.table("tool"), ARM_M) if "tool" in root else None,
        payload=_payload(root.table("payload")) if "payload" in root else None,
        dynamics=_dynamics(root.table("dynamics")) if "dynamics" in root else None,
        cameras=_each(root, "cameras", _camera),
        furniture=_each(root, "furniture", lambda row: _placement(row, ROOM_M)),
        state=_latency(root.table("state")) if "state" in root else None,
        command=_latency(root.table("command")) if "command" in root else None,
        check=_check(root.table("check")) if "check" in root else None,
    )
    robot.refuse_others()
    root.refuse_others()
    return rig


def _each(root: Table, key: str, read: Callable[[Table], Entry]) -> dict[str, Entry]:
    if key not in root:
        return {}
    table = root.table(key)
    return {name: read(table.table(name)) for name in table}


def _made(row: Table) -> Made:
    """How the entry came about; closes the table."""
    made = row.table("made")
    found = Made(
        date=_date(made),
        method=made.text("method"),
        source=made.text("source") if "source" in made else "",
        digest=made.text("digest") if "digest" in made else "",
    )
    made.refuse_others()
    row.refuse_others()
    return found


def _date(row: Table) -> datetime.date:
    value = row.value("date")
    if isinstance(value, datetime.datetime) or not isinstance(value, datetime.date):
        raise SpecError(f"{row.where}: date must be a day, as 2026-01-31, is {value!r}")
    return value


def _sigma(row: Table, key: str) -> float:
    sigma = row.number(key)
    if sigma < 0:
        raise SpecError(f"{row.where}: {key} must not be below 0, is {sigma:g}")
    return sigma


def _sigmas(row: Table, key: str) -> Array:
    sigmas = row.vector(key, JOINTS)
    if (sigmas < 0).any():
        raise SpecError(f"{row.where}: {key} must not hold numbers below 0, has {sigmas.tolist()}")
    return sigmas


def _joints(row: Table) -> JointOffsets:
    offset_rad = row.vector("offset_rad", JOINTS)
    worst = int(np.argmax(np.abs(offset_rad)))
    if abs(offset_rad[worst]) > OFFSET_MAX_RAD:
        raise SpecError(
            f"{row.where}: offset_rad of joint {worst + 1} is {offset_rad[worst]:g} rad, bound {OFFSET_MAX_RAD:g}; "
            "degrees? Otherwise have the arm mended before it is calibrated"
        )
    return JointOffsets(offset_rad=offset_rad, sigma_rad=_sigmas(row, "sigma_rad"), made=_made(row))


def _within(row: Table, key: str, bound_m: float) -> Array:
    vector_m = row.vector(key, 3)
    if np.abs(vector_m).max() > bound_m:
        raise SpecError(f"{row.where}: {key} {vector_m.tolist()} is in metres, bound {bound_m:g}; millimetres?")
    return vector_m


def _placement(row: Table, bound_m: float) -> Placement:
    return Placement(
        position_m=_within(row, "position_m", bound_m),
        rotation=row.rotation("quat_wxyz"),
        sigma_m=_sigma(row, "sigma_m"),
        sigma_rad=_sigma(row, "sigma_rad"),
        made=_made(row),
    )


def _lens(row: Table) -> Lens:
    lens = Lens(
        width=row.whole("width", low=16),
        height=row.whole("height", low=16),
        focal_px=row.vector("focal_px", 2, positive=True),
        centre_px=row.vector("centre_px", 2, positive=True),
        distortion=row.vector("distortion", 5),
        sigma_px=_sigma(row, "sigma_px"),
        made=_made(row),
    )
    if (lens.centre_px > (lens.width, lens.height)).any():
        raise SpecError(
            f"{row.where}: centre_px {lens.centre_px.tolist()} lies outside the image, {lens.width} x {lens.height} px"
        )
    return lens


def _latency(row: Table) -> Latency:
    latency_s = row.number("latency_s")
    if not 0 <= latency_s <= LATENCY_MAX_S:
        raise SpecError(f"{row.where}: latency_s is {latency_s:g} s, must lie in 0 to {LATENCY_MAX_S:g}; milliseconds?")
    return Latency(latency_s=latency_s, sigma_s=_sigma(row, "sigma_s"), made=_made(row))


def _camera(row: Table) -> Camera:
    mount = row.choice("mount", MOUNTS)
    camera = Camera(
        frame=row.text("frame"),
        mount=mount,
        lens=_lens(row.table("lens")) if "lens" in row else None,
        pose=_placement(row.table("pose"), ARM_M if mount == "flange" else ROOM_M) if "pose" in row else None,
        latency=_latency(row.table("latency")) if "latency" in row else None,
    )
    row.refuse_others()
    return camera


def _payload(row: Table) -> Payload:
    mass_kg = _sigma(row, "mass_kg")
    if mass_kg > PAYLOAD_MAX_KG:
        raise SpecError(f"{row.where}: mass_kg is {mass_kg:g} kg, bound {PAYLOAD_MAX_KG:g}; grams?")
    return Payload(
        mass_kg=mass_kg,
        centre_m=_within(row, "centre_m", ARM_M),
        sigma_kg=_sigma(row, "sigma_kg"),
        sigma_m=_sigma(row, "sigma_m"),
        made=_made(row),
    )


def _dynamics(row: Table) -> Dynamics:
    names = ("friction_nm", "damping_nm_s", "armature_kg_m2")
    values = {key: _sigmas(row, key) for name in names for key in (name, f"sigma_{name}")}
    return Dynamics(**values, made=_made(row))


def _check(row: Table) -> Check:
    value = row.value("passed")
    if not isinstance(value, bool):
        raise SpecError(f"{row.where}: passed must be true or false, is {value!r}")
    check = Check(date=_date(row), passed=value, reasons=row.texts("reasons") if "reasons" in row else ())
    row.refuse_others()
    return check
