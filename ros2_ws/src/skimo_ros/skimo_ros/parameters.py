"""ROS parameters as a table: each declared once, with bounds and a description, and read back typed.

    PARAMETERS = (Parameter("rate_hz", 100.0, "how often joint states go out", low=1.0, high=250.0), ...)
    values = declare(node, PARAMETERS); rate = values["rate_hz"]
A value out of its bounds is refused by ROS itself when the node starts. They are read once: setting one on a running
node is refused, and so is `use_sim_time`, because a clock that is exchanged makes every stamp and age wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import DEFAULT

Value = bool | int | float | str | list[float]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; read once at start, so changing it later has no effect and is refused.

    Attributes:
        name, default, description: as shown by `ros2 param describe`.
        low, high: inclusive bounds of a number.
        choices: allowed words, for the description.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def declare(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Declare all; return their values by name.

    Raises:
        rclpy.exceptions.InvalidParameterValueException: one that was given lies out of its bounds.
        SpecError: a word that is not among a parameter's choices.
    """
    values = {}
    for p in parameters:
        values[p.name] = node.declare_parameter(p.name, p.default, _descriptor(p)).value
        if p.choices and values[p.name] not in p.choices:
            raise SpecError(f"parameter {p.name} is {values[p.name]!r}, must be one of {', '.join(p.choices)}")
    node.add_on_set_parameters_callback(_keep_the_clock)
    return values


def _keep_the_clock(parameters: list[RosParameter]) -> SetParametersResult:
    """Refuse another clock; the newest callback is asked first, so rclpy's own has not yet taken it."""
    if any(p.name == "use_sim_time" for p in parameters):
        reason = "use_sim_time is read at start; end the node and start it with the clock that it should have"
        return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def _descriptor(p: Parameter) -> ParameterDescriptor:
    words = f"{p.description} ({' | '.join(p.choices)})" if p.choices else p.description
    descriptor = ParameterDescriptor(description=words, read_only=True)
    if p.low is not None and p.high is not None:
        if isinstance(p.default, int) and not isinstance(p.default, bool):
            descriptor.integer_range = [IntegerRange(from_value=int(p.low), to_value=int(p.high), step=0)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=p.low, to_value=p.high, step=0.0)]
    return descriptor


DRIVER = (
    Parameter("driver", "twin", "driver stack whose names are used: a file in adapters/, or a path"),
    Parameter("arm", "", "arm id, prefix of the joint names; empty: the driver's own"),
)
"""What every node that speaks to the driver declares."""

SETUP = (
    *DRIVER,
    Parameter("domain", DEFAULT, "what the tasks share: a domain's name, or a file's path"),
    Parameter("robot", "", "robot whose limits hold: a name, or a file's path; empty: the domain's, or the driver's"),
    Parameter("rig", "", "what was measured of this cell (skimo calibrate): a rig file's path; empty: nothing"),
    Parameter("robot_serial", "", "serial number of the arm that is here; a rig of another is refused; empty: any"),
    Parameter("rig_max_age_days", 0.0, "a rig with an older entry is refused; 0: any age", low=0.0, high=36500.0),
)
"""What every node declares that judges, makes or is an arm's motion (`robots.set_up`)."""

TRACKING = (
    Parameter("objects_max_age_s", 0.0, "object states may be so old; 0: as the domain says", low=0.0, high=10.0),
    Parameter(
        "objects_hidden_s",
        0.0,
        "so long the last value of a channel that isn't seen stands in; 0: as the domain says",
        low=0.0,
        high=60.0,
    ),
)
"""What a node declares that looks at the objects: a tracker's pictures are older than a twin's word."""

CELL = Parameter("cell", "", "what stands around the arm: a cell's name, or a file's path; empty: the domain's")
