"""Promotion: a candidate earns its way onto the arm, stage by stage, each leaving its evidence in the ledger.

    added      hashes, graphs, recorded answers and specs hold (`store.py`)
    fits       same robot, domain and channels as the incumbent, whose descendant it is
    sane       answers recorded states, in time, and not altogether otherwise (`sanity.py`)
    simulated  better in the twin on paired seeds, under the gate (`trial.py`)
    confirmed  a person has read the summary and said yes
    incumbent  whoever serves the store swaps to it

Promises
  - A stage that fails refuses the candidate, with the reason; the incumbent goes on driving.
  - A promotion that was killed goes on where it was; what was passed against another incumbent is passed again.
  - One promotion runs in a store at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skimo_server.bundle import Bundle, Manifest

from .locks import held
from .sanity import check_sanity
from .store import ADDED, CONFIRMED, FITS, REFUSED, SANE, SIMULATED, Store, turned_down
from .trial import Say, TrialConfig, fly
from .verdict import Verdict

Confirm = Callable[[str], bool]
"""Shows a person a summary, and asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionConfig:
    """How a candidate is tried.

    Attributes:
        trial: in the twin.
        any_parent: also one that wasn't made from the incumbent.
        again: also one that was refused before.
    """

    trial: TrialConfig
    any_parent: bool = False
    again: bool = False


class Promotion:
    """Promotes in one store."""

    def __init__(self, store: Store, config: PromotionConfig, confirm: Confirm, say: Say) -> None:
        self._store, self._config, self._confirm, self._say = store, config, confirm, say

    def run(self, candidate_id: str) -> bool:
        """Takes a candidate as far as it comes; says whether it drives now.

        Raises:
            StoreError: another promotion is at work, or the store is damaged. SetupError: the twin can't fly.
        """
        with held(self._store.folder / "promote.lock", 0.0, "another promotion"):
            self._store.point()
            candidate = self._store.find(candidate_id)
            bundle_id, now = candidate.manifest.bundle_id, self._store.incumbent()
            if bundle_id == now:
                self._say(f"{bundle_id[:12]} drives already")
                return True
            before = self._store.history(bundle_id)
            if turned_down(before[-1], bundle_id) and not self._config.again:
                self._say(f"{before[-1].decision} before: {before[-1].why} (--again tries it anew)")
                return False
            incumbent = self._store.find(now) if now else None
            return self._stages(candidate, incumbent)

    def _stages(self, candidate: Bundle, incumbent: Bundle | None) -> bool:
        bundle_id = candidate.manifest.bundle_id
        stages: tuple[tuple[str, Callable[[], Verdict]], ...] = (
            (FITS, lambda: self._fits(candidate.manifest, incumbent)),
            (SANE, lambda: check_sanity(candidate, incumbent)),
            (SIMULATED, lambda: self._simulated(bundle_id, incumbent)),
            (CONFIRMED, lambda: self._confirmed(bundle_id)),
        )
        against = incumbent.manifest.bundle_id if incumbent else ""
        for stage, judge in stages:
            if self._passed(bundle_id, stage, against):
                self._say(f"{stage}: before")
                continue
            verdict = judge()
            evidence = {**verdict.evidence, "against": against, "stage": stage}
            if not verdict.passed and stage == CONFIRMED:
                self._say(f"{stage}: {verdict.why}")
                return False
            decision = stage if verdict.passed else REFUSED
            self._store.ledger.append(decision, bundle_id, verdict.why, evidence)
            self._say(f"{decision if verdict.passed else f'{stage}: refused'}: {verdict.why}")
            if not verdict.passed:
                return False
        self._store.promote(bundle_id, "passed every stage", {"against": against})
        self._say(f"incumbent: {bundle_id[:12]}")
        return True

    def _passed(self, bundle_id: str, stage: str, against: str) -> bool:
        """Whether it has been, against this incumbent and since it was last turned down."""
        history = self._store.history(bundle_id)
        since = max((number + 1 for number, e in enumerate(history) if turned_down(e, bundle_id)), default=0)
        return any(e.decision == stage and e.evidence.get("against") == against for e in history[since:])

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

    def _simulated(self, bundle_id: str, incumbent: Bundle | None) -> Verdict:
        if incumbent is None:
            return Verdict(passed=True, why="no incumbent to be better than")
        candidate, now = (self._store.path(b) for b in (bundle_id, incumbent.manifest.bundle_id))
        folder = self._store.folder / "evidence" / bundle_id
        return fly(candidate, now, folder, self._config.trial, lambda words: self._say(f"simulated: {words}"))

    def _confirmed(self, bundle_id: str) -> Verdict:
        if self._confirm(summary(self._store, bundle_id)):
            return Verdict(passed=True, why="a person's word")
        return Verdict(passed=False, why="waits for a person's word: run this again with --yes")


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
    lines += [f"{stage:10s} {last[stage].why}" for stage in (ADDED, FITS, SANE, SIMULATED) if stage in last]
    if SIMULATED in last and "by_condition" in last[SIMULATED].evidence:
        under = last[SIMULATED].evidence["by_condition"].items()
        lines += [f"  under {name}: {difference:+.2f} sub-tasks" for name, difference in list(under)[:12]]
    return "\n".join(lines)
