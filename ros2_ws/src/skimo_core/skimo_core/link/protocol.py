"""What the operations hello, plan, act and health carry: the words of `wire.Message` for each, written once.

Both sides use the same functions, so a request that one writes is the request that the other reads. Reading checks
names, shapes, types and bounds against the policy's spec: whatever a message holds, a reader returns what its signature
says, or raises SpecError or WireError and nothing else.

A request's field `bundle` says whose skill, or whose warm start, it brings; without it they are the current bundle's.
A plan's `speed` is the share of full speed at which it is to be carried out; without it that is 1. A plan request's
`candidates` is how many plans its asker would like to hear of beside the one; without it none.

Dimensions: E candidates, P plan length, K open sub-tasks, O observation, A action, Z skill.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..contract.errors import SpecError, WireError
from ..contract.policy import Calibration, FloatArray, Foreseen, Goals, Plan, PolicySpec
from ..contract.specs import ActionSpec, ArraySpec, Named, ObservationSpec, SkillSpec
from .wire import Message, Scalar

MAX_SUBTASKS = 64
MAX_SEED = 2**53
MAX_CHANNELS = 4096
MAX_SCALE = 1e6
MAX_WEIGHT = 1e6
MIN_SPEED = 1e-3
MAX_CANDIDATES = 16
MAX_SPENT = 1_000_000
COUNTS = {"candidates": MAX_CANDIDATES, "spent": MAX_SPENT}
"""Fields of a plan's request that are left out where they are 0, and the most that they may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanQuery:
    """The arguments of `SkillPolicy.plan` as they travel."""

    observation_O: FloatArray
    goals: Goals
    seed: int
    warm_start_PZ: FloatArray | None
    warm_start_of: str = ""
    candidates: int = 0
    spent: int = 0


def plan_request(query: PlanQuery, request_id: int, deadline_s: float) -> Message:
    arrays = {
        "observation": query.observation_O,
        "goal_values": query.goals.values_KO,
        "goal_weights": query.goals.weights_KO,
        "goal_thresholds": query.goals.thresholds_K,
    }
    if query.warm_start_PZ is not None:
        arrays["warm_start"] = query.warm_start_PZ
    fields: dict[str, Scalar] = {"seed": query.seed, **_of(query.warm_start_of)}
    fields |= {name: count for name in COUNTS if (count := getattr(query, name))}
    return Message(op="plan", request_id=request_id, deadline_s=deadline_s, fields=fields, arrays=arrays)


def read_plan_request(message: Message, spec: PolicySpec) -> PlanQuery:
    """Checks and unpacks a plan request; a warm start of another bundle than the spec's is left out, whatever it holds.

    Raises:
        SpecError: an array or a field is absent, surplus or not of the spec's shape, type or bounds.
    """
    O, P, Z = spec.observation.size, spec.skill.plan_length, spec.skill.dim  # noqa: E741
    wanted = {"observation", "goal_values", "goal_weights", "goal_thresholds"}
    if wrong := (set(message.arrays) ^ wanted) - {"warm_start"}:
        raise SpecError(f"plan: array {min(wrong)[:40]!r} is missing or unknown; it takes {sorted(wanted)}, warm_start")
    seed = message.fields.get("seed")
    if set(message.fields) - {"bundle", *COUNTS} != {"seed"} or type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise SpecError(
            f"plan: takes the fields bundle, {', '.join(COUNTS)} and seed, a whole number of 0 to {MAX_SEED}"
        )
    counts: dict[str, int] = {}
    for name, most in COUNTS.items():
        count = message.fields.get(name, 0)
        if type(count) is not int or not 0 <= count <= most:
            raise SpecError(f"plan: {name} must be a whole number of 0 to {most}")
        counts[name] = count
    thresholds_K = ArraySpec(name="goal_thresholds", shape=(-1,), low=0.0).check(message.arrays["goal_thresholds"])
    K = len(thresholds_K)
    if not 1 <= K <= MAX_SUBTASKS:
        raise SpecError(f"plan: {K} open sub-tasks, must be 1 to {MAX_SUBTASKS}; stop planning when all are done")
    warm = message.arrays.get("warm_start") if bundle_of(message) in ("", spec.bundle_id) else None
    weights = ArraySpec(name="goal_weights", shape=(K, O), low=0.0, high=MAX_WEIGHT)
    return PlanQuery(
        observation_O=spec.observation.check(message.arrays["observation"]),
        goals=Goals(
            values_KO=ArraySpec(name="goal_values", shape=(K, O)).check(message.arrays["goal_values"]),
            weights_KO=weights.check(message.arrays["goal_weights"]),
            thresholds_K=thresholds_K,
        ),
        seed=seed,
        warm_start_PZ=None if warm is None else ArraySpec(name="warm_start", shape=(P, Z), low=-1, high=1).check(warm),
        candidates=counts["candidates"],
        spent=counts["spent"],
    )


def plan_reply(plan: Plan, request_id: int) -> Message:
    others = {}
    if plan.candidates is not None:
        others = {"candidates": plan.candidates.predicted_EPO, "candidate_weights": plan.candidates.weights_E}
    return Message(
        op="plan",
        request_id=request_id,
        fields={
            "bundle": plan.bundle_id,
            "value": float(plan.value),
            "success_probability": float(plan.success_probability),
            "speed": float(plan.speed),
        },
        timings_ms=plan.timings_ms,
        arrays={"skills": plan.skills_PZ, "warm_start": plan.warm_start_PZ, "predicted": plan.predicted_PO, **others},
    )


def read_plan_reply(message: Message, spec: PolicySpec) -> Plan:
    """Checks and unpacks a plan; raises SpecError or WireError where it is not what the spec says."""
    P, Z, O = spec.skill.plan_length, spec.skill.dim, spec.observation.size  # noqa: E741
    skill = ArraySpec(name="skills", shape=(P, Z), low=-1.0, high=1.0)
    return Plan(
        skills_PZ=skill.check(_array(message, "skills")),
        warm_start_PZ=skill.check(_array(message, "warm_start")),
        value=_number(message, "value"),
        predicted_PO=ArraySpec(name="predicted", shape=(P, O)).check(_array(message, "predicted")),
        success_probability=_number(message, "success_probability", 0.0, 1.0),
        bundle_id=_scalar(message, "bundle", (str,)),
        calibration=spec.calibration,
        speed=_number(message, "speed", MIN_SPEED, 1.0) if "speed" in message.fields else 1.0,
        candidates=_foreseen(message, P, O) if "candidates" in message.arrays else None,
        timings_ms=dict(message.timings_ms),
    )


def _foreseen(message: Message, plan_length: int, channels: int) -> Foreseen:
    predicted_EPO = ArraySpec(name="candidates", shape=(-1, plan_length, channels)).check(_array(message, "candidates"))
    count = len(predicted_EPO)
    if count > MAX_CANDIDATES:
        raise SpecError(f"plan reply tells of {count} candidates, bound {MAX_CANDIDATES}")
    weights = ArraySpec(name="candidate_weights", shape=(count,), low=0.0, high=1.0)
    return Foreseen(weights_E=weights.check(_array(message, "candidate_weights")), predicted_EPO=predicted_EPO)


def act_request(
    observation_O: FloatArray, skill_Z: FloatArray, request_id: int, deadline_s: float, bundle_id: str = ""
) -> Message:
    arrays = {"observation": observation_O, "skill": skill_Z}
    return Message(op="act", request_id=request_id, deadline_s=deadline_s, fields=_of(bundle_id), arrays=arrays)


def read_act_request(message: Message, spec: PolicySpec) -> tuple[FloatArray, FloatArray]:
    """Checks and unpacks observation [O] and skill [Z]; raises SpecError."""
    if set(message.arrays) != {"observation", "skill"} or set(message.fields) - {"bundle"}:
        got = sorted(name[:40] for name in (*message.arrays, *message.fields))
        raise SpecError(f"act: takes the arrays observation and skill and the field bundle, got {got}")
    skill = ArraySpec(name="skill", shape=(spec.skill.dim,), low=-1.0, high=1.0)
    return spec.observation.check(message.arrays["observation"]), skill.check(message.arrays["skill"])


def bundle_of(message: Message) -> str:
    """The bundle that a request names; empty where it names none. Raises SpecError where it is no text."""
    named = message.fields.get("bundle", "")
    if not isinstance(named, str):
        raise SpecError(f"{message.op}: bundle is a {type(named).__name__}, must be an id")
    return named


def act_reply(action_A: FloatArray, bundle_id: str, timings_ms: dict[str, float], request_id: int) -> Message:
    fields = {"bundle": bundle_id}
    return Message(op="act", request_id=request_id, fields=fields, timings_ms=timings_ms, arrays={"action": action_A})


def read_act_reply(message: Message, spec: PolicySpec) -> FloatArray:
    """Checks and unpacks the action [A]; raises SpecError or WireError."""
    return spec.action.check(_array(message, "action"))


def hello_reply(spec: PolicySpec, request_id: int) -> Message:
    """Everything that a client must agree on, as JSON."""
    words = {
        "observation": spec.observation.to_dict(),
        "action": spec.action.to_dict(),
        "skill": {"horizon": spec.skill.horizon, "dim": spec.skill.dim, "plan_length": spec.skill.plan_length},
        "domain": [spec.domain.name, spec.domain.digest],
        "robot": [spec.robot.name, spec.robot.digest],
        "served_as": spec.served_as,
        "task": spec.task,
        "explore": spec.explore,
        "ranges": [list(spec.low_O), list(spec.high_O)],
        "calibration": None if spec.calibration is None else asdict(spec.calibration),
    }
    fields = {"bundle": spec.bundle_id, "spec": json.dumps(words, sort_keys=True)}
    return Message(op="hello", request_id=request_id, fields=fields)


def read_hello_reply(message: Message) -> PolicySpec:
    """The server's spec; raises WireError where the reply holds none."""
    try:
        words: dict[str, Any] = json.loads(_scalar(message, "spec", (str,)))
        observation, action, skill = words["observation"], words["action"], words["skill"]
        low_O, high_O = _ranges(words["ranges"], len(observation["names"]))
        return PolicySpec(
            observation=ObservationSpec(
                names=_texts(observation["names"]),
                units=_texts(observation["units"]),
                joints=_count(observation["joints"]),
                fingers=_count(observation["fingers"]),
            ),
            action=ActionSpec(
                names=_texts(action["names"]),
                scale_rad_s=_finite(action["scale_rad_s"]),
                rate_hz=_finite(action["rate_hz"]),
                joints=_count(action["joints"]),
            ),
            skill=SkillSpec(**{name: _count(skill[name]) for name in ("horizon", "dim", "plan_length")}),
            bundle_id=_scalar(message, "bundle", (str,)),
            domain=_named(words["domain"]),
            robot=_named(words["robot"]),
            served_as=_texts([words["served_as"]])[0],
            task=_texts([words["task"]])[0],
            explore=_finite(words["explore"]),
            calibration=_calibration(words["calibration"]),
            low_O=low_O,
            high_O=high_O,
        )
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, SpecError) as error:
        why = f"{type(error).__name__}: {error}"[:200]
        raise WireError("malformed", f"hello reply holds no spec ({why}); is this a skimo policy server?") from None


def _of(bundle_id: str) -> dict[str, str]:
    return {"bundle": bundle_id} if bundle_id else {}


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_CHANNELS or not all(isinstance(text, str) for text in value):
        raise ValueError(f"must be a list of at most {MAX_CHANNELS} texts")
    return tuple(value)


def _named(value: object) -> Named:
    name, digest = _texts(value)
    return Named(name=name, digest=digest)


def _calibration(value: object) -> Calibration | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("calibration must be a table of numbers, or none")
    return Calibration(**{name: _finite(number) for name, number in value.items()})


def _ranges(value: object, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not isinstance(value, list) or not all(isinstance(bounds, list) for bounds in value):
        raise ValueError("ranges must be two lists")
    low, high = (tuple(_finite(number) for number in bounds) for bounds in value)
    if len(low) != len(high) or len(low) not in (0, channels) or any(a > b for a, b in zip(low, high)):
        raise ValueError(f"ranges must be none or {channels} lowest and as many highest values")
    return low, high


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_CHANNELS:
        raise ValueError(f"must be a whole number of 0 to {MAX_CHANNELS}")
    return value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_SCALE:
        raise ValueError(f"must be a number of at most {MAX_SCALE:g}")
    return float(value)


def _array(message: Message, name: str) -> np.ndarray:
    if name not in message.arrays:
        raise WireError("malformed", f"{message.op} reply has no array {name!r}; install one version on both sides")
    return message.arrays[name]


def _scalar(message: Message, name: str, kinds: tuple[type, ...]) -> Any:
    value = message.fields.get(name)
    if type(value) not in kinds:
        raise WireError("malformed", f"{message.op} reply has no field {name!r}; install one version on both sides")
    return value


def _number(message: Message, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    value = _scalar(message, name, (int, float))
    if not math.isfinite(value) or not low <= value <= high:
        raise WireError(
            "malformed", f"{message.op} reply's {name} is {value}, must be finite and in {low:g} to {high:g}"
        )
    return float(value)
