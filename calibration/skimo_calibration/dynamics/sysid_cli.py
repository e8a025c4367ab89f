"""`skimo calibrate excite` and `skimo calibrate sysid`: make an exciting log, and identify the arm from logs."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.domain.cell import load_cell
from skimo_core.domain.rig import Made, Rig
from skimo_core.domain.rig_file import load_rig, write_rig
from skimo_core.domain.robot import RobotLimits, load_limits

from .excitation import ExcitationConfig, Motion, find_series, rehearse
from .log_csv import write_csv
from .logs import read_logs
from .sysid import Identified, as_rig, identify, split


def excite(
    *,
    out: Path,
    cell: str = "kitchen",
    centre: tuple[float, ...] = (),
    period_s: float = 20.0,
    periods: int = 1,
    tries: int = 300,
    seed: int = 0,
    disturb: int | None = None,
) -> None:
    """Play an exciting motion on the twin, through the gate, and write its log.

    Args:
        out: the log, a CSV file.
        cell: what stands around the arm: a cell's name, or a file.
        centre: round which joint positions, rad; the robot's home where not given.
        period_s: of the motion.
        periods: how many.
        tries: candidates of the search for the best motion.
        seed: of the search, the sensors' noise, and the disturbance.
        disturb: seed of an arm disturbed at random, to try the identification on; none: the arm as it ships.
    """
    from ..twin.twin_arm import Noise, drawn_arm, play, start_rad

    limits, around = load_limits(), load_cell(cell)
    config = ExcitationConfig(period_s=period_s, periods=periods, tries=tries)
    rng = np.random.default_rng(seed)
    series, condition = find_series(limits, around, _centre(centre, limits), config, rng)
    motion = Motion(limits, start_rad(), series, config)
    rehearse(motion, limits, around)
    arm = None if disturb is None else drawn_arm(np.random.default_rng(disturb))
    played = play(motion, limits, around, arm=arm, noise=Noise(), rng=rng, name=out.name)
    held = [d for d in played.decisions if d.verdict.name in ("HOLD", "STOP")]
    if held:
        raise SpecError(
            f"the gate held the arm {len(held)} times: {'; '.join(held[0].reasons)}; the log is not written"
        )
    write_csv(out, played.log)
    print(f"regressor's condition number {condition:.1f}; {len(played.decisions)} pieces passed the gate")
    print(f"{out}: {played.log.duration_s:.1f} s at {played.log.rate_hz:.0f} Hz")


def sysid(
    *,
    log: tuple[Path, ...],
    out: Path,
    hold_out: tuple[Path, ...] = (),
    robot: str = "panda",
    hand: bool = True,
    payload: bool = True,
    topic: str = "",
    rig: Path | None = None,
    seed: int = 0,
) -> None:
    """Identify friction, rotors, payload, servo gains and the delay behind the reference from joint logs.

    Args:
        log: CSV or MCAP files: t, q, dq, tau, and if known the reference.
        out: folder for the page sysid.html.
        hold_out: logs to judge by; where none is given, the last quarter of each log.
        robot: whose logs they are.
        hand: whether the flange bore the Franka hand.
        payload: whether it may have borne anything else.
        topic: of the joints in an MCAP file that holds several.
        rig: a rig file to write dynamics and payload into; made where there is none.
        seed: of the bootstrap.
    """
    from ..twin.twin_arm import links_of, replay, shipped_arm
    from .sysid_page import page_of

    limits = load_limits(robot)
    links, shipped, old = links_of(limits, hand=hand), shipped_arm(), _rig_at(rig, robot)
    pieces = read_logs(log, limits, topic=topic)
    fitted, held_out = (pieces, read_logs(hold_out, limits, topic=topic)) if hold_out else split(pieces)
    found = identify(
        fitted,
        held_out,
        limits,
        links,
        shipped,
        np.random.default_rng(seed),
        payload=payload,
        replay=lambda piece, arm: replay(piece, limits, arm),
    )
    page = page_of(found, held_out, links, limits, shipped)
    _tell(found)
    for criterion in page.criteria:
        print(f"  {'pass' if criterion.passed else 'FAIL'}  {criterion.words}")
    try:
        written = page.write(out / "sysid.html")
        if rig is not None and page.passed:
            write_rig(rig, _with(old, found))
            print(f"{rig}: dynamics, and what the logs tell of the payload")
    except OSError as error:
        raise SpecError(f"{error.filename or out} can't be written: {error.strerror}; choose another folder") from None
    print(written)
    if not page.passed:
        raise SpecError(
            f"held-out logs are not explained: {'; '.join(page.failures)}; no rig is written; see {written}, and look "
            "for contacts, a payload that moved, or another robot"
        )


def _tell(found: Identified) -> None:
    for e in found.estimates:
        verdict = f"not identifiable: {e.why_not}" if e.why_not else ""
        print(f"  {e.name:<22} {e.value:10.4f} +- {e.sigma:8.4f} {e.kind.unit:<8} {verdict}".rstrip())
    if found.servo is None:
        print("  servo gains and delay: the logs hold no reference")


def _rig_at(path: Path | None, robot: str) -> Rig:
    """The rig file that is to be changed, or one that says nothing yet."""
    if path is None or not path.exists():
        return Rig(name="" if path is None else path.stem, robot=robot)
    old = load_rig(path.absolute())
    if old.robot != robot:
        raise SpecError(f"{path} is the rig of a {old.robot}, the logs are a {robot}'s; name another file")
    return old


def _with(old: Rig, found: Identified) -> Rig:
    """The rig with what was found; what the logs don't tell of the payload stays."""
    made = Made(
        date=datetime.datetime.now(datetime.timezone.utc).date(),
        method="skimo calibrate sysid: inverse-dynamics regression, judged on what was held out",
        source=", ".join(name for name, _ in found.logs),
        digest=found.logs[0][1] if len(found.logs) == 1 else "",
    )
    dynamics, payload = as_rig(found, made)
    return replace(old, dynamics=dynamics, payload=payload or old.payload)


def _centre(asked: tuple[float, ...], limits: RobotLimits) -> np.ndarray:
    if not asked:
        return limits.home_q_rad
    if len(asked) != limits.joints:
        raise SpecError(f"--centre holds {len(asked)} numbers, must hold {limits.joints} joint positions, rad")
    return np.array(asked)
