"""Settings of the goal value's training, apart from it so that recipes need no training code."""

from __future__ import annotations

from dataclasses import dataclass

from skimo_core.contract.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueConfig:
    """How the goal value is learned from play.

    Attributes:
        updates, batch, learning_rate: of Adam, with a cosine; a batch is of starting states.
        discount: per control step; the target is discount^(steps until the goal first holds).
        skills: predicted latents after 1 ... this many skills are trained on, besides the encoded ones.
        censor_steps: "never in this episode" counts as 0 only where at least so many steps were left to see it.
        seed: of sampling.
        named, other: shares of the goals that are the domain's sub-tasks, and of those taken from another episode; the
            rest are taken from later in the same episode.
        near: share of the latter that lie within `near_skills` skills.
        near_skills: see there.
        joints: share of the goals not named that are over the arm's joints, all or some of them.
        alike: share of the goals not named that are over just the channels of one of the domain's sub-tasks.
        subset, pair: shares of those goals that keep only some of their channels, and that join two sets.
        tolerance_low, tolerance_high: of goals not named, in deviations of the data: drawn log-uniformly between.
        tolerance_spread: and each channel's once more, between 1 over this and this times as much.
        tolerance_named: share of those goals that have the named sub-tasks' tolerances instead.
        redraws: how often a goal not named that holds already is drawn anew: most objects stand still most of the time.
        jitter: by how much of its tolerance a goal is moved off the recorded row, at most.
    """

    updates: int = 6000
    batch: int = 256
    learning_rate: float = 1e-3
    discount: float = 0.97
    skills: int = 4
    censor_steps: int = 60
    seed: int = 1
    named: float = 0.3
    other: float = 0.2
    near: float = 0.5
    near_skills: int = 5
    joints: float = 0.15
    alike: float = 0.0
    subset: float = 0.25
    pair: float = 0.15
    tolerance_low: float = 0.05
    tolerance_high: float = 1.0
    tolerance_spread: float = 2.0
    tolerance_named: float = 0.25
    redraws: int = 2
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch < 1 or min(self.skills, self.redraws) < 0 or self.near_skills < 1:
            raise SpecError(
                f"value: updates {self.updates} (>= 0), batch {self.batch} (>= 1), skills {self.skills} (>= 0), "
                f"redraws {self.redraws} (>= 0), near_skills {self.near_skills} (>= 1)"
            )
        if not 0 < self.discount < 1:
            raise SpecError(f"value: discount {self.discount} must lie in (0, 1)")
        for name in ("named", "other", "near", "joints", "alike", "subset", "pair", "tolerance_named"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"value: {name} is {getattr(self, name)}, a share must lie in 0 to 1")
        if self.named + self.other > 1:
            raise SpecError(f"value: named {self.named} and other {self.other} are shares of one whole, at most 1")
        if not 0 < self.tolerance_low <= self.tolerance_high or self.tolerance_spread < 1:
            raise SpecError(
                f"value: tolerance_low {self.tolerance_low} (> 0), tolerance_high {self.tolerance_high} (not below "
                f"it), tolerance_spread {self.tolerance_spread} (>= 1)"
            )
        if not 0 <= self.jitter < 1:
            raise SpecError(f"value: jitter is {self.jitter}, must lie in [0, 1): a goal holds on the row it is of")
