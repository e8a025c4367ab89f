"""The names that a driver stack uses, as data: one YAML file per stack, read into an `Adapter`.

What a stack's own messages are needed for is little (mode, gripper, recovery); joint states and commands are
sensor_msgs/JointState and trajectory_msgs/JointTrajectory everywhere. A new stack is a new file, not new code.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import import_module, resources
from typing import Any

import yaml

from skimo_core.errors import SpecError

JOINT_COUNT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One driver stack's names; relative, so that a namespace moves them all.

    Attributes:
        name: of the stack.
        arm: the arm's id, prefix of its joint names.
        joint_states, robot_state, command, object_states: topics.
        robot_state_types: message types in franka_msgs, the first that is installed counts.
        gripper_move, gripper_grasp, gripper_homing: actions.
        recovery, recovery_kind: name and kind ("action" or "service") of the error recovery.
    """

    name: str
    arm: str
    joint_states: str
    robot_state: str
    robot_state_types: tuple[str, ...]
    command: str
    gripper_move: str
    gripper_grasp: str
    gripper_homing: str
    recovery: str
    recovery_kind: str
    object_states: str

    def __post_init__(self) -> None:
        if self.recovery_kind not in ("action", "service"):
            raise SpecError(f"adapter {self.name}: recovery_kind is {self.recovery_kind!r}, must be action or service")

    @property
    def joints(self) -> tuple[str, ...]:
        return tuple(f"{self.arm}_joint{i + 1}" for i in range(JOINT_COUNT))

    @property
    def fingers(self) -> tuple[str, ...]:
        return (f"{self.arm}_finger_joint1", f"{self.arm}_finger_joint2")

    @property
    def base_frame(self) -> str:
        return f"{self.arm}_link0"


def adapter_names() -> list[str]:
    """The stacks that are known."""
    return sorted(p.name.removesuffix(".yaml") for p in resources.files(__name__).iterdir() if p.name.endswith(".yaml"))


def load_adapter(name: str, arm: str = "") -> Adapter:
    """Load `<name>.yaml`; `arm` replaces its arm id where given.

    Raises:
        SpecError: no such stack, listing the known ones; a missing or unknown key.
    """
    data = _read(name)
    if arm:
        data["arm"] = arm
    known = {f.name for f in fields(Adapter)} - {"name"}
    if set(data) != known:
        missing, unknown = sorted(known - set(data)), sorted(set(data) - known)
        raise SpecError(f"adapter {name}: keys missing {missing}, unknown {unknown}")
    data["robot_state_types"] = tuple(data["robot_state_types"])
    return Adapter(name=name, **data)


def _read(name: str) -> dict[str, Any]:
    if name not in adapter_names():
        raise SpecError(f"no adapter {name!r} for a driver stack; known are {', '.join(adapter_names())}")
    data = yaml.safe_load(resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    like = data.pop("like", None)
    return {**_read(like), **data} if like else data


def robot_state_type(adapter: Adapter) -> type:
    """The first of the adapter's robot state messages that the installed franka_msgs has.

    Raises:
        SpecError: none of them.
    """
    messages = import_module("franka_msgs.msg")
    for name in adapter.robot_state_types:
        if hasattr(messages, name):
            return getattr(messages, name)
    wanted = ", ".join(adapter.robot_state_types)
    raise SpecError(f"adapter {adapter.name}: the installed franka_msgs has none of {wanted}")


def recovery_service_type() -> type:
    """The type of a recovery *service*: multipanda_ros2's own where its franka_msgs is installed, else Trigger."""
    services = import_module("franka_msgs.srv")
    return getattr(services, "ErrorRecovery", None) or import_module("std_srvs.srv").Trigger
