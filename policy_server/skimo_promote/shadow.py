"""Shadow: the server that drives plans beside each of its plans with the candidate too, and sends nothing of it.

While STORE/shadow points to a candidate, that server appends to STORE/evidence/<id>/shadow.jsonl, a line for a plan:

    at          UTC
    drift       mean distance of the candidate's first action from the incumbent's, for the same observation
    own_dice    the same between the incumbent's plan and its plan with another seed
    plan_ms     [candidate, incumbent]
    promised    success probabilities, [candidate, incumbent]
    error       empty, or why the candidate gave no usable answer; the rest then says nothing

Promises
  - The link is down when this returns or raises.
  - Lines from before the candidate came this far do not count; nor does a last one that is being written. Any other one
    that can't be read is an error that names it.
What is judged is what sanity.py judges, on states that the robot met; time, on a machine that has other things to do,
by how many plans are slow, which takes ten to say anything. Actions in their own scale, -1 to 1.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from skimo_core.contract.errors import SpecError, StoreError

from .ledger import unix_s
from .pace import Pace, Say, Vigil
from .sanity import Bounds
from .store import SHADOW, Store
from .verdict import Verdict

FILE = "shadow.jsonl"
SAY_EVERY = 10
SURE = 3.0
"""So many standard deviations above one half must the share of slow plans lie: these are made when others leave time,
and of the same bundle's one may take five times as long as the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowConfig:
    """How long a candidate plans beside the incumbent, and within which bounds.

    Attributes:
        plans: so many; 0: the stage is left out, for a store without a robot.
        quiet_s: so long none may come.
        bounds: as in sanity.py.
    """

    plans: int = 50
    quiet_s: float = 600.0
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        if self.plans < 0 or not self.quiet_s > 0.0:
            raise SpecError(f"shadow: plans {self.plans} (>= 0), quiet_s {self.quiet_s:g} s (> 0)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One line."""

    at_s: float
    drift: float = 0.0
    own_dice: float = 0.0
    plan_ms: tuple[float, float] = (0.0, 0.0)
    promised: tuple[float, float] = (0.0, 0.0)
    error: str = ""


def watch_shadow(
    store: Store, bundle_id: str, against: str, since_s: float, config: ShadowConfig, pace: Pace, say: Say
) -> Verdict:
    """Has a candidate plan beside the incumbent, and judges it.

    Raises:
        SetupError: nobody plans. StoreError: a line can't be read, or the incumbent changed.
    """
    remedy = "start a server of the store's link incumbent and let it drive, or leave this out with --shadow.plans 0"
    vigil = Vigil(
        store=store,
        pace=pace,
        link=SHADOW,
        bundle_id=bundle_id,
        against=against,
        quiet_s=config.quiet_s,
        remedy=remedy,
    )
    path, said, why = store.folder / "evidence" / bundle_id / FILE, 0, ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path.parent}: {error.strerror}; make room, and run this again") from error
    store.link(SHADOW, bundle_id)
    try:
        while True:
            lines = [line for line in read_lines(path) if line.at_s >= since_s]
            why = next((f"gives no usable answer: {line.error}" for line in lines if line.error), why)
            if why or len(lines) >= config.plans:
                return _judge(lines, why, config.bounds)
            if len(lines) >= said + SAY_EVERY:
                said = len(lines)
                say(f"{said} of {config.plans} plans")
            why = vigil.wait(len(lines))
    finally:
        store.withdraw(SHADOW)


def _judge(lines: list[Beside], why: str, bounds: Bounds) -> Verdict:
    good = [line for line in lines if not line.error]
    evidence: dict[str, Any] = {"plans": len(lines), "errors": len(lines) - len(good)}
    if not good:
        return Verdict(passed=False, why=why, evidence=evidence)
    drift, dice = mean(line.drift for line in good), mean(line.own_dice for line in good)
    slow = sum(bounds.too_slow(*line.plan_ms) for line in good)
    evidence |= {
        "action_drift": round(drift, 4),
        "own_dice": round(dice, 4),
        "promised": [round(mean(some), 4) for some in zip(*(line.promised for line in good))],
        "plan_ms": [round(median(some), 2) for some in zip(*(line.plan_ms for line in good))],
        "slow": slow,
    }
    why = why or bounds.why_far(drift, dice)
    if not why and slow > len(good) / 2 + SURE * math.sqrt(len(good)) / 2:
        why = f"{slow} of {len(good)} plans take more than {bounds.slower:g} times as long as the incumbent's beside it"
    said = f"over {len(good)} plans beside it first actions lie {drift:.3f} from the incumbent's"
    return Verdict(passed=not why, why=why or said, evidence=evidence)


def read_lines(path: Path) -> list[Beside]:
    """The lines of a file, none where there is no file; without a last one that can't be read yet.

    Raises:
        StoreError: another one can't be read; names it.
    """
    try:
        rows = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{path.name}: {error.strerror}; give a store that this user can read") from error
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(_line(json.loads(row)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number < len(rows):
                raise StoreError(f"{path.name}, line {number} is no plan beside another ({error}); remove it") from None
    return found


def _line(raw: Any) -> Beside:
    error = raw["error"]
    if not isinstance(error, str):
        raise ValueError(f"error is {str(error)[:40]!r}")
    if error:
        return Beside(at_s=unix_s(raw["at"]), error=error)
    (new_ms, old_ms), (new_promise, old_promise) = raw["plan_ms"], raw["promised"]
    numbers = [raw["drift"], raw["own_dice"], new_ms, old_ms, new_promise, old_promise]
    if not all(isinstance(n, (int, float)) and math.isfinite(n) and n >= 0.0 for n in numbers):
        raise ValueError(f"numbers are {str(numbers)[:80]}")
    return Beside(
        at_s=unix_s(raw["at"]),
        drift=numbers[0],
        own_dice=numbers[1],
        plan_ms=(new_ms, old_ms),
        promised=(new_promise, old_promise),
    )
