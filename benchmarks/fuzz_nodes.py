"""Sends many messages and requests that nobody should send to every node of the running stack.

    .venv/bin/python benchmarks/fuzz_nodes.py [--each 20000] [--seed 0] [--out benchmarks/results/fuzz_nodes.json]

Every node runs as a process of its own, in mid-episode, in a ROS domain of its own. What one node is sent on a topic
counts for all that listen to it; it goes on until every node was sent `--each`, messages acknowledged by their readers,
requests answered or waited for. The nodes themselves say at their end how many they took (the stack's own traffic
included; what a queue of depth 1 let fall is not), refused in words, and met by a fault of theirs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from ros.fuzz import Attack, Fuzzer  # noqa: E402
from ros.sound import sound_messages  # noqa: E402
from ros.whole_stack import NODES, WholeStack, logs  # noqa: E402

from skimo_core.process.isolation import free_domain  # noqa: E402
from skimo_core.process.provenance import provenance  # noqa: E402
from skimo_ros.guarded import FAULT  # noqa: E402

ROUND_MESSAGES, ROUND_REQUESTS = 1000, 20
HUGE_SHARE = 0.002
SPARED = ("change_state",)
"""The policy's lifecycle is attacked by a test: shut down, it would listen to nothing more."""
TAKEN = re.compile(r"from outside came (\d+) handled, (\d+) polled, (\d+) refused, (\d+) faults")


def taken(stack: WholeStack, name: str) -> dict[str, int]:
    """What a node said at its end that it had taken."""
    found = TAKEN.findall(stack.processes.log(name))
    return dict(zip(("handled", "polled", "refused", "faults"), map(int, found[-1])))


def listens(stack: WholeStack, name: str) -> set[str]:
    probe = Attack(stack.watcher.node, [name], Fuzzer(0), spared=SPARED)
    probe.close()
    return set(probe.names)


def attack(stack: WholeStack, each: int, seed: int) -> dict[str, int]:
    """Attack the node that was sent least, until all were sent enough or one ends; return how many each was sent."""
    begun_s, rounds = time.monotonic(), 0
    heard = {name: listens(stack, name) for name in NODES}
    sent = dict.fromkeys(NODES, 0)

    def all_live() -> bool:
        return all(stack.processes.running[name].poll() is None for name in NODES)

    while min(sent.values()) < each and all_live():
        stack.fly(f"attacked-{rounds}")
        target = min(sent, key=lambda name: sent[name])
        fuzzer = Fuzzer(seed + rounds, huge=HUGE_SHARE)
        one = Attack(stack.watcher.node, [target], fuzzer, valid=sound_messages(stack.watcher), spared=SPARED)
        one.run(ROUND_MESSAGES, ROUND_REQUESTS, all_live)
        one.close()
        for name in NODES:
            sent[name] += sum(count for topic, count in one.sent.items() if topic in heard[name])
        rounds += 1
        print(f"{time.monotonic() - begun_s:6.0f} s  {target} attacked; sent so far: {sent}", flush=True)
    return sent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=20_000, help="messages and requests to each node")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/fuzz_nodes.json")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    command = f"benchmarks/fuzz_nodes.py --each {options.each} --seed {options.seed}"
    made = provenance(command, options.seed)  # now: what runs is what is checked out when it starts
    with tempfile.TemporaryDirectory() as folder, free_domain() as lock:
        stack = WholeStack(Path(folder), lock.domain)
        try:
            stack.start()
            sent = attack(stack, options.each, options.seed)
            alive = stack.alive()
            faults = logs(stack, FAULT) + logs(stack, "Traceback")
        finally:
            stack.close()
        for name in NODES:
            results[name] = {"sent": sent[name], **taken(stack, name)}
    report = {**made, "nodes": results, "alive": alive, "faults": faults}
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    return 0 if alive == list(NODES) and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
