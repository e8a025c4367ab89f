"""Canary: while STORE/canary points to a candidate, the server drives with it, at reduced speed.

Promises
  - What counts is recorded: episodes in which its skills were in force throughout, whole, begun after a person's word.
  - A STOP, or a larger share of commands with which the gate meddled than the bound, refuses it at once; every
    interference with a command of its counts, also in an episode that it shares with another bundle, or a damaged one.
  - The link stays up when it passes, until the store's link to the incumbent has moved: the server never falls back in
    between. Whoever calls this takes it down.
Success is not judged: in slow motion the same skills have other outcomes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skimo_core.contract.errors import SpecError

from .driven import Driven, Gate, Recordings
from .pace import Pace, Say, Vigil
from .store import CANARY, Store
from .verdict import Verdict

NAMES = 20
"""So many recordings are named in the evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryConfig:
    """How long a candidate drives slowly, and what the gate may say to it.

    Attributes:
        episodes: so many; 0: the stage is left out, for a store without a robot.
        meddled: how many times the incumbent's share of commands the gate may meddle with.
        least_meddled: a share that it always may.
        recent: so many of the incumbent's last episodes say what its share is.
        quiet_s: so long none may come.
    """

    episodes: int = 5
    meddled: float = 2.0
    least_meddled: float = 0.02
    recent: int = 50
    quiet_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.episodes < 0 or self.recent < 1 or not self.quiet_s > 0.0:
            raise SpecError(
                f"canary: episodes {self.episodes} (>= 0), recent {self.recent} (>= 1), quiet_s {self.quiet_s:g} (> 0)"
            )


def watch_canary(
    store: Store,
    bundle_id: str,
    against: str,
    since_s: float,
    recordings: Recordings,
    config: CanaryConfig,
    pace: Pace,
    say: Say,
) -> Verdict:
    """Has a candidate drive slowly, and judges it.

    Raises:
        SetupError: no robot drives. StoreError: the incumbent changed.
    """
    remedy = "have the robot drive, with its recorder, or leave this out with --canary.episodes 0"
    vigil = Vigil(
        store=store,
        pace=pace,
        link=CANARY,
        bundle_id=bundle_id,
        against=against,
        quiet_s=config.quiet_s,
        remedy=remedy,
    )
    reign_s = next((reign.since_s for reign in reversed(store.reigns()) if reign.bundle_id == against), since_s)
    store.link(CANARY, bundle_id)
    said, why = 0, ""
    while True:
        found = recordings.look(min(reign_s, since_s))
        its = [d for d in found if bundle_id in d.gates and d.began_s >= since_s]
        full = [d for d in its if d.bundle_id == bundle_id and d.whole and d.gate.commands]
        before = [d for d in found if d.bundle_id == against and d.gate.commands][-config.recent :]
        evidence = _figures(bundle_id, its, len(full), before, recordings.unread)
        why = why or _too_much(total(its, bundle_id), total(before, against), config)
        if why or len(full) >= config.episodes:
            good = (
                f"{len(full)} slow episodes without a STOP, {evidence['meddled'][0]:.1%} of its commands meddled with"
            )
            return Verdict(passed=not why, why=why or good, evidence=evidence)
        if len(full) > said:
            said = len(full)
            say(f"{said} of {config.episodes} episodes")
        why = vigil.wait(len(full))


def total(driven: Sequence[Driven], bundle_id: str) -> Gate:
    """What the gate made of a bundle's commands in all of them."""
    gates = [d.gates[bundle_id] for d in driven if bundle_id in d.gates]
    verdicts = sum((Counter(gate.verdicts) for gate in gates), Counter())
    return Gate(commands=sum(gate.commands for gate in gates), verdicts=dict(verdicts))


def _too_much(new: Gate, old: Gate, config: CanaryConfig) -> str:
    if new.stops:
        return "the gate stopped it"
    bound = max(config.meddled * _share(old), config.least_meddled)
    if _share(new) > bound:
        return f"the gate meddled with {_share(new):.1%} of its commands, bound {bound:.1%}"
    return ""


def _figures(
    bundle_id: str, its: Sequence[Driven], full: int, before: Sequence[Driven], unread: dict[str, str]
) -> dict[str, Any]:
    new, old = total(its, bundle_id), total(before, before[0].bundle_id if before else "")
    return {
        "episodes": [full, len(before)],
        "commands": [new.commands, old.commands],
        "meddled": [round(_share(new), 5), round(_share(old), 5)],
        "verdicts": [dict(new.verdicts), dict(old.verdicts)],
        "recordings": {d.name: dict(d.gates[bundle_id].verdicts) for d in its[-NAMES:]},
        "unread": sorted(unread)[:NAMES],
    }


def _share(gate: Gate) -> float:
    return gate.meddled / max(1, gate.commands)
