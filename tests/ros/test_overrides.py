"""A parameter that was given and that nobody has ends the node at its start, in words."""

from __future__ import annotations

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from skimo_core.contract.errors import SetupError
from skimo_ros.gate_node import PARAMETERS
from skimo_ros.overrides import refuse_unknown
from skimo_ros.parameters import declare

pytestmark = pytest.mark.ros


def start(context: Context, **given: object) -> None:
    overrides = [RosParameter(name, value=value) for name, value in given.items()]
    node = Node("gate_node", context=context, parameter_overrides=overrides)
    try:
        declare(node, PARAMETERS)
        refuse_unknown(node)
    finally:
        node.destroy_node()


def test_a_misspelt_parameter_is_refused_and_the_one_that_was_meant_is_named(context: Context) -> None:
    with pytest.raises(SetupError, match=r"'workspace_low' was given, .* did you mean workspace_low_m"):
        start(context, workspace_low=[0.3, -0.3, 0.1])


def test_what_is_meant_for_another_node_is_borne(context: Context) -> None:
    start(context, workspace_low_m=[0.3, -0.3, 0.1], directory="recordings", use_sim_time=False)
