"""Does calibration matter? The kitchen by a policy that sees it through tags, in a cell that is off in every way.

Each seed draws what is wrong: every joint's encoder reads 0.05 rad too much or too little, both cameras stand some 2 cm
and 1.7 degrees (along and about each axis) from where they are thought to be, pictures are stamped 60 ms late, and
commands take effect 20 ms late. The shipped bundle then does the kitchen, its objects read from the pictures of two
cameras by their tags (skimo_calibration.objects.tracking), sub-tasks counted on the truth:

    truth         nothing is off, and the simulation tells where objects are
    tags          nothing is off; objects by tags: what tracking alone costs
    off           all of it off, and nobody has calibrated
    known         all of it off, and exactly known
    calibrated    the same after touches of known points (all seven joints) and a capture of the board in the hand for
                  each camera (skimo_calibration.cameras); latencies to 0.5 ms, which calibrate_latency.py finds

    python benchmarks/calibration_matters.py --seeds 8
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before numpy is loaded, which looks once

import time  # noqa: E402

import numpy as np  # noqa: E402
import tyro  # noqa: E402

from skimo_calibration.cameras.capture import load_capture  # noqa: E402
from skimo_calibration.cameras.hand_eye import Lens, calibrate_hand_eye  # noqa: E402
from skimo_calibration.cameras.intrinsics import calibrate_views  # noqa: E402
from skimo_calibration.cameras.joints import Touches, calibrate_joints  # noqa: E402
from skimo_calibration.cameras.poses import ViewRanges, solve_ik  # noqa: E402
from skimo_calibration.cameras.views import look_at  # noqa: E402
from skimo_calibration.objects.tracker_file import load_tracker  # noqa: E402
from skimo_calibration.objects.tracking import tracker_of  # noqa: E402
from skimo_calibration.objects.viewpoint import viewpoints  # noqa: E402
from skimo_calibration.rig_entries import with_hand_eye  # noqa: E402
from skimo_calibration.rigid import difference, moved, pose, turn  # noqa: E402
from skimo_calibration.twin.twin_cell import Disturbance, TwinRig, nominal_setup, play_capture  # noqa: E402
from skimo_calibration.twin.twin_tags import TaggedScene, TaggedTwin  # noqa: E402
from skimo_core.contract.types import Array  # noqa: E402
from skimo_core.control.rigged import RiggedBackend, narrowed  # noqa: E402
from skimo_core.domain.cell import load_cell  # noqa: E402
from skimo_core.domain.domain import Tracking, load_domain  # noqa: E402
from skimo_core.domain.rig import Camera, JointOffsets, Latency, Made, Placement, Rig  # noqa: E402
from skimo_core.domain.rig_file import load_rig  # noqa: E402
from skimo_core.domain.robot import load_limits  # noqa: E402
from skimo_core.process.provenance import provenance  # noqa: E402
from skimo_eval.inprocess import bundle_policy  # noqa: E402
from skimo_eval.statistics import bootstrap_interval  # noqa: E402
from skimo_eval.trials import Lab, run_episode  # noqa: E402
from skimo_server.bundle import resolve_bundle  # noqa: E402
from skimo_sim.twins import make_twin  # noqa: E402

OUT = Path(__file__).parent / "results" / "calibration"
SETTINGS = ("truth", "tags", "off", "known", "calibrated")
OFFSET_RAD, SHIFT_M, TURN_RAD = 0.05, 0.02, 0.03
CAMERA_S, COMMAND_S, FOUND_S = 0.06, 0.02, 0.0005
HIDDEN_S, MAX_AGE_S = 10.0, 0.2
"""How long an occluded channel's last value stands, and how old object states may be: a tracker's, not the twin's."""
VIEWS = 24
RANGES = ViewRanges(distance_m=(0.5, 0.95))
POINTS_M = np.array([[0.45, 0.25, 0.12], [0.5, -0.2, 0.2], [0.35, 0.0, 0.35]])
TIP_M = np.array([0.03, 0.02, 0.22])
TOUCHES, TOUCH_M, FIXTURE_M = 10, 0.0003, 0.0002
"""For each point; how well a touch is one, and a point's place known."""
MADE = Made(date=load_rig("kitchen_twin").cameras["left"].latency.made.date, method="benchmark")  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Fly the kitchen under each setting.

    Attributes:
        seeds: episodes under each.
        first: seed of the first.
        settings: which.
        bundle: flown.
        out: folder of matters.json and matters.md.
    """

    seeds: int = 8
    first: int = 0
    settings: tuple[str, ...] = SETTINGS
    bundle: str = "kitchen"
    out: Path = OUT


def drawn(seed: int) -> Rig:
    """What is true of the cell of that seed."""
    rng = np.random.default_rng([seed, 31])
    nominal = load_rig("kitchen_twin")
    offsets = JointOffsets(offset_rad=OFFSET_RAD * rng.choice([-1.0, 1.0], 7), sigma_rad=np.zeros(7), made=MADE)
    cameras = {}
    for name, camera in nominal.cameras.items():
        assert camera.pose is not None
        twist = np.concatenate([rng.normal(0, SHIFT_M, 3), rng.normal(0, TURN_RAD, 3)])
        cameras[name] = _at(camera, moved(_matrix(camera.pose), twist), CAMERA_S)
    return replace(nominal, name=f"true-{seed}", joints=offsets, cameras=cameras, command=_late(COMMAND_S))


def assumed() -> Rig:
    """What is known where nobody has calibrated: nominal poses, encoders and stamps at their word."""
    nominal = load_rig("kitchen_twin")
    cameras = {name: replace(camera, latency=None) for name, camera in nominal.cameras.items()}
    return replace(nominal, name="nominal", cameras=cameras)


def calibrated(true: Rig, seed: int) -> tuple[Rig, dict[str, Any]]:
    """The rig that calibration makes of the cell, and how far it is off."""
    rng, limits = np.random.default_rng([seed, 32]), load_limits()
    touched = calibrate_joints(limits, _touches(true, rng), rng)
    rig = replace(
        assumed(),
        name=f"calibrated-{seed}",
        joints=JointOffsets(offset_rad=touched.offset_rad, sigma_rad=touched.offset_sigma_rad, made=MADE),
        command=_late(COMMAND_S + rng.normal(0, FOUND_S)),
    )
    errors: dict[str, Any] = {"touch_mrad": float(1e3 * np.abs(touched.offset_rad - true.offset_rad).max())}
    for k, name in enumerate(true.cameras):
        rig = _seen_by(rig, true, name, seed + 100 * k, rng)
        off_m, off_rad = difference(_matrix(true.cameras[name].pose), _matrix(rig.cameras[name].pose))
        errors |= {f"{name}_mm": 1e3 * off_m, f"{name}_deg": float(np.degrees(off_rad))}
        late = _late(CAMERA_S + rng.normal(0, FOUND_S))
        rig = replace(rig, cameras={**rig.cameras, name: replace(rig.cameras[name], latency=late)})
    errors["offsets_mrad"] = (1e3 * (rig.offset_rad - true.offset_rad)).round(2).tolist()
    return rig, errors


def _seen_by(rig: Rig, true: Rig, name: str, seed: int, rng: np.random.Generator) -> Rig:
    """The rig with a camera found from a capture of the board in the hand."""
    limits, about = load_limits(), nominal_setup("base")
    roughly, truly = rig.cameras[name], true.cameras[name]
    lens = viewpoints(true, [name])[name].intrinsics
    setup = replace(about, intrinsics=lens, camera=_matrix(roughly.pose))
    usual = Disturbance()
    cell = TwinRig(
        setup=setup, camera=_matrix(truly.pose), intrinsics=lens,
        board=moved(setup.board_pose, rng.normal(0, 0.005, 6)),
        offset_rad=true.offset_rad, joint_noise_rad=usual.joint_noise_rad, blur_px=0.6, noise=2.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        play_capture(cell, Path(folder) / "capture", VIEWS, seed, name=name, ranges=RANGES)
        capture = load_capture(Path(folder) / "capture")
        fitted, sights = calibrate_views(look_at(capture), rng)
        found = calibrate_hand_eye(
            limits, capture.board, sights.corners, sights.q_rad, "base", Lens(fitted=fitted, same_views=True), rng,
            known_offset_rad=rig.offset_rad,
        )  # fmt: skip
        changed = with_hand_eye(rig, capture, found, fitted.holdout_px)
    camera = replace(changed.cameras[name], frame=roughly.frame)
    return replace(changed, cameras={**changed.cameras, name: camera})


def _touches(true: Rig, rng: np.random.Generator) -> Touches:
    """A pointed tool touches known points from several sides."""
    limits, rows, which = load_limits(), [], []
    for k, point_m in enumerate(POINTS_M):
        count = 0
        while count < TOUCHES:
            lean = turn(rng.normal(0.0, [0.5, 0.5, 1.2], 3)) @ np.diag([1.0, -1.0, -1.0])
            flange = pose(lean, point_m + rng.normal(0, TOUCH_M, 3) - lean @ TIP_M)
            found = solve_ik(limits, flange[None], (limits.home_q_rad + rng.normal(0, 0.4, 7))[None])
            if len(found):
                rows.append(found[0] + true.offset_rad)
                which.append(k)
                count += 1
    known_m = POINTS_M + rng.normal(0, FIXTURE_M, POINTS_M.shape)
    return Touches(
        q_rad=np.array(rows), point=np.array(which), names=("a", "b", "c"), points_m=known_m,
        point_sigma_m=np.full(3, FIXTURE_M), tip_m=TIP_M, tip_sigma_m=2e-4,
    )  # fmt: skip


def fly(setting: str, seed: int, policy: Any) -> dict[str, Any]:
    """One episode."""
    domain, limits, began_s = load_domain(), load_limits(), time.monotonic()
    off = setting in ("off", "known", "calibrated")
    true = drawn(seed) if off else None
    rig, errors = load_rig(""), {}
    if setting == "off":
        rig = assumed()
    elif setting == "known":
        assert true is not None
        rig = true
    elif setting == "calibrated":
        assert true is not None
        rig, errors = calibrated(true, seed)
    twin = make_twin(domain, limits, rig=load_rig("") if true is None else true)
    kitchen = None
    if setting != "truth":
        known = rig if off else _in_time(load_rig("kitchen_twin"))
        spec = load_tracker("kitchen")
        kitchen = TaggedScene(spec, tracker_of(spec, true or known, domain).views, domain, seed=seed)
        twin = TaggedTwin(twin, kitchen, tracker_of(spec, known, domain))  # type: ignore[assignment]
        domain = replace(domain, tracking=Tracking(max_age_s=MAX_AGE_S, hidden_s=HIDDEN_S))
    seen = RiggedBackend(twin, rig)
    lab = Lab(domain=domain, limits=narrowed(limits, rig), cell=load_cell(domain.cell), twin=seen, rig=rig)
    result = run_episode(lab, policy, domain.task("kitchen"), seed)
    if kitchen is not None:
        kitchen.close()
    return {
        "seed": seed, "done": result.subtasks_done, "steps": result.steps, "missed": result.missed,
        "stops": result.stops, "verdicts": result.verdicts, "error": result.error, **errors,
        "took_s": round(time.monotonic() - began_s, 1),
    }  # fmt: skip


def _in_time(rig: Rig) -> Rig:
    """A rig whose cameras stamp their pictures as they are taken."""
    return replace(rig, cameras={name: replace(camera, latency=None) for name, camera in rig.cameras.items()})


def _matrix(placed: Placement | None) -> Array:
    assert placed is not None
    return pose(placed.rotation, placed.position_m)


def _at(camera: Camera, place: Array, late_s: float) -> Camera:
    placed = Placement(position_m=place[:3, 3], rotation=place[:3, :3], sigma_m=0.0, sigma_rad=0.0, made=MADE)
    return replace(camera, pose=placed, latency=_late(late_s))


def _late(latency_s: float) -> Latency:
    return Latency(latency_s=latency_s, sigma_s=0.0, made=MADE)


def main(args: Args) -> None:
    policy = bundle_policy(resolve_bundle(args.bundle), {})
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "matters.json"
    rows: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())["rows"] if path.exists() else {}
    for setting in args.settings:
        rows[setting] = []
        for seed in range(args.first, args.first + args.seeds):
            rows[setting].append(fly(setting, seed, policy))
            print(setting, rows[setting][-1], flush=True)
        command = f"python benchmarks/calibration_matters.py --seeds {args.seeds} --first {args.first}"
        content = {"provenance": provenance(command=command, seed=args.first), "bundle": args.bundle, "rows": rows}
        path.write_text(json.dumps(content, indent=1) + "\n")
        (args.out / "matters.md").write_text(report(rows, command))


def report(rows: dict[str, list[dict[str, Any]]], command: str) -> str:
    """The table."""
    lines = [
        "# Does calibration matter?",
        "",
        f"`{command}`: its head says what the settings are.",
        "",
        "| setting | sub-tasks of 4 (95 %) | episodes | stops | commands that the gate held, limited or stopped |",
        "|---|---|---|---|---|",
    ]
    for setting, found in rows.items():
        done = [row["done"] for row in found]
        low, high = bootstrap_interval(done)
        meddled = sum(sum(row["verdicts"].values()) for row in found)
        stops = sum(row["stops"] for row in found)
        lines.append(
            f"| {setting} | {np.mean(done):.2f} ({low:.2f} .. {high:.2f}) | {len(done)} | {stops} | {meddled} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(tyro.cli(Args))
