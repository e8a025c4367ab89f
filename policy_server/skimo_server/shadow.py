"""Plans with a second bundle beside the one that drives, on what its clients ask, and sends nothing of it.

    link `shadow` -> a process of its own (`shadow_child.py`) -> evidence/<bundle id>/shadow.jsonl, a line for a plan

A line holds
    at          UTC, when it was written
    drift       mean distance of the candidate's first action from the incumbent's, for the same observation
    own_dice    the same between the incumbent's plan and its plan with another seed
    plan_ms     [candidate, incumbent], both made in that process
    promised    success probabilities as the models have them, [candidate, incumbent]
    error       empty, or why the candidate gave no usable answer; the numbers are 0 then
Actions are in their own scale, -1 to 1. Neither of the two plans beside has a warm start: none is the candidate's.

Promises
  - A plan that is asked for waits for nothing of this: the process lets all others go first, and shares neither lock
    nor memory with the server's threads. At most one plan waits to be shadowed, the newest.
  - A bundle that can't be loaded, hangs or crashes costs the server nothing: there is one line that says so, one in the
    log, and no more until the link or the incumbent changes. What isn't the candidate's fault makes no line.
  - Lines come whole, or not at all where the disk is full; the log says that once.
  - While a canary drives nothing is shadowed: the incumbent makes no plans. Without the link there is no process.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from skimo_core.contract.errors import SetupError
from skimo_core.contract.policy import Plan
from skimo_core.link.protocol import PlanQuery

from .follow import Target
from .notices import Notices
from .served import Served
from .session import Session
from .shadow_child import NOTHING
from .vetting import ONE_THREAD

log = logging.getLogger(__name__)

SHADOW = "shadow"
CHILD = "skimo_server.shadow_child"
LOOK_S = 0.25
LOAD_S, ANSWER_S = 180.0, 60.0
"""For a process that lets all others go first, on a busy machine."""
JOIN_TIMEOUT_S = 2.0
NOT_ITS_FAULT = (signal.SIGKILL, signal.SIGTERM)
"""Ends of the process that say nothing of the candidate: the kernel's for want of memory, or somebody's wish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What the shadow's link points to, and whose plans it is held against."""

    candidate: Target
    incumbent: Path
    incumbent_id: str

    @classmethod
    def of(cls, link: Path, session: Session) -> Pair | None:
        """None where nobody is to plan beside."""
        now = session.kept[0]
        if not link.is_symlink() or session.canary or now.folder is None:
            return None
        return cls(candidate=Target.of(link), incumbent=now.folder, incumbent_id=now.spec.bundle_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A plan of the incumbent's, and what it was asked."""

    incumbent_id: str
    query: PlanQuery
    plan: Plan

    def line(self) -> bytes:
        """As `shadow_child.py` reads it."""
        goals = self.query.goals
        words = {
            "observation": self.query.observation_O.tolist(),
            "values": goals.values_KO.tolist(),
            "weights": goals.weights_KO.tolist(),
            "thresholds": goals.thresholds_K.tolist(),
            "seed": self.query.seed,
            "skill": self.plan.skills_PZ[0].tolist(),
        }
        return json.dumps(words).encode() + b"\n"


class Child:
    """The process that plans beside; it is loading or at a plan while `busy`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._loading = process, True
        self._await(LOAD_S)

    @classmethod
    def begin(cls, pair: Pair, settings: Sequence[str]) -> Child:
        """Starts one; raises OSError where no process can be made."""
        command = [sys.executable, "-P", "-m", CHILD, str(pair.candidate.folder), str(pair.incumbent), *settings]
        environment = {**os.environ, **ONE_THREAD, "MALLOC_ARENA_MAX": "1"}
        pipe = subprocess.PIPE
        return cls(subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, bufsize=0))

    @property
    def busy(self) -> bool:
        return self._end_s is not None

    def ask(self, question: Question) -> None:
        """Has it plan; it must not be busy."""
        assert self._process.stdin is not None and not self.busy
        self._await(ANSWER_S)
        with suppress(BrokenPipeError):  # `hear` tells how it ended
            self._process.stdin.write(question.line())

    def hear(self, timeout_s: float) -> dict[str, Any] | None:
        """What it says, None where that is nothing yet; how it ended is told like a word of its own, and a silence."""
        assert self._process.stdout is not None and self._end_s is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            if time.monotonic() < self._end_s:
                return None
            return {"ended" if self._loading else "refused": f"no answer within {self._allowed_s:g} s"}
        line = self._process.stdout.readline()
        self._end_s, self._loading = None, False
        return json.loads(line) if line else _how_it_ended(self._process.wait())

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()

    def _await(self, allowed_s: float) -> None:
        self._allowed_s = allowed_s
        self._end_s: float | None = time.monotonic() + allowed_s


class Shadow:
    """Shadows a session's plans in a thread of its own, as long as this context is entered."""

    def __init__(self, followed: Path, session: Session, settings: Sequence[str] = ()) -> None:
        """Args: the link that is followed, beside which the shadow's lies; who serves; settings of both planners."""
        self._link, self._evidence = followed.with_name(SHADOW), followed.parent / "evidence"
        self._session, self._settings = session, settings
        self._notices = Notices(log, time.monotonic)
        self._pair: Pair | None = None
        self._child: Child | None = None
        self._candidate_id = ""
        self._unwritable = False
        self._changed = threading.Condition()
        self._waiting: Question | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="skimo-shadow", daemon=True)

    def __enter__(self) -> Shadow:
        self._session.beside = self
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.beside = None
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(JOIN_TIMEOUT_S)

    def offer(self, incumbent: Served, query: PlanQuery, plan: Plan) -> None:
        """See `Beside.offer`; takes the place of one that still waits."""
        with self._changed:
            self._waiting = Question(incumbent_id=incumbent.spec.bundle_id, query=query, plan=plan)
            self._changed.notify()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except Exception as error:  # this thread's border: whatever it meets, plans and actions go on
                self._notices.tell("turn", f"unforeseen fault beside the plans: {type(error).__name__}: {error}")
                self._end()
        self._end()

    def _turn(self) -> None:
        self._look()
        child = self._child
        if child is not None and child.busy:
            if (heard := child.hear(LOOK_S)) is not None:
                self._take_in(heard)
            return
        question = self._take(LOOK_S)
        if question and child and self._pair and question.incumbent_id == self._pair.incumbent_id:
            child.ask(question)

    def _look(self) -> None:
        """Begins or ends the process, should the link or the incumbent have changed."""
        pair = Pair.of(self._link, self._session)
        if pair == self._pair:
            return
        self._end()
        self._pair = pair
        if pair is not None:
            self._candidate_id, self._unwritable = pair.candidate.folder.name, False
            self._child = Child.begin(pair, self._settings)

    def _take(self, timeout_s: float) -> Question | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting is not None, timeout_s)
            question, self._waiting = self._waiting, None
            return question

    def _take_in(self, heard: dict[str, Any]) -> None:
        """What the process said: that it's ready, an answer, or that there will be none."""
        if "ready" in heard:
            self._begin(*heard["ready"])
        elif "answer" in heard:
            self._write(heard["answer"])
        elif "refused" in heard:
            log.error("bundle %s can't plan beside: %s", self._candidate_id[:12], heard["refused"])
            self._end()
            self._write({**NOTHING, "error": heard["refused"]})
        elif "ended" in heard:
            log.error("planning beside with bundle %s ended: %s", self._candidate_id[:12], heard["ended"])
            self._end()
        else:
            self._notices.tell("failed", f"the incumbent gave no answer beside its plan: {heard['failed']}")

    def _begin(self, candidate_id: str, incumbent_id: str) -> None:
        assert self._pair is not None
        if incumbent_id != self._pair.incumbent_id:
            raise SetupError(f"{self._pair.incumbent} holds {incumbent_id[:12]}, not what is served")
        self._candidate_id = self._session.shadow = candidate_id
        log.info("plans with bundle %s beside bundle %s", candidate_id[:12], incumbent_id[:12])

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
        if self._session.shadow:
            log.info("plans no longer with bundle %s beside", self._session.shadow[:12])
            self._session.shadow = ""

    def _write(self, answer: dict[str, Any]) -> None:
        path = self._evidence / self._candidate_id / "shadow.jsonl"
        at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            append_line(path, json.dumps({"at": at, **answer}, allow_nan=False))
        except OSError as error:
            if not self._unwritable:
                log.error("%s: %s; planning goes on without this evidence", path, error.strerror)
            self._unwritable = True
        self._session.count("shadow_errors" if answer["error"] else "shadow_plans")


def append_line(path: Path, text: str) -> None:
    """Appends a line, whole or not at all; makes its folder.

    Raises:
        OSError: the disk or the folder does not take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        begun, line = file.seek(0, os.SEEK_END), text.encode() + b"\n"
        if file.write(line) != len(line):
            file.truncate(begun)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _how_it_ended(code: int) -> dict[str, Any]:
    name = signal.Signals(-code).name if code < 0 else str(code)
    fate = "ended" if -code in NOT_ITS_FAULT else "refused"
    return {fate: f"its process ended with {name}"}
