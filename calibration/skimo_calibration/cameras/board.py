"""The board that cameras are calibrated with: a chessboard with a marker in each white square (ChArUco), as data.

Promises
  - A sheet that is written has its true size, says in words what it is, and bears a ruler to check the printer with.
  - `find` returns corners to rely on, or says why it can't: no markers, another board, too few corners, blur.

Frame: origin at the board's outer corner next to marker 0, x along its columns, y along its rows, z into the sheet (as
OpenCV has it): a reader sees x to the right and y down. Units m, px.

S. Garrido-Jurado et al., "Automatic generation and detection of highly reliable fiducial markers under occlusion",
Pattern Recognition 47(6), 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.tables import Table

Picture = npt.NDArray[np.uint8]
DICTIONARIES = ("DICT_4X4_50", "DICT_4X4_250", "DICT_5X5_50", "DICT_5X5_100", "DICT_5X5_250", "DICT_6X6_250",
                "DICT_APRILTAG_36h11")  # fmt: skip
SQUARE_MAX_M = 0.5
"""A larger square is a mistake of units: millimetres."""
CORNERS_MIN = 8
"""Fewer corners give no pose to rely on."""
BLUR_MAX_PX, BLUR_MAX_SQUARES = 1.5, 0.04
"""A blurred edge, as the standard deviation of a Gaussian, beyond the greater of these: the corners then wander."""
LAYOUT_MAX_SQUARES = 0.25
"""How far corners may lie from where a flat board of that layout has them; a lens bends them by less."""
QUIET_M = 0.005
"""White margin around a board, without which its outer markers are lost."""
EDGE_NEAR, EDGE_REACH = 0.13, 0.35
"""How far beside an edge it is looked at, in squares: within the white rim around a marker, and deep in the black."""
EDGE_SAMPLES, EDGE_LINES = 57, 9
GAUSSIAN_SLOPE = float(np.sqrt(2 * np.pi))
"""A step, blurred by a Gaussian, has its height / (this times the standard deviation) as steepest slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A ChArUco board.

    Attributes:
        columns, rows: squares across and down.
        square_m, marker_m: sides of a square and of the marker in it.
        dictionary: OpenCV's name of the markers' dictionary, one of `DICTIONARIES`.
    """

    columns: int
    rows: int
    square_m: float
    marker_m: float
    dictionary: str

    def __post_init__(self) -> None:
        if self.dictionary not in DICTIONARIES:
            raise SpecError(f"no dictionary {self.dictionary!r}; there are {', '.join(DICTIONARIES)}")
        if min(self.columns, self.rows) < 3:
            raise SpecError(f"a board has at least 3 columns and rows, not {self.columns} x {self.rows}")
        if not 0 < self.marker_m < self.square_m:
            raise SpecError(
                f"a board's markers ({self.marker_m:g} m) must be above 0 and smaller than its squares "
                f"({self.square_m:g} m)"
            )
        if self.square_m > SQUARE_MAX_M:
            raise SpecError(
                f"a board's squares of {self.square_m:g} m exceed {SQUARE_MAX_M:g} m; millimetres? Give metres"
            )
        have, need = len(_dictionary(self.dictionary).bytesList), self.columns * self.rows // 2
        if need > have:
            raise SpecError(
                f"a board of {self.columns} x {self.rows} squares needs {need} markers, and {self.dictionary} has "
                f"{have}; take a larger dictionary"
            )

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height."""
        return self.columns * self.square_m, self.rows * self.square_m

    @property
    def words(self) -> str:
        """In a line, as it stands on the sheet."""
        return (
            f"ChArUco {self.columns} x {self.rows}, square {self.square_m * 1e3:g} mm, marker {self.marker_m * 1e3:g} "
            f"mm, {self.dictionary}"
        )

    @property
    def points_m(self) -> Array:
        """[C, 3] where the inner corners are, by their id."""
        return np.asarray(_board(self).getChessboardCorners(), np.float64)

    @property
    def data(self) -> dict[str, object]:
        """As it stands in a file."""
        return {key: getattr(self, key) for key in ("columns", "rows", "square_m", "marker_m", "dictionary")}


@lru_cache(maxsize=32)
def _dictionary(name: str) -> Any:
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))


@lru_cache(maxsize=32)
def _board(board: Board) -> Any:
    return cv2.aruco.CharucoBoard(
        (board.columns, board.rows), board.square_m, board.marker_m, _dictionary(board.dictionary)
    )


@lru_cache(maxsize=32)
def _detector(board: Board) -> Any:
    return cv2.aruco.CharucoDetector(_board(board))


A4_BOARD = Board(columns=7, rows=9, square_m=0.025, marker_m=0.0175, dictionary="DICT_5X5_100")
"""What fits on a sheet of A4 with its margins: 175 x 225 mm."""


def read_board(table: Table) -> Board:
    """Read a board's table.

    Raises:
        SpecError: a key that is missing, unknown or wrong, a size that can't be.
    """
    board = Board(
        columns=table.whole("columns", low=3),
        rows=table.whole("rows", low=3),
        square_m=table.number("square_m", positive=True),
        marker_m=table.number("marker_m", positive=True),
        dictionary=table.choice("dictionary", DICTIONARIES),
    )
    table.refuse_others()
    return board


# --- drawing --------------------------------------------------------------------------------------------------------


def draw(board: Board, *, square_px: int = 80, margin_m: float = QUIET_M) -> tuple[Picture, float, float]:
    """Draw a board on white.

    Returns:
        The picture, grey, and its width and height in m, which the margin belongs to.
    """
    margin_px = round(margin_m / board.square_m * square_px)
    inner = _board(board).generateImage((board.columns * square_px, board.rows * square_px), None, 0, 1)
    sheet = np.pad(np.asarray(inner, np.uint8), margin_px, constant_values=255)
    scale = board.square_m / square_px
    return sheet, sheet.shape[1] * scale, sheet.shape[0] * scale


# --- finding --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Corners:
    """What was found of a board in a picture.

    Attributes:
        ids: [N] which inner corners.
        pixels: [N, 2] where, to a fraction of a pixel.
        blur_px: standard deviation of a Gaussian that blurs the board's edges as they are blurred.
        square_px: how large a square appears.
    """

    ids: npt.NDArray[np.int64]
    pixels: Array
    blur_px: float
    square_px: float


def find(picture: Picture, board: Board) -> Corners:
    """Find a board's inner corners in a picture, grey [H, W] or RGB [H, W, 3].

    Raises:
        SpecError: none or too few are in sight, they are those of another board, or it is blurred.
    """
    grey = picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    found, ids, marker_corners, marker_ids = _detector(board).detectBoard(grey)
    if marker_ids is None or len(marker_ids) == 0:
        raise SpecError(_no_markers(grey, board))
    _check_markers(board, marker_ids.ravel(), np.array(marker_corners, np.float64).reshape(-1, 4, 2))
    if ids is None or found is None or len(ids) < CORNERS_MIN:
        raise SpecError(
            f"{0 if ids is None else len(ids)} corners of the board are in sight, at least {CORNERS_MIN} must be; "
            "bring more of it into view, without glare or anything in front of it"
        )
    rows, columns = np.divmod(ids.ravel(), board.columns - 1)
    if len(set(rows.tolist())) < 2 or len(set(columns.tolist())) < 2:
        raise SpecError(
            f"the {len(ids)} corners in sight lie in one line, which fixes no pose; bring more of the board into view"
        )
    order = np.argsort(ids.ravel())
    ids, pixels = ids.ravel()[order].astype(np.int64), found.reshape(-1, 2)[order].astype(np.float64)
    _check_layout(board, ids, pixels)
    square_px = _square_px(board, ids, pixels)
    corners = Corners(ids=ids, pixels=pixels, blur_px=edge_blur_px(grey, board, ids, pixels), square_px=square_px)
    bound_px = max(BLUR_MAX_PX, BLUR_MAX_SQUARES * square_px)
    if not corners.blur_px <= bound_px:
        raise SpecError(
            f"the board is blurred: its edges are {corners.blur_px:.1f} px wide (standard deviation), bound "
            f"{bound_px:.1f} px; let the arm come to rest, focus the lens, or give more light"
        )
    return corners


def _no_markers(grey: Picture, board: Board) -> str:
    """Why nothing was found; another dictionary is looked for only here."""
    if grey.max(initial=0) - int(grey.min(initial=255)) < 30:
        return "the picture is empty (one grey all over); is the lens covered, or the light off?"
    for name in DICTIONARIES:
        markers = cv2.aruco.ArucoDetector(_dictionary(name)).detectMarkers(grey)[1]
        if name != board.dictionary and markers is not None and len(markers) >= 4:
            return (
                f"no marker of {board.dictionary} is in sight, but {len(markers)} of {name}: it is another board; give "
                "the one that was printed (its data stand on the sheet)"
            )
    mirrored = cv2.aruco.ArucoDetector(_dictionary(board.dictionary)).detectMarkers(np.ascontiguousarray(grey[:, ::-1]))
    if mirrored[1] is not None and len(mirrored[1]) >= 4:
        return (
            "the board is in sight, but mirrored; turn off the flip in the camera's driver, or don't look by a mirror"
        )
    return "no board is in sight; point the camera at it, in focus, at rest, with enough light and without glare"


def _check_markers(board: Board, ids: npt.NDArray[Any], corners: Array) -> None:
    """Refuse markers that this board doesn't have, or that stand elsewhere on it."""
    known = np.asarray(_board(board).getIds()).ravel()
    strange = sorted(set(ids.tolist()) - set(known.tolist()))
    if strange:
        raise SpecError(
            f"marker {strange[0]} is in sight, and a board of {board.columns} x {board.rows} squares has markers 0 to "
            f"{known.max()} only; give the board that was printed (its data stand on the sheet)"
        )
    if len(ids) >= 2:
        places = np.asarray(_board(board).getObjPoints(), np.float64)[ids].reshape(-1, 3)[:, :2]
        _check_flat(board, places, corners.reshape(-1, 2), f"{len(ids)} markers")


def _check_layout(board: Board, ids: npt.NDArray[np.int64], pixels: Array) -> None:
    _check_flat(board, board.points_m[ids][:, :2], pixels, f"{len(ids)} corners")


def _check_flat(board: Board, places_m: Array, pixels: Array, what: str) -> None:
    """Refuse points that no flat board of this layout can have brought there."""
    homography, _ = cv2.findHomography(pixels, places_m)
    if homography is not None:
        seen = cv2.perspectiveTransform(pixels[:, None], homography)[:, 0]
        off = float(np.median(np.linalg.norm(seen - places_m, axis=1))) / board.square_m
        if off <= LAYOUT_MAX_SQUARES:
            return
    raise SpecError(
        f"{what} in sight don't lie as on a board of {board.columns} x {board.rows} squares; give the board that was "
        "printed (its data stand on the sheet)"
    )


def _square_px(board: Board, ids: npt.NDArray[np.int64], pixels: Array) -> float:
    pairs = np.concatenate([_neighbours(board, ids, step) for step in (1, board.columns - 1)])
    if not len(pairs):
        return float(np.ptp(pixels, axis=0).max() / max(board.columns, board.rows))
    return float(np.median(np.linalg.norm(pixels[pairs[:, 1]] - pixels[pairs[:, 0]], axis=1)))


def _neighbours(board: Board, ids: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.int64]:
    """[P, 2] rows of corners that lie next to each other along a row (step 1) or a column (step columns - 1)."""
    row_of = {int(corner): row for row, corner in enumerate(ids)}
    across = board.columns - 1
    pairs = [
        (row, row_of[corner + step])
        for corner, row in row_of.items()
        if corner + step in row_of and (step != 1 or corner % across != across - 1)
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def edge_blur_px(grey: Picture, board: Board, ids: npt.NDArray[np.int64], pixels: Array) -> float:
    """How blurred the edges between neighbouring corners are: the worse of the board's two directions.

    The profile across an edge is averaged along it; a Gaussian blurs a step of its height to its steepest slope. The
    height is twice what the edge itself rises above the black square: however blurred, half a step lies there.
    NaN if no two neighbours are in sight.
    """
    widths = [_edge_blur_px(grey, pixels, _neighbours(board, ids, step)) for step in (1, board.columns - 1)]
    seen = [float(np.median(width)) for width in widths if len(width)]
    return max(seen) if seen else float("nan")


def _edge_blur_px(grey: Picture, pixels: Array, pairs: npt.NDArray[np.int64]) -> Array:
    if not len(pairs):
        return np.empty(0)
    start, way = pixels[pairs[:, 0]], pixels[pairs[:, 1]] - pixels[pairs[:, 0]]
    length = np.linalg.norm(way, axis=1)
    normal = np.stack([-way[:, 1], way[:, 0]], axis=1)
    across = np.linspace(-1, 1, EDGE_SAMPLES) * EDGE_REACH
    along = np.linspace(0.3, 0.7, EDGE_LINES)[:, None, None]
    places = start[:, None, None] + along * way[:, None, None] + across[:, None] * normal[:, None, None]
    flat = places.reshape(-1, EDGE_SAMPLES, 2).astype(np.float32)
    taken = cv2.remap(grey, flat[..., 0], flat[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    profile = taken.reshape(len(pairs), EDGE_LINES, EDGE_SAMPLES).astype(np.float64).mean(axis=1)
    near = np.abs(across) <= EDGE_NEAR
    turned = profile[:, near][:, 0] > profile[:, near][:, -1]
    profile[turned] = profile[turned, ::-1]  # the black square first: the white one holds a marker
    black = profile[:, across < -2 * EDGE_NEAR].mean(axis=1)
    height = 2 * (profile[:, EDGE_SAMPLES // 2] - black)
    slope = np.diff(profile[:, near], axis=1).max(axis=1) / ((across[1] - across[0]) * length)
    return height / np.maximum(GAUSSIAN_SLOPE * slope, 1e-9)
