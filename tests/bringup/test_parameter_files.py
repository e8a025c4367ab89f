"""launch/params: what each file holds is its node's own default, and nothing that the launch overrules."""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from skimo_core.contract.errors import SpecError
from skimo_core.control.actuate import ActuatorConfig
from skimo_core.safety.situation import GateConfig

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
NODES = ("gate_node", "policy_node", "recorder_node", "twin_node")
pytestmark = pytest.mark.ros


def declared(node: str) -> dict[str, Any]:
    """The parameters that a node declares, by name."""
    table = importlib.import_module(f"skimo_ros.{node}").PARAMETERS
    by_name = {parameter.name: parameter for parameter in table}
    assert len(by_name) == len(table)
    return by_name


def written(node: str) -> dict[str, Any]:
    content = yaml.safe_load((LAUNCH / "params" / f"{node}.yaml").read_text(encoding="utf-8"))
    assert list(content) == ["/**"] and list(content["/**"]) == ["ros__parameters"]
    return content["/**"]["ros__parameters"]


@pytest.mark.parametrize("node", NODES)
def test_a_file_holds_its_node_s_defaults(node: str) -> None:
    known, given = declared(node), written(node)
    assert given
    defaults = {name: known[name].default for name in given}
    assert given == defaults
    assert {name: type(value) for name, value in given.items()} == {n: type(v) for n, v in defaults.items()}


@pytest.mark.parametrize("node", NODES)
def test_a_file_holds_nothing_that_an_argument_of_the_launch_overrules(node: str) -> None:
    stack = yaml.safe_load((LAUNCH / "stack.yaml").read_text(encoding="utf-8"))
    (process,) = (process for process in stack["processes"] if process["name"] == node)
    given = {name for item in process["parameters"] if isinstance(item, dict) for name in item}
    assert not given & set(written(node))


@pytest.mark.parametrize(
    ("node", "config", "data"), [("gate_node", GateConfig, {"contact"}), ("policy_node", ActuatorConfig, set())]
)
def test_every_setting_is_a_parameter_with_bounds_about_its_default(node: str, config: type, data: set[str]) -> None:
    known = declared(node)
    for name in {field.name for field in fields(config)} - data:
        parameter = known[name]
        if parameter.default == [0.0]:  # a corner: the cell's own
            continue
        assert parameter.default == getattr(config(), name)
        assert parameter.low <= parameter.default <= parameter.high


def test_settings_make_the_configuration_that_they_say() -> None:
    from skimo_ros.settings import ACTUATOR, GATE, actuator_config, gate_config

    values = {parameter.name: parameter.default for parameter in (*GATE, *ACTUATOR)}
    assert gate_config(values) == GateConfig() and actuator_config(values) == ActuatorConfig()
    changed = {**values, "retreat_m": 0.003, "workspace_low_m": [-1.0, -1.0, 0.0], "velocity_fraction": 0.2}
    assert gate_config(changed) == GateConfig(retreat_m=0.003, workspace_low_m=(-1.0, -1.0, 0.0))
    assert actuator_config(changed) == ActuatorConfig(velocity_fraction=0.2)
    with pytest.raises(SpecError, match="workspace_low_m has 2 numbers"):
        gate_config({**values, "workspace_low_m": [0.0, 1.0]})
    with pytest.raises(SpecError, match="close_below"):
        actuator_config({**values, "close_below": 0.5})
