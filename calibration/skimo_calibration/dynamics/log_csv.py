"""Joint logs as CSV: a header `t,q1..qJ,dq1..dqJ,tau1..tauJ`, and if known `q_desired1..,dq_desired1..`; SI units.

Other units are taken only where they are stated: in a second row (`ms,deg,...,deg/s,...,Nm`) or in the names
(`t_ms`, `q1_deg`, `dq1_deg_s`, `tau1_nm`). Columns may stand in any order; lines that begin with # are comments.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from .logs import JointLog, file_digest

UNITS: dict[str, dict[str, float]] = {
    "t": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "q": {"rad": 1.0, "deg": np.pi / 180},
    "dq": {"rad/s": 1.0, "rad_s": 1.0, "deg/s": np.pi / 180, "deg_s": np.pi / 180},
    "tau": {"nm": 1.0, "mnm": 1e-3},
}
UNITS |= {"q_desired": UNITS["q"], "dq_desired": UNITS["dq"]}
_NAME = re.compile(r"^(t|q|dq|tau|q_desired|dq_desired)(\d*)(?:_([a-z_/]+))?$")
_SYNONYMS = {"qd": "q_desired", "dqd": "dq_desired"}
MAX_BYTES = 1 << 30


def read_csv(path: Path, limits: RobotLimits) -> JointLog:
    """Read a CSV log; it is not checked yet (`logs.checked`).

    Raises:
        SpecError: not such a file, or its columns aren't those of one arm.
    """
    if path.stat().st_size > MAX_BYTES:
        raise SpecError(f"{path.name} has {path.stat().st_size:,} bytes, bound {MAX_BYTES:,}; split it")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SpecError(f"{path.name} is no text; give a CSV file, or an MCAP file under the ending .mcap") from None
    rows = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if not rows:
        raise SpecError(f"{path.name} is empty; was the recording stopped before it began?")
    names = [name.strip().lower() for name in rows[0][1].split(",")]
    columns = [_column(path.name, name) for name in names]
    _refuse_wrong_columns(path.name, columns, limits)
    stated, begin = _units_row(path.name, rows, len(names))
    factors = np.array([_factor(path.name, column, unit) for column, unit in zip(columns, stated, strict=True)])
    values = _numbers(path.name, rows[begin:], len(names)) * factors
    place = {(what, joint): k for k, (what, joint, _) in enumerate(columns)}

    def of(what: str) -> Array:
        return np.ascontiguousarray(values[:, [place[what, j] for j in range(1, limits.joints + 1)]])

    desired = ("q_desired", 1) in place
    return JointLog(
        name=path.name,
        digest=file_digest(path),
        t_s=values[:, place["t", 0]] - (values[0, place["t", 0]] if len(values) else 0.0),
        q_rad=of("q"),
        dq_rad_s=of("dq"),
        tau_nm=of("tau"),
        q_desired_rad=of("q_desired") if desired else None,
        dq_desired_rad_s=of("dq_desired") if desired and ("dq_desired", 1) in place else None,
    )


def write_csv(path: Path, log: JointLog) -> Path:
    """Write a log in this form; raises SpecError if it can't be written."""
    joints = range(1, log.q_rad.shape[1] + 1)
    blocks = {"q": log.q_rad, "dq": log.dq_rad_s, "tau": log.tau_nm}
    if log.q_desired_rad is not None and log.dq_desired_rad_s is not None:
        blocks |= {"q_desired": log.q_desired_rad, "dq_desired": log.dq_desired_rad_s}
    names = ["t", *(f"{name}{j}" for name in blocks for j in joints)]
    table = np.column_stack([log.t_s, *blocks.values()])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, table, fmt="%.9g", delimiter=",", header=",".join(names), comments="")
    except OSError as error:
        raise SpecError(f"{path} can't be written: {error.strerror}; choose another folder") from None
    return path


def _column(file: str, name: str) -> tuple[str, int, str]:
    """What a column holds, of which joint (0: none), and its stated unit."""
    for short, long in _SYNONYMS.items():
        name = re.sub(rf"^{short}(?=\d)", long, name)
    match = _NAME.match(name)
    if match is None:
        raise SpecError(f"{file}: unknown column {name[:40]!r}; known are t, q1.., dq1.., tau1.., q_desired1..")
    return match[1], int(match[2] or 0), match[3] or ""


def _refuse_wrong_columns(file: str, columns: list[tuple[str, int, str]], limits: RobotLimits) -> None:
    found = [(what, joint) for what, joint, _ in columns]
    twice = [entry for entry in found if found.count(entry) > 1]
    if twice:
        raise SpecError(f"{file}: column {_named(twice[0])} stands there twice; one arm to a file")
    if ("t", 0) not in found:
        raise SpecError(f"{file}: has no column t; add the time of each sample, s")
    for what in ("q", "dq", "tau", "q_desired", "dq_desired"):
        joints = sorted(joint for name, joint in found if name == what)
        if not joints and what.endswith("desired"):
            continue
        if joints != list(range(1, limits.joints + 1)):
            has = ", ".join(f"{what}{j}" for j in joints) or "none"
            raise SpecError(
                f"{file}: has columns {has}, a {limits.name} has joints 1 to {limits.joints}; add what is missing, or "
                "name the robot (--robot)"
            )


def _named(entry: tuple[str, int]) -> str:
    return entry[0] if entry[1] == 0 else f"{entry[0]}{entry[1]}"


def _units_row(file: str, rows: list[tuple[int, str]], count: int) -> tuple[list[str], int]:
    """The units in the second row, "" where there is none, and the first row of numbers."""
    if len(rows) > 1:
        words = [word.strip().lower() for word in rows[1][1].split(",")]
        if len(words) == count and not any(_is_number(word) for word in words):
            return words, 2
    return [""] * count, 1


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _factor(file: str, column: tuple[str, int, str], stated: str) -> float:
    what, joint, named = column
    known = UNITS[what]
    if named and stated and known.get(named) != known.get(stated):
        raise SpecError(f"{file}: column {_named((what, joint))} is named in {named} and stated in {stated}; say one")
    unit = named or stated
    if unit and unit not in known:
        raise SpecError(f"{file}: column {_named((what, joint))} is in {unit!r}; known are {', '.join(known)}")
    return known[unit] if unit else 1.0


def _numbers(file: str, rows: list[tuple[int, str]], count: int) -> Array:
    """The rows' numbers [K, count]."""
    values = np.empty((len(rows), count))
    for k, (line, text) in enumerate(rows):
        words = text.split(",")
        if len(words) != count:
            last = k == len(rows) - 1
            remedy = "the file was cut short: remove that line" if last else "its writer is broken: record again"
            raise SpecError(f"{file}, line {line}: holds {len(words)} numbers, must be {count}; {remedy}")
        try:
            values[k] = [float(word) for word in words]
        except ValueError:
            bad = next(word for word in words if not _is_number(word))
            raise SpecError(f"{file}, line {line}: {bad.strip()[:40]!r} is no number; write numbers alone") from None
    return values
