"""What a foreign recording's fields mean in a domain, as data; `mapping_file` reads it from YAML.

Nothing here is guessed: each channel of the domain and each of its actions has an entry. What is taken from a field
becomes ours by   ours = sign * scale * (theirs, in our unit) + offset.
Units are the domain's; rates in Hz, times in s.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..contract.specs import Named
from ..domain.pose import Pose

SAME = "same"
"""As a unit: the domain's own, whatever it is."""
FIRST_SCALE = (1.0,)
NO_OFFSET = (0.0,)
Selector = str | int | tuple[str | int, ...]
"""A column by name or index; or the first of several that a field has, where "*x" is any name that ends so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Numbers that are taken from a field.

    Attributes:
        fields: its name; several: the first of them that a session has.
        columns: names or indices of its columns, in the order that they are wanted; none: all of them.
        unit: of what stands there; SAME: the domain's; empty: the source says it.
        factor: multiplied, one number or one a column; negative where the source counts the other way round.
        offset: added after that, in the domain's unit: its value where the source's is 0; one number or one a column.
        unwrap: angles that jump by a turn go on instead.
        missing: "refuse" a value that isn't finite, or "interpolate" over its row (up to the gap that is allowed).
    """

    fields: tuple[str, ...]
    columns: tuple[Selector, ...] = ()
    unit: str = ""
    factor: tuple[float, ...] = FIRST_SCALE
    offset: tuple[float, ...] = NO_OFFSET
    unwrap: bool = False
    missing: str = "refuse"

    @property
    def named(self) -> str:
        """Its fields, in words."""
        return " or ".join(self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEntry:
    """Where some channels of the domain come from.

    Attributes:
        channels: of the domain.
        taken: as many columns; None: `constant` stands in, because somebody knows that they never move.
        constant: in the channel's unit.
        between: how it goes between rows: "linear" (after a low-pass where the source is faster), "nearest",
            "turn": four columns that are one quaternion, or "yaw": the turn about z of such a one.
        width: what is taken is the distance between the fingers, of which each has its share.
        frame: where the frame that poses are told in stands in the arm's base frame; None: they are told in that.
        axes: of a framed position, which of x, y, z (0 to 2) the channels are.
    """

    channels: tuple[str, ...]
    taken: Columns | None
    constant: float = 0.0
    between: str = "linear"
    width: bool = False
    frame: Pose | None = None
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Actions that the source holds.

    Attributes:
        taken: as many columns as there are actions; unit "rad/s" or the like: velocities; "1": shares of `one_means`.
        one_means: what the source's action of 1 means, rad/s; None: what the domain's means.
        as_they_are: not converted although 1 means something else there: said in the report.
        beyond: "refuse" or "clip" what lies beyond -1 to 1.
        between: "held": each stands until the next, and ours is the mean over its period; "interpolated".
    """

    taken: Columns
    one_means: float | None = None
    as_they_are: bool = False
    beyond: str = "refuse"
    between: str = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Velocities:
    """Joint velocities that follow from positions (`motion.velocities`).

    Attributes:
        taken: positions that were asked for, as many columns as joints; None: the domain's own channels, measured.
    """

    taken: Columns | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndEffector:
    """Poses' changes, made joint velocities by the robot's kinematics (`motion.joint_velocities`).

    Attributes:
        taken: 3 columns (a shift) or 6 (a shift and a rotation vector).
        frame: "base": shift and turn along the base's axes; "tool": along the flange's own.
        one_means_m, one_means_rad: what 1 means in the first three and the last three columns.
        per: "step": over the source's period; "second".
        beyond: as in `Given`.
    """

    taken: Columns
    frame: str
    one_means_m: float
    one_means_rad: float
    per: str
    beyond: str = "clip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intents:
    """What the hand is told: 1 opens, -1 closes, for each finger alike.

    Attributes:
        kind: "command": a field that is `open_at` where it opens and `closed_at` where it closes; "width": the fingers'
            own channels; "open": always open, for a hand that is never used.
        taken: one column; None where the domain's finger channels say it.
        open_at, closed_at: in that column's numbers.
        threshold_m: by how much the width must come back from where it went furthest for the intent to have changed.
    """

    kind: str
    taken: Columns | None = None
    open_at: float = 1.0
    closed_at: float = 0.0
    threshold_m: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRules:
    """How sessions become episodes.

    Attributes:
        one_episode: a session of which the source marks no end is one.
        gap_s: rows of a field further apart than this have a gap; None: 2.5 periods of the field, or of the domain
            where those are longer.
        gap: "refuse" a gap, or "split" there.
        jump: "refuse" or "split" where joints move farther between rows than any arm could.
        least_s: shorter ones are left out, and counted.
        drop_first_s, drop_last_s: of each episode.
    """

    one_episode: bool = False
    gap_s: float | None = None
    gap: str = "refuse"
    jump: str = "refuse"
    least_s: float = 0.0
    drop_first_s: float = 0.0
    drop_last_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """From a kind of source to a domain.

    Attributes:
        named: its name, and the digest of what it says.
        where: what it is called in errors.
        domain: name of the domain.
        licence: of what it is for, where the source names none; empty: it doesn't know.
        rate_hz: of the source's rows where the source doesn't say.
        slower: what is done with a field that has fewer rows a second than the domain: "refuse" or "interpolate".
        task: what was done in every session, as the domain reads tasks; empty: what the source says, where the domain
            can read it.
        widths: numbers of columns that a field may have; a field that isn't named here may have any.
        episodes: rules.
        channels: entries that cover every channel of the domain once.
        arm: its joints' actions; None: there are none.
        hand: its fingers' actions, likewise.
        others: of a domain without an arm.
    """

    named: Named
    where: str
    domain: str
    licence: str
    rate_hz: float | None
    slower: str
    task: str
    widths: dict[str, tuple[int, ...]]
    episodes: EpisodeRules
    channels: tuple[ChannelEntry, ...]
    arm: Given | Velocities | EndEffector | None
    hand: Given | Intents | None
    others: Given | None

    @property
    def name(self) -> str:
        return self.named.name

    def fields(self) -> tuple[Columns, ...]:
        """All that it takes from a session."""
        taken = [entry.taken for entry in self.channels]
        taken += [getattr(action, "taken", None) for action in (self.arm, self.hand, self.others)]
        return tuple(columns for columns in taken if columns is not None)
