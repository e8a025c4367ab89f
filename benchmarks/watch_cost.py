"""What it costs the control loop that somebody looks on: the same episodes without a page, with one, with a browser.

    .venv/bin/python benchmarks/watch_cost.py [--rounds 5] [--conditions alone page browser] [--out FILE]

The whole stack with the bundle that ships, on the twin, in a ROS domain of its own. Round by round the same episode is
flown under each condition, in one run, so that what else the machine does meets all alike:
    alone       nobody looks on
    page        `skimo watch`, and a client that takes all that the page sends; candidates are asked of the planner
    browser     the same, and a headless Chromium that draws it in software (left out where there is none)
Of each are told: missed ticks, how late commands were sent, what actions and plans took (median, 95th percentile), and
what share of a core the page's process took. Times ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import viser  # noqa: E402
from ros.whole_stack import WholeStack  # noqa: E402
from skimo_msgs.msg import PlanStatus  # noqa: E402
from support.browser import Browser, chromium  # noqa: E402
from support.waiting import wait_until  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from skimo_core.process.isolation import free_domain, free_port  # noqa: E402
from skimo_core.process.provenance import provenance  # noqa: E402
from skimo_server.bundle import resolve_bundle  # noqa: E402

EPISODE_S = 120.0
CONDITIONS = ("alone", "page", "browser")
FIGURES = ("tick_late_ms", "act_ms", "plan_ms")


@contextlib.contextmanager
def page(stack: WholeStack) -> Iterator[tuple[psutil.Process, str, int]]:
    """`skimo watch` beside the stack: its process, its key and its port."""
    port, processes = free_port(), stack.processes
    name = f"watch-{port}"
    process = processes.command(name, [sys.executable, "-m", "skimo_core.cli", "watch", "--port", str(port)])
    processes.wait_for_log(name, "key=")
    found = wait_until(lambda: re.search(r"key=(\S+)\n", processes.log(name)), "the page's key")
    yield psutil.Process(process.pid), found[1], port
    processes.end(name)


@contextlib.contextmanager
def looked_at(key: str, port: int) -> Iterator[None]:
    """A client that takes all that the page sends."""
    headers = {"Origin": f"http://127.0.0.1:{port}", "Cookie": f"skimo_watch_{port}={key}"}
    line = connect(
        f"ws://127.0.0.1:{port}",
        additional_headers=headers,
        subprotocols=[f"viser-v{viser.__version__}"],  # type: ignore[list-item]
        max_size=None,
    )

    def take() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                line.recv()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield
    line.close()
    thread.join(10.0)


@contextlib.contextmanager
def condition(stack: WholeStack, name: str, folder: Path) -> Iterator[psutil.Process | None]:
    """Whoever looks on; the page's process."""
    if name == "alone":
        yield None
        return
    with page(stack) as (process, key, port):
        if name == "page":
            with looked_at(key, port):
                yield process
        else:
            with tempfile.TemporaryDirectory(dir=folder) as profile, Browser(Path(profile)) as browser:
                browser.open(f"http://127.0.0.1:{port}/?key={key}")
                wait_until(lambda: "recorder:" in browser.text(), "the page in the browser", EPISODE_S)
                yield process


def fly(stack: WholeStack, episode_id: str) -> list[PlanStatus]:
    """One episode; what the policy node told of it."""
    watcher = stack.watcher
    stack.fly(episode_id)
    told = lambda: [status for status in watcher.status if status.episode_id == episode_id]  # noqa: E731
    wait_until(lambda: told() and told()[-1].state in ("done", "held"), "the episode's end", EPISODE_S, told)
    return told()


def summary(told: list[list[PlanStatus]], cores: list[float]) -> dict[str, Any]:
    """The figures of one condition."""
    found: dict[str, Any] = {
        "episodes": len(told),
        "held": sum(status[-1].state == "held" for status in told),
        "steps": sum(status[-1].step for status in told),
        "missed_ticks": sum(status[-1].missed_ticks for status in told),
        "late_plans": sum(status[-1].late_plans for status in told),
    }
    for figure in FIGURES:
        values = [
            getattr(one, figure) for status in told for one in status if one.state == "running" and one.plan_index
        ]
        found[figure] = {"median": _rounded(np.median(values)), "p95": _rounded(np.percentile(values, 95))}
    if cores:
        found["page_cores"] = _rounded(float(np.mean(cores)))
    return found


def _rounded(value: float) -> float:
    return round(float(value), 3)


def measure(stack: WholeStack, rounds: int, names: list[str], folder: Path) -> dict[str, Any]:
    told: dict[str, list[list[PlanStatus]]] = {name: [] for name in names}
    cores: dict[str, list[float]] = {name: [] for name in names}
    fly(stack, "warm-up")
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            with condition(stack, name, folder) as process:
                begun_s, spent_s = time.monotonic(), _spent_s(process)
                told[name].append(fly(stack, f"{name}-{k}"))
                if process is not None:
                    cores[name].append((_spent_s(process) - spent_s) / (time.monotonic() - begun_s))
            last = told[name][-1][-1]
            print(f"{name} {k}: {last.state}, {last.step} steps, {last.missed_ticks} missed", flush=True)
    return {name: summary(told[name], cores[name]) for name in names}


def _spent_s(process: psutil.Process | None) -> float:
    times = process.cpu_times() if process is not None else None
    return times.user + times.system if times is not None else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/watch_cost.json")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    options = parser.parse_args()
    names = [name for name in options.conditions if name != "browser" or chromium()]
    with tempfile.TemporaryDirectory() as name, free_domain() as lock:
        folder = Path(name)
        stack = WholeStack(folder, lock.domain)
        try:
            stack.start(bundle=resolve_bundle("kitchen"))
            found = measure(stack, options.rounds, names, folder)
        finally:
            stack.close()
    about = provenance("benchmarks/watch_cost.py", None)
    options.out.write_text(json.dumps({"provenance": about, "conditions": found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
