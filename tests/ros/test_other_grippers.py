"""A hand whose actions are of another form than libfranka's is refused in words, before anything is asked of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from franka_msgs.action import Grasp, Move

from skimo_core.contract.errors import SetupError, SpecError
from skimo_ros.adapters import gripper_type, load_adapter

TWIN = load_adapter("twin")


def test_libfranka_s_own_are_taken() -> None:
    assert (gripper_type(TWIN, "move"), gripper_type(TWIN, "grasp")) == (Move, Grasp)


@pytest.mark.parametrize(
    ("kind", "other"), [("move", "Homing"), ("grasp", "Homing"), ("grasp", "Move"), ("move", "ErrorRecovery")]
)
def test_another_form_is_refused_and_what_it_lacks_is_said(kind: str, other: str) -> None:
    adapter = replace(TWIN, **{f"gripper_{kind}_type": f"franka_msgs/action/{other}"})
    with pytest.raises(SpecError, match=rf"gripper_{kind}_type franka_msgs/action/{other} must have .*speed, width in"):
        gripper_type(adapter, kind)


def test_a_type_that_is_not_installed_is_named_with_the_remedy() -> None:
    adapter = replace(TWIN, gripper_move_type="control_msgs/action/GripperCommand")
    with pytest.raises(SetupError, match=r"control_msgs can't be imported here .*; build and source"):
        gripper_type(adapter, "move")
