"""Every setting of gate, actuation, doubt, way back and recovery as a ROS parameter, with its bounds.

How strict the gate is, how much of the arm a policy may use, when its promises are doubted, when the arm goes back and
when it begins anew. The defaults are those of `GateConfig`, `ActuatorConfig`, `DoubtConfig`, `RetraceConfig` and
`RecoveryConfig`; the bounds are how far a setting may be bent without another look at the code. What stands in the
arm's cell (how hard it may work, `contact`) is the cell file's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skimo_core.contract.errors import SpecError
from skimo_core.control.actuate import ActuatorConfig
from skimo_core.control.doubt import DoubtConfig
from skimo_core.control.recovery import RecoveryConfig
from skimo_core.control.retrace import REMEMBERED, RetraceConfig
from skimo_core.control.trajectory import SHORTEST_S
from skimo_core.safety.situation import GateConfig

from .conversions import MAX_POINTS
from .parameters import Parameter

_GATE, _ACTUATOR, _DOUBT, _RETRACE, _RECOVERY = (
    GateConfig(),
    ActuatorConfig(),
    DoubtConfig(),
    RetraceConfig(),
    RecoveryConfig(),
)
CORNERS = ("workspace_low_m", "workspace_high_m")


def _strict(name: str, description: str, low: float, high: float) -> Parameter:
    return Parameter(name, getattr(_GATE, name), description, low=low, high=high)


def _share(name: str, description: str, low: float, high: float) -> Parameter:
    return Parameter(name, getattr(_ACTUATOR, name), description, low=low, high=high)


GATE = (
    _strict("state_age_max_s", "with an older robot state nothing goes on", 0.01, 1.0),
    _strict("state_lost_s", "an older robot state, or mode, stops the arm", 0.01, 5.0),
    _strict("skew_max_s", "how far ahead of the gate's clock a robot state's stamp may lie", 0.001, 0.2),
    _strict("sleep_max_s", "a gate that was not called for longer was asleep: it refuses the next command", 0.05, 5.0),
    _strict("leave_after_s", "how long the path goes on while a command is on its way to the driver", 0.003, 0.1),
    _strict("command_age_max_s", "an older command is refused", 0.01, 1.0),
    _strict("command_ahead_max_s", "a command that starts further ahead is refused", 0.0, 0.5),
    _strict("duration_max_s", "a trajectory must be at rest by then", 0.2, 10.0),
    _strict("points_max", "most points of a trajectory", 2, MAX_POINTS),
    _strict("segment_min_s", "least time between two points of a trajectory", SHORTEST_S, 0.1),
    _strict("start_gap_rad", "bound on a trajectory's jump at its start", 0.001, 0.5),
    _strict("tolerance", "share of a limit by which an excess is not noticed", 0.0, 0.1),
    _strict("excess_max", "share of a limit above which a command is refused rather than limited", 0.0, 1.0),
    _strict("position_slack_rad", "a position measured further outside the joint range is no measurement", 0.01, 1.0),
    _strict("velocity_slack", "a speed measured above so many times the limit is no measurement", 1.0, 5.0),
    _strict("arrival_s", "an arm still off so long after it was to rest does not follow: stop", 0.05, 5.0),
    _strict("reference_hold_rad", "hold where the controller's own reference lies further off", 0.001, 0.5),
    _strict("reference_stop_rad", "stop where the controller's own reference lies further off", 0.001, 1.0),
    _strict("travel_m", "how far the arm goes at most between two close looks at its motion", 0.005, 0.1),
    _strict("glance_m", "how far the arm goes at most between two first looks at its motion", 0.005, 0.2),
    _strict("retreat_m", "how much nearer an arm that is too near may come on its way out", 0.0001, 0.02),
    Parameter("workspace_low_m", [0.0], "box in the base frame, x y z; [0.0]: the cell's own"),
    Parameter("workspace_high_m", [0.0], "box in the base frame, x y z; [0.0]: the cell's own"),
)
"""All of `GateConfig` but `contact`."""

ACTUATOR = (
    _share("velocity_fraction", "share of the joint velocity limits that a policy may use", 0.01, 1.0),
    _share("acceleration_fraction", "share of the joint acceleration limits, braking included", 0.05, 1.0),
    _share("position_margin_rad", "kept free at both ends of each joint's range", 0.0, 0.5),
    _share("reaction_periods", "control periods for which the path under way goes on under a new command", 0.0, 0.5),
    _share("transit_s", "how long a command may take to the arm, through the gate", 0.0, 0.1),
    _share("grace_periods", "control periods for which the velocity is held before braking begins", 0.0, 2.0),
    _share("open_above", "mean finger intent above which the hand opens", -1.0, 1.0),
    _share("close_below", "mean finger intent below which the hand closes; below open_above", -1.0, 1.0),
    _share("gripper_interval_s", "least time between two goals of the hand", 0.0, 10.0),
)
"""All of `ActuatorConfig`."""

DOUBT = (
    Parameter(
        "doubt_bound", _DOUBT.bound, "a plan promises little below it, firmly above 1 less it", low=0.0, high=0.5
    ),
    Parameter("doubt_plans", _DOUBT.plans, "so many in a row promising little, or in vain, are said", low=1, high=1000),
    Parameter("hold_in_doubt", _DOUBT.hold, "and hold the arm until an operator resumes the episode"),
)
"""All of `DoubtConfig`."""

RETRACE = (
    Parameter(
        "retrace_refused",
        _RETRACE.refused,
        "after so many refused commands in a row the arm goes back the way it came; 0: never",
        low=0,
        high=1000,
    ),
    Parameter(
        "retrace_steps", _RETRACE.steps, "control periods that it goes back the first time", low=1, high=REMEMBERED
    ),
)
"""All of `RetraceConfig`."""

RECOVERY = (
    Parameter(
        "recover_after",
        _RECOVERY.after,
        "plans bringing a sub-task no nearer after which the domain's recovery goal is planned for; 0: never",
        low=0,
        high=1000,
    ),
    Parameter("recover_plans", _RECOVERY.plans, "most plans for that goal each time", low=1, high=1000),
)
"""All of `RecoveryConfig`."""


def gate_config(values: Mapping[str, Any]) -> GateConfig:
    """From the parameters `GATE`.

    Raises:
        SpecError: they contradict one another, or a corner has other than three numbers.
    """
    numbers = {p.name: values[p.name] for p in GATE if p.name not in CORNERS}
    low, high = (_corner(name, values[name]) for name in CORNERS)
    return GateConfig(**numbers, workspace_low_m=low, workspace_high_m=high)


def actuator_config(values: Mapping[str, Any]) -> ActuatorConfig:
    """From the parameters `ACTUATOR`; raises SpecError where they contradict one another."""
    return ActuatorConfig(**{p.name: values[p.name] for p in ACTUATOR})


def doubt_config(values: Mapping[str, Any]) -> DoubtConfig:
    """From the parameters `DOUBT`."""
    return DoubtConfig(bound=values["doubt_bound"], plans=values["doubt_plans"], hold=values["hold_in_doubt"])


def retrace_config(values: Mapping[str, Any]) -> RetraceConfig:
    """From the parameters `RETRACE`."""
    return RetraceConfig(refused=values["retrace_refused"], steps=values["retrace_steps"])


def recovery_config(values: Mapping[str, Any]) -> RecoveryConfig:
    """From the parameters `RECOVERY`."""
    return RecoveryConfig(after=values["recover_after"], plans=values["recover_plans"])


def _corner(name: str, corner: list[float]) -> tuple[float, float, float] | None:
    if len(corner) == 1:
        return None
    if len(corner) != 3:
        raise SpecError(f"parameter {name} has {len(corner)} numbers, must have 3: x, y, z in the base frame, m")
    return corner[0], corner[1], corner[2]
