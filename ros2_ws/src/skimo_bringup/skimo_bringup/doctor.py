"""The starters' side of `skimo doctor`: the description of the stack, and the robot drivers that it can start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from skimo_bringup.stack import find_stack, load_stack
from skimo_bringup.up import child_environment
from skimo_core.setup.finding import Asked, Check, Finding, fail, ok, warn


def stack(asked: Asked) -> Iterable[Finding]:
    """Whether the stack's description is found, and the driver's packages that it would start."""
    path = find_stack()
    found = load_stack(path)
    yield ok("stack", f"{path.name} with {len(found.data['processes'])} processes; `skimo up` starts them")
    environment = child_environment(found, 0, os.environ)
    drivers = {str(p["when"]["driver"]): p["driver"] for p in found.data["processes"] if "driver" in p}
    here = {name: package_of(driver, environment) for name, driver in drivers.items()}
    yield from driver(asked, here, program=shutil.which("ros2", path=environment["PATH"]))


def driver(asked: Asked, here: Mapping[str, str], program: str | None) -> Iterable[Finding]:
    """Whether the robot's driver can be started.

    Args:
        here: of each driver that the stack can start, where its package was found; empty: not found.
        program: the path of ROS's own `ros2`; None: not found.
    """
    there = [name for name, place in here.items() if place]
    found = f"found: {', '.join(there) or 'none'}"
    if asked.on_twin:
        yield ok("driver", f"the twin needs none ({found})")
        return
    if asked.driver not in here:
        yield warn(
            "driver", f"{asked.driver} is none that the stack starts", "start it yourself, and give start_driver:=false"
        )
        return
    if asked.driver not in there:
        what = f"{asked.driver}'s package is in no prefix of AMENT_PREFIX_PATH ({found})"
        yield fail("driver", what, "build the driver's workspace and source its install/setup.bash")
        return
    if program is None:
        what = f"{asked.driver} is in {here[asked.driver]}, and the program ros2 is not on the PATH"
        yield fail("driver", what, "source ROS 2; its launch starts the driver")
        return
    yield ok("driver", f"{asked.driver} in {here[asked.driver]}")


def package_of(driver: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The prefix that has a driver's launch file; empty where none has."""
    for prefix in filter(None, environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        if os.path.isfile(os.path.join(prefix, "share", driver["package"], driver["launch_file"])):
            return prefix
    return ""


CHECKS = (Check(name="stack", look=stack),)
