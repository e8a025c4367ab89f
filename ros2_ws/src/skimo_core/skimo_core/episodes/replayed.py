"""Where a replayed episode departs from its recording, in figures and words.

Joints are compared at each control step; the tool's place follows from them; objects are told, and judged only where a
domain has no arm: what an object does after a contact is not the path's fault. There, rates (units per second) are told
and not judged: an impact a step sooner changes them at once, and places hardly. Units rad, m (or mm), control steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.specs import ObservationSpec
from ..contract.types import Array
from ..domain.domain import Domain
from ..domain.kinematics import POINTS, arm_points
from ..domain.robot import RobotLimits
from .episode import Episode, FloatArray

TOLERANCE_RAD = 0.05
"""An arm that departs by more did not go the recorded way: a policy's lag is a fifth of it."""
MOST_VERDICTS, MOST_OBJECTS = 8, 8
RATE = "/s"
"""How the units of what is told per second end."""
NOTICED = 0.25
"""Share of its tolerance from which on an object's departure is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """What a gate said: at which control step, its verdict's name, its reasons, and whether it holds or stops."""

    step: int
    verdict: str
    reasons: tuple[str, ...]
    grave: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was seen of a replay.

    Attributes:
        observations: [N + 1, O] at the episode's steps 0 to N; NaN where a channel was not looked at.
        objections: of the gate.
        ended: why it ended before the episode's end; empty: it did not.
        notes: what else to know: how the start was made, how much slower it was.
    """

    observations: FloatArray
    objections: tuple[Objection, ...] = ()
    ended: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """How far channels departed, each array [C].

    Attributes:
        most, mean: over the steps.
        worst_step: where the most is.
    """

    most: Array
    mean: Array
    worst_step: Array

    @classmethod
    def of(cls, apart_NC: Array) -> Departure:
        """From absolute deviations [N + 1, C]."""
        return cls(most=apart_NC.max(axis=0), mean=apart_NC.mean(axis=0), worst_step=apart_NC.argmax(axis=0))


def report(
    episode: Episode, replayed: Replayed, domain: Domain, limits: RobotLimits, tolerance: float = TOLERANCE_RAD
) -> tuple[list[str], bool]:
    """The report's lines, and whether the episode was led again within `tolerance`, rad (no arm: of all but rates).

    It was if the replay came to the end, the gate neither held nor stopped, and no joint departed by more.
    """
    spec, seen = domain.observation, replayed.observations.astype(np.float64)
    told = episode.observations[: len(seen)].astype(np.float64)
    apart = np.abs(seen - told)
    judged = _judged(spec)
    departed = np.flatnonzero((apart[:, judged] > tolerance).any(axis=1))
    steps = len(seen) - 1
    lines = [
        f"replayed {steps} of {episode.steps} steps, {steps / episode.meta.rate_hz:.1f} s of {episode.meta.episode_id}"
    ]
    lines += [f"  {note}" for note in replayed.notes]
    if spec.joints:
        lines += _joint_lines(domain, Departure.of(apart[:, : spec.joints]), episode)
        lines.append(_tool_line(limits, seen[:, : spec.joints], told[:, : spec.joints]))
    lines += _object_lines(domain, apart, seen, told)
    lines += _objection_lines(replayed)
    if departed.size:
        step = int(departed[0])
        name = spec.names[judged[int(np.argmax(apart[step, judged]))]]
        at_s = step / episode.meta.rate_hz
        lines.append(f"departs by more than {tolerance:g} from step {step} on ({at_s:.1f} s), {name} first")
    if replayed.ended:
        lines.append(f"ended at step {steps}: {replayed.ended}")
    whole = not replayed.ended and steps == episode.steps
    good = whole and not departed.size and not any(objection.grave for objection in replayed.objections)
    unit = "rad" if spec.joints else f"of {', '.join(spec.names[k] for k in judged)}"
    what = "led again" if good else "NOT led again"
    lines.append(f"{what} within the tolerance of {tolerance:g} {unit}")
    return lines, good


def _judged(spec: ObservationSpec) -> list[int]:
    """Which channels are held against the tolerance: the joints, or else all that are no rates, if there are any."""
    if spec.joints:
        return list(range(spec.joints))
    return [k for k, unit in enumerate(spec.units) if not unit.endswith(RATE)] or list(range(spec.size))


def _joint_lines(domain: Domain, found: Departure, episode: Episode) -> list[str]:
    lines = [f"  {'joint':<16} most / rad  mean / rad  at step (s)"]
    for joint, name in enumerate(domain.observation.names[: domain.observation.joints]):
        step = int(found.worst_step[joint])
        at_s = step / episode.meta.rate_hz
        lines.append(f"  {name:<16} {found.most[joint]:10.4f}  {found.mean[joint]:10.4f}  {step} ({at_s:.1f})")
    return lines


def _tool_line(limits: RobotLimits, seen_rad: Array, told_rad: Array) -> str:
    tool = POINTS.index("tool")
    apart_mm = 1e3 * np.linalg.norm(
        arm_points(limits, seen_rad)[:, tool] - arm_points(limits, told_rad)[:, tool], axis=1
    )
    step = int(apart_mm.argmax())
    return f"  the tool departs by {apart_mm.max():.1f} mm at most (step {step}), {apart_mm.mean():.1f} mm in the mean"


def _object_lines(domain: Domain, apart: Array, seen: Array, told: Array) -> list[str]:
    """Of objects that departed noticeably, those that did most, by their tolerances where they have any."""
    spec = domain.observation
    first = spec.joints + spec.fingers
    looked = [k for k in range(first, spec.size) if np.isfinite(seen[:, k]).all()]
    if not looked:
        return ["  objects were not looked at"] if first < spec.size else []
    scale = np.array([t if np.isfinite(t := domain.tolerances[k]) else 1.0 for k in looked])
    shares = apart[:, looked].max(axis=0) / scale
    off = [looked[int(place)] for place in np.argsort(-shares) if shares[place] > NOTICED]
    lines = []
    for k in off[:MOST_OBJECTS]:
        step, unit = int(apart[:, k].argmax()), spec.units[k]
        at_end = f"{seen[-1, k]:.3f} instead of {told[-1, k]:.3f} {unit} at the end"
        lines.append(f"  {spec.names[k]:<16} departs by {apart[:, k].max():.3f} {unit} at most (step {step}); {at_end}")
    if len(off) > MOST_OBJECTS:
        lines.append(f"  and {len(off) - MOST_OBJECTS} more")
    near = f"  {len(looked) - len(off)} of {len(looked)} object channels stay within {NOTICED:g} of their tolerance"
    return [*lines, near]


def _objection_lines(replayed: Replayed) -> list[str]:
    if not replayed.objections:
        return ["  the gate had no objection"]
    lines = [f"  the gate had {len(replayed.objections)} objections:"]
    for objection in replayed.objections[:MOST_VERDICTS]:
        lines.append(f"    step {objection.step}: {objection.verdict}: {'; '.join(objection.reasons) or 'no reason'}")
    left = len(replayed.objections) - MOST_VERDICTS
    return [*lines, f"    and {left} more"] if left > 0 else lines
