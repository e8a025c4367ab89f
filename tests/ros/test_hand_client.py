"""The hand's client against real action servers: one that takes goals, refuses, hangs, fails, sleeps or goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import rclpy
from franka_msgs.action import Grasp, Move
from rclpy.action.server import ActionServer, CancelResponse, GoalResponse
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from skimo_msgs.msg import HandStatus

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import GripperCommand, Verdict
from skimo_core.process.isolation import free_domain
from skimo_core.safety.gate import Decision
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter
from skimo_ros.gripper_client import WORDS_MAX, GripperClient
from skimo_ros.hand import HandConfig, HandReport, HandState
from skimo_ros.nodes import EVENT_QOS, LATEST_QOS, Names

pytestmark = [pytest.mark.ros, pytest.mark.alone]

ADAPTER = load_adapter("twin")
OPEN = GripperCommand(kind="move", width_m=0.08, speed_m_s=0.1)
CLOSE = GripperCommand(kind="grasp", width_m=0.0, speed_m_s=0.1, force_n=40.0)
WIDTH_MAX_M = 0.08
PATIENT = HandConfig(attempts=3, pause_s=0.1, accept_s=30.0, margin_s=30.0, cancel_s=30.0)
DEADLINE_S = 30.0
PASS = Decision(verdict=Verdict.PASS, reasons=(), command=None, generation=0)


class Driver:
    """A hand's driver that does with each goal what the test says: take, refuse, succeed, fail.

    Attributes:
        script: what happens to the next goals; the last holds on.
        seen: what came, in order: "move", "grasp", "cancel".
        at_s: when each of it came.
    """

    def __init__(self, node: Node, script: list[str], *, cancels: bool = True) -> None:
        self.node, self.script, self.cancels = node, script, cancels
        self.words = "libfranka gripper: command failed!"
        self.seen: list[str] = []
        self.at_s: list[float] = []
        self.servers: list[ActionServer] = []
        self.appear()

    def appear(self) -> None:
        for kind, name, word in ((Move, ADAPTER.gripper_move, "move"), (Grasp, ADAPTER.gripper_grasp, "grasp")):
            self.servers.append(
                ActionServer(
                    self.node,
                    kind,
                    name,
                    execute_callback=lambda handle: None,
                    goal_callback=lambda request, word=word: self._asked(word),
                    handle_accepted_callback=lambda handle, kind=kind: self._accepted(handle, kind),
                    cancel_callback=self._cancelled,
                )
            )

    def vanish(self) -> None:
        for server in self.servers:
            server.destroy()
        self.servers.clear()

    def _note(self, word: str) -> None:
        self.seen.append(word)
        self.at_s.append(time.monotonic())

    def _asked(self, word: str) -> GoalResponse:
        self._note(word)
        self.act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return GoalResponse.REJECT if self.act == "refuse" else GoalResponse.ACCEPT

    def _accepted(self, handle: Any, kind: Any) -> None:
        self.running = (handle, kind)
        if self.act == "succeed":
            self.end(lambda: handle.succeed(), success=True)
        elif self.act == "fail":
            self.end(lambda: handle.abort(), success=False)

    def end(self, how: Callable[[], None], *, success: bool) -> None:
        handle, kind = self.running

        def finish(_: Any) -> Any:
            how()
            return kind.Result(success=success, error="" if success else self.words)

        handle.execute(finish)

    def _cancelled(self, handle: Any) -> CancelResponse:
        self._note("cancel")
        if not self.cancels:
            return CancelResponse.REJECT
        self.running = (handle, self.running[1])
        self.node.executor.create_task(lambda: self.end(handle.canceled, success=False))
        return CancelResponse.ACCEPT


class Bench:
    """One executor for client, driver and listener, spun by the test itself: nothing runs beside it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.node, self.driver_node = Node("gate", context=context), Node("driver", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.driver_node)
        self.told: list[HandReport] = []
        self.node.create_subscription(HandStatus, Names.HAND, self._hear, EVENT_QOS)
        self.verdict: Callable[[], Decision] = lambda: PASS
        self.client: GripperClient | None = None
        self.driver: Driver | None = None

    def _hear(self, message: HandStatus) -> None:
        self.told.append(convert.from_hand_status(message))

    def hand(self, config: HandConfig = PATIENT) -> GripperClient:
        self.client = GripperClient(self.node, ADAPTER, WIDTH_MAX_M, lambda goal: self.verdict(), config)
        self.until(lambda: self.told and self.told[-1].goal is None, "the first word of the hand")
        self.told.clear()
        return self.client

    def drive(self, *script: str, cancels: bool = True) -> Driver:
        self.driver = Driver(self.driver_node, list(script), cancels=cancels)
        ready = [client.server_is_ready for client in self.client._clients.values()] if self.client else []
        self.until(lambda: all(is_ready() for is_ready in ready), "the driver's actions")
        return self.driver

    def until(self, condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end_s, f"waited {DEADLINE_S:g} s for {what}; told: {self.words()}"
            self.executor.spin_once(timeout_sec=0.01)

    def ends(self, state: HandState) -> HandReport:
        """Spin until the newest goal has ended; return what was told of it."""
        self.until(lambda: self.newest.state.ended, "the goal's end")
        assert self.told[-1].state is state, self.words()
        return self.told[-1]

    def spin(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        self.until(lambda: time.monotonic() > end_s, "time to pass")

    @property
    def newest(self) -> HandReport:
        """What was told last."""
        return self.told[-1] if self.told else HandReport()

    def words(self) -> list[str]:
        return [report.words for report in self.told]

    def close(self) -> None:
        for _ in range(20):  # what a goal's server still has to do
            self.executor.spin_once(timeout_sec=0.0)
        for part in (self.client, self.driver):
            if part is not None:
                part.close() if isinstance(part, GripperClient) else part.vanish()
        self.executor.shutdown()
        self.node.destroy_node()
        self.driver_node.destroy_node()


@pytest.fixture(scope="module")
def apart() -> Iterator[Context]:
    """A ROS context in a domain of its own: the session's other nodes have a hand too."""
    context = Context()
    with pytest.MonkeyPatch.context() as patch, free_domain() as lock:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        rclpy.init(context=context, domain_id=lock.domain)
        yield context
        rclpy.shutdown(context=context)


@pytest.fixture
def bench(apart: Context) -> Iterator[Bench]:
    bench = Bench(apart)
    yield bench
    bench.close()


def test_a_goal_is_followed_to_its_end(bench: Bench) -> None:
    hand, driver = bench.hand(), bench.drive("succeed")
    hand.send(CLOSE)
    end = bench.ends(HandState.SUCCEEDED)
    states = [report.state for report in bench.told]
    assert states == [HandState.WAITING, HandState.SENT, HandState.RUNNING, HandState.SUCCEEDED]
    assert (end.goal, end.goal_id, end.attempts, end.reason) == (CLOSE, 1, 1, "")
    assert driver.seen == ["grasp"] and hand.complaints == ()


def test_a_refused_goal_is_tried_again_after_a_pause_and_then_no_more(bench: Bench) -> None:
    hand, driver = bench.hand(), bench.drive("refuse", "refuse", "succeed", "refuse")
    hand.send(CLOSE)
    assert bench.ends(HandState.SUCCEEDED).attempts == 3
    assert driver.seen == ["grasp"] * 3
    assert min(b - a for a, b in zip(driver.at_s, driver.at_s[1:])) >= PATIENT.pause_s
    hand.send(OPEN)
    bench.until(lambda: bench.newest.state is HandState.REFUSED, "the last refusal")
    assert driver.seen[3:] == ["move"] * PATIENT.attempts
    assert "franka_gripper/move refused the goal" in hand.complaints[0]
    bench.spin(3 * PATIENT.pause_s)
    assert len(driver.seen) == 3 + PATIENT.attempts


def test_a_failed_goal_is_told_in_the_drivers_words_and_not_repeated(bench: Bench) -> None:
    hand, driver = bench.hand(), bench.drive("fail")
    driver.words = "libfranka gripper: command failed! " * 1000
    hand.send(CLOSE)
    end = bench.ends(HandState.FAILED)
    assert end.reason.startswith("libfranka gripper: command failed!") and len(end.reason) == WORDS_MAX
    bench.spin(3 * PATIENT.pause_s)
    assert driver.seen == ["grasp"] and "FAILED" in hand.complaints[0]


def test_a_newer_goal_cancels_the_older_and_follows_when_that_has_ended(bench: Bench) -> None:
    hand, driver = bench.hand(), bench.drive("hang", "succeed")
    hand.send(CLOSE)
    bench.until(lambda: bench.newest.state is HandState.RUNNING, "the first goal to run")
    hand.send(OPEN)
    bench.until(lambda: bench.newest.goal == OPEN and bench.newest.state.ended, "the second goal's end")
    assert bench.newest.state is HandState.SUCCEEDED and bench.newest.goal_id == 2
    assert driver.seen == ["grasp", "cancel", "move"]
    assert [r.state for r in bench.told if r.goal_id == 1][-1] is HandState.SUPERSEDED


def test_of_many_goals_at_once_only_the_newest_is_sent_after_the_first(bench: Bench) -> None:
    hand, driver = bench.hand(), bench.drive("hang", "succeed")
    for goal in (CLOSE, OPEN, CLOSE, OPEN):
        hand.send(goal)
    bench.until(lambda: bench.newest.goal_id == 4 and bench.newest.state.ended, "the newest goal's end")
    assert driver.seen == ["grasp", "cancel", "move"]


@pytest.mark.parametrize("cancels", [True, False])
def test_a_goal_that_hangs_is_given_up_and_does_not_block_the_next(bench: Bench, cancels: bool) -> None:
    config = replace(PATIENT, margin_s=0.1, cancel_s=0.2)
    hand, driver = bench.hand(config), bench.drive("hang", "succeed", cancels=cancels)
    hand.send(replace(CLOSE, speed_m_s=1.0))
    end = bench.ends(HandState.HUNG)
    assert "franka_gripper/grasp gave no result within 0.2 s" in end.reason
    bench.until(lambda: driver.seen == ["grasp", "cancel"], "the cancel")
    hand.send(OPEN)
    bench.until(lambda: bench.newest.goal == OPEN and bench.newest.state.ended, "the next goal's end")
    assert driver.seen == ["grasp", "cancel", "move"]


def test_without_a_driver_the_goal_is_lost_and_one_that_appears_is_found(bench: Bench) -> None:
    hand = bench.hand()
    hand.send(CLOSE)
    end = bench.ends(HandState.LOST)
    assert end.attempts == PATIENT.attempts and "no driver offers the action franka_gripper/grasp" in end.reason
    hand.send(CLOSE)
    bench.drive("succeed")
    bench.until(lambda: bench.newest.goal_id == 2 and bench.newest.state.ended, "the second goal's end")
    assert bench.newest.state is HandState.SUCCEEDED


def test_a_driver_that_goes_away_loses_the_goal_which_the_next_one_gets(bench: Bench) -> None:
    hand, driver = bench.hand(replace(PATIENT, attempts=50)), bench.drive("hang", "succeed")
    hand.send(CLOSE)
    bench.until(lambda: bench.newest.state is HandState.RUNNING, "the goal to run")
    driver.vanish()
    bench.until(lambda: bench.newest.state is HandState.WAITING, "the loss")
    assert "the driver of franka_gripper/grasp went away" in bench.newest.reason
    driver.appear()
    assert bench.ends(HandState.SUCCEEDED).attempts > 1
    assert driver.seen == ["grasp", "grasp"]


def test_a_driver_that_answers_too_late_has_its_goal_cancelled(bench: Bench) -> None:
    hand, driver = bench.hand(replace(PATIENT, accept_s=0.1, attempts=2)), bench.drive("hang")
    bench.executor.remove_node(bench.driver_node)
    hand.send(CLOSE)
    end = bench.ends(HandState.LOST)
    assert "franka_gripper/grasp gave no answer within 0.1 s" in end.reason and driver.seen == []
    bench.executor.add_node(bench.driver_node)
    bench.until(lambda: driver.seen.count("cancel") == 2, "both late goals to be cancelled")


def test_what_the_gate_holds_is_tried_again_and_what_it_stops_is_dropped(bench: Bench) -> None:
    hand, driver = bench.hand(), bench.drive("succeed")
    hold = Decision(verdict=Verdict.HOLD, reasons=("state_age: 0.2 s old",), command=None, generation=0)
    verdicts = [hold, PASS]
    bench.verdict = lambda: verdicts.pop(0)
    hand.send(CLOSE)
    assert bench.ends(HandState.SUCCEEDED).attempts == 2 and verdicts == []
    assert any("state_age: 0.2 s old" in words for words in bench.words())
    bench.verdict = lambda: Decision(verdict=Verdict.STOP, reasons=("asked: stop",), command=None, generation=1)
    hand.send(OPEN)
    bench.until(lambda: bench.newest.goal_id == 2 and bench.newest.state.ended, "the second goal's end")
    assert bench.newest.state is HandState.DROPPED and "asked: stop" in hand.complaints[0]
    bench.verdict = lambda: hold
    hand.send(OPEN)
    bench.until(lambda: bench.newest.goal_id == 3 and bench.newest.state.ended, "the third goal's end")
    assert bench.newest.attempts == PATIENT.attempts and driver.seen == ["grasp"]


def test_a_dropped_goal_is_not_sent_any_more(bench: Bench) -> None:
    hand = bench.hand(replace(PATIENT, attempts=1000))
    hand.send(CLOSE)
    hand.drop("a new episode began")
    driver = bench.drive("succeed")
    bench.spin(2 * PATIENT.pause_s)
    assert driver.seen == [] and bench.ends(HandState.DROPPED).reason == "a new episode began"
    hand.drop("again")
    assert hand.report.reason == "a new episode began"


def test_who_joins_later_learns_how_the_newest_goal_went(bench: Bench) -> None:
    hand = bench.hand()
    bench.drive("fail")
    hand.send(CLOSE)
    bench.ends(HandState.FAILED)
    late: list[HandStatus] = []
    bench.node.create_subscription(HandStatus, Names.HAND, late.append, LATEST_QOS)
    bench.until(lambda: late, "the newest word")
    assert convert.from_hand_status(late[0]).state is HandState.FAILED


def test_states_are_those_of_the_message_and_bounds_are_checked() -> None:
    assert {state.name: int(state) for state in HandState} == {
        name: getattr(HandStatus, name) for name in HandState.__members__
    }
    for field in ("pause_s", "accept_s", "margin_s", "cancel_s"):
        with pytest.raises(SpecError, match=f"{field} is 0"):
            HandConfig(**{field: 0})
    with pytest.raises(SpecError, match="attempts is 0"):
        HandConfig(attempts=0)
    assert HandConfig().result_s(replace(OPEN, speed_m_s=float("nan")), WIDTH_MAX_M) == HandConfig().margin_s
