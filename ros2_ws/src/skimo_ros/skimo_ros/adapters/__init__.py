"""The names and types that a driver stack uses, as data: one YAML file per stack, read into an `Adapter`.

What a stack's own messages are needed for is little (mode, hand, recovery); joint states and commands are
sensor_msgs/JointState and trajectory_msgs/JointTrajectory everywhere. A new stack is a new file, not new code: one of
those here, by its name, or a lab's own, by its path.
The stacks' interface packages share a name (franka_msgs) and little of their contents, so nothing here imports them:
a type is imported when a node first uses it, and what is missing then is named with its package and the remedy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import yaml

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.domain.robot import RobotLimits, load_limits

ANY = "any"
NONE = "none"
OPTIONAL = {"robot_state": "robot_state_type", "recovery": "recovery_type"}
"""What a driver may have none of, said of the name and its type alike: without a robot state nothing here sees the
arm's mode (a reflex, a user stop), nor external torques; the gate then judges by joint states alone."""
KINDS = {
    "robot_state_type": ("msg",),
    "gripper_move_type": ("action",),
    "gripper_grasp_type": ("action",),
    "gripper_homing_type": ("action",),
    "recovery_type": ("action", "srv"),
}
"""The keys that hold a type, and the kinds of interface that each may be."""
NAMES = ("joint_states", "robot_state", "command", "gripper_move", "gripper_grasp", "gripper_homing", "recovery")
"""The keys that hold the name of a topic, action or service; object_states is the stack's own and one more."""
GRIPPER_GOALS = {"move": {"width", "speed"}, "grasp": {"width", "speed", "force", "epsilon"}}
GRIPPER_RESULT = {"success", "error"}
"""Fields of the hand's actions."""
_TYPE = re.compile(r"[a-z][a-z0-9_]*/(msg|srv|action)/[A-Z][A-Za-z0-9]*")
_NAME = re.compile(r"/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")
_ARM = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One driver stack's names; relative, so that a namespace moves them all. A type is "package/kind/Name".

    Attributes:
        name: of the stack, or the path of its file.
        source: where the stack's packages come from, for a person who lacks them.
        robots: names of the robots that the stack drives; the first unless another is asked for. "any": every robot,
            under its own joint names.
        arm: the arm's id, prefix of its joint names.
        joint_states, robot_state, command, object_states: topics.
        robot_state_type: a message with `robot_mode` and with `desired_joint_state` or `q_d`; with the topic "none"
            where the driver tells none (OPTIONAL).
        gripper_move, gripper_grasp, gripper_homing: actions, and their types.
        recovery, recovery_type: name and type of the error recovery, an action or a service.
    """

    name: str
    source: str
    robots: tuple[str, ...]
    arm: str
    joint_states: str
    robot_state: str
    robot_state_type: str
    command: str
    gripper_move: str
    gripper_move_type: str
    gripper_grasp: str
    gripper_grasp_type: str
    gripper_homing: str
    gripper_homing_type: str
    recovery: str
    recovery_type: str
    object_states: str
    joints: tuple[str, ...] = ()
    fingers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name not in ("robots", "joints", "fingers"):
                _check_word(self.name, field.name, getattr(self, field.name))
        for name, kind in OPTIONAL.items():
            if (getattr(self, name) == NONE) != (getattr(self, kind) == NONE):
                raise SpecError(f"driver {self.name}: {name} and {kind} must both be {NONE!r}, or neither")
        if not self.robots or not all(isinstance(robot, str) and robot for robot in self.robots):
            raise SpecError(f"driver {self.name}: robots is {list(self.robots)}, must name at least one robot")

    @property
    def tells_state(self) -> bool:
        """Whether its driver tells the robot's own state."""
        return self.robot_state != NONE

    @property
    def recovery_kind(self) -> str:
        """ "action" or "service"."""
        return "action" if "/action/" in self.recovery_type else "service"

    def drives(self, robot: str) -> bool:
        """Whether the stack drives a robot of that name."""
        return robot in self.robots or ANY in self.robots

    def of(self, limits: RobotLimits, arm: str = "") -> Adapter:
        """The stack with that robot's joints: under the prefix `arm`, else the stack's, else (any robot) its own."""
        arm = arm or (limits.prefix if ANY in self.robots else self.arm)

        def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(f"{arm}{name.removeprefix(limits.prefix)}" for name in names)

        return replace(self, arm=arm, joints=renamed(limits.joint_names), fingers=renamed(limits.finger_names))

    @property
    def base_frame(self) -> str:
        return f"{self.arm}_link0"


def adapter_names() -> list[str]:
    """The stacks that are known."""
    return sorted(p.name.removesuffix(".yaml") for p in resources.files(__name__).iterdir() if p.name.endswith(".yaml"))


def load_adapter(name: str, arm: str = "") -> Adapter:
    """Load a known stack by its name, or a lab's own file by its path (with a "/" or ending in .yaml).

    Args:
        name: of the stack, or a path; "~" is the home folder.
        arm: replaces the file's arm id where given.

    Returns:
        The stack with the joints of its first robot.

    Raises:
        SpecError: no such stack or file, no YAML, a key missing, unknown or of a value that can't be.
    """
    data = _read(name)
    known = {f.name for f in fields(Adapter)} - {"name", "joints", "fingers"}
    if set(data) != known:
        missing, unknown = sorted(known - set(data)), sorted(map(str, set(data) - known))
        raise SpecError(f"driver {name}: keys missing {missing}, unknown {unknown}")
    if not isinstance(data["robots"], list):
        raise SpecError(f"driver {name}: robots is {data['robots']!r}, must be a list of robots: robots: [panda]")
    data["robots"] = tuple(data["robots"])
    adapter = Adapter(name=name, **data)
    return adapter.of(load_limits(adapter.robots[0]), _checked(adapter, arm))


def _checked(adapter: Adapter, arm: str) -> str:
    if arm:
        _check_word(adapter.name, "arm", arm)
    return arm


def interface(adapter: Adapter, type_name: str) -> Any:
    """Import a message, service or action type of the adapter's stack.

    Raises:
        SetupError: its package is not installed, or is one of the same name without this type.
    """
    package, kind, name = type_name.split("/")
    try:
        module = import_module(f"{package}.{kind}")
    except ImportError as error:
        raise SetupError(
            f"driver {adapter.name} speaks {type_name}, and {package} can't be imported here ({error}); "
            f"build and source {adapter.source}"
        ) from None
    if not hasattr(module, name):
        found = Path(str(module.__file__)).parents[1]
        raise SetupError(
            f"driver {adapter.name} speaks {type_name}, which the {package} in {found} does not have: it is another "
            f"stack's package of that name; build and source {adapter.source}, and not the other"
        )
    return getattr(module, name)


def robot_state_type(adapter: Adapter) -> Any:
    """The type of the robot's state: its mode, and what its controller is following.

    Raises:
        SetupError: it is not installed.
        SpecError: it lacks what is needed, or the driver tells no such state.
    """
    if not adapter.tells_state:
        raise SpecError(
            f"driver {adapter.name} tells no robot state (robot_state: {NONE}), and this needs one; take a driver that "
            "does, or leave out what asked for it"
        )
    kind = interface(adapter, adapter.robot_state_type)
    there = set(kind.get_fields_and_field_types())
    if not {"header", "robot_mode"} <= there or not {"desired_joint_state", "q_d"} & there:
        raise SpecError(
            f"driver {adapter.name}: {adapter.robot_state_type} must have the fields header, robot_mode and "
            f"desired_joint_state or q_d, has {', '.join(sorted(there))}"
        )
    return kind


def gripper_type(adapter: Adapter, kind: str) -> Any:
    """The hand's action type of `kind`, move or grasp: what libfranka's gripper takes and answers.

    Raises:
        SetupError: it is not installed.
        SpecError: it is of another form, as control_msgs' GripperCommand is.
    """
    named = getattr(adapter, f"gripper_{kind}_type")
    found = interface(adapter, named)
    there = set(found.Goal.get_fields_and_field_types()), set(found.Result.get_fields_and_field_types())
    if not (GRIPPER_GOALS[kind] <= there[0] and there[1] >= GRIPPER_RESULT):
        raise SpecError(
            f"driver {adapter.name}: gripper_{kind}_type {named} must have {', '.join(sorted(GRIPPER_GOALS[kind]))} in "
            f"its goal and {', '.join(sorted(GRIPPER_RESULT))} in its result, as franka_msgs' actions have; name those "
            "of the driver that are so, or bridge its own with a node that offers them"
        )
    return found


def recovery_type(adapter: Adapter) -> Any:
    """The type of the error recovery, an action or a service (`recovery_kind`).

    Raises:
        SetupError: it is not installed, or the driver has none.
    """
    if adapter.recovery == NONE:
        raise SetupError(
            f"driver {adapter.name} has no recovery (recovery: {NONE}); recover the robot as its driver does"
        )
    return interface(adapter, adapter.recovery_type)


def _check_word(adapter: str, key: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise SpecError(f"driver {adapter}: {key} is {value!r}, must be a word")
    if key in KINDS:
        if value == NONE and key in OPTIONAL.values():
            return
        kinds = KINDS[key]
        if not _TYPE.fullmatch(value) or value.split("/")[1] not in kinds:
            wanted = " or ".join(f"package/{kind}/Name" for kind in kinds)
            raise SpecError(f"driver {adapter}: {key} is {value!r}, must be {wanted}")
    elif (key in NAMES or key == "object_states") and not _NAME.fullmatch(value):
        raise SpecError(f"driver {adapter}: {key} is {value!r}, no name that ROS allows (words joined by /)")
    elif key == "arm" and not _ARM.fullmatch(value):
        raise SpecError(f"driver {adapter}: arm is {value!r}, must be the prefix of the joint names, e.g. panda")


def _read(name: str) -> dict[str, Any]:
    data = _parse(name)
    like = data.pop("like", None)
    if like is None:
        return data
    if like not in adapter_names():
        raise SpecError(f"driver {name}: like is {like!r}, must be one of {', '.join(adapter_names())}")
    base = _parse(like)
    if "like" in base:
        raise SpecError(f"driver {name}: like is {like!r}, which itself is like {base['like']!r}; name that one")
    return {**base, **data}


def _parse(name: str) -> dict[str, Any]:
    try:
        if "/" in name or name.endswith((".yaml", ".yml")):
            text = Path(name).expanduser().read_text(encoding="utf-8")
        elif name in adapter_names():
            text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        else:
            known = ", ".join(adapter_names())
            raise SpecError(f"no driver stack {name!r}; known are {known}, or give the path of a file like theirs")
        data = yaml.safe_load(text)
    except (OSError, RuntimeError) as error:  # RuntimeError: "~" of a user that is not there
        raise SpecError(f"driver {name}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    except (UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise SpecError(f"driver {name}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise SpecError(f"driver {name}: must be a mapping of keys to names, is {type(data).__name__}")
    return data
