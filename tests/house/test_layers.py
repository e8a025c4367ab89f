"""Dependencies go one way: core <- server <- learn, promote; core <- sim, bringup, calibration, ros; all <- eval."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from house.repository import PACKAGES

OURS = set(PACKAGES) | {"skimo_msgs"}
ROS = {"rclpy", "skimo_msgs", "franka_msgs", "std_msgs", "sensor_msgs", "geometry_msgs", "trajectory_msgs"}
HEAVY = {"torch", "onnxruntime", "onnx", "mujoco", "gymnasium", "gymnasium_robotics"}

# What a package must not import, at all or at the top of a module (inside a function it is a choice of the caller's).
FORBIDDEN = {
    "skimo_core": OURS - {"skimo_core"} | ROS | HEAVY,
    "skimo_ros": {"skimo_server", "skimo_learn", "skimo_sim", "skimo_calibration"} | HEAVY,
    "skimo_server": OURS - {"skimo_core", "skimo_server"} | ROS | {"torch", "mujoco", "gymnasium"},
    "skimo_learn": OURS - {"skimo_core", "skimo_server", "skimo_learn"} | ROS | {"mujoco", "gymnasium"},
    # It tries bundles by running `skimo eval`, so that nothing here depends on how they are simulated or trained.
    "skimo_promote": OURS - {"skimo_core", "skimo_server", "skimo_promote"} | ROS | {"torch", "mujoco", "gymnasium"},
    "skimo_sim": OURS - {"skimo_core", "skimo_sim"} | ROS | {"torch", "onnxruntime"},
    "skimo_bringup": OURS - {"skimo_core", "skimo_bringup"} | ROS | HEAVY,
    "skimo_calibration": OURS - {"skimo_core", "skimo_calibration"} | ROS | {"torch", "onnxruntime", "mujoco"},
    # It runs stacks and policies, so it may know everybody but those who train.
    "skimo_eval": {"skimo_learn", "torch"},
}
CALIBRATES_THE_TWIN = ("twin_camera.py", "twin_arm.py", "twin_cell.py", "twin_tags.py", "demo.py")
# Imports inside functions that are meant: the program they are for runs only where the other package is installed.
LAZY = {
    "skimo_ros": {
        "skimo_sim": {"twin_node.py"},
        "skimo_calibration": {"tracker_node.py", "camera_node.py", "capture.py"},
    },
    # A real cell is calibrated without a simulator; only what calibrates the twin itself, or plays on it, needs one.
    "skimo_calibration": {"skimo_sim": set(CALIBRATES_THE_TWIN), "mujoco": set(CALIBRATES_THE_TWIN)},
}
# skimo_learn takes nothing but the bundle format, its graphs' contract and what checks them from skimo_server.
LEARN_FROM_SERVER = {
    f"skimo_server.{name}"
    for name in (
        "bundle",
        "domains",
        "kinds",
        "graphs",
        "parity",
        "vetting",
        "engine",
        "planner_config",
        "graph_builder",
    )
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields every module that a file imports, and whether only inside a function, or for a type checker."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            inside = lazy or for_types or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, ast.Import):
                yield from ((alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                yield child.module, lazy
            yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_goes_against_the_layers(package: str) -> None:
    wrong = []
    for path in sorted(PACKAGES[package].rglob("*.py")):
        for module, lazy in imports(path):
            top = module.partition(".")[0]
            meant = lazy and path.name in LAZY.get(package, {}).get(top, ())
            if top in FORBIDDEN[package] and not meant:
                wrong.append(f"{path.relative_to(PACKAGES[package].parent)} imports {module}")
    assert wrong == []


CORE = {
    "contract": set(),
    "process": {"contract"},
    "domain": {"contract", "process"},
    "episodes": {"contract", "process", "domain"},
    "link": {"contract", "process"},
    "control": {"contract", "domain"},
    "safety": {"contract", "domain", "control", "process"},
    "ingest": {"contract", "domain", "control", "episodes"},
    "setup": {"contract", "process", "domain", "episodes", "link", "ingest"},
}
"""What each room of core may need."""


def test_the_rooms_of_core_stand_above_each_other() -> None:
    root = PACKAGES["skimo_core"]
    assert {path.parent.name for path in root.glob("*/__init__.py")} == set(CORE)
    wrong = []
    for room, below in CORE.items():
        for path in sorted((root / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module:
                    needed = node.module.partition(".")[0]
                    if needed not in below:
                        wrong.append(f"{room}/{path.name} needs {needed}")
    assert wrong == []


def test_learn_takes_only_the_bundle_from_the_server() -> None:
    taken = {
        module
        for path in PACKAGES["skimo_learn"].rglob("*.py")
        for module, _ in imports(path)
        if module.startswith("skimo_server")
    }
    assert taken <= LEARN_FROM_SERVER


def test_top_level_folders_are_no_packages() -> None:
    root = PACKAGES["skimo_sim"].parents[1]
    assert [str(path.relative_to(root)) for path in root.glob("*/__init__.py")] == []


def run_without(blocked: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter in which some packages cannot be imported."""
    blocker = f"""
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {sorted(blocked)!r}:
                    raise ModuleNotFoundError(f"{{name}} is blocked by the test", name=name)
        sys.meta_path.insert(0, Blocker())
    """
    program = textwrap.dedent(blocker) + textwrap.dedent(code)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=100, check=False)


def modules(package: str) -> list[str]:
    root = PACKAGES[package]
    paths = [path.relative_to(root.parent).with_suffix("") for path in sorted(root.rglob("*.py"))]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def test_every_module_of_core_imports_on_a_bare_robot_pc() -> None:
    code = f"import importlib\nfor name in {modules('skimo_core')!r}:\n    importlib.import_module(name)"
    done = run_without(HEAVY | ROS | {"h5py"}, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.ros
def test_the_policy_node_imports_without_torch_onnxruntime_and_mujoco() -> None:
    names = [f"skimo_ros.{node}" for node in ("policy_node", "gate_node", "recorder_node", "twin_node")]
    done = run_without(HEAVY, f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


def test_every_module_of_the_server_imports_without_torch() -> None:
    code = f"import importlib\nfor name in {modules('skimo_server')!r}:\n    importlib.import_module(name)"
    done = run_without({"torch", "mujoco", "gymnasium", "skimo_learn", "skimo_sim"} | ROS, code)
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    assert "blocked by the test" in run_without({"numpy"}, "import numpy").stderr
