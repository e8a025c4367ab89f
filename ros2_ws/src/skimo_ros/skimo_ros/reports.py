"""What the gate and the recorder tell the graph, as plain data (conversions turn it into messages and back).

Times s in the node's clock, durations ms where the name says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from skimo_core.safety.gate import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """What the gate node tells the graph: the newest decision and counts since the node started."""

    decision: Decision
    latched: bool
    commands: int
    limited: int
    held: int
    stops: int
    state_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderReport:
    """Where the recorder stands; fields as in skimo_msgs/RecorderStatus."""

    state: str = "ready"
    reason: str = ""
    episode_id: str = ""
    file: str = ""
    part: int = 0
    written: int = 0
    dropped: int = 0
    lost_steps: int = 0
