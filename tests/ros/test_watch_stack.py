"""`skimo watch` beside the whole stack: frozen or killed in mid-episode, it takes nothing with it; and, where a
Chromium is installed, a browser's one click on STOP stops the arm."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import viser
from ros.whole_stack import NODES, WholeStack
from support.browser import Browser, chromium
from support.waiting import START_S, wait_until
from websockets.sync.client import connect

from skimo_core.process.isolation import free_port
from skimo_ros.nodes import Names

pytestmark = [pytest.mark.ros, pytest.mark.alone]
PLANS, STEPS = 2, 20


@dataclass
class Watched:
    """A stack with a page beside it."""

    stack: WholeStack
    port: int
    key: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture
def watched(whole_stack: WholeStack) -> Iterator[Watched]:
    port, processes = free_port(), whole_stack.processes
    name = f"watch_{port}"
    processes.command(name, [sys.executable, "-m", "skimo_core.cli", "watch", "--port", str(port)])
    processes.wait_for_log(name, "key=")
    key = wait_until(lambda: re.search(r"key=(\S+)\n", processes.log(name)), "its key")
    processes.running["watch"] = processes.running.pop(name)
    yield Watched(stack=whole_stack, port=port, key=key[1])
    if "watch" in processes.running:
        assert processes.end("watch") == 0


def test_a_page_that_is_frozen_then_killed_in_mid_episode_changes_nothing(watched: Watched) -> None:
    stack, watcher = watched.stack, watched.stack.watcher
    asked = {"Origin": watched.address.rstrip("/"), "Cookie": f"skimo_watch_{watched.port}={watched.key}"}
    with connect(
        watched.address.replace("http", "ws"),
        additional_headers=asked,
        subprotocols=[f"viser-v{viser.__version__}"],  # type: ignore[list-item]
        max_size=None,
    ) as browser:
        assert browser.recv(timeout=START_S), "the page's first words"
        heard = lambda: watcher.node.count_subscribers(Names.CANDIDATES) == 1  # noqa: E731
        wait_until(heard, "the page to listen", START_S)
        stack.fly("watched")
        mine = lambda: [status for status in watcher.status if status.episode_id == "watched"]  # noqa: E731
        wait_until(lambda: mine() and mine()[-1].plan_index >= PLANS, "plans under the page's eyes", START_S)
        before = mine()[-1]

        def goes_on(what: str) -> None:
            step = mine()[-1].step
            wait_until(lambda: mine()[-1].step >= step + STEPS, f"the episode to go on, {what}", START_S, mine)

        stack.processes.running["watch"].send_signal(signal.SIGSTOP)
        goes_on("the page frozen")
        stack.processes.kill("watch")
    goes_on("the page killed")
    after = mine()[-1]
    assert after.state == "running"
    assert after.missed_ticks <= before.missed_ticks + 1  # two in a row would hold it
    assert stack.alive() == list(NODES)


@pytest.mark.skipif(not chromium(), reason="no Chromium here")
def test_one_click_stops_the_arm_and_a_page_that_lost_its_connection_says_so(watched: Watched, tmp_path: Path) -> None:
    watcher, processes = watched.stack.watcher, watched.stack.processes
    with Browser(tmp_path, width=800, height=700) as browser:
        browser.open(watched.address)
        wait_until(lambda: "the key is missing" in browser.text(), "the page to be shut", START_S, browser.text)
        browser.open(f"{watched.address}?key={watched.key}")
        wait_until(lambda: "recorder:" in browser.text(), "the page", START_S, browser.text, poll_s=0.1)
        assert browser.run(DEAD) == [False]
        browser.click("STOP")
        wait_until(lambda: watcher.gate[-1].latched, "the stop", START_S)
        wait_until(lambda: "gate: stopped" in browser.text(), "its words", START_S, browser.text, poll_s=0.1)
        browser.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 20_000
        processes.kill("watch")
        wait_until(
            lambda: browser.run(DEAD) == [True], "the lost connection to be told", START_S, browser.text, poll_s=0.2
        )
    assert watched.stack.alive() == list(NODES)


DEAD = "[...document.querySelectorAll('[data-beat]')].map(e => e.clientHeight > 0)"
"""Whether the warning is to be seen that shows by itself."""
