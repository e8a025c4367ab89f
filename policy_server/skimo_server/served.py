"""A bundle at hand: its networks, the planner over them, and what its clients must agree on.

Promises
  - `close` waits for the plan under way, and none begins afterwards; the networks' memory and threads go with it.
  - Every plan says at which speed it is to be carried out.
Plans are made in one thread at a time, actions in another; `close` may come from a third.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

from skimo_core.contract.errors import WireError
from skimo_core.contract.policy import FloatArray, Plan, PolicySpec
from skimo_core.link.protocol import PlanQuery

from .engine import Engine
from .planner import Planner


class Served:
    """One bundle of a server.

    Attributes:
        folder: where it was read; None where that is nobody's concern.
        speed: of its plans, a share of full speed; may be set at any time.
        used_s: when a plan or an action was last asked of it, on the server's clock.
    """

    def __init__(self, engine: Engine, planner: Planner, spec: PolicySpec, folder: Path | None = None) -> None:
        self.spec, self.folder = spec, folder
        self.speed = 1.0
        self.used_s = -math.inf
        self._engine, self._planner = engine, planner
        self._planning = threading.Lock()
        self._closed = False

    @property
    def skill_s(self) -> float:
        """How long a skill lasts."""
        return self.spec.skill.horizon * self.spec.action.period_s

    def act(self, observation_O: FloatArray, skill_Z: FloatArray) -> FloatArray:
        """See `Engine.act`."""
        return self._engine.act(observation_O, skill_Z)

    def plan(self, query: PlanQuery, deadline_s: float) -> Plan:
        """Makes a plan.

        Raises:
            WireError: "bundle", it was closed. The rest as `Planner.plan`.
        """
        with self._planning:
            if self._closed:
                raise no_longer_here(self.spec.bundle_id)
            plan = self._planner.plan(
                query.observation_O,
                query.goals,
                seed=query.seed,
                warm_start_PZ=query.warm_start_PZ,
                deadline_s=deadline_s,
                candidates=query.candidates,
                spent=query.spent,
            )
            return replace(plan, speed=self.speed)

    def close(self) -> None:
        """Ends it once the plan under way is made; harmless twice."""
        with self._planning:
            self._closed = True
            self._engine.close()


def no_longer_here(bundle_id: str) -> WireError:
    """What a client is told whose bundle is not here."""
    return WireError("bundle", f"bundle {bundle_id[:12]} is not here, or not any more; plan again with the one that is")
