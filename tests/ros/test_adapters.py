"""Driver stacks as data: what ships, what a lab brings by path, and what can't be; and whose robot it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.specs import Named
from skimo_core.domain.domain import Tracking, load_domain
from skimo_core.domain.robot import load_limits
from skimo_ros.adapters import ANY, adapter_names, interface, load_adapter, recovery_type, robot_state_type
from skimo_ros.parameters import SETUP
from skimo_ros.robots import check_bundle_robot, limits_of, set_up

SHIPPED = ("franka_ros2", "multipanda", "twin")
LAB = """
like: franka_ros2
source: our own driver (gitlab.example.org/arm)
robots: [panda]
arm: left
recovery: left_recovery/recover
recovery_type: std_srvs/srv/Trigger
"""


def test_what_ships_is_data() -> None:
    assert tuple(adapter_names()) == SHIPPED
    multipanda = load_adapter("multipanda")
    assert multipanda.robot_state_type == "franka_msgs/msg/FrankaState" and multipanda.recovery_kind == "service"
    assert load_adapter("franka_ros2").recovery_kind == "action"
    assert load_adapter("franka_ros2", arm="fer").joints[0] == "fer_joint1"
    assert load_adapter("twin").command == load_adapter("franka_ros2").command


@pytest.mark.ros
def test_types_are_imported_when_asked_for() -> None:
    from franka_msgs.action import ErrorRecovery
    from franka_msgs.msg import FrankaRobotState

    assert robot_state_type(load_adapter("twin")) is FrankaRobotState
    assert recovery_type(load_adapter("franka_ros2")) is ErrorRecovery


@pytest.mark.ros
@pytest.mark.parametrize("missing", ["franka_msgs/msg/FrankaState", "no_such_msgs/msg/FrankaState"])
def test_a_type_that_is_not_installed_is_named_with_its_package_and_the_remedy(missing: str) -> None:
    adapter = replace(load_adapter("multipanda"), robot_state_type=missing)
    with pytest.raises(SetupError) as caught:
        robot_state_type(adapter)
    words = str(caught.value)
    assert missing in words and missing.split("/")[0] in words and "build and source multipanda_ros2" in words


@pytest.mark.ros
def test_a_state_message_without_mode_or_reference_is_refused() -> None:
    adapter = replace(load_adapter("twin"), robot_state_type="sensor_msgs/msg/JointState")
    with pytest.raises(SpecError, match="robot_mode and desired_joint_state or q_d, has effort"):
        robot_state_type(adapter)


@pytest.mark.ros
def test_a_labs_own_file_is_taken_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours.yaml").write_text(LAB)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (str(tmp_path / "ours.yaml"), "~/ours.yaml"):
        adapter = load_adapter(path)
        assert adapter.joints[6] == "left_joint7" and adapter.recovery_kind == "service"
        assert interface(adapter, adapter.recovery_type).__name__ == "Trigger"
    assert load_adapter(path, arm="right").joints[0] == "right_joint1"


MALFORMED = [
    ("", "must be a mapping of keys to names, is NoneType"),
    ("[a, b]", "must be a mapping of keys to names, is list"),
    ("a: [b", "no YAML: .*line 1"),
    ("like: ur5", "like is 'ur5', must be one of franka_ros2, multipanda, twin"),
    ("like: [twin]", r"like is \['twin'\], must be one of"),
    ("like: twin", "like is 'twin', which itself is like 'franka_ros2'"),
    ("like: franka_ros2\ncomand: x", r"keys missing \[\], unknown \['comand'\]"),
    ("arm: panda", "keys missing .*'command'"),
    ("like: franka_ros2\nrobots: fr3", "robots is 'fr3', must be a list of robots"),
    ("like: franka_ros2\nrobots: []", r"robots is \[\], must name at least one robot"),
    ("like: franka_ros2\nrobots: [3]", r"robots is \[3\], must name at least one"),
    ("like: franka_ros2\narm: 7", "arm is 7, must be a word"),
    ("like: franka_ros2\narm: a/b", "arm is 'a/b', must be the prefix of the joint names"),
    ("like: franka_ros2\ncommand:", "command is None, must be a word"),
    ("like: franka_ros2\ncommand: 'joint trajectory'", "command is 'joint trajectory', no name that ROS allows"),
    ("like: franka_ros2\nobject_states: '3d'", "object_states is '3d', no name that ROS allows"),
    ("like: franka_ros2\nrecovery_type: ErrorRecovery", "must be package/action/Name or package/srv/Name"),
    ("like: franka_ros2\nrobot_state_type: franka_msgs/srv/X", "must be package/msg/Name"),
    ("like: franka_ros2\ngripper_move_type: ../action/Move", "must be package/action/Name"),
    ("like: franka_ros2\nsource: ''", "source is '', must be a word"),
    ("\x00", "no YAML"),
]


@pytest.mark.parametrize(("text", "words"), MALFORMED)
def test_a_malformed_file_is_refused_with_its_key_and_value(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words) as caught:
        load_adapter(str(path))
    assert str(path) in str(caught.value)


def test_every_key_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    for key in load_adapter("franka_ros2").__dataclass_fields__:
        if key not in ("name", "joints", "fingers"):
            path.write_text(f"like: franka_ros2\n{key}: {{}}\n")
            with pytest.raises(SpecError, match=key):
                load_adapter(str(path))


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no driver stack 'ur5'; known are franka_ros2, multipanda, twin, or give"):
        load_adapter("ur5")
    (tmp_path / "latin.yaml").write_bytes(b"arm: \xe9")
    cases = {"none.yaml": "No such file", "latin.yaml": "no YAML", "": "Is a directory"}
    for name, words in cases.items():
        with pytest.raises(SpecError, match=words):
            load_adapter(f"{tmp_path}/{name}")
    with pytest.raises(SpecError, match="can't be read"):
        load_adapter("~no_such_user_here/ours.yaml")


def test_the_driver_chooses_the_robot_and_a_contradiction_is_refused() -> None:
    kitchen = load_domain("kitchen")
    assert limits_of(load_adapter("franka_ros2"), "", kitchen).name == "fr3"
    assert limits_of(load_adapter("multipanda")).name == "panda" == limits_of(load_adapter("twin"), "panda").name
    assert limits_of(load_adapter("twin"), "fr3", kitchen).name == "fr3"
    with pytest.raises(SpecError, match=r"robot:=panda contradicts driver:=franka_ros2, which drives fr3"):
        limits_of(load_adapter("franka_ros2"), "panda")
    with pytest.raises(SpecError, match=r"robot:=fr3 contradicts driver:=multipanda, which drives panda"):
        limits_of(load_adapter("multipanda"), "fr3")


def test_each_driver_s_robot_has_its_own_limits() -> None:
    for name in SHIPPED:
        adapter = load_adapter(name)
        for robot in adapter.robots:
            assert robot == ANY or limits_of(adapter, robot).name == robot
    fr3, panda = limits_of(load_adapter("franka_ros2")), limits_of(load_adapter("multipanda"))
    assert (fr3.q_min_rad[5], fr3.q_max_rad[0]) == (0.5445, 2.7437)
    assert (panda.q_min_rad[5], panda.q_max_rad[0]) == (-0.0175, 2.8973)
    assert fr3.joint_names == load_adapter("franka_ros2").joints and panda.joint_names == load_adapter("twin").joints
    with pytest.raises(SpecError, match="was made within the limits of robot 'panda'"):
        check_bundle_robot("b" * 64, panda.named, fr3)


def test_the_twin_takes_the_names_of_whatever_robot_it_is() -> None:
    fr3, twin = load_limits("fr3"), load_adapter("twin")
    assert twin.of(fr3).joints == fr3.joint_names and twin.of(fr3).fingers == fr3.finger_names
    assert twin.of(fr3, "left_fr3").joints[0] == "left_fr3_joint1" and twin.of(fr3).base_frame == "fr3_link0"
    values = {parameter.name: parameter.default for parameter in SETUP}
    assert set_up(values).limits.name == "panda"
    assert set_up({**values, "arm": "left"}).adapter.fingers == ("left_finger_joint1", "left_finger_joint2")


def test_a_domain_without_an_arm_is_refused_with_where_it_runs() -> None:
    values = {"domain": "maze", "driver": "twin", "arm": "panda", "robot": "", "rig": ""}
    with pytest.raises(SpecError, match="maze has no arm, and these nodes command one; run it in process: skimo eval"):
        set_up(values)


def test_a_bundle_made_within_other_limits_is_refused_and_one_that_does_not_say_is_warned_of() -> None:
    panda = load_limits("panda")
    assert check_bundle_robot("b" * 64, panda.named, panda) == ""
    assert "does not say which robot it was made for" in check_bundle_robot("b" * 64, Named(), panda)
    with pytest.raises(SpecError) as caught:
        check_bundle_robot("b" * 64, Named(name="other", digest="f" * 64), panda)
    words = str(caught.value)
    assert all(part in words for part in ("b" * 12, "f" * 12, "'other'", "'panda'", panda.digest[:12]))


def test_the_controller_files_fit_the_adapters_and_their_distribution() -> None:
    params = Path(__file__).resolve().parents[2] / "launch" / "params"
    words = {"humble": "open_loop_control", "jazzy": "interpolate_from_desired_state"}
    files = sorted(path.name for path in params.glob("controllers_*.yaml"))
    assert files == [
        "controllers_franka_ros2_humble.yaml",
        "controllers_franka_ros2_jazzy.yaml",
        "controllers_multipanda_humble.yaml",
    ]
    for name in files:
        driver, distribution = name.removeprefix("controllers_").removesuffix(".yaml").rsplit("_", 1)
        adapter = load_adapter(driver)
        controller, topic = adapter.command.split("/")
        given = yaml.safe_load((params / name).read_text())["/**"][controller]["ros__parameters"]
        assert topic == "joint_trajectory" and given["joints"] == list(adapter.joints)
        assert given["type"] == "joint_trajectory_controller/JointTrajectoryController"
        assert given["command_interfaces"] == ["position"] and given["interpolation_method"] == "splines"
        assert {word for word in words.values() if given.get(word)} == {words[distribution]}
        assert given["allow_nonzero_velocity_at_trajectory_end"] is False


def test_a_tracker_may_be_later_and_see_less_than_the_domain_s_twin() -> None:
    values = {"domain": "kitchen", "driver": "twin", "arm": "", "robot": "", "rig": ""}
    plain = set_up(values).domain.tracking
    assert set_up({**values, "objects_max_age_s": 0.0, "objects_hidden_s": 0.0}).domain.tracking == plain
    asked = set_up({**values, "objects_max_age_s": 0.2, "objects_hidden_s": 1.0}).domain.tracking
    assert asked == Tracking(max_age_s=0.2, hidden_s=1.0) != plain
