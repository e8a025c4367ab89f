"""`skimo watch`: the running stack in a browser on this machine.

Promises
  - A process of its own, niced, that only listens (`watch_feed`) until a button is pressed (`watch_desk`); whether it
    lives, sleeps or dies changes nothing in the stack, and neither does the browser.
  - It looks at what came `RATE_HZ` times a second, and draws less often still while nobody has the page open.
  - What is shown is told with its age: what is old turns grey, and a stack that ended is said to be gone.
  - The page is reached from this machine alone (`watch_door`).
What a domain lacks (arm, bodies) isn't drawn; its channels are always there.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rclpy.node import Node

from skimo_core.contract.errors import SetupError, SkimoError, SpecError
from skimo_core.domain.cell import Cell, load_cell
from skimo_core.process.isolation import namespace_of

from .nodes import STEADY, run
from .operator import GATE, Operator, end_ros, init_ros
from .parameters import CELL, SETUP
from .robots import Setup, set_up

RATE_HZ = 10.0
UNSEEN_EVERY = 10
"""Of the beats, while no browser is there."""
NICE = 10
FAILED = 1
ASKED_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """See the running stack in a browser on this machine: arm, objects, plan, gate; start and stop it from there."""

    port: int = 8080
    """loopback port of the page"""
    host: str = "127.0.0.1"
    """no other will do: from another machine, forward the port with ssh -L"""
    look_only: bool = False
    """no buttons but STOP"""
    namespace: Annotated[str, tyro.conf.arg(help="namespace of the arm's stack, such as /left; empty: none")] = ""
    wait_s: Annotated[float, tyro.conf.arg(help="how long a stack that is not up is waited for, s")] = 30.0


class WatchNode(Node):
    """Listens, and shows it on a page."""

    def __init__(self, options: Watch, setup: Setup, cell: Cell) -> None:
        super().__init__(f"skimo_watch_{options.port}")
        from .watch_page import open_watch_page  # viser is an extra

        self.page = open_watch_page(self, options.port, setup, cell, look_only=options.look_only)
        self._beats = 0
        self.create_timer(1.0 / RATE_HZ, self._beat, clock=STEADY)
        print(f"skimo watch: {self.page.door.address}", flush=True)

    def close(self) -> None:
        """End the page."""
        self.page.close()

    def _beat(self) -> None:
        self._beats += 1
        self.page.feed.listen()
        if self.page.watched or self._beats % UNSEEN_EVERY == 0:
            self.page.show(time.monotonic())


def watch(argv: list[str]) -> int:
    """See the running stack in a browser on this machine."""
    options = tyro.cli(Watch, args=argv, prog="skimo watch")
    try:
        _check(options)
        setup, cell = _ask(options)
    except SkimoError as error:
        print(f"skimo watch: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    finally:
        end_ros()
    os.nice(NICE)
    below = namespace_of(options.namespace)
    names = ["--ros-args", "-r", f"__ns:={below}"] if below else []
    return run(lambda: WatchNode(options, setup, cell), names)


def _check(options: Watch) -> None:
    """Raises SpecError or SetupError for what can't be, before anybody is asked."""
    try:
        from .watch_door import check_host
    except ImportError as error:
        raise SetupError(f"the page needs viser ({error}); pip install 'skimo_ros[watch]'") from None
    check_host(options.host)
    if not 1024 <= options.port <= 65535:
        raise SpecError(f"port is {options.port}, must lie in 1024 to 65535")


def _ask(options: Watch) -> tuple[Setup, Cell]:
    """What the running gate was told of domain, robot, rig and cell; waits for it."""
    init_ros()
    operator = Operator(options.namespace, timeout_s=ASKED_S)
    names = [parameter.name for parameter in (*SETUP, CELL)]
    end_s = time.monotonic() + options.wait_s
    try:
        while True:
            try:
                values = dict(zip(names, operator.parameters(GATE, names)))
                break
            except SetupError:
                if time.monotonic() > end_s:
                    raise
        return _loaded(values)
    finally:
        operator.close()


def _loaded(values: dict[str, Any]) -> tuple[Setup, Cell]:
    try:
        setup = set_up(values)
        return setup, load_cell(values["cell"] or setup.domain.cell)
    except SpecError as error:
        raise SpecError(
            f"what the running gate was given can't be read here: {error}; start it in the same folder"
        ) from None
