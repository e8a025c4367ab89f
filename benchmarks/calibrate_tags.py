"""Tags measured: finders of corners against each other, the kitchen's channels against the twin's truth, furniture.

Pictures are the twin's (skimo_calibration.twin.twin_camera: lens, blur, noise), truth is the simulation's.

    finders     one tag per picture at a random place and tilt: ours, OpenCV's refinements, and the AprilTag library
                (pupil-apriltags, where it is installed; it counts pixels from their corner, so 0.5 is taken off)
    channels    states of the kitchen, half of them drawn starts, half with every part somewhere in its range; with the
                rig exactly known, and with cameras and tags off by what calibration and glue leave
    scene       the kitchen's place from tags on its furniture, looked at from all around; and from depth pictures of
                its boxes, ours and small_gicp's (where it is installed)

    python benchmarks/calibrate_tags.py --out benchmarks/results/calibration
writes tags.json and tags.md there. Times are of this process on one core.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tyro

from skimo_calibration.cameras.camera import Intrinsics
from skimo_calibration.objects.scene import load_places, register, shot_of
from skimo_calibration.objects.scene_depth import register_depth, scan_of, surface_of
from skimo_calibration.objects.tags import SQUARE, Mount, find_tags, tag_pose, turned_rad
from skimo_calibration.objects.tracker_file import TrackerSpec, load_tracker
from skimo_calibration.objects.tracking import Tracker, tracker_of
from skimo_calibration.objects.viewpoint import Viewpoint
from skimo_calibration.rigid import turn
from skimo_calibration.twin.twin_camera import SimulatedCamera, attach_picture
from skimo_calibration.twin.twin_tags import TaggedScene, card
from skimo_core.contract.types import Array
from skimo_core.domain.cell import Box, load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig_file import load_rig
from skimo_core.process.provenance import PACKAGES, provenance

COMMAND = "python benchmarks/calibrate_tags.py --out benchmarks/results/calibration"
LENS = Intrinsics(
    width=640, height=480, fx=620.0, fy=621.0, cx=323.0, cy=242.0, distortion=np.array([0.08, -0.15, 1e-3, -5e-4, 0.05])
)
FACING = np.diag([1.0, -1.0, -1.0])
"""How a tag is turned that is upright and looks at the camera."""
OFF_M, OFF_RAD = 0.001, np.deg2rad(0.1)
"""Standard deviations of a camera's pose after hand-eye calibration, each axis, and of a tag's place on its part."""
Picture = npt.NDArray[np.uint8]
Finder = Callable[[Picture, int], Array | None]
"""From a picture and an id to the tag's corners [4, 2]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the tags of the finders' trial are looked at."""

    name: str
    size_m: float
    near_m: float
    far_m: float
    blur_px: float
    noise: float


CONDITIONS = (
    Condition(name="60 mm at 0.3-0.8 m", size_m=0.06, near_m=0.3, far_m=0.8, blur_px=0.7, noise=2.0),
    Condition(name="60 mm at 0.3-0.8 m, poor picture", size_m=0.06, near_m=0.3, far_m=0.8, blur_px=1.2, noise=5.0),
    Condition(name="40 mm at 0.9-1.3 m", size_m=0.04, near_m=0.9, far_m=1.3, blur_px=0.7, noise=2.0),
)


# --- finders --------------------------------------------------------------------------------------------------------


@cache
def finders() -> dict[str, Finder]:
    """Ours and others'."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)

    def ours(picture: Picture, tag_id: int) -> Array | None:
        return next((seen.corners_px for seen in find_tags(picture, LENS) if seen.tag_id == tag_id), None)

    def opencv(method: int) -> Finder:
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = method
        detector = cv2.aruco.ArucoDetector(dictionary, parameters)

        def find(picture: Picture, tag_id: int) -> Array | None:
            corners, ids, _ = detector.detectMarkers(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
            at = [] if ids is None else np.flatnonzero(ids.ravel() == tag_id)
            return np.asarray(corners[at[0]].reshape(4, 2), np.float64) if len(at) else None

        return find

    def shifted(find: Finder) -> Finder:
        def half(picture: Picture, tag_id: int) -> Array | None:
            corners = find(picture, tag_id)
            return None if corners is None else corners - 0.5

        return half

    found: dict[str, Finder] = {
        "ours (OpenCV's decoder, own edges)": ours,
        "OpenCV, no refinement": opencv(cv2.aruco.CORNER_REFINE_NONE),
        "OpenCV, sub-pixel": opencv(cv2.aruco.CORNER_REFINE_SUBPIX),
        "OpenCV, AprilTag's quads": shifted(opencv(cv2.aruco.CORNER_REFINE_APRILTAG)),
    }
    try:
        from pupil_apriltags import Detector
    except ImportError:
        return found
    detector = Detector(families="tag36h11", quad_decimate=1.0)  # one only: to delete a second one crashes (1.0.4)

    def library(picture: Picture, tag_id: int) -> Array | None:
        tags: Any = detector.detect(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8))
        corners = next((tag.corners for tag in tags if tag.tag_id == tag_id), None)
        return None if corners is None else np.asarray(corners, np.float64)[[1, 0, 3, 2]]

    found["pupil-apriltags, full resolution"] = shifted(library)
    return found


class Stage:
    """A tag before a camera, in a scene that holds nothing else."""

    def __init__(self, ids: Sequence[int], condition: Condition, seed: int) -> None:
        from skimo_sim.scenes.physics import mujoco

        spec = mujoco.MjSpec()
        spec.visual.headlight.ambient = [0.5, 0.5, 0.5]
        side_m = condition.size_m * card(0).shape[0] / (8 * 8)
        for tag_id in ids:
            body = spec.worldbody.add_body(name=str(tag_id), mocap=True, pos=[0, 0, -5])
            options = {"width_m": side_m, "height_m": side_m, "rotation": np.diag([1.0, -1.0, -1.0])}
            attach_picture(spec, body, f"tag {tag_id}", card(tag_id), position_m=np.zeros(3), **options)
        self._mujoco, self._model = mujoco, spec.compile()
        self._data = mujoco.MjData(self._model)
        self._camera = SimulatedCamera(self._model, LENS, blur_px=condition.blur_px, noise=condition.noise, seed=seed)

    def show(self, tag: Mount) -> Picture:
        data, which = self._data, self._model.body(str(tag.tag_id)).mocapid[0]
        data.mocap_pos[:] = 0, 0, -5
        data.mocap_pos[which] = tag.position_m
        quaternion = np.zeros(4)
        self._mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(tag.rotation).ravel())
        data.mocap_quat[which] = quaternion
        self._mujoco.mj_forward(self._model, data)
        return self._camera.paint(data, np.eye(3), np.zeros(3))

    def close(self) -> None:
        self._camera.close()


def try_finders(condition: Condition, views: int, seed: int) -> dict[str, dict[str, float]]:
    """What each finder makes of the same pictures."""
    rng = np.random.default_rng(seed)
    tags = [_random_tag(rng, condition) for _ in range(views)]
    stage = Stage(sorted({tag.tag_id for tag in tags}), condition, seed)
    pictures = [stage.show(tag) for tag in tags]
    stage.close()
    return {name: _tried(find, tags, pictures) for name, find in finders().items()}


def _random_tag(rng: np.random.Generator, condition: Condition) -> Mount:
    z, axis = rng.uniform(condition.near_m, condition.far_m), rng.normal(size=2)
    lean = turn(np.array([*axis / np.linalg.norm(axis), 0.0]) * rng.uniform(0.09, 1.05))
    return Mount(
        tag_id=int(rng.integers(587)),
        size_m=condition.size_m,
        rotation=FACING @ lean @ turn(np.array([0.0, 0.0, rng.uniform(-np.pi, np.pi)])),
        position_m=np.array([rng.uniform(-0.3, 0.3) * z, rng.uniform(-0.2, 0.2) * z, z]),
    )


def _tried(find: Finder, tags: Sequence[Mount], pictures: Sequence[Picture]) -> dict[str, float]:
    rows, begin_s = [], time.process_time()
    corners = [find(picture, tag.tag_id) for tag, picture in zip(tags, pictures)]
    ms = (time.process_time() - begin_s) / len(tags) * 1e3
    for tag, found in zip(tags, corners):
        if found is None:
            continue
        off_px = np.sqrt(((found - LENS.project(tag.corners)) ** 2).sum(axis=1).mean())
        rotation, position_m = _pose(found, tag.size_m)
        off_deg = np.rad2deg(turned_rad(rotation, tag.rotation))
        rows.append((off_px, np.linalg.norm(position_m - tag.position_m) * 1e3, off_deg))
    px, mm, deg = np.array(rows).T
    return {
        "missed": float(len(tags) - len(rows)),
        "corner_median_px": float(np.median(px)),
        "position_median_mm": float(np.median(mm)),
        "position_worst_mm": float(mm.max()),
        "orientation_median_deg": float(np.median(deg)),
        "orientation_worst_deg": float(deg.max()),
        "cpu_ms": ms,
    }


def _pose(corners: Array, size_m: float) -> tuple[Array, Array]:
    """The best of the two, as everybody would have it."""
    rays = LENS.rays(corners)[:, None]
    _, turns, places, _ = cv2.solvePnPGeneric(
        SQUARE * size_m, rays, np.eye(3), np.zeros(5), flags=cv2.SOLVEPNP_IPPE_SQUARE
    )
    turn_, place = cv2.solvePnPRefineLM(SQUARE * size_m, rays, np.eye(3), np.zeros(5), turns[0], places[0])
    return np.asarray(cv2.Rodrigues(turn_)[0], np.float64), np.asarray(place, np.float64).ravel()


def stated(views: int, seed: int) -> dict[str, float]:
    """How far our poses lie off, in the deviations that they state; and whether flips were said to be possible."""
    rng, rows, flips, said = np.random.default_rng(seed), [], 0, 0
    for condition in CONDITIONS:
        tags = [_random_tag(rng, condition) for _ in range(views)]
        stage = Stage(sorted({tag.tag_id for tag in tags}), condition, seed)
        for tag in tags:
            for seen in find_tags(stage.show(tag), LENS):
                pose = tag_pose(seen, LENS, tag.size_m)
                right = min((pose.best, pose.other), key=lambda one, tag=tag: turned_rad(one.rotation, tag.rotation))
                flipped = (
                    turned_rad(pose.best.rotation, tag.rotation) > 2 * turned_rad(right.rotation, tag.rotation) + 0.05
                )
                flips, said = flips + flipped, said + (flipped and pose.ambiguous)
                rows.append(
                    (
                        np.linalg.norm(right.position_m - tag.position_m) / pose.sigma_m,
                        turned_rad(right.rotation, tag.rotation) / pose.sigma_rad,
                    )
                )
        stage.close()
    ratio = np.array(rows)
    position, orientation = np.sqrt((ratio**2).mean(axis=0))
    return {
        "position_rms_of_stated": float(position),
        "orientation_rms_of_stated": float(orientation),
        "beyond_3_stated_share": float((ratio > 3).any(axis=1).mean()),
        "flipped": float(flips),
        "flipped_and_said_to_be_ambiguous": float(said),
        "poses": float(len(rows)),
    }


# --- channels -------------------------------------------------------------------------------------------------------


def states(spec: TrackerSpec, count: int, seed: int) -> list[tuple[Array, Array, Array]]:
    """Joints [7], fingers [2], object values [K]: drawn starts, every second with its parts anywhere in range."""
    from skimo_sim.twin import Twin

    twin, names, rng, found = Twin(), load_domain().observation.objects, np.random.default_rng(seed), []
    for k in range(count):
        twin.reset("", seed + k)
        robot, objects = twin.read(), twin.read_objects().values.copy()
        if k % 2:
            for joint in spec.joints:
                low = max(joint.low, -1.2) if joint.channel == "microwave" else joint.low
                share = rng.uniform(0.03, 0.97)
                objects[names.index(joint.channel)] = low + share * (joint.high - low)
            for part in spec.coupled:
                objects[names.index(part.channel)] = part.offset + part.factor * objects[names.index(part.to)]
        found.append((robot.q_rad, robot.finger_m, objects))
    return found


def off_rig(tracker: Tracker, rng: np.random.Generator) -> Tracker:
    """The same tracker where cameras and tags are off by what calibration and glue leave."""

    def moved(mount: Mount) -> Mount:
        rotation = mount.rotation @ turn(rng.normal(0.0, OFF_RAD, 3))
        return replace(mount, rotation=rotation, position_m=mount.position_m + rng.normal(0.0, OFF_M, 3))

    spec = tracker.spec
    spec = replace(
        spec,
        joints=tuple(replace(joint, tags=tuple(moved(tag) for tag in joint.tags)) for joint in spec.joints),
        bodies=tuple(replace(body, tags=tuple(moved(tag) for tag in body.tags)) for body in spec.bodies),
    )
    views = {
        name: replace(
            view,
            rotation=view.rotation @ turn(rng.normal(0.0, OFF_RAD, 3)),
            position_m=view.position_m + rng.normal(0.0, OFF_M, 3),
        )
        for name, view in tracker.views.items()
    }
    return Tracker(spec, views, tracker.domain)


def try_channels(count: int, seed: int) -> dict[str, Any]:
    """Channels of exactly known and of slightly wrong rigs, and what it costs."""
    domain, rng = load_domain(), np.random.default_rng(seed)
    exact = tracker_of(load_tracker("kitchen"), load_rig("kitchen_twin"), domain)
    off: dict[str, list[Array]] = {"exact rig": [], "rig off": []}
    words: dict[str, int] = {"exact rig": 0, "rig off": 0}
    costs = []
    with TaggedScene(exact.spec, exact.views, domain, seed=seed) as kitchen:
        for k, (q_rad, finger_m, objects) in enumerate(states(exact.spec, count, seed)):
            pictures, paint_ms = {}, []
            for name in exact.spec.cameras:
                begin_s = time.process_time()
                pictures[name] = kitchen.paint(name, q_rad, finger_m, objects)
                paint_ms.append((time.process_time() - begin_s) * 1e3)
            for label, tracker in (("exact rig", exact), ("rig off", off_rig(exact, rng))):
                tracker.forget()
                report, spent = None, []
                for name, picture in pictures.items():
                    begin_s = time.process_time()
                    look = tracker.look(name, picture, k + tracker.views[name].latency_s)
                    middle_s = time.process_time()
                    report = tracker.take(look)
                    spent.append(((middle_s - begin_s) * 1e3, (time.process_time() - middle_s) * 1e3))
                assert report is not None
                error = report.states.values - objects
                quat = objects[-4:] / np.linalg.norm(objects[-4:])
                error[-4:] = report.states.values[-4:] - quat * np.sign(quat @ np.nan_to_num(report.states.values[-4:]))
                off[label].append(error)
                words[label] += len(report.words)
                costs += [(paint, *row) for paint, row in zip(paint_ms, spent)] if label == "exact rig" else []
    names = domain.observation.objects
    units = dict(zip(domain.observation.names, domain.observation.units))
    paint, look, take = np.median(np.array(costs), axis=0)
    return {
        "states": count,
        "channels": {
            label: {name: {"unit": units[name], **_errors(np.array(rows)[:, k])} for k, name in enumerate(names)}
            for label, rows in off.items()
        },
        "complaints": words,
        "cpu_ms_per_picture": {"paint": float(paint), "find tags": float(look), "channels": float(take)},
        "pictures_px": [960, 720],
    }


def _errors(errors: Array) -> dict[str, float]:
    seen = np.abs(errors[~np.isnan(errors)])
    return {
        "seen_share": float(len(seen) / len(errors)),
        "median": float(np.median(seen)),
        "p95": float(np.quantile(seen, 0.95)),
        "worst": float(seen.max()),
    }


# --- furniture ------------------------------------------------------------------------------------------------------


def try_scene_tags(repeats: int, shots: int, seed: int) -> dict[str, Any]:
    """The kitchen's place by its tags, a camera being carried about; its pose off as hand-eye calibration leaves it."""
    domain, rng, places = load_domain(), np.random.default_rng(seed), load_places("kitchen")
    spec, q_rad, finger_m, objects = load_tracker("kitchen"), *_out_of_the_way()
    result: dict[str, Any] = {"shots": shots, "repeats": repeats}
    for label, off_m, off_rad in (("exact camera", 0.0, 0.0), ("camera off", OFF_M, OFF_RAD)):
        rows = []
        for _ in range(repeats):
            scene = (
                turn(np.array([0.0, 0.0, -np.pi / 2]) + rng.normal(0, 0.02, 3)),
                np.array([0, 0, -1.8]) + rng.normal(0, 0.01, 3),
            )
            views = {f"{k}": _carried(rng) for k in range(shots)}  # in the scene's frame
            taken = []
            with TaggedScene(spec, views, domain, places=places, seed=seed) as kitchen:
                for name, view in views.items():
                    picture = kitchen.paint(name, q_rad, finger_m, objects)
                    believed = replace(
                        view,
                        rotation=scene[0] @ view.rotation @ turn(rng.normal(0.0, 1.0, 3) * off_rad),
                        position_m=scene[0] @ view.position_m + scene[1] + rng.normal(0.0, 1.0, 3) * off_m,
                    )
                    taken.append(shot_of(name, believed, picture, places))
            found = register(places, taken)
            middle = found.middle_m
            rows.append(
                (
                    np.linalg.norm(found.position_m + found.rotation @ middle - scene[1] - scene[0] @ middle) * 1e3,
                    np.rad2deg(turned_rad(found.rotation, scene[0])),
                    found.held_out_m * 1e3,
                    np.rad2deg(found.held_out_rad),
                )
            )
        result[label] = _registered(rows)
    return result


def _out_of_the_way() -> tuple[Array, Array, Array]:
    from skimo_sim.scenes.kitchen import OBJECT_START, PANDA_START_Q_RAD, START_FINGERS_M

    q_rad = np.array(PANDA_START_Q_RAD)
    q_rad[0] -= 1.6
    return q_rad, np.array(START_FINGERS_M), np.array(OBJECT_START)


def _carried(rng: np.random.Generator) -> Viewpoint:
    """A wrist camera somewhere before the kitchen, in the scene's frame."""
    eye = np.array([rng.uniform(-0.5, 0.4), rng.uniform(-0.4, 0.0), rng.uniform(2.2, 2.6)])
    return _looking(eye, np.array([rng.uniform(-0.3, 0.2), 0.6, rng.uniform(1.7, 2.0)]), LENS)


def _looking(eye: Array, target: Array, lens: Intrinsics) -> Viewpoint:
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.column_stack([right, np.cross(ahead, right), ahead])
    return Viewpoint(name="carried", intrinsics=lens, rotation=rotation, position_m=eye)


def _registered(rows: Sequence[tuple[float, ...]]) -> dict[str, float]:
    mm, deg, held_mm, held_deg = np.array(rows).T
    return {
        "position_median_mm": float(np.median(mm)),
        "position_worst_mm": float(mm.max()),
        "orientation_median_deg": float(np.median(deg)),
        "orientation_worst_deg": float(deg.max()),
        "hold_out_median_mm": float(np.median(held_mm)),
        "hold_out_median_deg": float(np.median(held_deg)),
    }


def try_scene_depth(repeats: int, seed: int) -> dict[str, Any]:
    """The kitchen's place from depth pictures of its boxes, starting 2 cm and 8 deg off."""
    lens = Intrinsics(width=320, height=240, fx=230.0, fy=230.0, cx=159.5, cy=119.5, distortion=np.zeros(5))
    boxes = [box for box in load_cell("kitchen").boxes if box.name != "pedestal"]
    model, rng = surface_of(boxes), np.random.default_rng(seed)
    rows: dict[str, list[tuple[float, ...]]] = {}
    for _ in range(repeats):
        truth = turn(rng.normal(0, 0.05, 3)), rng.normal(0, 0.02, 3)
        scans = []
        for k in range(5):
            eye = np.array([-0.3, rng.uniform(-0.6, 0.6), rng.uniform(0.3, 0.9)])
            view = _looking(eye, np.array([0.7, rng.uniform(-0.2, 0.3), 0.0]), lens)
            scans.append(scan_of(str(k), view, _depth(boxes, truth, view, rng)))
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        start = truth[0] @ turn(axis * np.deg2rad(8)), truth[1] + 0.02 * axis
        begin_s = time.process_time()
        found = register_depth(model, scans, start)
        spent_s = time.process_time() - begin_s
        result = {"ours": (found.rotation, found.position_m, spent_s)}
        result |= _gicp(model.points_m, np.concatenate([scan.points_m for scan in scans]), start)
        for name, (rotation, position_m, seconds) in result.items():
            off_mm = float(np.linalg.norm(position_m - truth[1])) * 1e3
            rows.setdefault(name, []).append((off_mm, float(np.rad2deg(turned_rad(rotation, truth[0]))), seconds))
    return {
        name: {
            "position_median_mm": float(np.median([row[0] for row in each])),
            "position_worst_mm": float(max(row[0] for row in each)),
            "orientation_median_deg": float(np.median([row[1] for row in each])),
            "orientation_worst_deg": float(max(row[1] for row in each)),
            "cpu_s": float(np.median([row[2] for row in each])),
        }
        for name, each in rows.items()
    }


def _depth(boxes: Sequence[Box], pose: tuple[Array, Array], view: Viewpoint, rng: np.random.Generator) -> Array:
    """[H, W] along the optical axis: exact, with a stereo camera's noise (1.5 mm at 1 m), in whole mm."""
    lens = view.intrinsics
    columns, rows = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
    rays = lens.rays(np.stack([columns, rows], axis=-1).astype(float))
    ahead = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1) @ view.rotation.T
    nearest = np.full(rays.shape[:-1], np.inf)
    for box in boxes:
        axes, centre_m = pose[0] @ box.rotation, pose[0] @ box.centre_m + pose[1]
        eye, way = (view.position_m - centre_m) @ axes, ahead @ axes
        way = np.where(np.abs(way) < 1e-9, 1e-9, way)
        near, far = (-box.half_m - eye) / way, (box.half_m - eye) / way
        enters, leaves = np.minimum(near, far).max(axis=-1), np.maximum(near, far).min(axis=-1)
        nearest = np.where((enters < leaves) & (enters > 0) & (enters < nearest), enters, nearest)
    depth = np.where(np.isfinite(nearest), nearest, 0.0)
    return np.round(depth + rng.normal(0.0, 1.5e-3, depth.shape) * depth**2, 3)


def _gicp(model_m: Array, points_m: Array, start: tuple[Array, Array]) -> dict[str, tuple[Array, Array, float]]:
    try:
        import small_gicp
    except ImportError:
        return {}
    found = {}
    for kind, spacing_m in (("GICP", 0.02), ("PLANE_ICP", 0.01)):
        guess = np.eye(4)
        guess[:3, :3], guess[:3, 3] = start[0].T, -start[0].T @ start[1]
        begin_s = time.process_time()
        for reach_m in (0.15, 0.03):
            laid = small_gicp.align(
                model_m,
                points_m,
                guess,
                kind,
                downsampling_resolution=spacing_m,
                max_correspondence_distance=reach_m,
                max_iterations=100,
            )
            guess = laid.T_target_source
        back = np.linalg.inv(guess)
        found[f"small_gicp, {kind}"] = back[:3, :3], back[:3, 3], time.process_time() - begin_s
    return found


# --- what is written ------------------------------------------------------------------------------------------------


def words(figures: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = ["# Tags, tracker, scene registration", "", f"`{COMMAND}`; figures in tags.json.", ""]
    lines += [
        "Finders of corners, each on the same pictures of the twin's camera (640 x 480 px, lens with distortion).",
        "",
    ]
    for name, each in figures["finders"].items():
        lines += [f"**{name}** ({figures['views']} views)", ""]
        lines += [
            "| finder | missed | corner px | mm median (worst) | deg median (worst) | ms |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {finder} | {row['missed']:.0f} | {row['corner_median_px']:.3f} | {row['position_median_mm']:.2f} "
            f"({row['position_worst_mm']:.1f}) | {row['orientation_median_deg']:.2f} "
            f"({row['orientation_worst_deg']:.1f}) | {row['cpu_ms']:.1f} |"
            for finder, row in each.items()
        ]
        lines.append("")
    told = figures["stated"]
    lines += [
        f"Our poses' errors are {told['position_rms_of_stated']:.2f} (position) and "
        f"{told['orientation_rms_of_stated']:.2f} (orientation) of the deviations that they state, root mean square "
        f"of {told['poses']:.0f}; {told['beyond_3_stated_share']:.1%} lie beyond three. Of {told['flipped']:.0f} that "
        f"were mirrored, {told['flipped_and_said_to_be_ambiguous']:.0f} were said to be ambiguous.",
        "",
    ]
    kitchen = figures["channels"]
    lines += [
        f"The kitchen's channels over {kitchen['states']} states, two cameras of 960 x 720 px: error in the channel's "
        f"unit, with the rig exactly known, and with cameras and tags off by {OFF_M * 1e3:g} mm and "
        f"{np.rad2deg(OFF_RAD):g} deg in each axis (standard deviation).",
        "",
        "| channel | unit | seen | median | 95 % | worst | off: seen | median | 95 % | worst |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in kitchen["channels"]["exact rig"].items():
        both = [row, kitchen["channels"]["rig off"][name]]
        cells = [f"{r['seen_share']:.0%} | {r['median']:.2g} | {r['p95']:.2g} | {r['worst']:.2g}" for r in both]
        lines.append(f"| {name} | {row['unit']} | {' | '.join(cells)} |")
    cost = kitchen["cpu_ms_per_picture"]
    lines += [
        "",
        f"Processor time per picture: paint {cost['paint']:.0f} ms (the twin's cameras, without a GPU), find tags "
        f"{cost['find tags']:.1f} ms, channels {cost['channels']:.1f} ms.",
        "",
        f"Where the kitchen stands, from tags on it, {figures['scene_tags']['shots']} shots each:",
        "",
        "| | mm median (worst) | deg median (worst) | hold-out mm, deg |",
        "|---|---|---|---|",
    ]
    for name in ("exact camera", "camera off"):
        row = figures["scene_tags"][name]
        lines.append(
            f"| {name} | {row['position_median_mm']:.2f} ({row['position_worst_mm']:.2f}) | "
            f"{row['orientation_median_deg']:.3f} ({row['orientation_worst_deg']:.3f}) | "
            f"{row['hold_out_median_mm']:.2f}, {row['hold_out_median_deg']:.3f} |"
        )
    lines += ["", "From depth pictures of its boxes (5 of 320 x 240 px, started 2 cm and 8 deg off):", ""]
    lines += ["| | mm median (worst) | deg median (worst) | s |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {row['position_median_mm']:.2f} ({row['position_worst_mm']:.1f}) | "
        f"{row['orientation_median_deg']:.3f} ({row['orientation_worst_deg']:.2f}) | {row['cpu_s']:.2f} |"
        for name, row in figures["scene_depth"].items()
    ]
    return "\n".join(lines) + "\n"


def main(*, views: int = 60, states: int = 60, repeats: int = 8, seed: int = 0, out: Path | None = None) -> None:
    """Measure.

    Args:
        views: pictures per condition of the finders' trial.
        states: of the kitchen.
        repeats: registrations of the furniture.
        seed: of everything.
        out: folder for tags.json and tags.md.
    """
    cv2.setNumThreads(1)
    figures: dict[str, Any] = {
        "views": views,
        "finders": {condition.name: try_finders(condition, views, seed) for condition in CONDITIONS},
        "stated": stated(views, seed + 1),
        "channels": try_channels(states, seed),
        "scene_tags": try_scene_tags(repeats, 10, seed),
        "scene_depth": try_scene_depth(repeats, seed),
    }
    print(words(figures))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        packages = (*PACKAGES, "opencv-python-headless", "pupil-apriltags", "small-gicp", "scipy")
        content = {"provenance": provenance(command=COMMAND, seed=seed, packages=packages), **figures}
        (out / "tags.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (out / "tags.md").write_text(words(figures), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
