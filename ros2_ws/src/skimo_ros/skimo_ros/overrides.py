"""Refuses a parameter that was given and that no node of the stack has: ROS itself passes over it without a word.

A file's `/**` section reaches every node, so a node bears what is meant for another one of the stack.
"""

from __future__ import annotations

import difflib
import importlib

from rclpy.node import Node

from skimo_core.contract.errors import SetupError

NODES = ("twin_node", "gate_node", "recorder_node", "policy_node", "camera_node", "tracker_node")


def refuse_unknown(node: Node) -> None:
    """Call it when the node has declared its parameters.

    Raises:
        SetupError: a parameter was given that neither this node nor another one of the stack has.
    """
    given = [name for name in node._parameter_overrides if not node.has_parameter(name)]
    if not given:
        return
    known = {p.name for name in NODES for p in importlib.import_module(f"skimo_ros.{name}").PARAMETERS}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise SetupError(f"parameter {name!r} was given, which no node of the stack has{meant}")
