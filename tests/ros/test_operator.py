"""The operator's commands against a handwritten policy node that says what the test wants it to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle.node import LifecycleNode
from rclpy.node import Node
from sensor_msgs.msg import JointState
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg
from skimo_msgs.msg import PlanStatus
from skimo_msgs.srv import StartEpisode
from std_srvs.srv import Trigger

from skimo_core.contract.errors import BackendError, SetupError
from skimo_core.contract.types import ObjectStates
from skimo_core.control.reports import PolicyReport
from skimo_core.domain.domain import load_domain
from skimo_ros import cli, operator
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter
from skimo_ros.guarded import GuardedExecutor
from skimo_ros.nodes import LATEST_QOS, STATE_QOS, Names
from skimo_ros.operator import Operator
from skimo_ros.parameters import Parameter, declare

pytestmark = pytest.mark.ros
PARAMETERS = (
    Parameter("task", "", "as the policy node's"),
    Parameter("domain", "kitchen", "as the policy node's"),
    Parameter("seed", 4, "as the policy node's", low=0, high=9),
)
GATE_PARAMETERS = (Parameter("driver", "twin", "as the gate node's"), Parameter("arm", "", "as the gate node's"))
PATIENT = ("--timeout-s", "20")
NEXT_S = 0.1


class FakePolicy(LifecycleNode):
    """Accepts episodes unless `refusal` says why not, and then tells its script, one report every NEXT_S."""

    def __init__(self, context: Context) -> None:
        super().__init__("policy_node", namespace="/left", context=context)
        declare(self, PARAMETERS)
        self.refusal = ""
        self.note = ""
        self.script: list[PolicyReport] = []
        self.asked: list[tuple[str, int]] = []
        self.cancelled = 0
        self._status = self.create_publisher(PlanStatus, Names.PLAN_STATUS, LATEST_QOS)
        self.create_service(StartEpisode, Names.START_EPISODE, self._start)
        self.create_service(Trigger, Names.RESUME, lambda _, r: convert.answer_trigger(r, True, "goes on"))
        self.create_service(Trigger, Names.CANCEL, self._cancel)
        self.create_timer(NEXT_S, self._tell)

    def _start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        task, seed, _ = convert.from_start_request(request)
        self.asked.append((task, seed))
        return convert.answer_start(response, not self.refusal, self.refusal or self.note, "left-1")

    def _cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.cancelled, self.refusal = self.cancelled + 1, ""
        return convert.answer_trigger(response, True, "episode left-0 ends")

    def _tell(self) -> None:
        if self.asked and not self.refusal and self.script:
            self._status.publish(convert.to_plan_status(self.script.pop(0), 0.0, with_prediction=False))


class FakeTracker(Node):
    """A gate node that names its driver, which tells joints `off_rad` from home, and a tracker that sees `scenes`, one
    after the other, and then the last one again and again."""

    def __init__(self, context: Context) -> None:
        super().__init__("gate_node", namespace="/left", context=context)
        declare(self, GATE_PARAMETERS)
        self.scenes: list[dict[str, float]] = []
        self.told = 0
        self.off_rad: float | None = 0.0
        adapter = load_adapter("twin")
        self._joints = adapter.joints
        self._arm = self.create_publisher(JointState, adapter.joint_states, STATE_QOS)
        self.create_timer(NEXT_S, self._tell_arm)
        self._objects = self.create_publisher(ObjectStatesMsg, "object_states", STATE_QOS)
        self.create_timer(NEXT_S, self._tell)

    def _tell_arm(self) -> None:
        if self.off_rad is not None:
            q_rad = np.array(load_domain().goals["home"].goal)
            q_rad[0] += self.off_rad
            self._arm.publish(JointState(name=list(self._joints), position=q_rad.tolist()))

    def _tell(self) -> None:
        if not self.scenes or not self._objects.get_subscription_count():
            return
        domain = load_domain()
        first = domain.observation.joints + domain.observation.fingers
        at = dict(zip(domain.observation.objects, domain.start[first:].tolist())) | self.scenes[0]
        self.scenes = self.scenes[1:] or self.scenes
        self.told += 1
        seen = ObjectStates(stamp_s=1.0, names=tuple(at), values=np.array([*at.values()]))
        self._objects.publish(convert.fill_object_states(ObjectStatesMsg(), seen))


def told(state: str, done: int = 0, *, reason: str = "", episode_id: str = "left-1") -> PolicyReport:
    return PolicyReport(
        state=state, reason=reason, episode_id=episode_id, task="kettle", subtasks_done=done, subtasks_total=1
    )


@pytest.fixture
def policy(ros_domain: int) -> Iterator[FakePolicy]:
    yield from spun(ros_domain, FakePolicy)


@pytest.fixture
def tracker(ros_domain: int) -> Iterator[FakeTracker]:
    yield from spun(ros_domain, FakeTracker)


AnyNode = TypeVar("AnyNode", bound=Node)


def spun(ros_domain: int, kind: Callable[[Context], AnyNode]) -> Iterator[AnyNode]:
    """A node in a thread of its own."""
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node, executor = kind(context), GuardedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(5.0)
    node.destroy_node()
    rclpy.shutdown(context=context)


def run(command: Callable[[list[str]], int], *words: str) -> int:
    return command([*words, "--namespace", "left", *PATIENT])


def test_a_start_returns_once_it_was_accepted_and_says_whether_it_is_recorded(
    policy: FakePolicy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli.start) == 0
    assert capsys.readouterr().out == "policy: episode left-1 begins; recorded\n"
    policy.note = "not recorded: no recorder_node is there"
    assert run(cli.start, "kettle") == 0
    assert capsys.readouterr().out == f"policy: episode left-1 begins; {policy.note}\n"
    assert run(cli.start, "--seed", "3") == 0
    assert run(cli.start, "kettle", "--seed", "5") == 0
    assert policy.asked == [("", 0), ("kettle", 0), ("kitchen", 3), ("kettle", 5)]


def test_a_refused_start_says_why_and_anew_cancels_first(
    policy: FakePolicy, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.refusal = "held: a test; `skimo reset` goes on with it, or `skimo start --anew` drops it"
    assert run(cli.start, "kettle", "--wait") == 1
    assert capsys.readouterr().out == f"policy: {policy.refusal}\n" and policy.cancelled == 0
    assert run(cli.start, "kettle", "--anew") == 0 and policy.cancelled == 1
    assert capsys.readouterr().out == "policy: episode left-0 ends\npolicy: episode left-1 begins; recorded\n"


def test_waiting_follows_to_the_end(policy: FakePolicy, capsys: pytest.CaptureFixture[str]) -> None:
    before, held = told("done", 1, episode_id="left-0"), told("held", reason="a test")
    policy.script = [before, told("running"), held, held, told("running", 1), told("done", 1)]
    assert run(cli.start, "kettle", "--wait") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in said[1:]] == ["running", "held", "running", "done"]
    assert said[2].endswith("missed ticks): a test") and "1/1" in said[-1]


def test_waiting_tells_a_task_that_was_not_finished(policy: FakePolicy, capsys: pytest.CaptureFixture[str]) -> None:
    policy.script = [told("running"), told("done", reason="the step limit 280 was reached")]
    assert run(cli.start, "kettle", "--wait") == 1
    assert "the step limit 280 was reached" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([told("running"), told("running", episode_id="other")], "episode left-1 ended unseen; now there is other"),
        ([told("held", reason="a test")] * 20, "held for 0.5 s: a test"),
        ([told("running")], "has said nothing for"),
    ],
)
def test_no_wait_is_for_ever(
    policy: FakePolicy,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    script: list[PolicyReport],
    words: str,
) -> None:
    monkeypatch.setattr(operator, "SILENT_S", 2.0)
    policy.script = list(script)
    assert run(cli.start, "kettle", "--wait", "--held-s", "0.5") == 1
    assert words in capsys.readouterr().err


def test_the_scene_is_told_object_by_object(
    policy: FakePolicy, tracker: FakeTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker.scenes = [{}]
    assert run(cli.scene) == 0
    said = capsys.readouterr().out.splitlines()
    assert "in place: microwave: 0 rad, wanted 0 +- 0.1" in said and len(said) == 20
    assert "in place: arm from 'home': 0 rad, wanted 0 +- 0.3" in said
    assert said[-1] == "scene: all is in place for kitchen"
    tracker.scenes = [{"microwave": -0.42, "slide_cabinet": float("nan")}]
    assert run(cli.scene, "kettle") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        "slide_cabinet: ? m, wanted 0 +- 0.03: it isn't seen; clear the tracker's view",
        "microwave: -0.42 rad, wanted 0 +- 0.1: move it by +0.42 rad, to 'microwave closed'",
    ]
    tracker.scenes = [{"microwave": -0.42}]
    assert run(cli.scene, "kettle", "--drawn") == 0


def test_an_arm_that_ended_elsewhere_is_told_and_one_that_nobody_hears_of(
    policy: FakePolicy, tracker: FakeTracker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.scenes, tracker.off_rad = [{}], 1.2
    assert run(cli.scene) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "arm from 'home': 1.2 rad, wanted 0 +- 0.3: `skimo start home` brings it there, or lead it by hand"
    tracker.off_rad = None
    monkeypatch.setattr(operator, "ALSO_S", 0.5)
    assert run(cli.scene) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("it isn't heard of; is the driver running?")


def test_waiting_for_the_scene_says_what_changes_until_it_is_in_place(
    policy: FakePolicy, tracker: FakeTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"microwave": -0.42, "knob_3": 0.5}
    tracker.scenes = [both, both, both | {"microwave": -0.3}, {"knob_3": 0.5}, {}]
    assert run(cli.scene, "kettle", "--wait") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("in place")]
    assert [line.partition(":")[0] for line in said] == ["knob_3", "microwave", "knob_3", "scene"]
    tracker.scenes = [both]
    assert run(cli.scene, "kettle", "--wait", "--wait-s", "0.3") == 1 and tracker.told > 5


def test_a_scene_that_can_t_be_judged_is_refused(
    policy: FakePolicy, tracker: FakeTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker.scenes = [{}]
    assert run(cli.scene, "toaster") == 1
    assert "toaster" in capsys.readouterr().err
    tracker.scenes = []
    assert cli.scene(["--namespace", "left", "--timeout-s", "3"]) == 1
    assert "nobody answers for topic object_states below /left" in (said := capsys.readouterr().err)
    assert said.endswith("is the objects' tracker running?\n")


def test_resume_goes_on(policy: FakePolicy, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli.resume) == 0
    assert capsys.readouterr().out == "policy: goes on\n"


@pytest.mark.parametrize("command", [cli.start, cli.stop, cli.reset, cli.resume, cli.scene, cli.status])
def test_who_is_not_there_is_named_with_the_namespace(
    ros_domain: int, capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int]
) -> None:
    assert command(["--namespace", "/right", "--timeout-s", "0.3"]) == 1
    said = "".join(capsys.readouterr())
    assert "nobody answers for " in said and " below /right; is the stack up (skimo up --namespace /right)" in said
    assert (said.startswith("NOT STOPPED: ") and "Use the emergency stop" in said) is (command is cli.stop)


def test_an_operator_on_a_node_of_somebody_elses_asks_the_same(policy: FakePolicy, ros_domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    asker = Operator("left", context=context, timeout_s=20.0)
    try:
        assert asker.trigger(Names.RESUME) == (True, "goes on")
        assert asker.parameters("policy_node", ("domain", "seed")) == ["kitchen", 4]
        beside = Operator(node=policy, timeout_s=20.0)
        assert beside.start("kettle", 2) == (True, "", "left-1")
        with pytest.raises(SetupError, match="nobody answers for service gate/stop below /left"):
            Operator(node=policy, timeout_s=0.2).trigger(Names.GATE_STOP)
        with pytest.raises(BackendError, match="now there is none"):
            policy.script = [told("idle", episode_id="")] * 80
            asker.follow("left-2", lambda report: None, 1.0)
    finally:
        asker.close()
        rclpy.shutdown(context=context)
