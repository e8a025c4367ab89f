"""A learner beside the control loop costs no tick: more threads than there are cores learn, and the beat is kept.

What the test is worth shows where `be_polite()` is left out: no episode gets through, each is held within seconds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ros.whole_stack import WholeStack
from skimo_msgs.msg import EpisodeStep
from support.waiting import START_S, wait_until

from skimo_core.episodes.episode import RETRACE

pytestmark = [pytest.mark.ros, pytest.mark.alone]

TICKS = 100
MOST_MISSED = 2
FLIGHTS = 3
"""What others on this machine may cost, and how often it may cost more: a quiet one misses none."""
THREADS = 3 * (os.cpu_count() or 1)
"""So many that the stack would starve if they were let."""
LEAST_CPU_S = 1.0
LEARNER = """
import sys, threading
import torch
from skimo_learn.finetune import be_polite

def multiply() -> None:
    x = torch.eye(512)
    while True:
        x = x @ x

be_polite()
torch.set_num_threads(1)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=multiply).start()
print("it works")
"""


def cpu_s(pid: int) -> float:
    """What a process has had of all cores."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def flight(stack: WholeStack, episode_id: str) -> list[EpisodeStep]:
    """The steps of an episode, or its first ones, where too many of these were missed."""
    watcher = stack.watcher

    def over() -> list[EpisodeStep]:
        its = [step for step in watcher.steps if step.episode_id == episode_id]
        return its if len(its) >= TICKS or len(missed(its)) > MOST_MISSED else []

    stack.fly(episode_id)
    return wait_until(over, f"{TICKS} ticks", START_S, lambda: watcher.status[-1:])


def missed(steps: list[EpisodeStep]) -> list[tuple[int, str, str]]:
    """Ticks without a fresh action, and why."""
    return [(step.step, step.kind, step.reason) for step in steps if step.kind not in ("act", RETRACE)]


def test_a_learner_beside_the_control_loop_costs_no_tick(whole_stack: WholeStack) -> None:
    processes = whole_stack.processes
    learner = processes.command("learner", [sys.executable, "-c", LEARNER, str(THREADS)])
    try:
        processes.wait_for_log("learner", "it works")
        assert os.sched_getscheduler(learner.pid) == os.SCHED_IDLE
        for number in range(FLIGHTS):
            before_s = cpu_s(learner.pid)
            steps = flight(whole_stack, f"beside {number}")
            worked_s = cpu_s(learner.pid) - before_s
            print(f"{len(missed(steps))} of {len(steps)} ticks missed beside {worked_s:.1f} s of learning")
            if len(missed(steps)) <= MOST_MISSED:
                break
    finally:
        processes.kill("learner")
    assert len(missed(steps)) <= MOST_MISSED, missed(steps)
    assert worked_s > LEAST_CPU_S, "the learner didn't run"
