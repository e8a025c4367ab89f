"""A ROS_DOMAIN_ID that is none is refused in words, by the operator's commands and by every node."""

from __future__ import annotations

import pytest

from skimo_ros import cli, nodes

pytestmark = pytest.mark.ros


@pytest.mark.parametrize("value", ["abc", "-1", "233", "1.5"])
def test_an_operator_s_command_says_so(value: str, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", value)
    monkeypatch.setattr("skimo_ros.operator.rclpy.ok", lambda: False)
    assert cli.status([]) == 1
    assert f"ROS_DOMAIN_ID is '{value}', must be a whole number of 0 to 232" in capsys.readouterr().err


def test_a_node_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def gate_node() -> None:
        raise AssertionError("it must not be made")

    monkeypatch.setenv("ROS_DOMAIN_ID", "abc")
    monkeypatch.setattr(nodes, "_catch_signals", lambda ask: None)
    assert nodes.run(gate_node) == 1  # type: ignore[arg-type]
    assert "gate_node: ROS_DOMAIN_ID is 'abc'" in capsys.readouterr().err
