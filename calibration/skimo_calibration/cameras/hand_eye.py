"""Hand-eye calibration: where a camera sits on the flange or at the base, and what the joints' encoders are off.

A closed form starts a bundle adjustment (`bundle`) of camera, board, joint offsets, lens and the joints' noise in every
view. Judged is what the fit didn't see

    hold-out    the fit is made without a fifth of the views; camera, board, offsets and lens are then kept, and the
                corners of these views predicted from their joints alone
    scatter     the fit is made anew from views drawn with replacement
    scale       the board's size is freed once: robot and camera must agree about it

What one board can't tell. An offset of joint 1 turns the whole arm about the base's z: it merges with the pose of what
stands at the base (the board, or the camera). One of joint 7 turns all that the flange bears: it merges with the pose
of that. Both then stay where they are known from (0, or the rig's), and the poses make up for them, so that flange and
camera agree about everything they see; only the base's own heading and the flange's own turn stay as the encoders have
them. A second board, or a second camera on the other mount, leaves them just as open, unless where it stands is known
in the base's or the flange's own coordinates. Touching points known in the base frame fixes joint 1, and with a tip
known in the flange's frame (off joint 7's axis) joint 7 (`joints`).
What the arm's model has not (sag, lengths that are off) lands in the joints' noise, and shows in hold-out and scatter.

Frames as in skimo_core.domain.rig; units m, rad, px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.rig_file import OFFSET_MAX_RAD
from skimo_core.domain.robot import RobotLimits

from ..rigid import difference
from .board import Board, Corners
from .bundle import Fit, Prior, fit
from .camera import Intrinsics
from .consistency import check_consistent, check_scale, check_spread
from .intrinsics import CameraFit, board_poses
from .projection import Guess, Seen, predict, seen_of

Mask = npt.NDArray[np.bool_]
SAME_VIEWS = 0.1
"""Weight of a lens that was fitted to these very corners: they are not to count twice."""
UNTOLD = 0.5
"""An offset whose standard deviation the views leave above this share of the prior's merges with something else."""
JOINT_NOISE_MAX_RAD = 0.006
CONDITION_FLOOR = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class HandEyeConfig:
    """How to calibrate.

    Attributes:
        offset_sigma_rad: how far encoders may be off before anything is known (standard deviation); 0: not at all.
        scale_bound: how far the board's size may be from what robot and camera make of it.
        folds: into how many parts the views are divided for the hold-out.
        repeats: fits to views drawn anew, for the scatter.
    """

    offset_sigma_rad: float = 0.05
    scale_bound: float = 0.01
    folds: int = 5
    repeats: int = 12

    def __post_init__(self) -> None:
        if not 0 <= self.offset_sigma_rad <= OFFSET_MAX_RAD or self.folds < 2 or self.repeats < 2:
            raise SpecError(
                f"hand-eye: offset_sigma_rad {self.offset_sigma_rad:g} (0 to {OFFSET_MAX_RAD:g} rad), folds "
                f"{self.folds} (at least 2), repeats {self.repeats} (at least 2)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HandEye:
    """What came out.

    Attributes:
        mount: "flange" or "base": what bears the camera.
        camera: [4, 4] mount_from_camera; board: [4, 4] base_from_board, or flange_from_board.
        intrinsics: the lens as the views have it.
        offset_rad, offset_sigma_rad: [7] what the encoders read beyond the joints' angles, with standard deviations.
        told: [7] whether the views tell an offset; the others keep what was known before.
        position_sigma_m, turn_sigma_rad: of each coordinate of the camera's pose, offsets that aren't told being kept.
        pixel_sigma_px, joint_sigma_rad: noise of the corners and of the joints.
        fit_px: root of the mean squared distance between corners and prediction, each view's noise fitted.
        holdout_px, holdout_view_px: the same in views left out, [V] in each, its noise unknown.
        scatter_m, scatter_rad, offset_scatter_rad: root mean square over repeats of the camera's shift and turn, and
            standard deviation [7] of the offsets.
        scale, scale_sigma: the board's true size over its declared one, as robot and camera have it.
        condition: ratio of the best and the worst told combination of unknowns, each in its own standard deviations.
    """

    mount: str
    camera: Array
    board: Array
    intrinsics: Intrinsics
    offset_rad: Array
    offset_sigma_rad: Array
    told: tuple[bool, ...]
    position_sigma_m: float
    turn_sigma_rad: float
    pixel_sigma_px: float
    joint_sigma_rad: float
    fit_px: float
    holdout_px: float
    holdout_view_px: Array
    scatter_m: float
    scatter_rad: float
    offset_scatter_rad: Array
    scale: float
    scale_sigma: float
    condition: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """What is known of the lens before.

    Attributes:
        fitted: the camera's fit.
        same_views: whether it was made from the very views that are calibrated with.
    """

    fitted: CameraFit
    same_views: bool


def calibrate_hand_eye(
    limits: RobotLimits,
    board: Board,
    corners: Sequence[Corners],
    q_rad: Array,
    mount: str,
    lens: Lens,
    rng: np.random.Generator,
    *,
    config: HandEyeConfig | None = None,
    known_offset_rad: Array | None = None,
) -> HandEye:
    """Calibrate a camera on its mount, and the arm's joints with it.

    Args:
        corners, q_rad: of each view: the board's corners, and the joints [V, 7] as their encoders read them.
        known_offset_rad: [7] offsets where the search begins; those that the views can't tell are kept (None: 0).

    Raises:
        SpecError: views that are too similar, a board of another size, joints or mount that don't fit what the camera
            saw, offsets or noise that no arm in order has; says what to change.
    """
    config = config or HandEyeConfig()
    check_spread(limits, q_rad)
    known = np.zeros(limits.joints) if known_offset_rad is None else known_offset_rad
    poses = board_poses(lens.fitted.intrinsics, board, corners)
    start = check_consistent(limits, mount, q_rad - known, poses)
    seen = seen_of(board, corners, q_rad, mount)
    guess = Guess(
        camera=start.camera,
        board=start.board,
        offset_rad=known,
        lens=lens.fitted.intrinsics.lens,
        noise_rad=np.zeros_like(q_rad),
        scale=start.scale,
    )
    prior = Prior(
        lens=guess.lens,
        lens_information=lens.fitted.information * (SAME_VIEWS if lens.same_views else 1.0),
        offset_rad=known,
        offset_sigma_rad=np.full(limits.joints, config.offset_sigma_rad),
        scale_sigma=0.3,
    )
    free = fit(limits, seen, guess, prior)
    _check_arm(free)
    scale_sigma = float(np.sqrt(free.covariance[-1, -1]))
    check_scale(free.guess.scale, scale_sigma, config.scale_bound)
    sigma = np.sqrt(np.diag(free.covariance))[12 : 12 + limits.joints]
    told = sigma < UNTOLD * config.offset_sigma_rad
    prior = replace(prior, scale_sigma=0.0, offset_sigma_rad=np.where(told, config.offset_sigma_rad, 0.0))
    whole = fit(
        limits, seen, replace(free.guess, scale=1.0, offset_rad=np.where(told, free.guess.offset_rad, known)), prior
    )
    _check_arm(whole)
    judged = _judged(limits, seen, whole, prior, lens.fitted.intrinsics, config, rng)
    return replace(judged, scale=free.guess.scale, scale_sigma=scale_sigma)


def _judged(
    limits: RobotLimits,
    seen: Seen,
    whole: Fit,
    prior: Prior,
    intrinsics: Intrinsics,
    config: HandEyeConfig,
    rng: np.random.Generator,
) -> HandEye:
    """Hold-out, scatter and standard deviations of a fit to all views."""
    told = prior.offset_sigma_rad > 0
    prior = replace(prior, pixel_sigma_px=whole.pixel_sigma_px, joint_sigma_rad=whole.joint_sigma_rad, fixed_noise=True)
    holdout = _holdout_squares(limits, seen, whole, prior, config.folds, rng)
    counts = seen.weight.sum(axis=1)
    repeats = _repeats(limits, seen, whole, prior, config.repeats, rng)
    apart = np.array([difference(whole.guess.camera, other.camera) for other in repeats])
    offsets = np.array([other.offset_rad for other in repeats])
    variance = np.diag(whole.covariance)
    joints = slice(12, 12 + limits.joints)
    fit_px = np.sqrt((_squares(limits, seen, whole.guess)).sum() / counts.sum())
    return HandEye(
        mount=seen.mount,
        camera=whole.guess.camera,
        board=whole.guess.board,
        intrinsics=intrinsics.with_lens(np.where(prior.lens == 0, 0.0, whole.guess.lens)),  # kept out of the fit
        offset_rad=np.where(told, whole.guess.offset_rad, prior.offset_rad),
        offset_sigma_rad=np.where(told, np.sqrt(variance[joints]), config.offset_sigma_rad),
        told=tuple(bool(x) for x in told),
        position_sigma_m=float(np.sqrt(variance[:3].mean())),
        turn_sigma_rad=float(np.sqrt(variance[3:6].mean())),
        pixel_sigma_px=whole.pixel_sigma_px,
        joint_sigma_rad=whole.joint_sigma_rad,
        fit_px=float(fit_px),
        holdout_px=float(np.sqrt(holdout.sum() / counts.sum())),
        holdout_view_px=np.sqrt(holdout / counts),
        scatter_m=float(np.sqrt((apart[:, 0] ** 2).mean())),
        scatter_rad=float(np.sqrt((apart[:, 1] ** 2).mean())),
        offset_scatter_rad=offsets.std(axis=0, ddof=1),
        scale=whole.guess.scale,
        scale_sigma=0.0,
        condition=_condition(whole.covariance, told),
    )


def _squares(limits: RobotLimits, seen: Seen, guess: Guess) -> Array:
    """[V] sums of squared distances between corners and prediction, px^2."""
    error = (predict(limits, seen, guess) - seen.pixels) * seen.weight[..., None]
    return (error**2).sum(axis=(1, 2))


def _holdout_squares(
    limits: RobotLimits, seen: Seen, whole: Fit, prior: Prior, folds: int, rng: np.random.Generator
) -> Array:
    """[V] the same, each view predicted by a fit that didn't see it."""
    views = len(seen.q_rad)
    squares = np.empty(views)
    for left_out in np.array_split(rng.permutation(views), folds):
        rest = np.setdiff1d(np.arange(views), left_out)
        guess = fit(limits, seen.of(rest), replace(whole.guess, noise_rad=whole.guess.noise_rad[rest]), prior).guess
        judged = seen.of(left_out)
        squares[left_out] = _squares(limits, judged, replace(guess, noise_rad=np.zeros_like(judged.q_rad)))
    return squares


def _repeats(
    limits: RobotLimits, seen: Seen, whole: Fit, prior: Prior, repeats: int, rng: np.random.Generator
) -> list[Guess]:
    """Fits to views drawn with replacement."""
    views = len(seen.q_rad)
    drawn = rng.integers(views, size=(repeats, views))
    return [
        fit(limits, seen.of(row), replace(whole.guess, noise_rad=whole.guess.noise_rad[row]), prior).guess
        for row in drawn
    ]


def _condition(covariance: Array, told: Mask) -> float:
    """Of the correlations between camera, board and the offsets that are told."""
    used = np.concatenate([np.arange(12), 12 + np.flatnonzero(told)])
    inner = covariance[np.ix_(used, used)]
    scale = 1 / np.sqrt(np.maximum(np.diag(inner), CONDITION_FLOOR**2))
    values = np.linalg.eigvalsh(inner * np.outer(scale, scale))
    return float(np.sqrt(values[-1] / max(values[0], CONDITION_FLOOR)))


def _check_arm(whole: Fit) -> None:
    worst = int(np.argmax(np.abs(whole.guess.offset_rad)))
    if abs(whole.guess.offset_rad[worst]) > OFFSET_MAX_RAD:
        raise SpecError(
            f"joint {worst + 1} would be off by {whole.guess.offset_rad[worst]:.3f} rad, bound {OFFSET_MAX_RAD:g}; is "
            "this robot's model the right one, and the arm in order?"
        )
    if whole.joint_sigma_rad > JOINT_NOISE_MAX_RAD:
        raise SpecError(
            f"the views contradict each other: joints would scatter by {whole.joint_sigma_rad:.4f} rad (standard "
            f"deviation), bound {JOINT_NOISE_MAX_RAD:g}; were camera or board moved or loose, or joints read at "
            "another time than the pictures were taken?"
        )
