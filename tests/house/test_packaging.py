"""Packages agree with each other: versions, build types, registered commands, the launch link, the pins."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ElementTree
from importlib import metadata

import pytest
import tomllib
from house.repository import ROOT
from house.test_layers import imports

from skimo_core import cli

PACKAGE_FILES = sorted((ROOT / "ros2_ws/src").glob("*/package.xml"))
PYPROJECTS = [ROOT / "policy_server/pyproject.toml", ROOT / "sim/pyproject.toml", ROOT / "calibration/pyproject.toml"]
VERSION = ElementTree.parse(PACKAGE_FILES[0]).getroot().findtext("version")


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=lambda path: path.parent.name)
def test_package_files_are_whole_and_of_one_version(path) -> None:
    root = ElementTree.parse(path).getroot()
    assert (root.get("format"), root.findtext("name"), root.findtext("version")) == ("3", path.parent.name, VERSION)
    assert root.findtext("license") == "Apache-2.0"
    maintainer = root.find("maintainer")
    assert maintainer is not None and maintainer.get("email")  # without it catkin_pkg demotes the package
    assert "example" not in maintainer.attrib["email"]
    licence = root.find("license")
    assert licence is not None and licence.get("file") == "LICENSE"
    assert (path.parent / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (path.parent / "CHANGELOG.rst").read_text().splitlines()[1] == f"Changelog for package {path.parent.name}"
    build_type = "ament_cmake" if (path.parent / "CMakeLists.txt").exists() else "ament_python"
    assert root.findtext("export/build_type") == build_type


ROSDEP = {
    "numpy": "python3-numpy",
    "yaml": "python3-yaml",
    "zmq": "python3-zmq",
    "msgpack": "python3-msgpack",
    "psutil": "python3-psutil",
    "h5py": "python3-h5py",
    "tqdm": "python3-tqdm",
    "zstandard": "python3-zstandard",
}
PIP_ONLY = {"mcap": "mcap", "mcap_ros2": "mcap-ros2-support", "tyro": "tyro", "ruckig": "ruckig", "lz4": "lz4"}
"""No rosdep key: setup.py's install_requires names them."""
EXTRAS = {
    "google": "protobuf",
    "pyarrow": "pyarrow",
    "matplotlib": "matplotlib",
    "viser": "viser",
    "websockets": "websockets",
}
"""Not for everybody: an extra of setup.py names them."""
OTHER_HALF = {"skimo_sim", "skimo_server", "skimo_calibration"}
"""Pip distributions beside the workspace; each import of one of them stands inside a function or in skimo_bringup."""


@pytest.mark.parametrize("name", ["skimo_core", "skimo_ros", "skimo_bringup"])
def test_every_import_of_a_ros_package_is_declared(name: str) -> None:
    folder = ROOT / "ros2_ws/src" / name
    root = ElementTree.parse(folder / "package.xml").getroot()
    declared = {element.text for kind in ("depend", "exec_depend") for element in root.findall(kind)}
    setup = (folder / "setup.py").read_text()
    pip = re.search(r"install_requires=\[(.*?)\]", setup, re.S)
    assert pip is not None
    wanted = {"ros2launch", "launch", "launch_ros"} if name == "skimo_bringup" else set()
    files = sorted(folder.glob(f"{name}/**/*.py"))
    assert files
    for path in files:
        for module, _ in imports(path):
            wanted.add(module.partition(".")[0])
    wanted -= set(sys.stdlib_module_names) | {name} | OTHER_HALF
    extras = setup.partition("extras_require=")[2].partition("entry_points=")[0]
    missing = {
        module
        for module in wanted - {module for module, name in EXTRAS.items() if f'"{name}>=' in extras}
        if (PIP_ONLY[module] not in pip[1] if module in PIP_ONLY else ROSDEP.get(module, module) not in declared)
    }
    assert missing == set()


def test_colcon_finds_each_package_s_tests() -> None:
    """The path that colcon's pytest step takes: it wants pytest among the requirements, and runs in the package."""
    import configparser

    for name in ("skimo_core", "skimo_ros", "skimo_bringup"):
        folder = ROOT / "ros2_ws/src" / name
        assert '"test": ["pytest"]' in (folder / "setup.py").read_text()
        root = ElementTree.parse(folder / "package.xml").getroot()
        assert "python3-pytest" in [element.text for element in root.findall("test_depend")]
        settings = configparser.ConfigParser()
        settings.read(folder / "setup.cfg")
        paths = [folder / path for path in settings["tool:pytest"]["testpaths"].split()]
        assert paths and all(list(path.resolve().glob("test_*.py")) for path in paths)


def test_colcon_sees_ros_packages() -> None:
    """An invalid package.xml silently becomes a plain `python` package, without the ament index's entry."""
    from colcon_core.package_descriptor import PackageDescriptor
    from colcon_ros.package_identification.ros import RosPackageIdentification

    identify = RosPackageIdentification()
    for path in PACKAGE_FILES:
        descriptor = PackageDescriptor(path.parent)
        identify.identify(descriptor)
        expected = "ros.ament_cmake" if (path.parent / "CMakeLists.txt").exists() else "ros.ament_python"
        assert (descriptor.name, descriptor.type) == (path.parent.name, expected)


@pytest.mark.parametrize("path", PYPROJECTS, ids=lambda path: path.parent.name)
def test_distributions_are_of_the_same_version_and_want_that_core(path) -> None:
    project = tomllib.loads(path.read_text())["project"]
    assert project["version"] == VERSION
    assert f"skimo_core=={VERSION}" in project["dependencies"]


@pytest.mark.parametrize("name", ["skimo_core", "skimo_ros", "skimo_bringup", "skimo_policy_server", "skimo_sim"])
def test_what_is_installed_is_of_this_version(name: str) -> None:
    assert metadata.version(name) == VERSION


def test_every_command_is_callable_and_says_what_it_does() -> None:
    for name, entry in cli.installed_commands().items():
        summary = cli.summary(entry)
        assert summary and not summary.startswith("("), f"skimo {name}: {summary}"


def test_listing_commands_imports_none_of_them() -> None:
    code = "import sys; from skimo_core import cli; cli.print_help(cli.installed_commands(), sys.stdout);"
    code += "sys.exit(bool({'torch', 'mujoco', 'rclpy', 'onnxruntime'} & set(sys.modules)))"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_the_launch_folder_is_a_relative_link_into_the_top_level() -> None:
    link = ROOT / "ros2_ws/src/skimo_bringup/launch"
    assert link.is_symlink() and not link.readlink().is_absolute()
    assert link.resolve() == ROOT / "launch"


def test_constraints_pin_exactly_and_nothing_local() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert {"mujoco==3.11.0", "torch==2.13.0"} <= set(lines)


def test_the_ros_launch_stand_ins_are_only_needed_without_ros() -> None:
    """`import launch` finds this repository's folder as an empty namespace package; only launch_ros tells."""
    assert importlib.util.find_spec("launch_ros") is None or importlib.util.find_spec("launch.actions") is not None
