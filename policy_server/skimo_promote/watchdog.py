"""The watchdog: an incumbent that does worse than the one before it is rolled back, without a person's word.

    done       share of the task's sub-tasks done in an episode, before a person intervened; none if it met a STOP
    unmeddled  1 - share of its commands with which the gate meddled, over the most that counts

The incumbent's episodes since its promotion are held against the last ones of the incumbent before it, of before that
promotion. It bets on a drop of either (`sequential.Drop`), each with half of alpha: of incumbents that are no worse, at
most a share of alpha is ever rolled back, however many episodes they drive. That holds as long as nothing else changes
with the promotion. Where tasks recur (`least` times before), only those count, so that another task is no drop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from skimo_core.contract.errors import SkimoError, SpecError

from .driven import Driven, Recordings
from .pace import Say
from .sequential import Drop
from .store import Reign, Store
from .trial import MOST_MEDDLED


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogConfig:
    """How sure it has to be.

    Attributes:
        alpha: chance that an incumbent that is no worse is ever rolled back.
        least: episodes of the incumbent before, below which nothing is said.
        most: of its last episodes that count.
    """

    alpha: float = 0.05
    least: int = 10
    most: int = 50

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 0.5 or not 1 <= self.least <= self.most:
            raise SpecError(f"watchdog: alpha {self.alpha} (0 to 0.5), least {self.least} (1 to most, {self.most})")


def done(driven: Driven) -> float | None:
    """What an episode counts; None: nothing is known."""
    if driven.done is None or not driven.whole:
        return None
    return 0.0 if driven.gate.stops else driven.done


def unmeddled(driven: Driven) -> float | None:
    """What an episode counts; None: nothing is known."""
    if not driven.gate.commands:
        return None
    return 1.0 - min(MOST_MEDDLED, driven.gate.meddled / driven.gate.commands) / MOST_MEDDLED


MEASURES: dict[str, Callable[[Driven], float | None]] = {"done": done, "unmeddled": unmeddled}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What speaks for a drop, if anything does, and the figures."""

    why: str
    evidence: dict[str, Any]


def compare(new: Sequence[Driven], old: Sequence[Driven], config: WatchdogConfig) -> Finding:
    """Holds an incumbent's episodes, in order, against those of the one before it."""
    old = old[-config.most :]
    tasks = {task for task, count in Counter(d.task for d in old).items() if task and count >= config.least}
    if tasks:
        new, old = ([d for d in some if d.task in tasks] for some in (new, old))
    why, evidence = "", {"alpha": config.alpha, "tasks": sorted(tasks)[:20]}
    for name, value in MEASURES.items():
        now, before = ([v for d in some if (v := value(d)) is not None] for some in (new, old))
        if len(before) < config.least or not now:
            continue
        drop = Drop(before)
        for v in now:
            drop.take(v)
            if drop.won(config.alpha / len(MEASURES)):
                break
        means, counts = [mean(now[: drop.count]), mean(before)], [drop.count, len(before)]
        evidence[name] = {"mean": [round(m, 4) for m in means], "episodes": counts, "odds": round(drop.odds, 2)}
        if drop.won(config.alpha / len(MEASURES)) and not why:
            why = f"{name} {means[0]:.2f} over {counts[0]} episodes, {means[1]:.2f} over {counts[1]} of the one before"
    return Finding(why=why, evidence=evidence)


class Watchdog:
    """Watches the incumbent of a store by the recordings of its robots."""

    def __init__(self, store: Store, recordings: Recordings, config: WatchdogConfig, say: Say) -> None:
        self._store, self._recordings, self._config, self._say = store, recordings, config, say
        self._compared: tuple[Reign, int, int] | None = None
        self._said = ""

    def look(self) -> bool:
        """Looks at what is new, and rolls back if it has to; says whether it did."""
        reigns = self._store.reigns()
        if len(reigns) < 2:
            return False
        before, now = reigns[-2:]
        found = [d for d in self._recordings.look(before.since_s) if not d.explored]
        old = [d for d in found if d.bundle_id == before.bundle_id and d.began_s < now.since_s]
        new = [d for d in found if d.bundle_id == now.bundle_id and d.began_s >= now.since_s]
        if self._compared == (looked := (now, len(new), len(old))):
            return False
        self._compared = looked
        finding = compare(new, old, self._config)
        if len(old) < self._config.least:
            self._once(
                f"{now.bundle_id[:12]} is not watched: {len(old)} episodes of the one before, at least "
                f"{self._config.least} are needed"
            )
        return bool(finding.why) and self._roll_back(now, finding)

    def _roll_back(self, now: Reign, finding: Finding) -> bool:
        try:
            entry = self._store.roll_back(finding.why, {**finding.evidence, "by": "watchdog"}, instead_of=now.bundle_id)
        except SkimoError as error:
            self._once(f"{now.bundle_id[:12]} does worse ({finding.why}), but can't be rolled back: {error}")
            return False
        self._say(f"rolled back to {entry.bundle_id[:12]}: {finding.why}")
        return True

    def _once(self, words: str) -> None:
        if words != self._said:
            self._said = words
            self._say(words)
