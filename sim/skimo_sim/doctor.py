"""The twin's side of `skimo doctor`: MuJoCo, the domain's twin, and whether a picture can be made.

Pictures are tried in a process of its own: a GL library that fails may take its process along.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

from skimo_core.contract.errors import SkimoError
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.setup.finding import Asked, Check, Finding, imports, ok, split_remedy, warn

from .twins import make_twin

DEADLINE_S = 20.0
TRIAL = """
import os, sys
from skimo_core.contract.errors import SetupError
from skimo_sim.render import PLATFORM, gl_context
try:
    context = gl_context(16, 16)
except SetupError as error:
    print(error)
    sys.exit(1)
print(os.environ[PLATFORM])
context.free()
"""


def simulation(asked: Asked) -> Iterable[Finding]:
    """What simulates and films."""
    modules = ("mujoco", "gymnasium", "gymnasium_robotics", "PIL", "av")
    return imports("twin's imports", modules, "pip install ./sim again", deadline_s=DEADLINE_S)


def twin(asked: Asked) -> Iterable[Finding]:
    """Whether the twin that the domain names can be made: its scene compiles and has every channel."""
    domain = load_domain(asked.domain)
    try:
        make_twin(domain, load_limits(asked.robot or domain.robot))
    except SkimoError as error:
        yield split_remedy("twin", "fail" if asked.on_twin else "warn", str(error))
        return
    yield ok("twin", f"{domain.twin} simulates domain {domain.name}")


def pictures(asked: Asked) -> Iterable[Finding]:
    """Whether a GL context can be had without a display."""
    chosen = os.environ.get("MUJOCO_GL", "")
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL], capture_output=True, text=True, timeout=DEADLINE_S - 1.0, check=False
        )
    except subprocess.TimeoutExpired:
        yield warn("pictures", f"no GL context within {DEADLINE_S - 1.0:g} s", "try MUJOCO_GL=egl, or MUJOCO_GL=osmesa")
        return
    if done.returncode == 0:
        yield ok("pictures", f"drawn by {done.stdout.strip()}{f' (MUJOCO_GL is {chosen})' if chosen else ''}")
    elif done.returncode == 1 and done.stdout.strip():
        yield split_remedy("pictures", "warn", done.stdout.strip())
    else:
        last = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        yield warn("pictures", f"the GL library ended its process: {last}", "try MUJOCO_GL=egl, or MUJOCO_GL=osmesa")


CHECKS = (
    Check(name="twin's imports", look=simulation, deadline_s=DEADLINE_S),
    Check(name="twin", look=twin, deadline_s=DEADLINE_S),
    Check(name="pictures", look=pictures, deadline_s=DEADLINE_S),
)
