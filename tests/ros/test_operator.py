"""The operator's commands against a handwritten policy node that says what the test wants it to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle.node import LifecycleNode
from skimo_msgs.msg import PlanStatus
from skimo_msgs.srv import StartEpisode
from std_srvs.srv import Trigger

from skimo_core.contract.errors import BackendError, SetupError
from skimo_core.control.reports import PolicyReport
from skimo_ros import cli, operator
from skimo_ros import conversions as convert
from skimo_ros.guarded import GuardedExecutor
from skimo_ros.nodes import LATEST_QOS, Names
from skimo_ros.operator import Operator
from skimo_ros.parameters import Parameter, declare

pytestmark = pytest.mark.ros
PARAMETERS = (
    Parameter("task", "", "as the policy node's"),
    Parameter("domain", "kitchen", "as the policy node's"),
    Parameter("seed", 4, "as the policy node's", low=0, high=9),
)
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


def told(state: str, done: int = 0, *, reason: str = "", episode_id: str = "left-1") -> PolicyReport:
    return PolicyReport(
        state=state, reason=reason, episode_id=episode_id, task="kettle", subtasks_done=done, subtasks_total=1
    )


@pytest.fixture
def policy(ros_domain: int) -> Iterator[FakePolicy]:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node, executor = FakePolicy(context), GuardedExecutor(context=context)
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


def test_resume_goes_on(policy: FakePolicy, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli.resume) == 0
    assert capsys.readouterr().out == "policy: goes on\n"


@pytest.mark.parametrize("command", [cli.start, cli.stop, cli.reset, cli.resume, cli.status])
def test_who_is_not_there_is_named_with_the_namespace(
    ros_domain: int, capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int]
) -> None:
    assert command(["--namespace", "/right", "--timeout-s", "0.3"]) == 1
    said = "".join(capsys.readouterr())
    assert "nobody answers for " in said and " below /right; is the stack up (skimo up --namespace /right)" in said


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
