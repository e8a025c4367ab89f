"""The same policy without a socket: engine and planner behind `skimo_core.contract.policy.SkillPolicy`, in one process.

The same arguments give the same plan here and through the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skimo_core.contract.errors import PolicyError, SpecError
from skimo_core.contract.policy import FloatArray, Goals, Plan, PolicySpec
from skimo_core.contract.specs import ArraySpec

from .bundle import load_bundle, resolve_bundle
from .engine import Engine
from .planner import Planner
from .planner_config import PlannerConfig, with_settings


class InProcessPolicy:
    """A bundle's planner and skill policy."""

    def __init__(self, engine: Engine, config: PlannerConfig | None = None) -> None:
        """Args: the loaded networks; the planner's settings, the bundle's own where not given."""
        self.engine = engine
        self.config = config or engine.manifest.planner
        self._spec = engine.manifest.policy_spec_with(self.config)
        self.planner = Planner(engine, self.config, bundle_id=engine.manifest.bundle_id)

    @classmethod
    def load(cls, bundle: str, *, settings: Sequence[str] = (), workers: int = 1) -> InProcessPolicy:
        """From a path or the name of a shipped bundle, with "name=value" settings on top of the bundle's own.

        Raises:
            BundleError, SpecError: the bundle or a setting is refused.
        """
        loaded = load_bundle(resolve_bundle(bundle))
        config = with_settings(loaded.manifest.planner, settings)
        return cls(Engine.load(loaded, workers=workers), config)

    def exploring(self, explore: float) -> InProcessPolicy:
        """The same networks under a planner that explores so widely; raises SpecError where it is out of bounds."""
        return InProcessPolicy(self.engine, replace(self.config, explore=explore))

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    def plan(
        self,
        observation_O: FloatArray,
        goals: Goals,
        *,
        seed: int,
        warm_start_PZ: FloatArray | None,
        deadline_s: float,
        warm_start_of: str = "",
        spent: int = 0,
    ) -> Plan:
        """See `SkillPolicy.plan`."""
        self._spec.observation.check(observation_O)
        warm_PZ = warm_start_PZ if warm_start_of in ("", self._spec.bundle_id) else None
        return self.planner.plan(
            observation_O, goals, seed=seed, warm_start_PZ=warm_PZ, deadline_s=deadline_s, spent=spent
        )

    def act(
        self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str = "", *, deadline_s: float
    ) -> FloatArray:
        """See `SkillPolicy.act`; the deadline is not needed here."""
        if bundle_id not in ("", self._spec.bundle_id):
            raise PolicyError(f"bundle {bundle_id[:12]} is not here, only {self._spec.bundle_id[:12]}; plan again")
        self._spec.observation.check(observation_O)
        ArraySpec(name="skill", shape=(self._spec.skill.dim,), low=-1.0, high=1.0).check(skill_Z)
        try:
            return self._spec.action.check(self.engine.act(observation_O, skill_Z))
        except SpecError as error:
            raise PolicyError(f"the model gave no usable action ({error})") from None


def open_policy(
    bundle: Path | str, settings: Mapping[str, object] | None = None, *, workers: int = 1
) -> InProcessPolicy:
    """A bundle's policy with planner settings by name on top of the bundle's own; see `InProcessPolicy.load`."""
    pairs = [f"{name}={value}" for name, value in (settings or {}).items()]
    return InProcessPolicy.load(str(bundle), settings=pairs, workers=workers)
