"""The ROS interface packages: built here, commented, giving way to upstream's franka_msgs where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from house.repository import ROOT

PREFIX = Path(sys.prefix)
SOURCES = ROOT / "ros2_ws/src"
DEFINITIONS = [p for name in ("skimo_msgs", "franka_msgs") for p in sorted((SOURCES / name).glob("*/*.*"))]


def configure_franka_msgs(build: Path, *prefixes: Path) -> str:
    """Runs cmake's configure step of our franka_msgs with these install prefixes and returns what it says.

    It stops where generation would begin: ament_cmake, the first thing needed for it, is declared unavailable.
    """
    command = [PREFIX / "bin/cmake", "-S", SOURCES / "franka_msgs", "-B", build, "-G", "Ninja", "-Wno-dev"]
    command += [f"-DCMAKE_MAKE_PROGRAM={PREFIX / 'bin/ninja'}", f"-DPython3_EXECUTABLE={sys.executable}"]
    command += [
        f"-DCMAKE_PREFIX_PATH={';'.join(str(prefix) for prefix in prefixes)}",
        "-DCMAKE_DISABLE_FIND_PACKAGE_ament_cmake=ON",
    ]
    env = {**os.environ, "AMENT_PREFIX_PATH": str(PREFIX), "CMAKE_PREFIX_PATH": "", "PYTHONPATH": ""}
    env["PATH"] = f"{PREFIX / 'bin'}{os.pathsep}{env['PATH']}"
    done = subprocess.run([str(p) for p in command], env=env, capture_output=True, text=True, timeout=100, check=False)
    return done.stdout + done.stderr


@pytest.mark.ros
def test_upstream_s_franka_msgs_is_used_where_it_is_installed(tmp_path: Path) -> None:
    exports = tmp_path / "upstream/share/franka_msgs/cmake"
    exports.mkdir(parents=True)
    (exports / "franka_msgsConfig.cmake").write_text("set(franka_msgs_FOUND TRUE)\n")
    said = configure_franka_msgs(tmp_path / "build", tmp_path / "upstream", PREFIX)
    assert f"that of {exports} is used, nothing is built" in said
    assert "Configuring done" in said


@pytest.mark.ros
def test_our_franka_msgs_is_built_where_upstream_s_is_not_and_ours_was_before(tmp_path: Path) -> None:
    assert (PREFIX / "share/franka_msgs/skimo_definitions").is_file()
    said = configure_franka_msgs(tmp_path / "build", PREFIX)
    assert "nothing is built" not in said
    assert "CMAKE_DISABLE_FIND_PACKAGE_ament_cmake" in said


@pytest.mark.parametrize("path", [p for p in DEFINITIONS if p.parent.parent.name == "skimo_msgs"], ids=lambda p: p.name)
def test_every_field_of_our_messages_says_what_it_is(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "---"))]
    constants = ("MOVE=", "START=", "END=")
    silent = [line for line in lines if "#" not in line and not any(word in line for word in constants)]
    assert [line for line in silent if not line.startswith("bool success")] == []


@pytest.mark.ros
def test_franka_msgs_carries_upstream_s_constants_defaults_and_counts() -> None:
    from franka_msgs.action import Grasp
    from franka_msgs.msg import Errors, FrankaRobotState, GraspEpsilon

    modes = ("OTHER", "IDLE", "MOVE", "GUIDING", "REFLEX", "USER_STOPPED", "AUTOMATIC_ERROR_RECOVERY")
    assert [getattr(FrankaRobotState, f"ROBOT_MODE_{mode}") for mode in modes] == list(range(7))
    assert len(Errors.get_fields_and_field_types()) == 36
    assert (GraspEpsilon().inner, GraspEpsilon().outer) == (0.005, 0.005)
    assert list(Grasp.Goal.get_fields_and_field_types()) == ["width", "epsilon", "speed", "force"]
    fields = list(FrankaRobotState.get_fields_and_field_types())
    assert (fields[:3], fields[-3:]) == (
        ["header", "collision_indicators", "measured_joint_state"],
        ["robot_mode", "current_errors", "last_motion_errors"],
    )


def definition(path: Path) -> list[str]:
    """The lines of an interface's definition, without comments."""
    lines = [line.split("#")[0].split() for line in path.read_text().splitlines()]
    return [" ".join(words) for words in lines if words]


def test_the_stand_in_for_multipanda_s_package_has_its_shape() -> None:
    shape, ours = ROOT / "tests/support/multipanda_shape", SOURCES / "franka_msgs"
    assert sorted(p.relative_to(shape).as_posix() for p in shape.glob("*/*")) == [
        "msg/Errors.msg",
        "msg/FrankaState.msg",
        "srv/ErrorRecovery.srv",
    ]
    errors, state = definition(shape / "msg/Errors.msg"), definition(shape / "msg/FrankaState.msg")
    assert errors[:36] == definition(ours / "msg/Errors.msg") and len(errors) == 41
    assert state[3:6] == ["float64[7] q", "float64[7] q_d", "float64[7] dq"]
    assert state[-3:] == ["uint8 robot_mode", "Errors current_errors", "Errors last_motion_errors"]
    assert definition(shape / "srv/ErrorRecovery.srv") == ["---", "bool success", "string error"]
    assert (shape / "COLCON_IGNORE").is_file()  # a second franka_msgs is nobody's business but the tests'
