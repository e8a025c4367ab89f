"""Who asks, since when and how much: what decides whose message is read and whose plan is made first.

A client is a process on this machine (told by the kernel), a key, or, on an open TCP port, a connection; it may have
several connections. Whoever has used the server without a break comes before newcomers, as long as it takes no more
than its share of the planner: a robot in mid-episode keeps its deadlines whoever else arrives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ACTIVE_S = 5.0
SENIORS = 4
FAIR_SHARE = 0.3
USAGE_WINDOW_S = 5.0
FORGET_S = 60.0


@dataclass(slots=True, eq=False)
class Client:
    """One client; times on the server's clock.

    Attributes:
        name: for people, e.g. "process 123" or "key lab-pc".
        since_s: when its present use began; infinite while it has asked for nothing that was in order.
        last_s: when it last asked for something that was in order.
        connections: how many it holds now.
    """

    name: str
    since_s: float = math.inf
    last_s: float = -math.inf
    connections: int = 0
    _spent_s: float = 0.0
    _spent_at_s: float = 0.0

    def used(self, now_s: float) -> None:
        """It asked for something that was in order."""
        if now_s - self.last_s > ACTIVE_S:
            self.since_s = now_s
        self.last_s = now_s

    def spent(self, planning_s: float, now_s: float) -> None:
        """A plan for it took so long."""
        self._spent_s = self.share(now_s) * USAGE_WINDOW_S + planning_s
        self._spent_at_s = now_s

    def share(self, now_s: float) -> float:
        """The part of the planner's time that it took lately; decays over USAGE_WINDOW_S."""
        return self._spent_s / USAGE_WINDOW_S * math.exp((self._spent_at_s - now_s) / USAGE_WINDOW_S)

    def active(self, now_s: float) -> bool:
        return now_s - self.last_s <= ACTIVE_S

    def rank(self, now_s: float) -> tuple[int, float]:
        """Smaller comes first: those within their share by seniority, then the others by what they took."""
        if self.active(now_s) and self.share(now_s) <= FAIR_SHARE:
            return 0, self.since_s
        return 1, self.share(now_s)


class Clients:
    """All clients by name; forgets those that hold no connection and were silent for a while."""

    def __init__(self) -> None:
        self._known: dict[str, Client] = {}

    def of(self, name: str) -> Client:
        return self._known.setdefault(name, Client(name))

    def seniors(self, now_s: float) -> set[Client]:
        """The SENIORS that have been active longest, however much they took of the planner."""
        active = [client for client in self._known.values() if client.active(now_s)]
        return set(sorted(active, key=lambda client: client.since_s)[:SENIORS])

    def forget(self, now_s: float) -> None:
        gone = [c.name for c in self._known.values() if not c.connections and now_s - c.last_s > FORGET_S]
        for name in gone:
            del self._known[name]
