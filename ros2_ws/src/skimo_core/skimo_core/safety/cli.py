"""The command `skimo soak`: attack a part of the stack for as long as wanted, and write down what came of it."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from ..contract.errors import SkimoError, SpecError
from ..contract.types import JointCommand, JointTrajectory, Verdict
from ..control.actuate import Actuator
from ..domain.cell import load_cell
from ..domain.domain import load_domain
from ..domain.robot import RobotLimits, load_limits
from ..process.heap import settle_heap
from ..process.provenance import provenance
from .adversary import PERIOD_S, State, wandering
from .gate import Gate
from .soak import SAMPLE_S, Driver, Tally, run_stream

TOLERANCE = 0.01
BLOCK = 50
TIMED = 2000
REACH_RAD = 0.3
"""How far from home the policy whose commands are timed takes each joint."""
FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakConfig:
    """Attack the gate with seeded streams of commands; fails if anything that left it breaks a limit."""

    target: Annotated[Literal["gate"], tyro.conf.Positional] = "gate"
    """what is attacked"""
    commands: int = 20_000
    """commands to be judged, at least"""
    seed: int = 0
    """the same seed gives the same commands"""
    robot: str = "panda"
    """robot whose limits hold: a file in robots/"""
    cell: str = "kitchen"
    """what stands around it: a file in cells/, or a path"""
    workers: int = 1
    """processes"""
    out: Path | None = None
    """file for the result, JSON"""

    def __post_init__(self) -> None:
        if self.commands < 1 or self.workers < 1 or self.seed < 0:
            raise SpecError(f"soak: commands {self.commands} and workers {self.workers} must be positive, seed >= 0")


def soak(argv: list[str]) -> int:
    """Attack the gate with seeded streams of commands, and hold what leaves it against the limits."""
    try:
        config = tyro.cli(SoakConfig, args=argv, prog="skimo soak")
        tally = run(config)
    except SkimoError as error:
        print(f"soak: {error}", file=sys.stderr)
        return FAILED
    result = summary(config, tally)
    if config.out is not None:
        config.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["worst"], indent=1))
    kept = tally.worst.within(TOLERANCE)
    verdict = "every limit kept" if kept else f"BROKEN, see streams {tally.worst_stream}"
    print(f"soak: {tally.commands} commands in {tally.streams} streams: {verdict}; {dict(tally.verdicts)}")
    return 0 if kept else FAILED


def run(config: SoakConfig) -> Tally:
    """Streams until enough commands were judged, in blocks, so that the result does not depend on `workers`."""
    for load, name in ((load_limits, config.robot), (load_cell, config.cell)):
        load(name)  # a wrong name is told here, not by a worker
    total, began_s = Tally(), time.monotonic()
    work = partial(_block, config.seed, config.robot, config.cell)
    for count, tally in enumerate(_blocks(work, config.workers)):
        total.note(tally)
        if count % 20 == 0:
            print(
                f"soak: {total.commands} of {config.commands} commands, {time.monotonic() - began_s:.0f} s", flush=True
            )
        if total.commands >= config.commands:
            return total
    raise AssertionError("blocks never end")


def summary(config: SoakConfig, tally: Tally) -> dict[str, Any]:
    """The result as it is written down."""
    options = f"--commands {config.commands} --seed {config.seed} --robot {config.robot} --cell {config.cell}"
    return {
        **provenance(f"skimo soak gate {options} --workers {config.workers}", config.seed, ("numpy", "ruckig")),
        "commands_judged": tally.commands,
        "streams": tally.streams,
        "verdicts": dict(sorted(tally.verdicts.items())),
        "sampled_every_ms": 1e3 * SAMPLE_S,
        "worst": asdict(tally.worst),
        "worst_stream": tally.worst_stream,
        "tolerance": TOLERANCE,
        "kept": tally.worst.within(TOLERANCE),
        "decision_ms": time_decisions(config.robot, config.cell, config.seed),
    }


def time_decisions(robot: str, cell: str, seed: int) -> dict[str, dict[str, float]]:
    """What judging one command costs, ms: percentiles over `TIMED` commands, and the share of these that passed.

    From a policy that asks for any velocity near home, and from an adversary.
    """
    limits, rng = load_limits(robot), np.random.default_rng(seed)
    domain = load_domain()
    actuator = Actuator(limits, domain.action)

    def proposed(now_s: float) -> JointTrajectory:
        away = (actuator.commanded(now_s)[0] - limits.home_q_rad) / REACH_RAD
        action = np.append(rng.choice([-1, 1], limits.joints) * rng.random(limits.joints) - away, [0.0, 0.0])
        return actuator.command(np.clip(action, -1, 1).astype(np.float32), now_s).trajectory

    settle_heap()  # as the gate's node does
    return {
        "policy": _time(Gate(limits, cell=load_cell(cell)), limits, lambda led, now_s: proposed(now_s), actuator),
        "adversary": _time(Gate(limits, cell=load_cell(cell)), limits, lambda led, t: wandering(rng, limits, led, t)),
    }


def _time(
    gate: Gate,
    limits: RobotLimits,
    propose: Callable[[State, float], JointTrajectory],
    actuator: Actuator | None = None,
) -> dict[str, float]:
    driver, took_ms = Driver(limits.home_q_rad, 0.0), []
    for k in range(TIMED):
        now_s = k * PERIOD_S
        driver.advance(now_s)
        command, robot_state = JointCommand(trajectory=propose(driver.led(now_s), now_s)), driver.state(now_s)
        began_s = time.perf_counter()
        decision = gate.consider(command, robot_state, now_s)
        took_ms.append(1e3 * (time.perf_counter() - began_s))
        if decision.command is not None:
            driver.take(decision.command.trajectory, now_s + 0.001)
            if actuator is not None:
                actuator.adopt(decision.command.trajectory)
        elif actuator is not None:
            actuator.withdraw()
    passed = gate.counts.by_verdict[Verdict.PASS] / TIMED
    return {**{f"p{q}": float(np.percentile(took_ms, q)) for q in (50, 99, 100)}, "passed": passed}


def _blocks(work: partial[Tally], workers: int) -> Iterator[Tally]:
    number = 0
    if workers == 1:
        while True:
            yield work(number)
            number += 1
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(work, k) for k in range(2 * workers)]
        number = len(waiting)
        try:
            while True:
                yield waiting.pop(0).result()
                waiting.append(pool.submit(work, number))
                number += 1
        finally:
            pool.shutdown(cancel_futures=True)


def _block(seed: int, robot: str, cell: str, number: int) -> Tally:
    limits, surroundings, tally = load_limits(robot), load_cell(cell), Tally()
    for stream in range(number * BLOCK, (number + 1) * BLOCK):
        tally.note(run_stream(seed, stream, limits, surroundings))
    return tally
