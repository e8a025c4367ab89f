"""What the views of a capture show: the board's corners in each, or why a view can't be used.

A view that a capture can do without (no board in sight, blur, an arm that moved) is set aside with its reason; one that
says that the capture itself is wrong (damaged, of another size) refuses the capture. Units px, rad, rad/s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array

from .board import CORNERS_MIN, Corners, Picture, find
from .capture import Capture, View, read_picture

STILL_RAD_S = 0.01
"""Faster joints blur or smear a picture; an arm at rest reads a tenth of it."""
MOVED_RAD = 5e-4
"""How far a joint may read elsewhere right after the picture."""
VIEWS_MIN = 10
"""Fewer views of a board calibrate nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A view and the corners in it."""

    view: View
    corners: Corners


@dataclass(frozen=True, slots=True, kw_only=True)
class Sights:
    """All that a capture's views show.

    Attributes:
        capture: whose views they are.
        width, height: of all pictures, px.
        seen: the views that can be used.
        aside: names of those that can't, with reasons.
    """

    capture: Capture
    width: int
    height: int
    seen: tuple[Sight, ...]
    aside: tuple[tuple[str, str], ...]

    @property
    def q_rad(self) -> Array:
        """[V, 7] joints of the views that can be used, as read."""
        return np.array([sight.view.q_rad for sight in self.seen])

    @property
    def corners(self) -> tuple[Corners, ...]:
        """Of the views that can be used."""
        return tuple(sight.corners for sight in self.seen)


def look_at(capture: Capture, *, least: int = VIEWS_MIN) -> Sights:
    """Find the board in every view that is kept.

    Raises:
        SpecError: a picture that is damaged or of another size, or fewer than `least` views that can be used.
    """
    seen, aside, size = [], [], None
    for view in capture.kept:
        picture = read_picture(capture, view)
        if size not in (None, picture.shape[:2]):
            raise SpecError(
                f"view {view.name} of {capture.folder} is {_size(picture.shape[:2])} px, those before it are "
                f"{_size(size)} px: another camera, or another mode of it; keep one capture to one mode"
            )
        size = picture.shape[:2]
        try:
            _check_still(view)
            seen.append(Sight(view=view, corners=find(picture, capture.board)))
        except SpecError as error:
            aside.append((view.name, str(error)))
    if len(seen) < least or size is None:
        raise SpecError(_too_few(capture, len(seen), least, aside))
    return Sights(capture=capture, width=size[1], height=size[0], seen=tuple(seen), aside=tuple(aside))


def with_corners(sights: Sights, corners: Sequence[Corners], *, least: int = VIEWS_MIN) -> Sights:
    """The same views with fewer corners; those with too few are set aside.

    Raises:
        SpecError: fewer than `least` views are left.
    """
    seen, aside = [], list(sights.aside)
    for sight, left in zip(sights.seen, corners, strict=True):
        if len(left.ids) < CORNERS_MIN:
            lost = len(sight.corners.ids) - len(left.ids)
            aside.append(
                (
                    sight.view.name,
                    f"{lost} of {len(sight.corners.ids)} corners lie where no flat board has them; is something before "
                    "the board, is it bent, or does the light shine on it?",
                )
            )
        else:
            seen.append(replace(sight, corners=left))
    if len(seen) < least:
        raise SpecError(_too_few(sights.capture, len(seen), least, aside))
    return replace(sights, seen=tuple(seen), aside=tuple(aside))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _check_still(view: View) -> None:
    fastest = int(np.argmax(np.abs(view.dq_rad_s)))
    if abs(view.dq_rad_s[fastest]) > STILL_RAD_S:
        raise SpecError(
            f"the arm was moving: joint {fastest + 1} at {view.dq_rad_s[fastest]:.3g} rad/s, bound {STILL_RAD_S:g}; "
            "wait longer before the picture is taken"
        )
    if view.q_after_rad is not None:
        moved = np.abs(view.q_after_rad - view.q_rad)
        worst = int(np.argmax(moved))
        if moved[worst] > MOVED_RAD:
            raise SpecError(
                f"the arm moved while the picture was taken: joint {worst + 1} by {moved[worst]:.2g} rad, bound "
                f"{MOVED_RAD:g}; wait longer before the picture is taken"
            )


def _too_few(capture: Capture, seen: int, least: int, aside: Sequence[tuple[str, str]]) -> str:
    dropped = len(capture.views) - len(capture.kept)
    words = f"{capture.folder}: {seen} of {len(capture.views)} views can be used, at least {least} must be"
    words += f"; {dropped} were dropped" if dropped else ""
    reasons: dict[str, list[str]] = {}
    for name, why in aside:
        reasons.setdefault(why, []).append(name)
    told = [f"{', '.join(names)}: {why}" for why, names in reasons.items()]
    return "; ".join([words, *told]) if told else f"{words}; take more views"


def annotated(picture: Picture, corners: Corners | None, words: str) -> Picture:
    """A picture with its corners marked, and words below them."""
    shown = picture.copy()
    if corners is not None:
        for corner, (x, y) in zip(corners.ids, corners.pixels):
            place = round(float(x)), round(float(y))
            cv2.drawMarker(shown, place, (255, 0, 0), cv2.MARKER_CROSS, 9, 1)
            cv2.putText(shown, str(corner), (place[0] + 4, place[1] - 4), cv2.FONT_HERSHEY_PLAIN, 0.7, (0, 160, 0), 1)
    foot = np.full((18, shown.shape[1], 3), 255, np.uint8)
    cv2.putText(foot, words, (4, 13), cv2.FONT_HERSHEY_PLAIN, 0.9, (0, 0, 0), 1)
    return np.vstack([shown, foot])
