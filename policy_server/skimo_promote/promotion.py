"""Promotion: a candidate earns its way onto the arm, stage by stage, each leaving its evidence in the ledger.

    added      hashes, graphs, recorded answers and specs hold (`store.py`)
    fits       same robot, domain and channels as the incumbent, whose descendant it is
    sane       answers recorded states, in time, and not altogether otherwise (`sanity.py`)
    simulated  better in the twin on paired seeds, under the gate (`trial.py`)
    shadowed   the same as sane, on what the robot meets: planned beside the incumbent, nothing sent (`shadow.py`)
    confirmed  a person has read the summary and said yes
    canaried   drove the robot slowly, and the gate hardly had to interfere (`canary.py`)
    incumbent  whoever serves the store swaps to it

Promises
  - A stage that fails refuses the candidate, with the reason and a remedy; the incumbent goes on driving.
  - A promotion that was killed goes on where it was; what was passed against another incumbent is passed again.
  - Links to the candidate are down when this ends; what a killed one left up comes down with the next.
  - A stage that is left out for want of a robot says so in the ledger, and is no stage that was passed.
  - One promotion runs in a store at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from skimo_core.contract.errors import SpecError, StoreError
from skimo_core.episodes.locks import held
from skimo_server.bundle import Bundle, Manifest
from skimo_server.follow import PROMOTION_LOCK

from .canary import CanaryConfig, watch_canary
from .driven import Recordings
from .ledger import Entry, unix_s
from .pace import Pace, Say
from .sanity import check_sanity
from .shadow import ShadowConfig, watch_shadow
from .store import (
    ADDED,
    CANARIED,
    CANARY,
    CONFIRMED,
    FITS,
    REFUSED,
    SANE,
    SHADOW,
    SHADOWED,
    SIMULATED,
    Store,
    turned_down,
)
from .trial import TrialConfig, fly
from .verdict import Verdict

LOCK_WAIT_S = 0.2
"""A server that looks whether a promotion is at work holds its lock for a moment."""
REMEDIES = {
    FITS: "learn on from the incumbent, or give it a store of its own (--store)",
    SANE: "look at its data and its normalisation, and learn on from the incumbent",
    SIMULATED: "record more, learn on with more of the incumbent's own data beside it, and promote what comes of that",
    SHADOWED: "record what the robot meets and learn on from the incumbent with it, or try this one anew with --again",
    CANARIED: "look at the recordings that its evidence names, and correct it there",
}
"""What to do about a candidate that a stage refuses."""
Confirm = Callable[[str], bool]
"""Shows a person a summary, and asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionConfig:
    """How a candidate is tried.

    Attributes:
        trial: in the twin.
        shadow: beside the incumbent.
        canary: on the robot, slowly.
        any_parent: also one that wasn't made from the incumbent.
        again: also one that was refused before.
    """

    trial: TrialConfig = field(default_factory=TrialConfig)
    shadow: ShadowConfig = field(default_factory=ShadowConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    any_parent: bool = False
    again: bool = False


class Promotion:
    """Promotes in one store.

    Args:
        recordings: of the robots that the store's server drives; None: there are none, so no canary can be judged.
        pace: how it waits.
    """

    def __init__(
        self,
        store: Store,
        config: PromotionConfig,
        confirm: Confirm,
        say: Say,
        *,
        recordings: Recordings | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._store, self._config, self._confirm, self._say = store, config, confirm, say
        self._recordings, self._pace = recordings, pace or Pace()

    def run(self, candidate_id: str) -> bool:
        """Takes a candidate as far as it comes; says whether it drives now.

        Raises:
            StoreError: another promotion is at work, the store is damaged, or the incumbent changed meanwhile.
            SetupError: the twin can't fly, or no robot drives. SpecError: the canary has no recordings to go by.
        """
        with held(self._store.folder / PROMOTION_LOCK, LOCK_WAIT_S, "another promotion"):
            self._store.point()
            candidate = self._store.find(candidate_id)
            bundle_id, now = candidate.manifest.bundle_id, self._store.incumbent()
            withdraw_stale(self._store, but=bundle_id)
            if bundle_id == now:
                self._say(f"{bundle_id[:12]} drives already")
                return True
            before = self._store.history(bundle_id)
            if turned_down(before[-1], bundle_id) and not self._config.again:
                self._say(f"{before[-1].decision} before: {before[-1].why} (--again tries it anew)")
                return False
            if now and self._config.canary.episodes and self._recordings is None:
                raise SpecError(
                    "a canary is judged by --recordings, the folders of the robot's recorder; a store without a robot "
                    "leaves it out, and the shadow: --canary.episodes 0 --shadow.plans 0"
                )
            incumbent = self._store.find(now) if now else None
            return self._stages(candidate, incumbent)

    def _stages(self, candidate: Bundle, incumbent: Bundle | None) -> bool:
        bundle_id = candidate.manifest.bundle_id
        against = incumbent.manifest.bundle_id if incumbent else ""
        stages: tuple[tuple[str, Callable[[], Verdict]], ...] = (
            (FITS, lambda: self._fits(candidate.manifest, incumbent)),
            (SANE, lambda: check_sanity(candidate, incumbent)),
            (SIMULATED, lambda: self._simulated(bundle_id, against)),
            (SHADOWED, lambda: self._shadowed(bundle_id, against)),
            (CONFIRMED, lambda: self._confirmed(bundle_id)),
            (CANARIED, lambda: self._canaried(bundle_id, against)),
        )
        try:
            for stage, judge in stages:
                if self._passed(bundle_id, stage, against):
                    self._say(f"{stage}: before")
                elif not self._take(stage, judge(), bundle_id, against):
                    return False
            self._check_incumbent(against)
            self._store.promote(bundle_id, "passed every stage", {"against": against})
            self._say(f"incumbent: {bundle_id[:12]}")
            return True
        finally:  # the canary's link after the incumbent's, so that the server goes on with the same bundle
            self._store.withdraw(SHADOW)
            self._store.withdraw(CANARY)

    def _take(self, stage: str, verdict: Verdict, bundle_id: str, against: str) -> bool:
        """Puts a stage's verdict down; says whether it goes on."""
        if not verdict.passed and stage == CONFIRMED:
            self._say(f"{stage}: {verdict.why}")
            return False
        decision, why = (stage, verdict.why) if verdict.passed else (REFUSED, f"{verdict.why}; {REMEDIES[stage]}")
        self._store.ledger.append(decision, bundle_id, why, {**verdict.evidence, "against": against, "stage": stage})
        self._say(f"{decision if verdict.passed else f'{stage}: refused'}: {why}")
        return verdict.passed

    def _passed(self, bundle_id: str, stage: str, against: str) -> bool:
        """Whether it has been, against this incumbent; a stage that was left out and is wanted now has not."""
        entry = self._store.passed(bundle_id, stage, against)
        wanted = {SHADOWED: self._config.shadow.plans, CANARIED: self._config.canary.episodes}.get(stage)
        return entry is not None and not (wanted and entry.evidence.get("left_out"))

    def _since_s(self, bundle_id: str, stage: str, against: str) -> float:
        entry = self._store.passed(bundle_id, stage, against)
        assert isinstance(entry, Entry)
        return unix_s(entry.at)

    def _check_incumbent(self, against: str) -> None:
        if (now := self._store.incumbent()) != against:
            raise StoreError(f"{now[:12]} drives now, not {against[:12]}, against which this was tried; run it again")

    def _fits(self, manifest: Manifest, incumbent: Bundle | None) -> Verdict:
        if incumbent is None:
            return Verdict(passed=True, why="the first of this store")
        now = incumbent.manifest
        for what in ("observation", "action", "domain", "robot", "skill_horizon"):
            if (new := getattr(manifest, what)) != (old := getattr(now, what)):
                words = f" ({new} against {old})" if what in ("domain", "robot", "skill_horizon") else ""
                return Verdict(passed=False, why=f"its {what} is another than the incumbent's{words}")
        if now.bundle_id not in self._store.ancestors(manifest) and not self._config.any_parent:
            parent = (manifest.parent_id or "nothing")[:12]
            why = f"made from {parent}, not from the incumbent {now.bundle_id[:12]} (--any-parent allows it)"
            return Verdict(passed=False, why=why)
        return Verdict(passed=True, why="fits the incumbent's robot, domain and channels")

    def _simulated(self, bundle_id: str, against: str) -> Verdict:
        if not against:
            return Verdict(passed=True, why="no incumbent to be better than")

        def say(words: str) -> None:
            self._say(f"{SIMULATED}: {words}")
            self._pace.between()
            self._check_incumbent(against)

        candidate, now = (self._store.path(b) for b in (bundle_id, against))
        return fly(candidate, now, self._store.folder / "evidence" / bundle_id, self._config.trial, say)

    def _shadowed(self, bundle_id: str, against: str) -> Verdict:
        config = self._config.shadow
        if not against:
            return Verdict(passed=True, why="no incumbent to plan beside")
        if not config.plans:
            return Verdict(passed=True, why="left out: --shadow.plans 0", evidence={"left_out": True})
        since_s = self._since_s(bundle_id, SIMULATED, against)

        def say(words: str) -> None:
            self._say(f"{SHADOW}: {words}")

        return watch_shadow(self._store, bundle_id, against, since_s, config, self._pace, say)

    def _canaried(self, bundle_id: str, against: str) -> Verdict:
        config = self._config.canary
        if not against:
            return Verdict(passed=True, why="no incumbent to go back to")
        if not config.episodes:
            return Verdict(passed=True, why="left out: --canary.episodes 0", evidence={"left_out": True})
        assert self._recordings is not None
        since_s = self._since_s(bundle_id, CONFIRMED, against)

        def say(words: str) -> None:
            self._say(f"{CANARY}: {words}")

        return watch_canary(self._store, bundle_id, against, since_s, self._recordings, config, self._pace, say)

    def _confirmed(self, bundle_id: str) -> Verdict:
        if self._confirm(summary(self._store, bundle_id)):
            return Verdict(passed=True, why="a person's word")
        return Verdict(passed=False, why="waits for a person's word: run this again with --yes")


def withdraw_stale(store: Store, but: str = "") -> None:
    """Takes down the links that a killed promotion left, but that of the canary that goes on: it was confirmed."""
    store.withdraw(SHADOW)
    its, now = store.linked(CANARY), store.incumbent()
    if its != but or its == now or not store.passed(its, CONFIRMED, now):
        store.withdraw(CANARY)


def summary(store: Store, bundle_id: str) -> str:
    """What a person has to know before saying yes, in at most twenty lines."""
    manifest = store.find(bundle_id).manifest
    now = store.incumbent()
    lines = [
        f"candidate  {bundle_id[:12]}, made from {(manifest.parent_id or 'nothing')[:12]}",
        f"incumbent  {now[:12] or 'none'}",
        f"recipe     {manifest.recipe.get('name', '-')}",
        f"data       {', '.join(f'{name} {digest[:8]}' for name, digest in sorted(manifest.dataset_digests.items()))}",
    ]
    last = {entry.decision: entry for entry in store.history(bundle_id)}
    lines += [f"{stage:10s} {last[stage].why}" for stage in (ADDED, FITS, SANE, SIMULATED, SHADOWED) if stage in last]
    if SIMULATED in last and "by_condition" in last[SIMULATED].evidence:
        under = last[SIMULATED].evidence["by_condition"].items()
        lines += [f"  under {name}: {difference:+.2f} sub-tasks" for name, difference in list(under)[:11]]
    return "\n".join(lines)
