"""What the buttons of the page do: ask as the operator's commands do, each with a deadline, and say what came of it.

Promises
  - A stop waits for nothing else that was asked, needs one click, and says in words when nobody stopped.
  - A start or a reset is asked one at a time; a second one meanwhile is refused.
  - Whatever fails becomes words; nothing here ends the page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from skimo_msgs.srv import ResetGate, ResetTwin, StartEpisode
from std_srvs.srv import Trigger

from skimo_core.contract.errors import SkimoError
from skimo_core.domain.domain import Domain

from .nodes import Names
from .operator import NOT_STOPPED, Operator

STOP_S = 2.0
"""Longest wait for the gate's answer to a stop."""


class Desk:
    """Asks on behalf of whoever has the page open.

    Args:
        ask: for starts and resets.
        stopper: for stops alone, with a short deadline.
    """

    def __init__(self, ask: Operator, stopper: Operator, domain: Domain) -> None:
        self._ask, self._stopper, self._domain = ask, stopper, domain
        self._busy = threading.Lock()
        stopper.meet(Trigger, Names.GATE_STOP)
        stopper.meet(Trigger, Names.POLICY_HOLD)
        ask.meet(StartEpisode, Names.START_EPISODE)
        ask.meet(ResetGate, Names.GATE_RESET_STOP)
        ask.meet(Trigger, Names.RESUME)
        self._twin = ask.meet(ResetTwin, Names.TWIN_RESET)

    def stop(self) -> str:
        """Stop the arm; where the gate can't be reached, at least hold the policy."""
        began_s = time.monotonic()
        try:
            stopped, text = self._stopper.trigger(Names.GATE_STOP)
            took_ms = 1e3 * (time.monotonic() - began_s)
            return f"gate: {text} ({took_ms:.0f} ms)" if stopped else NOT_STOPPED.format(text)
        except SkimoError as error:
            said = NOT_STOPPED.format(error)
        try:
            return f"{said}. The policy {self._stopper.trigger(Names.POLICY_HOLD)[1]}"
        except SkimoError:
            return said

    def start(self, task: str, seed: int, *, reset_twin: bool = False, anew: bool = False) -> str:
        """Start an episode; see `skimo start`."""

        def go() -> str:
            self._domain.task(task)
            if anew:
                self._ask.trigger(Names.CANCEL)
            if reset_twin:
                done, text, _ = self._ask.reset_twin(task or self._domain.default_task, seed)
                if not done:
                    return f"not started: twin: {text}"
            started, text, episode_id = self._ask.start(task, seed)
            return f"episode {episode_id} begins; {text or 'recorded'}" if started else f"not started: {text}"

        return self._alone(go)

    def reset(self) -> str:
        """Clear the gate's stop, the one that it shows now, and let a held policy go on; see `skimo reset`."""

        def go() -> str:
            cleared, text = self._ask.clear_stop(0.0)
            if not cleared:
                return f"gate: {text}"
            return f"gate: {text}; policy: {self._ask.trigger(Names.RESUME)[1]}"

        return self._alone(go)

    def has_twin(self) -> bool:
        """Whether a simulated scene can be put back."""
        return self._twin.service_is_ready()

    def _alone(self, go: Callable[[], str]) -> str:
        if not self._busy.acquire(blocking=False):
            return "still busy with what was asked before"
        try:
            return go()
        except SkimoError as error:
            return str(error)
        finally:
            self._busy.release()
