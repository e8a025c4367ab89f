"""The arm's friction, rotors and payload by inverse-dynamics regression.

    tau = links(q, dq, ddq) + c sign(dq) + b dq + I ddq + o + Y(q, dq, ddq) p
with what is known of the links subtracted, all else linear (C. Gaz et al., RA-L 4(4), 2019; J. Swevers et al., IEEE
TRA 13(5), 1997): per joint Coulomb friction c, viscous b, the rotors' inertia I, a torque offset o; and the payload's
ten inertial parameters p at the flange. Both sides go through one zero-phase filter (`signals`). A joint that hardly
moves says nothing of friction: its rows are left out then. Torques may be read a little later than positions; by how
much is what makes the residual least. Units Nm, rad, s, kg, m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.robot import RobotLimits

from .estimates import (
    ARMATURE,
    CENTRE,
    DAMPING,
    FRICTION,
    INERTIA,
    MASS,
    OFFSET,
    Estimate,
    Kind,
    collinear,
    estimate,
    too_wide,
)
from .flange_load import PARAMETERS, POINT, inertia_about_centre, load_regressor, parameters
from .regress import BLOCK_S, Prior, Rows, Solution, least, solve
from .signals import Signals, near

COULOMB_WIDTH_RAD_S = 0.02
"""Over this speed the sign of friction changes; slower motion is left out anyhow."""
SLOW_RAD_S, AROUND_S = 0.05, 0.05
"""Rows of a joint are left out where it is slower than this, or was or will be within the second."""
LAG_MAX_S, LAG_FINE_S = 0.01, 1e-4
NO_PAYLOAD_KG = 0.02
MISSING_KG = 0.1
"""A payload that is lighter than nothing by more than this is a mistake about the hand."""
OWN: tuple[Kind, ...] = (FRICTION, DAMPING, ARMATURE, OFFSET)
REFITS = 4
FAR_SIGMAS, ALONE = 3.0, 1e3
"""From a prior; and how many times as wide one is that tells nothing."""


class Links(Protocol):
    """Inverse dynamics of what is known of the arm."""

    def torque(self, q_rad: Array, dq_rad_s: Array, ddq_rad_s2: Array) -> Array:
        """Torques [K, J], gravity included."""
        ...


def _zeros() -> Array:
    return np.zeros((3, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What the flange carries beside what the links' model has there; the centre in the flange's frame."""

    mass_kg: float
    centre_m: Array
    inertia_kg_m2: Array = field(default_factory=_zeros)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmDynamics:
    """The arm beyond its links, as a model takes it.

    Attributes:
        friction_nm, damping_nm_s, armature_kg_m2, offset_nm: [J].
        payload: None: nothing at the flange.
        lag_s: how much later torques are read than positions.
    """

    friction_nm: Array
    damping_nm_s: Array
    armature_kg_m2: Array
    offset_nm: Array
    payload: Carried | None = None
    lag_s: float = 0.0

    def torque(self, limits: RobotLimits, q_rad: Array, dq_rad_s: Array, ddq_rad_s2: Array) -> Array:
        """What it adds to the links' torques [K, J]."""
        own = self.friction_nm * np.tanh(dq_rad_s / COULOMB_WIDTH_RAD_S) + self.damping_nm_s * dq_rad_s
        own = own + self.armature_kg_m2 * ddq_rad_s2 + self.offset_nm
        if self.payload is None:
            return own
        values = parameters(self.payload.mass_kg, self.payload.centre_m, self.payload.inertia_kg_m2)
        return own + load_regressor(limits, q_rad, dq_rad_s, ddq_rad_s2) @ values


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantFit:
    """The arm's dynamics as a log tells them.

    Attributes:
        dynamics: as a model takes them.
        estimates: of everything, with verdicts.
        noise_nm: [J] what the model leaves of the torques it was fitted to.
        rows: how many samples it was fitted to.
    """

    dynamics: ArmDynamics
    estimates: tuple[Estimate, ...]
    noise_nm: Array
    rows: int


def fit_plant(
    pieces: Sequence[Signals],
    links: Links,
    limits: RobotLimits,
    prior: ArmDynamics,
    rng: np.random.Generator,
    *,
    payload: bool = True,
) -> PlantFit:
    """Estimate the arm's dynamics from pieces of log.

    Args:
        prior: what is taken before the log is looked at; what that doesn't tell stays near it. Where the log lies far
            from it, it is another arm's, and gives way.
        rng: draws the bootstrap's blocks.
        payload: whether the flange may carry something; where it is known not to, a model's errors can't pass for one.

    Raises:
        SpecError: too little motion; or the flange bears less than the model says.
    """
    parts = [_Columns(piece, links, limits) for piece in pieces]
    wide = _prior(prior)
    none = {} if payload else dict.fromkeys(range(limits.joints * len(OWN), len(wide.value)), 0.0)
    wide = _giving_way(parts, wide, none, limits.joints * len(OWN))
    lag_s = _best_lag(parts, wide, none)
    rows = _joined([part.rows(lag_s) for part in parts])
    return _judged(rows, limits.joints, wide, lag_s, rng, none)


def torque_errors(piece: Signals, links: Links, limits: RobotLimits, dynamics: ArmDynamics) -> Array:
    """[rows, J] what such dynamics leave of a piece's torques, Nm, both through the fit's filter."""
    motion = piece.q_rad, piece.dq_rad_s, piece.ddq_rad_s2
    left = piece.shifted(piece.tau_nm, -dynamics.lag_s) - links.torque(*motion) - dynamics.torque(limits, *motion)
    return piece.smooth(left)[piece.rows]


class _Columns:
    """A piece's filtered columns, formed once; only torques move with the lag."""

    def __init__(self, piece: Signals, links: Links, limits: RobotLimits) -> None:
        q, dq, ddq = piece.q_rad, piece.dq_rad_s, piece.ddq_rad_s2
        self._piece = piece
        self._known = piece.smooth(links.torque(q, dq, ddq))
        self._tau = piece.smooth(piece.tau_nm)
        sign = np.tanh(dq / COULOMB_WIDTH_RAD_S)
        self._own = np.stack([*(piece.smooth(v) for v in (sign, dq, ddq)), np.ones_like(q)], axis=2)
        self._load = piece.smooth(load_regressor(limits, q, dq, ddq))
        self._slow = near(np.abs(dq) < SLOW_RAD_S, round(AROUND_S * piece.rate_hz))

    def rows(self, lag_s: float) -> Rows:
        """The regression's rows, where joints move; torques read `lag_s` later belong to them."""
        piece, kept = self._piece, self._piece.rows
        joints = self._tau.shape[1]
        y = (piece.shifted(self._tau, -lag_s) - self._known)[kept]
        x = np.zeros((len(y), joints, joints * len(OWN) + len(PARAMETERS)))
        for joint in range(joints):
            x[:, joint, joint * len(OWN) : (joint + 1) * len(OWN)] = self._own[kept, joint]
        x[:, :, joints * len(OWN) :] = self._load[kept]
        moving = ~self._slow[kept]
        block = np.floor((piece.t_s[kept] - piece.t_s[0]) / BLOCK_S).astype(np.int64)
        group = np.broadcast_to(np.arange(joints), moving.shape)
        return Rows(
            x=x[moving], y=y[moving], group=group[moving], block=np.broadcast_to(block[:, None], moving.shape)[moving]
        )


def _joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several pieces; blocks keep apart."""
    blocks, begin = [], 0
    for part in parts:
        blocks.append(part.block + begin)
        begin += int(part.block.max(initial=-1)) + 1
    return Rows(
        x=np.concatenate([p.x for p in parts]),
        y=np.concatenate([p.y for p in parts]),
        group=np.concatenate([p.group for p in parts]),
        block=np.concatenate(blocks),
    )


def _prior(prior: ArmDynamics) -> Prior:
    """Of all parameters: each joint's own, then the payload's; friction, damping and rotors are not below 0."""
    joints = len(prior.friction_nm)
    own = np.stack([prior.friction_nm, prior.damping_nm_s, prior.armature_kg_m2, prior.offset_nm], axis=1)
    load = (MASS, CENTRE, CENTRE, CENTRE, *[INERTIA] * (len(PARAMETERS) - POINT))
    free = np.full(len(PARAMETERS), -np.inf)
    return Prior(
        value=np.concatenate([own.ravel(), np.zeros(len(PARAMETERS))]),
        sigma=np.array([kind.wide for kind in (*OWN * joints, *load)]),
        low=np.concatenate([np.tile([0.0, 0.0, 0.0, -np.inf], joints), free]),
    )


def _giving_way(parts: Sequence[_Columns], wide: Prior, fixed: dict[int, float], own: int) -> Prior:
    """The prior, of the first `own` parameters as wide as the log tells by itself that it lies far off.

    It would draw back what lies far off, and a joint's damping would pass for friction.
    """
    alone = replace(wide, sigma=np.where(np.arange(len(wide.sigma)) < own, ALONE, 1.0) * wide.sigma)
    found = _solved(_joined([part.rows(0.0) for part in parts]), fixed, alone, None)
    off = np.abs(found.value - wide.value)
    far = (off > FAR_SIGMAS * np.hypot(wide.sigma, found.sigma)) & (np.arange(len(off)) < own)
    return replace(wide, sigma=np.where(far, off, wide.sigma))


def _best_lag(parts: Sequence[_Columns], wide: Prior, fixed: dict[int, float]) -> float:
    """The lag of torques that leaves the least."""

    def cost(lag_s: float) -> float:
        return _solved(_joined([part.rows(lag_s) for part in parts]), fixed, wide, None).cost

    return least(cost, -LAG_MAX_S, LAG_MAX_S, LAG_FINE_S)


def _judged(
    rows: Rows, joints: int, wide: Prior, lag_s: float, rng: np.random.Generator, none: dict[int, float]
) -> PlantFit:
    """Fit, find out how much of a payload there is, fit again with that, and judge; `none`: a payload ruled out."""
    own = joints * len(OWN)
    free = _solved(rows, none, wide, rng)
    _refuse_missing_hand(free, own)
    best, carried, load = (free, None, []) if none else _with_load(rows, own, wide, free, rng)
    names = [f"{kind.name} {j + 1}" for j in range(joints) for kind in OWN] + [f"payload {p}" for p in PARAMETERS]
    told = collinear(names, best.correlation)
    estimates = []
    for k in range(own):
        kind, which = OWN[k % len(OWN)], f"joint {k // len(OWN) + 1}"
        wide_words = too_wide(kind, best.value[k], best.half[k])
        why = f"{wide_words}; {told[k]}" if wide_words and k in told else wide_words
        estimates.append(estimate(kind, which, best.value[k], best.half[k], why_not=why))
    used = best.value[:own].reshape(joints, len(OWN))
    dynamics = ArmDynamics(
        friction_nm=used[:, 0],
        damping_nm_s=used[:, 1],
        armature_kg_m2=used[:, 2],
        offset_nm=used[:, 3],
        payload=carried,
        lag_s=lag_s,
    )
    return PlantFit(dynamics=dynamics, estimates=(*estimates, *load), noise_nm=best.noise, rows=len(rows.y))


def _refuse_missing_hand(free: Solution, own: int) -> None:
    mass, half = free.value[own], free.half[own]
    if mass < -MISSING_KG and mass + half < 0:
        raise SpecError(
            f"the flange bears {-mass:.2f} kg (+-{half:.2f}) less than the model's hand weighs; if no hand was "
            "mounted, say so (--no-hand)"
        )


def _with_load(
    rows: Rows, own: int, wide: Prior, free: Solution, rng: np.random.Generator
) -> tuple[Solution, Carried | None, list[Estimate]]:
    """The solution with as much of a payload as the log tells, the payload, and its estimates."""
    values, half = free.value[own:], free.half[own:]
    if values[0] - half[0] <= 0 or values[0] < NO_PAYLOAD_KG:
        bare = _solved(rows, dict.fromkeys(range(own, own + len(PARAMETERS)), 0.0), wide, rng)
        why = f"none: below {NO_PAYLOAD_KG:g} kg, or 0 kg lies in its interval"
        return bare, None, [estimate(MASS, "", values[0], half[0], why_not=why)]
    moments = [estimate(INERTIA, PARAMETERS[i], values[i], half[i]) for i in range(POINT, len(PARAMETERS))]
    about = inertia_about_centre(values)
    if all(moment.identifiable for moment in moments) and _is_a_bodys(about):
        return free, *_load_of(values, half, about, moments)
    why = "the log tells it too widely, or no body has it; the payload is taken as a point"
    moments = [replace(moment, why_not=why) for moment in moments]
    best = free
    for k in range(REFITS):  # a point's moments follow from its mass and centre: work them out, fit again
        point = parameters(best.value[own], best.value[own + 1 : own + POINT] / best.value[own])
        fixed = {own + i: float(point[i]) for i in range(POINT, len(PARAMETERS))}
        best = _solved(rows, fixed, wide, rng if k == REFITS - 1 else None)
    return best, *_load_of(best.value[own:], best.half[own:], np.zeros((3, 3)), moments)


def _load_of(values: Array, half: Array, about: Array, moments: list[Estimate]) -> tuple[Carried, list[Estimate]]:
    """A payload and its estimates from its ten parameters and half their intervals' widths."""
    centre_m = values[1:POINT] / values[0]
    spread_m = np.hypot(half[1:POINT], centre_m * half[0]) / values[0]
    centre = [estimate(CENTRE, axis, c, s) for axis, c, s in zip("xyz", centre_m, spread_m)]
    carried = Carried(mass_kg=float(values[0]), centre_m=centre_m, inertia_kg_m2=about)
    return carried, [estimate(MASS, "", values[0], half[0]), *centre, *moments]


def _is_a_bodys(about: Array) -> bool:
    """Whether a body can have that inertia [3, 3] about its centre: each principal one at most the others' sum."""
    principal = np.linalg.eigvalsh(about)
    return bool(principal[0] > 0 and principal[2] <= principal[0] + principal[1])


def _solved(rows: Rows, fixed: dict[int, float], wide: Prior, rng: np.random.Generator | None) -> Solution:
    """The solution with some parameters set, in all parameters' order; those set have no width."""
    size = rows.x.shape[1]
    left = [k for k in range(size) if k not in fixed]
    found = solve(rows.without(fixed), wide.of(left), rng)
    value, sigma, half, correlation = np.zeros(size), np.zeros(size), np.zeros(size), np.eye(size)
    value[left], sigma[left], half[left] = found.value, found.sigma, found.half
    value[list(fixed)] = list(fixed.values())
    correlation[np.ix_(left, left)] = found.correlation
    return Solution(value=value, sigma=sigma, half=half, correlation=correlation, noise=found.noise, cost=found.cost)
