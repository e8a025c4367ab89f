"""The plans that wait: the newest request of each connection, in the order of their clients' ranks.

Promises
  - A connection has at most one plan waiting, a client at most MAX_PER_CLIENT, all together at most `capacity`.
  - Who comes first is decided when the planner is free (`clients.Client.rank`), not when the request came.
  - A full queue makes room for a client of better rank by giving up the plan of the worst.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from skimo_core.contract.errors import WireError
from skimo_core.link.protocol import PlanQuery

from .served import Served

MAX_WAITING = 16
MAX_PER_CLIENT = 2


class Asker(Protocol):
    """Whom a reply is for: one connection, of a client that has a name and a rank. Hashable by identity."""

    @property
    def client_name(self) -> str: ...

    def rank(self) -> tuple[int, float]:
        """Smaller comes first; changes with time."""
        ...

    def spent(self, planning_s: float) -> None:
        """A plan for it took so long."""
        ...

    def send(self, parts: list[bytes]) -> None:
        """Sends it a reply, from the server's thread; dropped where it is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJob:
    """A plan request, checked for the bundle that is to plan; `end_s` is when its client gives up, server's clock."""

    asker: Asker
    request_id: int
    served: Served
    query: PlanQuery
    deadline_s: float
    arrived_s: float

    @property
    def end_s(self) -> float:
        return self.arrived_s + self.deadline_s


class PlanQueue:
    """Filled by the server's thread, emptied by the planner's."""

    def __init__(self, capacity: int = MAX_WAITING) -> None:
        self._capacity = capacity
        self._jobs: dict[Asker, PlanJob] = {}
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: PlanJob) -> tuple[PlanJob, WireError] | None:
        """Adds a job; returns the one that had to go for it, with what to tell its client.

        Raises:
            WireError: "busy", too many plans wait, all of clients of better rank.
        """
        with self._changed:
            given_up = self._make_room(job)
            self._jobs[job.asker] = job
            self._changed.notify()
            return given_up

    def take(self) -> PlanJob | None:
        """Waits for the next job; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._jobs))
            if self._closed:
                return None
            return self._jobs.pop(min(self._jobs, key=_rank))

    def drop(self, asker: Asker) -> None:
        """Its connection is gone: nobody waits for its plan."""
        with self._changed:
            self._jobs.pop(asker, None)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _make_room(self, job: PlanJob) -> tuple[PlanJob, WireError] | None:
        newer = WireError("superseded", f"request {job.request_id} of the same client took its place")
        if job.asker in self._jobs:
            return self._jobs[job.asker], newer
        own = [asker for asker in self._jobs if asker.client_name == job.asker.client_name]
        if len(own) >= MAX_PER_CLIENT:
            return self._jobs.pop(own[0]), newer
        if len(self._jobs) < self._capacity:
            return None
        busy = WireError("busy", f"{len(self._jobs)} plans wait, at most {self._capacity}; try later")
        worst = max(self._jobs, key=_rank)
        if worst.rank() <= job.asker.rank():
            raise busy
        return self._jobs.pop(worst), busy


def _rank(asker: Asker) -> tuple[int, float]:
    return asker.rank()
