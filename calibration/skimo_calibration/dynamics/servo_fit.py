"""Servo gains and command delay, from how far the arm lies behind the reference that it was sent.

    tau(t) - gravity = kp e + kv e' + a M(q) ddq_d + b ddq_d + c sign(dq_d) + o,   e = q_d(t - late) - q(t)
per joint; M ddq_d and sign(dq_d) are what a feed-forward adds, b what a servo's own sampling does. The delay is one for
all joints, and what makes the residuals least: a reference that is a millisecond off asks for several Nm. A viscous
feed-forward can't be told from a delay of it over kp, and is taken as none: 0.2 Nm s/rad over 2000 Nm/rad are 0.1 ms.

Gains are found by instrumental variables (two-stage least squares): the tracking error is noisy where gains multiply
it, which least squares would take for softness, and the reference's own terms are not. The servo's torque is read some
milliseconds late (`plant_fit`'s lag), within which kv can't be told from kp times that: its interval says so. What the
log tells badly is drawn to the prior, as both intervals say.
Units rad, s, Nm, Nm/rad, Nm s/rad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from .estimates import DELAY, KP, KV, Estimate, estimate
from .flange_load import load_regressor
from .plant_fit import COULOMB_WIDTH_RAD_S, Links
from .regress import BLOCK_S, NORMAL_95, half_widths, least
from .signals import Signals

LATE_MAX_S, LATE_COARSE_S, LATE_FINE_S = 0.12, 0.004, 2e-5
UNSURE_LAG_S = 5e-4
"""How well the torque's lag is known."""
UNSURE_VISCOUS_NM_S = 0.2
"""A viscous feed-forward that nobody told of, for the delay's interval."""
PRIOR_SHARE = 0.5
"""Of a gain's prior: how far off it may well be."""
TINY = 1e-3
INERTIA, FIRST_MOMENT = 0, 3
"""Which of the load's parameters (flange_load) serve as instruments: mass, and its height on the flange."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServoFit:
    """The servos as a log tells them.

    Attributes:
        kp, kv: [J] as a model takes them.
        late_s: how much later than the log's reference the arm acts.
        estimates: with verdicts.
    """

    kp: Array
    kv: Array
    late_s: float
    estimates: tuple[Estimate, ...]


def fit_servo(
    pieces: Sequence[Signals],
    links: Links,
    limits: RobotLimits,
    lag_s: float,
    prior: tuple[Array, Array],
    rng: np.random.Generator,
) -> ServoFit | None:
    """Estimate gains and delay from pieces that hold a reference; None if none does.

    Args:
        prior: kp and kv, each [J], that are taken for what the log doesn't tell.
        lag_s: how much later torques are read than positions.
        rng: draws the bootstrap's blocks.
    """
    parts = [_Terms(piece, links, limits) for piece in pieces if piece.desired is not None]
    if not parts:
        return None
    late_s = _delay(parts, lag_s)
    gains, half = _gains(parts, late_s, lag_s, rng)
    moved, _ = _gains(parts, late_s, lag_s + UNSURE_LAG_S, None)
    half = half + np.abs(moved - gains)
    names = [f"joint {j + 1}" for j in range(limits.joints)]
    of_joints = [
        estimate(kind, name, value, width)
        for kind, row, widths in zip((KP, KV), gains, half)
        for name, value, width in zip(names, row, widths)
    ]
    width_s = _delay_width(parts, late_s, lag_s, gains[0], rng)
    kp, kv = (_drawn(g, h, p) for g, h, p in zip(gains, half, prior))
    return ServoFit(kp=kp, kv=kv, late_s=late_s, estimates=(*of_joints, estimate(DELAY, "", late_s, width_s)))


def _drawn(value: Array, half: Array, prior: Array) -> Array:
    """Estimates [J] and their prior, each weighted by its variance; above 0."""
    trust = (NORMAL_95 * PRIOR_SHARE * prior / np.maximum(half, TINY)) ** 2
    return np.maximum((trust * value + prior) / (trust + 1.0), TINY)


class _Terms:
    """A piece's filtered terms; those of the reference are functions of its own time, and shift with the delay."""

    def __init__(self, piece: Signals, links: Links, limits: RobotLimits) -> None:
        assert piece.desired is not None
        q_d, dq_d, ddq_d = piece.desired
        still, smooth, slope = np.zeros_like(q_d), piece.smooth, piece.slope
        weight = links.torque(q_d, still, still)
        inertia = links.torque(q_d, still, ddq_d) - weight
        sign = np.tanh(dq_d / COULOMB_WIDTH_RAD_S)
        coriolis = links.torque(q_d, dq_d, still) - weight
        load = load_regressor(limits, q_d, dq_d, ddq_d)
        loads = [load[:, :, INERTIA], load[:, :, FIRST_MOMENT]]
        self.piece = piece
        self.q, self.dq = smooth(piece.q_rad), smooth(piece.dq_rad_s)
        self.tau = smooth(piece.tau_nm - links.torque(piece.q_rad, still, still))
        self.q_d, self.dq_d = smooth(q_d), smooth(dq_d)
        self.added = [smooth(v) for v in (inertia, ddq_d, sign)]
        others = (slope(sign), slope(inertia), slope(ddq_d), coriolis, dq_d, *loads, *(slope(v) for v in loads))
        self.instruments = [*self.added, *(smooth(v) for v in others)]
        begin = round(LATE_MAX_S * piece.rate_hz)
        self.rows = slice(piece.rows.start + begin, piece.rows.stop, piece.rows.step)
        self.block = np.floor((piece.t_s[self.rows] - piece.t_s[0]) / BLOCK_S).astype(np.int64)

    def at(self, late_s: float, lag_s: float) -> tuple[Array, Array]:
        """Regressors [R, J, 6] and torques [R, J]."""
        piece, rows = self.piece, self.rows
        e = piece.shifted(self.q_d, late_s) - self.q
        de = piece.shifted(self.dq_d, late_s) - self.dq
        added = [piece.shifted(v, late_s) for v in self.added]
        x = np.stack([e, de, *added, np.ones_like(e)], axis=2)[rows]
        return x, piece.shifted(self.tau, -lag_s)[rows]

    def instruments_at(self, late_s: float) -> Array:
        """[R, J, I]."""
        columns = [self.piece.shifted(v, late_s) for v in self.instruments]
        return np.stack([*columns, np.ones_like(columns[0])], axis=2)[self.rows]


def _delay(parts: Sequence[_Terms], lag_s: float) -> float:
    """The delay that leaves least of the torques, all joints together."""

    def cost(late_s: float) -> float:
        terms = [part.at(late_s, lag_s) for part in parts]
        x, y = (np.concatenate(rows) for rows in zip(*terms))
        left = [np.linalg.lstsq(x[:, j], y[:, j], rcond=None)[1] for j in range(x.shape[1])]
        return float(sum(np.log(max(float(r[0]), 1e-12)) for r in left if len(r)))

    coarse = np.arange(0.0, LATE_MAX_S, LATE_COARSE_S)
    near_s = float(coarse[np.argmin([cost(late_s) for late_s in coarse])])
    return max(0.0, least(cost, near_s - LATE_COARSE_S, near_s + LATE_COARSE_S, LATE_FINE_S))


def _gains(
    parts: Sequence[_Terms], late_s: float, lag_s: float, rng: np.random.Generator | None
) -> tuple[Array, Array]:
    """kp and kv [2, J], and half of their 95 % intervals' widths."""
    terms = [part.at(late_s, lag_s) for part in parts]
    x, y = (np.concatenate(rows) for rows in zip(*terms))
    z = np.concatenate([part.instruments_at(late_s) for part in parts])
    blocks = _blocks(parts)
    joints = x.shape[1]
    gains, half = np.zeros((2, joints)), np.zeros((2, joints))
    for j in range(joints):
        foreseen = z[:, j] @ np.linalg.lstsq(z[:, j], x[:, j], rcond=None)[0]
        found = np.linalg.lstsq(foreseen, y[:, j], rcond=None)[0]
        noise = np.std(y[:, j] - x[:, j] @ found)
        gains[:, j] = found[:2]
        if rng is not None:
            spread = noise * np.sqrt(np.diag(np.linalg.pinv(foreseen.T @ foreseen)))
            half[:, j] = np.maximum(NORMAL_95 * spread, half_widths(foreseen, y[:, j], blocks, rng, _least))[:2]
    return gains, half


def _blocks(parts: Sequence[_Terms]) -> Array:
    """[R] which stretch of time each row is from, over all pieces."""
    blocks, begin = [], 0
    for part in parts:
        blocks.append(part.block + begin)
        begin += int(part.block.max(initial=-1)) + 1
    return np.concatenate(blocks)


def _least(normal: Array, side: Array) -> Array:
    """The least-squares fit, whatever can't be told at 0."""
    return np.linalg.pinv(normal) @ side


def _delay_width(parts: Sequence[_Terms], late_s: float, lag_s: float, kp: Array, rng: np.random.Generator) -> float:
    """Half of the delay's 95 % interval's width: a shift of the reference, linearised, and what nobody told of."""
    terms = [part.at(late_s, lag_s) for part in parts]
    x, y = (np.concatenate(rows) for rows in zip(*terms))
    speed = np.concatenate([part.piece.shifted(part.dq_d, late_s)[part.rows] for part in parts])
    rows, sides = [], []
    for j in range(x.shape[1]):
        basis = np.linalg.qr(x[:, j])[0]
        shift, left = (v - basis @ (basis.T @ v) for v in (-kp[j] * speed[:, j], y[:, j]))
        noise = max(float(np.std(left)), 1e-12)
        rows.append(shift / noise)
        sides.append(left / noise)
    column, side, block = np.concatenate(rows)[:, None], np.concatenate(sides), np.tile(_blocks(parts), x.shape[1])
    half_s = max(NORMAL_95 / float(np.linalg.norm(column)), float(half_widths(column, side, block, rng, _least)[0]))
    return half_s + UNSURE_VISCOUS_NM_S / float(np.median(np.abs(kp)))
