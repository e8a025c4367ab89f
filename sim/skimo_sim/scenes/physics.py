"""MuJoCo, loaded so that no GL library has to be there; every module of this package takes it from here.

MuJoCo's own import opens the library that MUJOCO_GL names, and fails with whatever that raises where it is missing.
Physics need none. Pictures choose theirs when the first is made (`render.gl_context`), and refuse in words.
"""

from __future__ import annotations

import os

_chosen = os.environ.pop("MUJOCO_GL", None)
try:
    import mujoco
finally:
    if _chosen is not None:
        os.environ["MUJOCO_GL"] = _chosen

__all__ = ["mujoco"]
