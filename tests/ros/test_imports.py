"""The nodes that run beside a robot need neither torch nor ONNX Runtime nor MuJoCo, nor one stack's franka_msgs."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'onnxruntime', 'onnx', 'mujoco', 'skimo_server', 'skimo_learn', 'skimo_sim'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
EVERY_MODULE = """
import importlib, pkgutil, skimo_ros
for module in pkgutil.walk_packages(skimo_ros.__path__, 'skimo_ros.'):
    importlib.import_module(module.name)
print('imported')
"""


@pytest.mark.parametrize(
    "module",
    ["policy_node", "gate_node", "recorder_node", "twin_node", "camera_node", "tracker_node", "backend", "cli"],
)
def test_nodes_import_without_the_heavy_libraries(module: str) -> None:
    code = f"{BLOCK}\nimport skimo_ros.{module}\nprint('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "imported", done.stderr


def test_nothing_needs_a_driver_stacks_messages_before_a_driver_is_named() -> None:
    """Every module of the package, whatever it is called."""
    code = BLOCK.replace("'torch',", "'franka_msgs',") + EVERY_MODULE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "imported", done.stderr


def test_the_core_imports_without_ros_too() -> None:
    code = BLOCK.replace("'torch',", "'torch', 'rclpy',") + "\nimport skimo_core.control.pilot, skimo_core.link.client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
