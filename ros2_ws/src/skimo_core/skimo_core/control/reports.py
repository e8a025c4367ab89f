"""What an episode's pilot tells: how it begins and ends, each step, and where it stands.

Times s in the pilot's clock, durations ms where the name says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..contract.policy import FloatArray, Foreseen
from ..contract.types import Verdict
from .loop import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """An episode's identity; `explore` is the policy's at its start (`PolicySpec.explore`)."""

    episode_id: str
    task: str
    subtasks: tuple[str, ...]
    seed: int
    bundle_id: str
    source: str = "policy"
    explore: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeNews:
    """Beginning ("start"), progress ("subtask", and "doubt" whether there will be any) or end ("end") of an episode."""

    kind: str
    stamp_s: float
    episode: Episode
    subtask: str = ""
    success: bool = False
    subtasks_done: int = 0
    steps: int = 0
    missed_ticks: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One control step as it is recorded.

    Attributes:
        index: control steps since the episode began.
        due_s: when it was due.
        step: what the loop decided.
        observation_O: what it saw.
        applied_A: what the arm was told in it, whoever told it: the policy, the gate, or the path still under way;
            None marks the episode's last observation.
        verdict: the gate's gravest since the step before.
    """

    index: int
    due_s: float
    step: Step
    observation_O: FloatArray
    applied_A: FloatArray | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """Where the policy node stands; fields as in skimo_msgs/PlanStatus, `candidates` as in PlanCandidates."""

    state: str
    reason: str = ""
    episode_id: str = ""
    task: str = ""
    subtask: str = ""
    subtasks_done: int = 0
    subtasks_total: int = 0
    step: int = 0
    missed_ticks: int = 0
    plan_index: int = 0
    late_plans: int = 0
    late: bool = False
    doubt: str = ""
    bundle_id: str = ""
    skill_Z: FloatArray | None = None
    value: float = float("nan")
    success_probability: float = float("nan")
    predicted_PO: FloatArray | None = None
    candidates: Foreseen | None = None
    plan_ms: float = 0.0
    queue_ms: float = 0.0
    act_ms: float = 0.0
    tick_late_ms: float = 0.0
