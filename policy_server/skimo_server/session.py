"""What the server does with a message, apart from sockets and threads: pure requests in, replies out.

Promises
  - `answer` never raises: whatever goes wrong becomes a reply with one of `wire.CODES` and a sentence, never a
    traceback. A fault of our own is logged here and told as "internal".
  - `act`, `hello` and `health` are answered at once; `plan` is only checked here and carried out by `plan`, which
    the server calls in its worker.
  - Plans are made with the current bundle. After a swap the one before still acts in its own skills, and carries out
    the plans that were asked of it; a message is answered by the bundles that there were when it came.
  - Whoever plans beside the incumbent is told of a plan once its reply is made, and can't hold it up.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from skimo_core.contract.errors import BundleError, PolicyError, SkimoError, SpecError, WireError
from skimo_core.contract.policy import Plan, PolicySpec
from skimo_core.link import protocol, wire
from skimo_core.link.protocol import PlanQuery
from skimo_core.link.wire import Message

from .plan_queue import Asker, PlanJob
from .served import Served, no_longer_here
from .timing import Clock, Stages, percentiles

log = logging.getLogger(__name__)

REPLY_SHARE = 0.1  # of a deadline that is kept for finishing the reply and sending it
KEEP_TIMINGS = 512
MAX_REASON = 1000
MAX_PLAN_DEADLINE_S = 10.0
"""The longest that a plan may wait and take, whatever its client allows: a queue of patient clients is still short."""


class Beside(Protocol):
    """Who plans beside the incumbent."""

    def offer(self, incumbent: Served, query: PlanQuery, plan: Plan) -> None:
        """The incumbent made this plan; returns at once."""
        ...


class Session:
    """The operations of a server; it calls `answer` from its I/O thread, `plan` from its worker, `swap` from a third.

    Attributes:
        refused_bundle: why the newest bundle was not taken, for `health`; empty where none was refused.
        canary: the id of the current bundle where it drives on trial; empty where the incumbent drives.
        shadow: the id of the bundle that plans beside the incumbent; empty where none does.
        beside: told of each plan of the incumbent's.
    """

    def __init__(self, served: Served, clock: Clock = time.monotonic) -> None:
        self.refused_bundle = self.canary = self.shadow = ""
        self.beside: Beside | None = None
        self._kept: tuple[Served, ...] = (served,)  # the current one first; replaced whole, so that any thread may look
        self._clock = clock
        self._swaps = 0
        self._started_s = clock()
        self._counts: Counter[str] = Counter({"canary_plans": 0, "shadow_plans": 0, "shadow_errors": 0})
        self._plan_ms: deque[float] = deque(maxlen=KEEP_TIMINGS)
        self._act_ms: deque[float] = deque(maxlen=KEEP_TIMINGS)

    @property
    def spec(self) -> PolicySpec:
        """Of the current bundle."""
        return self._kept[0].spec

    @property
    def kept(self) -> tuple[Served, ...]:
        """The bundles at hand: the current one, and the one before it if there is one."""
        return self._kept

    def swap(self, served: Served) -> None:
        """Makes another bundle the current one, or the one before again; what is neither is closed, once its plan
        under way is made."""
        current, *older = [one for one in self._kept if one is not served]
        self._kept = (served, current)
        self._swaps += 1
        for one in older:
            one.close()

    def settled(self) -> bool:
        """Whether the bundle before the current one has been left alone for as long as a skill lasts."""
        now_s = self._clock()
        return all(now_s - one.used_s > one.skill_s for one in self._kept[1:])

    def close(self) -> None:
        """Closes the bundles; after the server."""
        for one in self._kept:
            one.close()

    def answer(self, asker: Asker, frames: list[bytes], waiting: int) -> Message | PlanJob:
        """The reply to a message, or the plan job that it asks for; `waiting` is the length of the plan queue."""
        arrived_s = self._clock()
        request_id, op = 0, "error"
        try:
            try:
                message = wire.decode(frames)
            except WireError:
                request_id = wire.request_id_of(frames)
                raise
            request_id, op = message.request_id, message.op
            self._counts[op] += 1
            if op == "hello":
                return protocol.hello_reply(self.spec, request_id)
            if op == "act":
                return self._act(message)
            if op == "health":
                return self._health(request_id, waiting)
            if op == "plan":
                return self._job(asker, message, arrived_s)
            raise WireError("op", f"op is {op!r}, which no client may send")
        except Exception as error:  # the process's request border: any fault is told by code, and the server goes on
            return self.refusal(op, request_id, error)

    def plan(self, job: PlanJob) -> Message:
        """Carries a plan out; at its deadline the best so far is the answer."""
        try:
            queued_s = self._clock() - job.arrived_s
            left_s = job.end_s - self._clock() - REPLY_SHARE * job.deadline_s
            if left_s <= 0:
                raise WireError(
                    "deadline",
                    f"waited {queued_s:.3f} s of its {job.deadline_s:g} s for the planner; allow more time",
                )
            found = job.served.plan(job.query, left_s)
            job.served.used_s = self._clock()
            found.timings_ms["queue"] = round(1e3 * queued_s, 4)
            self._plan_ms.append(found.timings_ms["total"])
            reply = usable(protocol.plan_reply(found, job.request_id), protocol.read_plan_reply, job.served.spec)
            self._tell_beside(job, found)
            return reply
        except Exception as error:  # as in `answer`
            return self.refusal("plan", job.request_id, error)

    def count(self, what: str) -> None:
        """One more of these in `health`."""
        self._counts[what] += 1

    def refusal(self, op: str, request_id: int, error: Exception) -> Message:
        """The reply that tells an error; an unforeseen one is logged with its traceback, which stays here."""
        code, text = _code_of(error), str(error)
        if code == "internal":
            log.error("unforeseen fault in %s", op, exc_info=error)
            text = "a fault of the server; see its log"
        self._counts[f"refused_{code}"] += 1
        fields = {"bundle": self.spec.bundle_id}
        return Message(op=op, request_id=request_id, code=code, text=text, fields=fields)

    def _tell_beside(self, job: PlanJob, found: Plan) -> None:
        if job.served.spec.bundle_id == self.canary:
            self.count("canary_plans")
        elif self.beside is not None and job.served is self._kept[0]:
            self.beside.offer(job.served, job.query, found)

    def _act(self, message: Message) -> Message:
        stages = Stages()
        with stages("check"):
            served = self._named(protocol.bundle_of(message))
            observation_O, skill_Z = protocol.read_act_request(message, served.spec)
        served.used_s = self._clock()
        with stages("policy"):
            action_A = served.act(observation_O, skill_Z)
        timings_ms = stages.milliseconds()
        self._act_ms.append(timings_ms["total"])
        reply = protocol.act_reply(action_A, served.spec.bundle_id, timings_ms, message.request_id)
        return usable(reply, protocol.read_act_reply, served.spec)

    def _named(self, bundle_id: str) -> Served:
        """The bundle of that id, the current one where none is named; raises WireError where it isn't here."""
        kept = self._kept
        found = [one for one in kept if one.spec.bundle_id == bundle_id] if bundle_id else kept
        if not found:
            raise no_longer_here(bundle_id)
        return found[0]

    def _job(self, asker: Asker, message: Message, arrived_s: float) -> PlanJob:
        if not message.deadline_s > 0:
            raise SpecError(f"plan: deadline is {message.deadline_s:g} s, must be more than 0")
        served = self._kept[0]
        return PlanJob(
            asker=asker,
            request_id=message.request_id,
            served=served,
            query=protocol.read_plan_request(message, served.spec),
            deadline_s=min(message.deadline_s, MAX_PLAN_DEADLINE_S),
            arrived_s=arrived_s,
        )

    def _health(self, request_id: int, waiting: int) -> Message:
        fields: dict[str, wire.Scalar] = {
            "bundle": self.spec.bundle_id,
            "uptime_s": self._clock() - self._started_s,
            "plans_waiting": waiting,
            "swaps": self._swaps,
            "refused_bundle": self.refused_bundle[:MAX_REASON],
            "canary": self.canary,
            "shadow": self.shadow,
        }
        fields |= {f"count_{name}": count for name, count in sorted(self._counts.items())}
        for name, values in (("plan_ms", self._plan_ms), ("act_ms", self._act_ms)):
            fields |= {f"{name}_{key}": value for key, value in percentiles(list(values)).items()}
        return Message(op="health", request_id=request_id, fields=fields)


def usable(reply: Message, read: Callable[[Message, PolicySpec], object], spec: PolicySpec) -> Message:
    """The reply, if its client could use it: what leaves here is held to what the client will ask of it.

    Raises:
        PolicyError: the model gave something else, as it may for an observation far from its data.
    """
    try:
        read(reply, spec)
    except (SpecError, WireError) as error:
        raise PolicyError(f"the model gave no usable answer to {reply.op} ({error})") from None
    return reply


_CODES: tuple[tuple[type[SkimoError], Callable[[SkimoError], str]], ...] = (
    (WireError, lambda error: getattr(error, "code", "malformed")),
    (SpecError, lambda error: "spec"),
    (PolicyError, lambda error: "model"),
    (BundleError, lambda error: "model"),
)


def _code_of(error: Exception) -> str:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code(error)
    return "internal"
