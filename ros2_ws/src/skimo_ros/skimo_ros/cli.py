"""The operator's commands: `skimo scene`, `skimo start`, `skimo status`, `skimo stop`, `skimo reset`, `skimo resume`,
`skimo twin reset`.

Each joins the ROS domain of the environment (ROS_DOMAIN_ID), asks the nodes of one namespace, prints one line per
answer and leaves; exit code 1 when somebody that should have answered did not, or refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import rclpy.utilities
import tyro
from rclpy.executors import ExternalShutdownException

from skimo_core.contract.errors import SetupError, SkimoError
from skimo_core.contract.types import Array, ObjectStates
from skimo_core.control.reports import PolicyReport
from skimo_core.domain.domain import load_domain
from skimo_core.domain.scene import judge_scene

from .adapters import load_adapter
from .nodes import Names
from .operator import ANSWER_S, NOT_STOPPED, POLICY, TWIN, Operator, init_ros
from .reports import GateReport, RecorderReport

FAILED = 1
AFTER_RECOVERY_S = 2.0
"""How long a gate may go on refusing after a recovery: until the robot's state says so too."""

Namespace = Annotated[str, tyro.conf.arg(help="namespace of the arm's stack, such as /left; empty: none")]
Timeout = Annotated[float, tyro.conf.arg(help="longest wait for each answer, s")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start an episode on the running stack; refused while one is held."""

    task: Annotated[str, tyro.conf.Positional] = ""
    """task name, or goals joined by commas, in order: sub-tasks' names, or channels with values, as
    microwave=-0.4+-0.1; empty: the stack's own, or else the domain's first"""
    seed: int | None = None
    """of the planner, and of the twin where it is reset; by default the stack's own, or 0 for a task that is named"""
    reset_twin: bool = False
    """first put the twin's scene into the task's initial state"""
    anew: bool = False
    """first end an episode that is held, or runs"""
    wait: bool = False
    """follow it to its end; exit code 1 if the task was not finished"""
    held_s: Annotated[float, tyro.conf.arg(help="with --wait: how long it may be held in one go, s")] = 600.0
    namespace: Namespace = ""
    timeout_s: Timeout = ANSWER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinReset:
    """Put the twin of the running stack back to a start; refused while an episode runs."""

    task: str = ""
    """what is to be done next, as for skimo start: none of its goals is done at the start; empty: the stack's own"""
    seed: int | None = None
    """draws the start, and for others sensor noise and the planner's dice; by default the stack's own"""
    start: Literal["drawn", "papers"] | None = None
    """drawn: as the domain's starts have it; papers: their one start; by default as the twin's condition says"""
    anew: bool = False
    """first end an episode that is held, or runs"""
    namespace: Namespace = ""
    timeout_s: Timeout = ANSWER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """See whether things and arm stand where an episode may start, what to put where if not; exit code 1 while not."""

    task: Annotated[str, tyro.conf.Positional] = ""
    """as for skimo start; empty: the stack's own, or else the domain's first"""
    drawn: bool = False
    """anything will do that the domain's `starts` may draw, not only its one start"""
    wait: bool = False
    """go on looking until all is in place"""
    wait_s: Annotated[float, tyro.conf.arg(help="with --wait: how long, s")] = 600.0
    namespace: Namespace = ""
    timeout_s: Timeout = ANSWER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Clear the gate's latched stop and let a held policy go on. Look at the arm first."""

    recover: bool = False
    """first ask the driver to recover from its errors (reflex, released user stop)"""
    driver: str = ""
    """driver stack whose recovery is asked: its name, or the path of its file; empty: that of the running gate"""
    namespace: Namespace = ""
    timeout_s: Timeout = ANSWER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let a held policy go on; the gate's stop is `skimo reset`'s."""

    namespace: Namespace = ""
    timeout_s: Timeout = ANSWER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop the arm now and keep it stopped until `skimo reset`."""

    namespace: Namespace = ""
    timeout_s: Timeout = ANSWER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Print where the policy, the gate, the hand and the recorder stand."""

    namespace: Namespace = ""
    timeout_s: Timeout = ANSWER_S


def start(argv: list[str]) -> int:
    """Start an episode on the running stack."""
    options = tyro.cli(Start, args=argv, prog="skimo start")

    def ask(operator: Operator) -> bool:
        task, seed = _wanted(operator, options)
        if options.anew:
            print(f"policy: {operator.trigger(Names.CANCEL)[1]}")
        if options.reset_twin:
            done, text, _ = operator.reset_twin(task, seed)
            print(f"twin: {'scene put back' if done else text}")
            if not done:
                return False
        started, text, episode_id = operator.start(task, seed)
        said = f"episode {episode_id} begins; {text or 'recorded'}" if started else text
        print(f"policy: {said}", flush=True)
        if not started or not options.wait:
            return started
        say = lambda report: print(f"policy: {_policy_words(report)}", flush=True)  # noqa: E731
        end = operator.follow(episode_id, say, options.held_s)
        return end.subtasks_done == end.subtasks_total

    return _run(options, ask)


def _wanted(operator: Operator, options: Start) -> tuple[str, int]:
    """Task and seed to ask for. A start that names no task takes the node's own of both; a reset must know them."""
    if options.task:
        return options.task, options.seed or 0
    if options.seed is None and not options.reset_twin:
        return "", 0
    task, domain, seed = operator.parameters(POLICY, ("task", "domain", "seed"))
    return task or load_domain(domain).task().name, seed if options.seed is None else options.seed


def twin_reset(options: tyro.conf.OmitArgPrefixes[TwinReset]) -> None:
    """Put the twin of the running stack back to a start."""

    def ask(operator: Operator) -> bool:
        operator.need_twin()
        if options.anew:
            print(f"policy: {operator.trigger(Names.CANCEL)[1]}")
        elif (report := operator.episode()) is not None:
            print(f"twin: episode {report.episode_id} is {_policy_words(report)}; wait for its end, or give --anew")
            return False
        (own,) = operator.parameters(TWIN, ("seed",))
        seed = own if options.seed is None else options.seed
        done, text, _ = operator.reset_twin(options.task, seed, options.start or "")
        print(f"twin: {f'put back, seed {seed}' if done else text}")
        return done

    if code := _run(options, ask):
        raise SystemExit(code)


def scene(argv: list[str]) -> int:
    """See whether things stand where an episode may start."""
    options = tyro.cli(Scene, args=argv, prog="skimo scene")

    def ask(operator: Operator) -> bool:
        own, name = operator.parameters(POLICY, ("task", "domain"))
        domain = load_domain(name)
        task = domain.task(options.task or own)
        last: tuple[str, ...] | None = None

        def in_place(objects: ObjectStates, q_rad: Array) -> bool:
            nonlocal last
            at = dict(zip(domain.observation.names, q_rad.tolist()))
            at |= dict(zip(objects.names, objects.values.tolist()))
            seen_O = np.array([at.get(channel, np.nan) for channel in domain.observation.names])
            found = judge_scene(domain, task, seen_O, drawn=options.drawn)
            if last is None:
                print("".join(f"in place: {s.words}\n" for s in found.standings if not s.remedy), end="")
            if found.where != last:  # values change all the time; what is out of place doesn't
                print("\n".join(found.wrong or (f"scene: all is in place for {task.name}",)), flush=True)
            last = found.where
            return not found.wrong

        return operator.watch_scene(in_place, options.wait_s if options.wait else 0.0)

    return _run(options, ask)


def reset(argv: list[str]) -> int:
    """Clear the gate's stop and resume a held policy."""
    options = tyro.cli(Reset, args=argv, prog="skimo reset")

    def ask(operator: Operator) -> bool:
        if options.recover:
            adapter = load_adapter(options.driver) if options.driver else operator.driver()
            recovered, text = operator.recover(adapter)
            said = "recovered" if recovered else f"not recovered: {text}"
            print(f"driver: {said} ({adapter.name})")  # the gate judges what is left
        patience_s = AFTER_RECOVERY_S if options.recover else 0.0
        cleared, text = operator.clear_stop(patience_s, lambda line: print(f"gate: {line}"))
        print(f"gate: {text}")
        return cleared and _resume(operator)

    return _run(options, ask)


def resume(argv: list[str]) -> int:
    """Let a held policy go on."""
    return _run(tyro.cli(Resume, args=argv, prog="skimo resume"), _resume)


def _resume(operator: Operator) -> bool:
    resumed, text = operator.trigger(Names.RESUME)
    print(f"policy: {text}")
    return resumed


def stop(argv: list[str]) -> int:
    """Stop the arm and keep it stopped until `skimo reset`."""

    def ask(operator: Operator) -> bool:
        try:
            stopped, text = operator.trigger(Names.GATE_STOP)
        except SkimoError as error:
            raise SetupError(NOT_STOPPED.format(error)) from None
        print(f"gate: {text}")
        return stopped

    return _run(tyro.cli(Stop, args=argv, prog="skimo stop"), ask)


def status(argv: list[str]) -> int:
    """Print where the policy, the gate, the hand and the recorder stand."""

    def ask(operator: Operator) -> bool:
        stack = operator.stack()
        nobody = lambda topic: operator.nobody(f"topic {topic}")  # noqa: E731
        print(f"gate: {_gate_words(stack.gate) if stack.gate else nobody(Names.GATE)}")
        print(f"hand: {stack.hand.words if stack.hand else nobody(Names.HAND)}")
        print(f"policy: {_policy_words(stack.policy) if stack.policy else nobody(Names.PLAN_STATUS)}")
        print(f"recorder: {_recorder_words(stack.recorder) if stack.recorder else nobody(Names.RECORDER)}")
        return stack.gate is not None and stack.policy is not None

    return _run(tyro.cli(Status, args=argv, prog="skimo status"), ask)


def _run(options: Scene | Start | TwinReset | Reset | Resume | Stop | Status, ask: Callable[[Operator], bool]) -> int:
    operator = None
    try:
        init_ros()
        operator = Operator(options.namespace, timeout_s=options.timeout_s)
        return 0 if ask(operator) else FAILED
    except SkimoError as error:
        print(error, file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, ExternalShutdownException):
        print("no longer asked; what was begun goes on (`skimo stop` stops the arm)", file=sys.stderr)
        return FAILED
    finally:
        if operator is not None:
            operator.close()
        rclpy.utilities.try_shutdown()


def _gate_words(report: GateReport) -> str:
    counts = f"{report.commands} commands, {report.limited} limited, {report.held} held, {report.stops} stops"
    reasons = "; ".join(report.decision.reasons)
    name = f"STOP {report.decision.generation}" if report.latched else report.decision.verdict.name
    return f"{name} ({counts}){': ' + reasons if reasons else ''}"


def _policy_words(report: PolicyReport) -> str:
    if not report.episode_id:
        return f"{report.state}{': ' + report.reason if report.reason else ''}"
    where = f"{report.task}: {report.subtasks_done}/{report.subtasks_total} at step {report.step}"
    figures = f"plan {report.plan_ms:.0f} ms, {report.missed_ticks} missed ticks"
    return f"{report.state} ({where}; {figures}){': ' + report.reason if report.reason else ''}"


def _recorder_words(report: RecorderReport) -> str:
    counts = f"{report.written} messages written, {report.dropped} dropped, {report.lost_steps} control steps lost"
    return f"{report.state} ({report.file or 'no file yet'}; {counts}){': ' + report.reason if report.reason else ''}"
