"""Where the meshes and the kitchen lie: in the installed gymnasium-robotics, never in this repository.

gymnasium-robotics is MIT, its kitchen and Franka files Apache-2.0 (see NOTICE). Nothing is imported from it, so its
own dependencies and its start-up messages stay away; nothing is downloaded.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from skimo_core.contract.errors import SetupError

PANDA_XML = Path(__file__).resolve().parent.parent / "assets" / "panda.xml"


def kitchen_root() -> Path:
    """Return the folder that holds `kitchen_assets` and `franka_assets`.

    Raises:
        SetupError: gymnasium-robotics, or its kitchen, is not installed.
    """
    found = find_spec("gymnasium_robotics")
    if found is None or found.origin is None:
        raise SetupError(
            "the kitchen's meshes come with gymnasium-robotics, not installed; pip install gymnasium-robotics"
        )
    root = Path(found.origin).parent / "envs" / "assets" / "kitchen_franka"
    if not (root / "kitchen_assets" / "kitchen_env_model.xml").is_file():
        raise SetupError(f"the installed gymnasium-robotics has no kitchen at {root.name}/; version 1.4.2 has it")
    return root
