"""From pictures of tags to the domain's object channels: what the policy is told of doors, knobs and kettles.

    tracker = tracker_of(load_tracker("kitchen"), rig, domain)
    look = tracker.look("left", picture, stamp_s)       finds the tags; may run elsewhere
    report = tracker.take(look)                         ObjectStates, and what was refused, in words

Promises
  - The stamp is the exposure's: the picture's less the camera's latency. Where channels rest on several pictures, it is
    the oldest one's: nothing is ever older than it says.
  - A channel that no tag tells, or tells too poorly (`max_sigma`), is NaN: whoever assembles observations lets its last
    value stand for as long as the domain allows (skimo_core.control.observe).
  - What contradicts the rest is left out and named: a tag that is not where the file has it, an id seen twice in one
    picture, a part that jumps. A jump that is confirmed by as many pictures as CONFIRM is taken: somebody moved it.
  - Pictures out of order are refused; a clock that was set back by more than RESTART_S forgets all that was.
It knows no clock of its own, and says nothing of how old a picture is now: whoever calls does.

Frames: the tracker file's. Units as the domain's channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array, ObjectStates
from skimo_core.domain.domain import Domain
from skimo_core.domain.rig import Rig
from skimo_core.domain.rotations import matrix

from ..cameras.camera import Intrinsics
from .tag_fit import Evidence, Fit, Seen, fit_body, fit_joint, seen_by
from .tags import Mount, find_tags, turned_rad
from .tracker_file import Body, Joint, TrackerSpec
from .viewpoint import Viewpoint, viewpoints

CONFIRM = 3
"""Pictures that must agree on a jump before it is believed."""
RESTART_S = 1.0
NOISE_SIGMAS = 4.0
"""Standard deviations by which two pictures of a part at rest may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one picture holds.

    Attributes:
        camera: that took it.
        exposure_s: when.
        seen: the file's tags in it.
        words: what was left out, and why.
    """

    camera: str
    exposure_s: float
    seen: tuple[Seen, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a picture.

    Attributes:
        states: every object channel of the domain; NaN where it is hidden.
        sigma: [K] their standard deviations; NaN where hidden, or not measured.
        tags: how many sightings each part rests on.
        words: what was refused, and why.
    """

    states: ObjectStates
    sigma: Array
    tags: Mapping[str, int]
    words: tuple[str, ...]

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the channels that are not told."""
        return tuple(name for name, value in zip(self.states.names, self.states.values) if np.isnan(value))


@dataclass(slots=True)
class _Memory:
    """A part's last believed state, and one that jumped and waits to be confirmed."""

    fit: Fit | None = None
    stamp_s: float = -np.inf
    jumped: Fit | None = None
    jumped_s: float = -np.inf
    confirmed: int = 0
    told_quat: Array | None = None


@dataclass(slots=True)
class Tracker:
    """Tells a domain's object channels from pictures. For one thread.

    Args:
        spec: the tracker file.
        views: its cameras, by name, in the file's frame.
        domain: whose channels are told.

    Raises:
        SpecError: the file's channels are not the domain's, or a camera is missing.
    """

    spec: TrackerSpec
    views: Mapping[str, Viewpoint]
    domain: Domain
    _looks: dict[str, Look] = field(default_factory=dict)
    _memory: dict[str, _Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spec.check_domain(self.domain)
        if missing := [name for name in self.spec.cameras if name not in self.views]:
            raise SpecError(f"tracker {self.spec.name} wants camera {missing[0]!r}; there are {', '.join(self.views)}")
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a clock was set back."""
        self._looks = {}
        self._memory = {part.name: _Memory() for part in self.spec.moving}

    # --- pictures ---------------------------------------------------------------------------------------------------

    def look(self, camera: str, picture: npt.NDArray[np.uint8], stamp_s: float) -> Look:
        """Find the file's tags in a picture (grey [H, W] or RGB [H, W, 3]).

        Raises:
            SpecError: a camera that is not the file's, or a picture that isn't its.
        """
        if camera not in self.spec.cameras:
            raise SpecError(f"camera {camera!r} is none of tracker {self.spec.name}'s: {', '.join(self.spec.cameras)}")
        view = self.views[camera]
        ours = [found for found in find_tags(picture, view.intrinsics) if found.tag_id in self.spec.tag_ids]
        count = Counter(found.tag_id for found in ours)
        twice = sorted(tag_id for tag_id, times in count.items() if times > 1)
        words = tuple(
            f"tag {tag_id} is seen {count[tag_id]} times by camera {camera!r}, so nobody knows which is meant: it is "
            "left out; take the copy away"
            for tag_id in twice
        )
        once = [found for found in ours if count[found.tag_id] == 1]
        return Look(camera=camera, exposure_s=stamp_s - view.latency_s, seen=seen_by(view, once), words=words)

    def take(self, look: Look) -> Report:
        """Use a look; call it in the order of the exposures.

        Raises:
            SpecError: it is not newer than the last of its camera.
        """
        words = [*look.words, *self._refuse_old(look)]
        self._looks[look.camera] = look
        together = [
            one for one in self._looks.values() if abs(one.exposure_s - look.exposure_s) <= self.spec.together_s
        ]
        seen = [one for each in together for one in each.seen]
        oldest_s = min(one.exposure_s for one in together)
        tags: dict[str, int] = {}
        for part in self.spec.moving:
            ours = {tag.tag_id: tag for tag in part.tags}
            tags[part.name] = self._measure(part, [s for s in seen if s.sighting.tag_id in ours], ours, oldest_s, words)
        return self._report(look, oldest_s, tags, words)

    def _refuse_old(self, look: Look) -> list[str]:
        """Words on a clock that was set back; raises SpecError for a picture out of order."""
        before = self._looks.get(look.camera)
        if before is None or look.exposure_s > before.exposure_s:
            return []
        back_s = before.exposure_s - look.exposure_s
        if back_s < RESTART_S:
            raise SpecError(
                f"a picture of camera {look.camera!r} was exposed {back_s * 1e3:.0f} ms before the last one (or with "
                "it); does its driver stamp them in order, and is there one driver?"
            )
        self.forget()
        return [f"pictures of camera {look.camera!r} went back by {back_s:.1f} s: all that was known is forgotten"]

    # --- parts ------------------------------------------------------------------------------------------------------

    def _measure(
        self, part: Joint | Body, seen: list[Seen], mounts: Mapping[int, Mount], stamp_s: float, words: list[str]
    ) -> int:
        """Take note of what a part's tags tell; returns how many sightings that rests on."""
        if not seen:
            return 0
        evidence, memory = Evidence(seen, self.spec.doubt), self._memory[part.name]
        placed = [mounts[one.sighting.tag_id] for one in seen]
        fit = (
            _fit_joint(part, placed, evidence, memory)
            if isinstance(part, Joint)
            else _fit_body(part, placed, evidence, memory)
        )
        for one, agrees, error_px in zip(seen, fit.agrees, fit.error_px):
            if not agrees:
                words.append(_misplaced(part.name, one, error_px))
        if not fit.agrees.any():
            return 0
        if fit.ambiguous:
            words.append(f"{part.name}: its tags are seen so that two answers fit; put another tag on it")
            return 0
        bounds = np.array([part.max_sigma] if isinstance(part, Joint) else part.max_sigma)
        if (fit.sigma > bounds).any():
            worst = int(np.argmax(fit.sigma / bounds))
            words.append(
                f"{part.name}: known to {fit.sigma[worst]:.3g} only, bound {bounds[worst]:g} (max_sigma): it counts as "
                "hidden; use a larger tag, or a nearer camera"
            )
            return 0
        return int(fit.agrees.sum()) if self._believe(part, fit, stamp_s, words) else 0

    def _believe(self, part: Joint | Body, fit: Fit, stamp_s: float, words: list[str]) -> bool:
        """Take a fit over, unless it jumps and isn't confirmed yet."""
        memory = self._memory[part.name]
        if memory.fit is not None and (jump := _too_far(part, memory.fit, fit, stamp_s - memory.stamp_s)):
            same = memory.jumped is not None and not _too_far(part, memory.jumped, fit, stamp_s - memory.jumped_s)
            if stamp_s > memory.jumped_s or not same:
                memory.confirmed = memory.confirmed + 1 if same else 1
            memory.jumped, memory.jumped_s = fit, stamp_s
            if memory.confirmed < CONFIRM:
                words.append(f"{part.name}: {jump}: left out until {CONFIRM} pictures say so")
                return False
            words.append(f"{part.name}: {jump}, and {CONFIRM} pictures say so: taken")
        memory.fit, memory.stamp_s, memory.jumped, memory.confirmed = fit, stamp_s, None, 0
        return True

    # --- what is told -----------------------------------------------------------------------------------------------

    def _report(self, look: Look, oldest_s: float, tags: Mapping[str, int], words: list[str]) -> Report:
        values: dict[str, float] = {part.channel: part.value for part in self.spec.constants}
        sigmas: dict[str, float] = {}
        stamp_s = oldest_s
        for part in self.spec.moving:
            memory = self._memory[part.name]
            fresh = tags[part.name] > 0
            if memory.fit is None or not (fresh or look.exposure_s - memory.stamp_s <= self.spec.carry_s):
                continue
            stamp_s = min(stamp_s, memory.stamp_s)
            told, sigma = self._told(part, memory)
            values |= told
            sigmas |= sigma
        for part in self.spec.coupled:
            if part.to in values:
                values[part.channel] = part.offset + part.factor * values[part.to]
                sigmas[part.channel] = abs(part.factor) * sigmas[part.to]
        names = self.domain.observation.objects
        return Report(
            states=ObjectStates(
                stamp_s=stamp_s, names=names, values=np.array([values.get(name, np.nan) for name in names])
            ),
            sigma=np.array([sigmas.get(name, np.nan) for name in names]),
            tags=tags,
            words=tuple(words),
        )

    def _told(self, part: Joint | Body, memory: _Memory) -> tuple[dict[str, float], dict[str, float]]:
        """A part's channels and their deviations."""
        assert memory.fit is not None
        fit = memory.fit
        if isinstance(part, Joint):
            return {part.channel: float(fit.values[0])}, {part.channel: float(fit.sigma[0])}
        memory.told_quat = _same_side(
            fit.values[3:], self._usual(part) if memory.told_quat is None else memory.told_quat
        )
        sigma = np.repeat([fit.sigma[0] / np.sqrt(3), fit.sigma[1] / 2 / np.sqrt(3)], (3, 4))
        values = [*fit.values[:3].tolist(), *memory.told_quat.tolist()]
        return dict(zip(part.channels, values)), dict(zip(part.channels, sigma.tolist()))

    def _usual(self, part: Body) -> Array:
        """The body's orientation at the domain's start, whose quaternion's sign the first that is told has."""
        at = [self.domain.observation.names.index(name) for name in part.channels[3:]]
        return self.domain.start[at].astype(np.float64)


def tracker_of(spec: TrackerSpec, rig: Rig, domain: Domain, lenses: Mapping[str, Intrinsics] | None = None) -> Tracker:
    """The tracker of a file's parts by a rig's cameras and furniture.

    Args:
        lenses: of cameras whose lens the rig doesn't have.

    Raises:
        SpecError: the rig lacks a camera, its lens or its pose, or the file's channels are not the domain's.
    """
    turn, origin_m = spec.frame_in(rig)
    views = {
        name: replace(view, rotation=turn.T @ view.rotation, position_m=turn.T @ (view.position_m - origin_m))
        for name, view in viewpoints(rig, spec.cameras, lenses).items()
    }
    return Tracker(spec, views, domain)


def _fit_joint(part: Joint, placed: list[Mount], evidence: Evidence, memory: _Memory) -> Fit:
    near = None if memory.fit is None else float(memory.fit.values[0])
    return fit_joint(part, np.stack([mount.corners for mount in placed]), evidence, near)


def _fit_body(part: Body, placed: list[Mount], evidence: Evidence, memory: _Memory) -> Fit:
    near = None if memory.fit is None else (matrix(memory.fit.values[3:]), memory.fit.values[:3])
    return fit_body(placed, evidence, near=near, up=part.up)[0]


def _too_far(part: Joint | Body, before: Fit, fit: Fit, after_s: float) -> str:
    """How a part moved that it can't have moved so, in words; empty if it can."""
    noise = NOISE_SIGMAS * np.hypot(before.sigma, fit.sigma)
    if isinstance(part, Joint):
        moved, bounds, units = (
            [abs(float(fit.values[0] - before.values[0]))],
            [part.max_speed],
            ["rad" if part.kind == "hinge" else "m"],
        )
    else:
        step_m = float(np.linalg.norm(fit.values[:3] - before.values[:3]))
        moved = [step_m, turned_rad(matrix(fit.values[3:]), matrix(before.values[3:]))]
        bounds, units = list(part.max_speed), ["m", "rad"]
    for distance, speed, allowed, unit in zip(moved, bounds, noise, units):
        if distance > speed * after_s + allowed:
            return f"moved by {distance:.3g} {unit} within {after_s * 1e3:.0f} ms, bound {speed:g} {unit}/s"
    return ""


def _misplaced(part: str, one: Seen, error_px: float) -> str:
    tag, camera = one.sighting.tag_id, one.view.name
    if not np.isfinite(error_px):
        return f"{part}: tag {tag} is seen by camera {camera!r} where it would show its back: is it on this part?"
    return (
        f"{part}: tag {tag} is {error_px:.1f} px from where it could be for camera {camera!r}: is it loose, or the "
        "file or the rig wrong?"
    )


def _same_side(quat: Array, usual: Array) -> Array:
    """The one of a quaternion's two signs that is nearer to the usual one."""
    return -quat if float(quat @ usual) < 0 else quat
