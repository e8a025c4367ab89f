"""What the house tests look at: the tracked files of this repository, and where its packages lie."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "skimo_core": ROOT / "ros2_ws/src/skimo_core/skimo_core",
    "skimo_ros": ROOT / "ros2_ws/src/skimo_ros/skimo_ros",
    "skimo_bringup": ROOT / "ros2_ws/src/skimo_bringup/skimo_bringup",
    "skimo_server": ROOT / "policy_server/skimo_server",
    "skimo_learn": ROOT / "policy_server/skimo_learn",
    "skimo_promote": ROOT / "policy_server/skimo_promote",
    "skimo_sim": ROOT / "sim/skimo_sim",
    "skimo_eval": ROOT / "sim/skimo_eval",
    "skimo_calibration": ROOT / "calibration/skimo_calibration",
}


def tracked() -> list[Path]:
    """Returns the tracked files that exist, links left out."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def tracked_text() -> dict[Path, str]:
    """Returns the tracked files that are UTF-8 text."""
    found: dict[Path, str] = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        try:
            found[path] = data.decode("utf-8")
        except UnicodeDecodeError:
            continue
    return found
