"""A session's actions as its mapping says: given, or made from motions; always in -1 to 1 or refused.

`ActionMaker` holds what it takes from the session and makes an episode's actions from wanted times and observations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.errors import EpisodeError
from ..contract.types import Array
from ..control.actuate import ActuatorConfig
from ..domain.domain import Domain
from ..domain.robot import RobotLimits
from ..episodes.fit import ACTION_SLACK
from . import motion
from .mapping import SAME, Columns, EndEffector, Given, Intents, Mapping, Velocities
from .resampling import held_means, resample, standing
from .source import Session
from .splitting import Span
from .taking import Taken, take, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An episode's actions.

    Attributes:
        actions: [T, A].
        clipped: elements of the arm's (or, without one, of all) that lay beyond their bounds and are at them now.
        most: the greatest of them before that, in bounds; 0: none was beyond.
        notes: how they came about.
    """

    actions: Array
    clipped: int
    most: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionMaker:
    """A session's; each part is None where the mapping takes nothing for it."""

    mapping: Mapping
    domain: Domain
    robot: RobotLimits
    arm: Taken | None
    hand: Taken | None
    others: Taken | None

    @classmethod
    def of(
        cls, session: Session, mapping: Mapping, domain: Domain, robot: RobotLimits, row_s: float | None
    ) -> ActionMaker:
        """Raises EpisodeError: a field can't be taken."""
        joints, size = domain.action.joints, domain.action.size

        def taken(columns: Columns | None, ours: tuple[str, ...]) -> Taken | None:
            return None if columns is None else take(session, columns, ours, mapping.widths, row_s)

        arm, hand, others = (getattr(part, "taken", None) for part in (mapping.arm, mapping.hand, mapping.others))
        arm_units = (
            ("1",) * len(arm.columns) if isinstance(mapping.arm, EndEffector) and arm else _arm_units(mapping, joints)
        )
        return cls(
            mapping=mapping,
            domain=domain,
            robot=robot,
            arm=taken(arm, arm_units),
            hand=taken(hand, ("1",) * (1 if isinstance(mapping.hand, Intents) else size - joints)),
            others=taken(others, ("1",) * size),
        )

    @property
    def parts(self) -> tuple[Taken, ...]:
        return tuple(part for part in (self.arm, self.hand, self.others) if part is not None)

    def covered(self, span: Span, begin_s: float, end_s: float) -> tuple[float, float]:
        """The times of a span in which there are actions too: each stands for a period of its own at most.

        Raises:
            EpisodeError: a field has no rows there.
        """
        for part in self.parts:
            inside = within(part, *span, open_end=True)
            event = part is self.hand and isinstance(self.mapping.hand, Intents)
            if not event:  # a hand's command may be told once and stand for ever
                begin_s = max(begin_s, float(inside.times_s[0]))
                end_s = min(end_s, float(inside.times_s[-1]) + part.period_s)
        return begin_s, end_s

    def make(self, span: Span, wanted_s: Array, observations: Array) -> Made:
        """The actions [N - 1, A] from wanted times and observations [N, O].

        Raises:
            EpisodeError: they are of another meaning.
        """
        spec = self.domain.action
        if not spec.joints:
            assert self.mapping.others is not None and self.others is not None, "parse_mapping asks for it"
            made = _given(self.mapping.others, within(self.others, *span, open_end=True), wanted_s, spec.scale_rad_s)
            return _bounded(made, np.ones(spec.size), self.mapping.others.beyond, ())
        arm = self._arm(span, wanted_s, observations)
        if self.mapping.hand is None:
            return arm
        hand = self._hand(span, wanted_s, observations)
        actions = np.concatenate([arm.actions, hand], axis=1)
        return Made(actions=actions, clipped=arm.clipped, most=arm.most, notes=arm.notes)

    def _arm(self, span: Span, wanted_s: Array, observations: Array) -> Made:
        kind, spec = self.mapping.arm, self.domain.action
        q_rad = observations[:, : spec.joints]
        part = within(self.arm, *span, open_end=True) if self.arm is not None else None
        share = spec.scale_rad_s
        if isinstance(kind, Given):
            assert part is not None, "given actions are taken from a field"
            made = _given(kind, part, wanted_s, share)
            if why := motion.why_positions(made, q_rad):
                raise EpisodeError(f"actions in field {part.field} are no velocities: {why}")
            return _bounded(made, np.ones(spec.joints), kind.beyond, self._said(kind))
        if isinstance(kind, Velocities):
            wanted_q = q_rad if part is None else resample(part.times_s, part.values, wanted_s, "linear")
            speeds, beyond = motion.velocities(wanted_q, spec.period_s), "clip"
            notes = (f"velocities from {'measured positions' if part is None else f'positions in field {part.field}'}",)
        else:
            assert isinstance(kind, EndEffector) and part is not None, "there is no other kind"
            speeds, beyond, notes = self._of_poses(kind, part, wanted_s, q_rad), kind.beyond, self._said(kind)
        top = ActuatorConfig().velocity_fraction * self.robot.dq_max_rad_s[: spec.joints]
        return _bounded(speeds / share, np.minimum(1.0, top / share), beyond, notes)

    def _of_poses(self, kind: EndEffector, part: Taken, wanted_s: Array, q_rad: Array) -> Array:
        means = np.array([kind.one_means_m] * 3 + [kind.one_means_rad] * 3)[: part.values.shape[1]]
        twists = part.values * means
        if kind.per == "step":
            twists = twists / np.append(np.diff(part.times_s), part.period_s)[:, None]
        return motion.joint_velocities(self.robot, q_rad[:-1], held_means(part.times_s, twists, wanted_s), kind.frame)

    def _said(self, kind: Given | EndEffector) -> tuple[str, ...]:
        ours = self.domain.action.scale_rad_s
        if isinstance(kind, EndEffector):
            return (
                f"poses' changes along the axes of the {kind.frame} frame, made joint velocities by {self.robot.name}",
            )
        if kind.one_means is None or kind.one_means == ours:
            return ()
        meant = f"of which 1 meant {kind.one_means:g} rad/s there and means {ours:g} rad/s here"
        return (f"actions as they are, {meant}" if kind.as_they_are else f"actions converted, {meant}",)

    def _hand(self, span: Span, wanted_s: Array, observations: Array) -> Array:
        """Intents [N - 1, F], of every finger the same unless they are given."""
        kind, spec = self.mapping.hand, self.domain.observation
        fingers = self.domain.action.size - self.domain.action.joints
        if isinstance(kind, Given):
            assert self.hand is not None, "given actions are taken from a field"
            made = _given(kind, within(self.hand, *span, open_end=True), wanted_s, 1.0)
            return np.clip(made, -1, 1) if kind.beyond == "clip" else made
        assert kind is not None, "asked by make"
        if kind.kind == "open":
            intents = np.full(len(wanted_s) - 1, motion.OPEN)
        elif kind.kind == "width":
            width_m = observations[:, spec.joints : spec.joints + spec.fingers].sum(1)
            intents = motion.intents_of_width(width_m, kind.threshold_m)[:-1]
        else:
            assert self.hand is not None, "a command is taken from a field"
            part = within(self.hand, *span, open_end=True)
            command = part.values[standing(part.times_s, wanted_s[:-1]), 0]
            intents = motion.intents_of_command(command, kind.open_at, kind.closed_at)
        return np.repeat(intents[:, None], fingers, axis=1)


def _arm_units(mapping: Mapping, joints: int) -> tuple[str, ...]:
    """What is taken of an arm's columns: positions, velocities, or shares."""
    if isinstance(mapping.arm, Velocities):
        return ("rad",) * joints
    unit = mapping.arm.taken.unit if mapping.arm is not None else "1"
    return ("1" if unit in ("", "1", "%", SAME) else "rad/s",) * joints


def _given(kind: Given, part: Taken, wanted_s: Array, scale_rad_s: float) -> Array:
    """Given actions [N - 1, A] as shares of our scale."""
    if kind.between == "held":
        made = held_means(part.times_s, part.values, wanted_s)
    else:
        made = resample(part.times_s, part.values, np.minimum(wanted_s[:-1], part.times_s[-1]), "linear")
    if part.unit.endswith("/s"):
        return made / scale_rad_s
    return made if kind.one_means is None or kind.as_they_are else made * (kind.one_means / scale_rad_s)


def _bounded(actions: Array, bound_A: Array, beyond: str, notes: tuple[str, ...]) -> Made:
    """Actions within bounds [A] if they may be clipped, else as they are: they are checked with the episode."""
    over = np.abs(actions) / bound_A
    outside = over > 1 + ACTION_SLACK
    if beyond != "clip":
        return Made(actions=actions, clipped=0, most=0.0, notes=notes)
    most = float(over.max()) if outside.any() else 0.0
    return Made(actions=np.clip(actions, -bound_A, bound_A), clipped=int(outside.sum()), most=most, notes=notes)
