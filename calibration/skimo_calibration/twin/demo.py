"""`skimo calibrate demo`: a twin that nobody calibrated, from first pictures to a rig that passes its check.

A seed disturbs all that a calibration finds: encoders, wrist camera and lens, the arm's friction, rotors, payload and
delays. Then the steps are gone through as on a robot, by what its sensors say alone; what comes out is held against the
truth, which only a twin can tell. Each step leaves the page that it leaves on a robot; `index.html` leads to them.
Needs skimo_sim and a GL library. Units rad, m, s, kg, Nm.
"""

from __future__ import annotations

import datetime
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.cell import load_cell
from skimo_core.domain.rig import Latency, Made, Rig
from skimo_core.domain.rig_file import write_rig

from ..cameras.board import Picture, find
from ..cameras.camera import Intrinsics
from ..cameras.camera_pages import Bounds, camera_page, hand_eye_page
from ..cameras.capture import load_capture
from ..cameras.check import VIEWS_MIN, CheckBounds, check_page, check_rig_on, outcome
from ..cameras.hand_eye import Lens, calibrate_hand_eye
from ..cameras.intrinsics import board_poses, calibrate_views
from ..cameras.views import Sights, look_at
from ..dynamics.excitation import ExcitationConfig, Motion, find_series
from ..dynamics.logs import checked
from ..dynamics.sysid import Arm, Identified, as_rig, identify
from ..dynamics.sysid_page import page_of
from ..report import Criterion, Page
from ..rig_entries import with_camera, with_hand_eye
from ..timing.seen import camera_shift
from ..timing.timing import Track
from .twin_arm import Noise, drawn_arm, links_of, play, replay, shipped_arm
from .twin_cell import TwinCell, TwinRig, camera_error, disturbed_rig, nominal_setup, play_capture

CAMERA = "wrist"
VIEWS, CHECK_VIEWS = 26, 6
LATENCY_S = (0.02, 0.06)
"""Of the camera, drawn."""
FRAMES, FRAME_S = 160, 1 / 30
"""Of the film that tells the camera's latency."""
SWAYING, SWAY_RAD, SWAY_HZ = (0, 3, 5), 0.12, (0.55, 0.35, 0.45)
"""Which joints go to and fro meanwhile, by how much and how often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the seed drew: the cell, the arm's dynamics, and how late the camera stamps."""

    cell: TwinRig
    arm: Arm
    camera_s: float


def demo(out: tyro.conf.Positional[Path] = Path("calibration_demo"), *, seed: int = 0, views: int = VIEWS) -> None:
    """Calibrate a randomly disturbed twin from end to end, and hold what comes out against the truth.

    Args:
        out: a new folder for captures, logs, pages and the rig.
        seed: draws what is off.
        views: of the board.
    """
    if out.exists() and any(out.iterdir()):
        raise SpecError(f"{out} holds something already; give a folder that doesn't exist yet")
    out.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    rng = np.random.default_rng([seed, 7])
    truth = Truth(cell=disturbed_rig("flange", seed), arm=drawn_arm(rng), camera_s=float(rng.uniform(*LATENCY_S)))
    index = Page("A twin, calibrated", f"seed {seed}; everything below was drawn, hidden, and found by its sensors")
    rig = Rig(name=f"twin-{seed}", robot="panda")
    rig, board, middle_rad = _cameras_and_joints(rig, truth, out, seed, views, index)
    rig = _camera_time(rig, truth, board, middle_rad, seed, index)
    rig = _dynamics(rig, truth, seed, out, index)
    rig = _checked(rig, truth, seed, out, index)
    write_rig(out / "rig.yaml", rig)
    index.text(f"The rig is rig.yaml; all of it took {time.monotonic() - began_s:.0f} s.")
    print(f"{out / 'rig.yaml'}\n{index.write(out / 'index.html')}: {'passed' if index.passed else 'FAILED'}")
    for criterion in index.criteria:
        print(f"  {'ok  ' if criterion.passed else 'FAIL'} {criterion.words}")


# --- the steps --------------------------------------------------------------------------------------------------------


def _cameras_and_joints(
    rig: Rig, truth: Truth, out: Path, seed: int, views: int, index: Page
) -> tuple[Rig, Array, Array]:
    """From a capture of the board: lens, camera's pose, joint offsets.

    Returns:
        The rig; the board's place [4, 4] at the base; the joints [7] of the view with the board in the middle.
    """
    print(f"capture: {views} views of the board", flush=True)
    cell, limits = truth.cell, truth.cell.setup.limits
    play_capture(cell, out / "capture", views, seed, date=_today())
    capture = load_capture(out / "capture")
    print("camera and hand-eye", flush=True)
    rng = np.random.default_rng([seed, 8])
    seen = look_at(capture)
    fitted, sights = calibrate_views(seen, rng)
    camera_page(sights, fitted, Bounds()).write(out / "camera.html")
    lens = Lens(fitted=fitted, same_views=True)
    found = calibrate_hand_eye(limits, capture.board, sights.corners, sights.q_rad, cell.setup.mount, lens, rng)
    hand_eye_page(limits, sights, fitted, found, Bounds()).write(out / "hand_eye.html")
    told = np.array(found.told)
    off_m, off_rad = camera_error(cell, found.camera, found.offset_rad)
    was_m, was_rad = camera_error(cell, nominal_setup("flange").camera, np.zeros(limits.joints))
    wrong = np.abs(found.offset_rad - cell.offset_rad)
    index.judge(
        Criterion(name="camera's place against the truth", value=1e3 * off_m, bound=0.5, unit="mm"),
        Criterion(name="camera's direction", value=float(np.degrees(off_rad)), bound=0.08, unit="deg"),
        Criterion(
            name="worst joint offset of those told", value=1e3 * float(wrong[told].max()), bound=0.7, unit="mrad"
        ),
        Criterion(name="hold-out reprojection", value=found.holdout_px, bound=0.5, unit="px"),
    )
    index.heading("Camera and joints")
    index.link("camera.html", "the lens").link("hand_eye.html", "the camera's pose and the joints' offsets")
    rows = [
        ("camera's place / mm", 1e3 * was_m, 1e3 * off_m),
        ("camera's direction / deg", float(np.degrees(was_rad)), float(np.degrees(off_rad))),
    ]
    rows += [
        (
            f"joint {k + 1} / mrad" + ("" if told[k] else " (a board can't tell)"),
            1e3 * abs(float(was)),
            1e3 * float(now),
        )
        for k, (was, now) in enumerate(zip(cell.offset_rad, wrong))
    ]
    index.table(("off the truth", "before", "after"), rows, "Before: as roughly known, encoders taken at their word.")
    rig = with_camera(rig, capture, fitted)
    return with_hand_eye(rig, capture, found, fitted.holdout_px), found.board, _middle_view(seen)


def _camera_time(rig: Rig, truth: Truth, board: Array, middle_rad: Array, seed: int, index: Page) -> Rig:
    """How late the camera stamps: the board seen from a swaying arm, against where its joints were."""
    print(f"latency of the camera: {FRAMES} pictures of a swaying arm", flush=True)
    cell, limits, camera = truth.cell, truth.cell.setup.limits, rig.cameras[CAMERA]
    assert camera.lens is not None and camera.pose is not None
    states, film = _film(cell, truth.camera_s, middle_rad, seed)
    stamps_s, corners = [], []
    for stamp_s, picture in film:
        with suppress(SpecError):  # too little of the board in it
            corners.append(find(picture, cell.setup.board))
            stamps_s.append(stamp_s)
    camera_from_board = board_poses(Intrinsics.of(camera.lens), cell.setup.board, corners)
    true = replace(states, values=states.values - rig.offset_rad)
    seen = Track(what="the film", t_s=np.array(stamps_s), values=camera_from_board[:, :3, 3])
    late = camera_shift(true, seen, limits, "flange", board[:3, 3], np.random.default_rng([seed, 9]))
    off_ms = 1e3 * abs(late.late_s - truth.camera_s)
    index.judge(Criterion(name="latency of the camera", value=off_ms, bound=1.0, unit="ms"))
    index.heading("Time")
    index.table(
        ("", "true / ms", "found / ms", "standard deviation / ms"),
        [("latency of the camera", 1e3 * truth.camera_s, 1e3 * late.late_s, 1e3 * late.sigma_s)],
        "Where the board was seen, against where the joints had it.",
    )
    made = Made(date=_today(), method="latency, board seen from a swaying arm")
    latency = Latency(latency_s=max(late.late_s, 0.0), sigma_s=late.sigma_s, made=made)
    return replace(rig, cameras={**rig.cameras, CAMERA: replace(camera, latency=latency)})


def _dynamics(rig: Rig, truth: Truth, seed: int, out: Path, index: Page) -> Rig:
    """From exciting motions through the gate: friction, rotors, payload, delay."""
    limits, cell = truth.cell.setup.limits, load_cell("kitchen")
    logs = []
    for k, config in enumerate((ExcitationConfig(periods=2), ExcitationConfig(harmonics=5, period_s=10.0, tries=60))):
        print(f"excitation of {config.periods * config.period_s:g} s, {'to fit' if k == 0 else 'held out'}", flush=True)
        rng = np.random.default_rng([seed, 10 + k])
        series, _ = find_series(limits, cell, limits.home_q_rad, config, rng)
        motion = Motion(limits, series.sample(np.zeros(1))[0][0], series, config)
        played = play(motion, limits, cell, arm=truth.arm, noise=Noise(), rng=rng, name=f"excitation-{k}")
        logs.append(checked(played.log, limits))
    print("system identification", flush=True)
    links, shipped = links_of(limits, hand=True), shipped_arm()
    rng = np.random.default_rng([seed, 12])
    found = identify(logs[0], logs[1], limits, links, shipped, rng, replay=lambda log, arm: replay(log, limits, arm))
    page_of(found, logs[1], links, limits, shipped).write(out / "sysid.html")
    made = Made(date=_today(), method="skimo calibrate sysid", source="excitation of the twin")
    dynamics, payload = as_rig(found, made)
    _judge_dynamics(found, truth.arm, index)
    return replace(rig, dynamics=dynamics, payload=payload)


def _judge_dynamics(found: Identified, true: Arm, index: Page) -> None:
    ours, theirs, assumed = found.arm.dynamics, true.dynamics, shipped_arm().dynamics
    assert theirs.payload is not None
    mass_kg = 0.0 if ours.payload is None else ours.payload.mass_kg
    index.judge(
        Criterion(
            name="friction, worst joint", value=_percent(ours.friction_nm, theirs.friction_nm), bound=5, unit="%"
        ),
        Criterion(
            name="damping, worst joint", value=_percent(ours.damping_nm_s, theirs.damping_nm_s), bound=10, unit="%"
        ),
        Criterion(name="payload's mass", value=100 * abs(mass_kg / theirs.payload.mass_kg - 1), bound=2, unit="%"),
        Criterion(
            name="delay behind the reference", value=1e3 * abs(found.arm.late_s - true.late_s), bound=1, unit="ms"
        ),
        Criterion(
            name="held-out joint error, before over after", value=found.joint_gain or 0.0, bound=3, at_least=True
        ),
    )
    index.heading("Dynamics")
    index.link("sysid.html", "friction, rotors, payload, servos and delay")
    rows: list[tuple[object, ...]] = [
        (f"friction, joint {k + 1} / Nm", *map(float, row))
        for k, row in enumerate(zip(theirs.friction_nm, assumed.friction_nm, ours.friction_nm))
    ]
    rows.append(("payload / kg", theirs.payload.mass_kg, 0.0, mass_kg))
    rows.append(("delay behind the reference / ms", 1e3 * true.late_s, 0.0, 1e3 * found.arm.late_s))
    index.table(("", "true", "assumed before", "found"), rows, "Judged on a motion that was not fitted.")


def _checked(rig: Rig, truth: Truth, seed: int, out: Path, index: Page) -> Rig:
    """The check, on views that nothing was fitted to; and what it says of a rig that nobody calibrated."""
    print(f"check: {CHECK_VIEWS} more views", flush=True)
    play_capture(truth.cell, out / "check", CHECK_VIEWS, seed + 1, date=_today())
    sights = look_at(load_capture(out / "check"), least=VIEWS_MIN)
    bounds = CheckBounds()
    page = check_page(rig, sights, check_rig_on(rig, sights), bounds)
    page.write(out / "check.html")
    blind = check_rig_on(replace(rig, joints=None), sights)
    index.judge(*page.criteria)
    index.heading("Check")
    index.link("check.html", "six views, predicted from the rig")
    index.text(f"Without the joints' offsets the same views are {blind.apart_px:.0f} px off.")
    return replace(rig, check=outcome(page, _today()))


# --- what the twin shows ----------------------------------------------------------------------------------------------


def _middle_view(sights: Sights) -> Array:
    """[7] the joints, as read, of the view that has the board nearest to the picture's middle."""
    middle = np.array([sights.width, sights.height]) / 2
    apart = [float(np.linalg.norm(sight.corners.pixels.mean(axis=0) - middle)) for sight in sights.seen]
    return sights.seen[int(np.argmin(apart))].view.q_rad


def _film(cell: TwinRig, late_s: float, centre_rad: Array, seed: int) -> tuple[Track, list[tuple[float, Picture]]]:
    """Joint states at 200 Hz of an arm that sways about a pose, and pictures with their (late) stamps."""

    def sway(times_s: Array) -> Array:
        q_rad = np.repeat(centre_rad[None], len(times_s), axis=0)
        for joint, often_hz in zip(SWAYING, SWAY_HZ):
            q_rad[:, joint] += SWAY_RAD * np.sin(2 * np.pi * often_hz * times_s)
        return q_rad

    times_s = np.arange(-1.0, FRAMES * FRAME_S + 1.0, 0.005)
    taken_s = FRAME_S * np.arange(FRAMES)
    with TwinCell(cell, seed + 2) as scene:
        film = [
            (float(t + late_s), scene.look(q_rad)) for t, q_rad in zip(taken_s, sway(np.asarray(taken_s, np.float64)))
        ]
    return Track(what="joint states", t_s=times_s, values=sway(times_s)), film


def _percent(found: Array, true: Array) -> float:
    return float(100 * np.abs(found / true - 1).max())


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.timezone.utc).date()
