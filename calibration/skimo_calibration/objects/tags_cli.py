"""`skimo calibrate tags`, `scene` and `track`: print tags, find where furniture stands, tell channels from pictures."""

from __future__ import annotations

import csv
import datetime
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tyro

from skimo_core.contract.errors import SpecError
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig import Made, Rig
from skimo_core.domain.rig_file import load_rig, write_rig
from skimo_core.domain.robot import load_limits

from ..cameras.capture import HEAD, load_capture, read_picture
from ..rigid import flange_poses
from .scene import Places, Registration, Shot, load_places, page_of, placement, register, shot_of
from .scene_depth import Surface, register_depth, scan_of, surface, surface_of
from .tag_sheet import Card, write_tags
from .tracker_file import load_tracker
from .tracking import tracker_of
from .viewpoint import Viewpoint, lens_of, viewpoints

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
MM = 1e-3


def tags(
    out: tyro.conf.Positional[Path] = Path("tags.pdf"),
    *,
    ids: tuple[int, ...] = (),
    size_mm: float = 60.0,
    tracker: str = "",
    places: str = "",
    paper: str = "A4",
) -> None:
    """Print AprilTags of the family 36h11 as a PDF of true size.

    Args:
        out: the PDF.
        ids: of the tags, 0 to 586.
        size_mm: side of the black square.
        tracker: print the tags of a tracker file (name or path), each in its size, instead.
        places: likewise of a places file.
        paper: A4, A3, A2 or letter.
    """
    cards = [Card(tag_id=tag_id, size_m=size_mm * MM) for tag_id in ids]
    if tracker:
        parts = load_tracker(tracker).moving
        cards += [Card(tag_id=tag.tag_id, size_m=tag.size_m, use=part.name) for part in parts for tag in part.tags]
    if places:
        fixed = load_places(places)
        cards += [Card(tag_id=tag.tag_id, size_m=tag.size_m, use=fixed.name) for tag in fixed.tags]
    pages = write_tags(cards, out, paper)
    print(f"{out}: {len(cards)} tags, pages: {pages}; print at 100 %, then measure the ruler and a black square")


def scene(
    images: tyro.conf.Positional[Path],
    *,
    rig: Path,
    camera: str,
    furniture: str,
    depth: bool = False,
    cell: str = "",
    surface_npy: Path | None = None,
    accept: bool = False,
) -> None:
    """Find where furniture stands in the arm's base frame, from tags on it or from depth pictures.

    Args:
        images: folder of pictures of a camera that stands still, or a capture of one on the flange; with --depth, of
            .npy files [H, W], m.
        rig: rig file that has the camera's lens and pose, and that the furniture's place is written into.
        camera: its name there.
        furniture: places file (name or path) that has the tags on it; with --depth its name, under which the rig may
            have a first guess.
        depth: from depth pictures.
        cell: whose boxes are the furniture's surface, with --depth: its name or file.
        surface_npy: instead, the surface as an array [M, 6] of points and outward normals in the furniture's frame, m.
        accept: write it although a criterion fails.
    """
    told = load_rig(rig.resolve())
    if depth:
        found, name = _by_depth(images, told, camera, furniture, _surface(cell, surface_npy)), furniture
    else:
        places = load_places(furniture)
        found, name = register(places, list(_shots(images, told, camera, places))), places.name
    report = page_of(name, found)
    print(f"{name}: {np.round(found.position_m, 5).tolist()} m, {len(found.used)} shots, {found.method}")
    for criterion in report.criteria:
        print(f"{'passed' if criterion.passed else 'FAILED'}  {criterion.words}")
    for shot, why in found.refused:
        print(f"{shot} was not used: {why}")
    print(f"page: {report.write(images / 'scene.html')}")
    if not (report.passed or accept):
        raise SpecError(
            f"{rig} is left as it was: {'; '.join(report.failures)}. Take more shots, from more places, or take it "
            "as it is with --accept"
        )
    made = Made(date=_today(), method=f"scene, {found.method}, {len(found.used)} shots", source=images.name)
    write_rig(rig, replace(told, furniture={**told.furniture, name: placement(found, made)}, check=None))
    print(f"rig: {rig}")


def track(
    images: tyro.conf.Positional[Path],
    *,
    tracker: str,
    rig: str,
    domain: str = "",
    rate_hz: float = 10.0,
    out: Path | None = None,
) -> None:
    """Run a tracker file on recorded pictures and print the channels as CSV.

    Args:
        images: folder with one folder per camera of the tracker file. Pictures are taken in the order of their names; a
            name that is a number is the time of its stamp, s.
        tracker: tracker file, name or path.
        rig: rig file, name or path, with the cameras' lenses and poses.
        domain: whose channels are told; empty: the tracker file's.
        rate_hz: of pictures whose names are no numbers.
        out: CSV file; else standard output.
    """
    spec = load_tracker(tracker)
    told = load_domain(domain or spec.domain)
    reads = tracker_of(spec, load_rig(rig), told)
    rows, words = [], 0
    for stamp_s, camera, path in _in_order(images, spec.cameras, rate_hz):
        report = reads.take(reads.look(camera, _picture(path), stamp_s))
        rows.append([f"{report.states.stamp_s:.6f}", camera, *(f"{value:.6g}" for value in report.states.values)])
        for line in report.words:
            print(f"{path.name}: {line}", file=sys.stderr)
            words += 1
    head = ["exposure_s", "camera", *told.observation.objects]
    if out is None:
        csv.writer(sys.stdout).writerows([head, *rows])
        return
    with open(out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    print(f"{out}: {len(rows)} pictures, {words} complaints")


# --- what is read ---------------------------------------------------------------------------------------------------


def _shots(folder: Path, rig: Rig, camera: str, places: Places) -> Iterator[Shot]:
    if (folder / HEAD).is_file():
        for name, view, picture in _carried(folder, rig, camera):
            yield shot_of(name, view, picture, places)
        return
    view = viewpoints(rig, (camera,))[camera]
    for path in _files(folder, PICTURES):
        yield shot_of(path.name, view, _picture(path), places)


def _carried(folder: Path, rig: Rig, camera: str) -> Iterator[tuple[str, Viewpoint, npt.NDArray[np.uint8]]]:
    """The views of a capture by a camera on the flange: each from where the arm held it."""
    if camera not in rig.cameras or rig.cameras[camera].mount != "flange":
        raise SpecError(f"{folder} is a capture, and rig {rig.name} has no camera {camera!r} on the flange; name it")
    held = rig.cameras[camera]
    if held.pose is None:
        raise SpecError(f"rig {rig.name}: camera {camera!r} has no pose; find it (skimo calibrate hand-eye)")
    capture, lens, limits = load_capture(folder), lens_of(held, camera, rig.name), load_limits(rig.robot)
    for view in capture.kept:
        flange = flange_poses(limits, (view.q_rad - rig.offset_rad)[None])[0]
        rotation, position_m = (
            flange[:3, :3] @ held.pose.rotation,
            flange[:3, :3] @ held.pose.position_m + flange[:3, 3],
        )
        found = Viewpoint(name=camera, intrinsics=lens, rotation=rotation, position_m=position_m)
        yield view.name, found, read_picture(capture, view)


def _by_depth(folder: Path, rig: Rig, camera: str, furniture: str, model: Surface) -> Registration:
    guess = rig.furniture.get(furniture)
    start = (np.eye(3), np.zeros(3)) if guess is None else (guess.rotation, guess.position_m)
    view = viewpoints(rig, (camera,))[camera]
    scans = []
    for path in _files(folder, (".npy",)):
        try:
            depth_m = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise SpecError(f"{path} holds no array: {error}") from error
        if depth_m.ndim != 2 or depth_m.dtype.kind != "f":
            raise SpecError(f"{path} holds {depth_m.dtype} {depth_m.shape}, must be floating-point metres [H, W]")
        scans.append(scan_of(path.name, view, depth_m))
    return register_depth(model, scans, start)


def _surface(cell: str, points: Path | None) -> Surface:
    if points is None:
        if not cell:
            raise SpecError("--depth needs the furniture's surface: --cell, or --surface-npy")
        return surface_of(load_cell(cell).boxes)
    try:
        rows = np.asarray(np.load(points, allow_pickle=False), np.float64)
    except (OSError, ValueError) as error:
        raise SpecError(f"{points} holds no array: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise SpecError(f"{points} holds an array {rows.shape}, must be [M, 6]: points and outward normals")
    return surface(rows[:, :3], rows[:, 3:])


def _in_order(folder: Path, cameras: tuple[str, ...], rate_hz: float) -> list[tuple[float, str, Path]]:
    """Stamps, cameras and pictures, the oldest first."""
    if not rate_hz > 0:
        raise SpecError(f"rate_hz is {rate_hz:g}, must be above 0")
    found = []
    for camera in cameras:
        for k, path in enumerate(_files(folder / camera, PICTURES)):
            try:
                stamp_s = float(path.stem)
            except ValueError:
                stamp_s = k / rate_hz
            found.append((stamp_s, camera, path))
    return sorted(found)


def _files(folder: Path, kinds: tuple[str, ...]) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in kinds)
    if not found:
        raise SpecError(f"{folder} holds none of {', '.join(kinds)}; give the folder with the pictures")
    return found


def _picture(path: Path) -> npt.NDArray[np.uint8]:
    """A picture file, grey.

    Raises:
        SpecError: it holds none.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise SpecError(f"{path} holds no picture that can be read")
    return np.asarray(pixels, np.uint8)


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.timezone.utc).date()
