"""The policy as a lifecycle node: asks the policy server for an action every 80 ms and for a plan every skill.

Promises
  - configure says hello to the server and refuses one whose bundle has other channels, units, scale or rate; activate
    accepts episodes; deactivate brakes and ends the episode. With `autostart` it does the first two by itself.
  - A server that swaps bundles in mid-episode is followed from the next plan on, unless `bundle` names one by its
    id or folder; the skill under way ends with the bundle that planned it.
  - It commands nothing itself: proposals go to the gate, and what the gate lets through is where it goes on from.
  - Whatever fails (server, states, gate), it sends nothing more: the trajectory sent last ends at rest. Two missed
    ticks in a row hold it until policy/resume or policy/cancel, and no new episode begins before; skimo/plan_status
    and /diagnostics say why. So do a gate that is silent on two commands, and a trajectory at the driver that is not
    the gate's; a jump of the clock ends the episode.
  - What was thought of beside a plan (`candidates`) is asked of the server, and told, only while somebody listens.
  - policy/intervene holds it and lets a person act in its place on policy/teleop, until it says false or the policy is
    resumed: joint velocities, through the gate like all else, and recorded as theirs. What is older than two control
    periods moves nothing; at other times that topic moves nothing at all.
What the gate says and passes on is taken at each tick, before anything is decided (polled subscriptions). The executor
has one thread: the wait for an action (at most 40 ms) delays its own services and nothing else.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle.node import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import JointState
from skimo_msgs.msg import EpisodeEvent, EpisodeStep, GateEvent, PlanCandidates, PlanStatus, RecorderStatus
from skimo_msgs.msg import GripperCommand as GripperMsg
from skimo_msgs.srv import StartEpisode
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.contract.errors import SetupError, SkimoError, SpecError
from skimo_core.contract.policy import FloatArray, PolicySpec
from skimo_core.contract.types import JointCommand
from skimo_core.control.clocks import JumpWatch
from skimo_core.control.pilot import UNDER_WAY, Arm, Audience, Pilot
from skimo_core.control.planning import BackgroundPlanning
from skimo_core.control.reports import Episode, EpisodeNews, PolicyReport, StepRecord
from skimo_core.control.rigged import in_time, meant
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import varied
from skimo_core.link.client import DEFAULT_ENDPOINT, PolicyClient
from skimo_core.link.endpoint import endpoint_below
from skimo_core.process.isolation import namespace_of

from . import conversions as convert
from .arm_state import ArmState
from .beat import Beat
from .guarded import Complaints, publishers_of
from .nodes import (
    COMMAND_QOS,
    EVENT_QOS,
    LATEST_QOS,
    RECORD_QOS,
    STATE_QOS,
    STEADY,
    Names,
    component,
    now_s,
    only_one,
    run,
)
from .parameters import CELL, SETUP, TRACKING, Parameter, declare
from .polling import PolledGroup, decode, subscribe_polled, take_all
from .robots import check_bundle_robot, set_up
from .settings import (
    ACTUATOR,
    DOUBT,
    RECOVERY,
    RETRACE,
    actuator_config,
    doubt_config,
    recovery_config,
    retrace_config,
)

PARAMETERS = (
    *SETUP,
    *TRACKING,
    CELL,
    Parameter("endpoint", DEFAULT_ENDPOINT, "address of the policy server; local: that of this node's namespace"),
    Parameter("bundle", "", "what the server must serve: a bundle's folder, id or name, or a link to one; empty: any"),
    Parameter("task", "", "task of an episode whose start names none; empty: the domain's first"),
    Parameter("seed", 0, "seed of an episode whose start names no task", low=0, high=2**31),
    Parameter("noise", False, "add the task's simulated sensor noise (twin only)"),
    Parameter("noise_factor", 1.0, "factor on that noise: a twin's condition may ask for more", low=0.0, high=100.0),
    Parameter("patience", 1.0, "factor on the control steps that an episode may take", low=0.1, high=10.0),
    Parameter("autostart", True, "configure and activate by itself"),
    Parameter("server_wait_s", 60.0, "how long autostart waits for the server", low=1.0, high=3600.0),
    Parameter("plan_deadline_s", 0.9, "longest wait for a plan", low=0.05, high=10.0),
    Parameter("clock_jump_max_s", 0.1, "a jump of the clock beyond this ends the episode", low=0.005, high=10.0),
    Parameter("candidates", 8, "plans beside the one that are told of while somebody listens; 0: none", low=0, high=16),
    Parameter("hello_timeout_s", 1.0, "longest wait for the server's hello", low=0.1, high=10.0),
    *ACTUATOR,
    *DOUBT,
    *RETRACE,
    *RECOVERY,
)


BUNDLE_ID = re.compile("[0-9a-f]{8,64}")
"""An id, or its leading digits."""
GATE = "gate_node"
"""The node whose trajectories at the driver are meant to be there (`launch` gives it this name)."""
TELEOP_PERIODS = 2.0
"""A person's word that is older, in control periods, is over."""
LOOK_AGAIN_S = 0.004
"""How often a tick that waits for states looks for them."""


class PolicyNode(LifecycleNode):
    """Flies the arm through episodes (`Pilot`), with the policy in another process."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        self._values = declare(self, PARAMETERS)
        self._endpoint = endpoint_below(self._values["endpoint"], self.get_namespace())
        self._only_one = only_one(self)
        self.failure = ""
        setup = set_up(self._values)
        self._adapter, self._limits = setup.adapter, setup.limits
        self._domain = varied(setup.domain, self._values["noise_factor"], self._values["patience"])
        self._cell = load_cell(self._values["cell"] or setup.domain.cell)
        self._rig = setup.rig
        self._actuation = in_time(actuator_config(self._values), self._rig)
        self._pilot: Pilot | None = None
        self._planning: BackgroundPlanning | None = None
        self._policy_clients: tuple[PolicyClient, ...] = ()
        self._active = False
        self._told: tuple[object, ...] = ()
        self._told_plan = ("", 0)
        simulated = self.get_parameter("use_sim_time").value
        self._beat = Beat(self._domain.action.period_s, self.get_clock() if simulated else STEADY)
        self._connect_topics()
        self._tick_timer = self.create_timer(self._beat.period_s, self._tick, clock=self._beat.clock)
        self._tick_timer.cancel()
        self._open_tick_s: float | None = None
        self._again_timer = self.create_timer(LOOK_AGAIN_S, self._look_again, clock=self._beat.clock)
        self._again_timer.cancel()
        self.create_timer(1.0, self._tell_health)
        self._autostart: Timer | None = None
        if self._values["autostart"]:
            self._give_up_s = time.monotonic() + self._values["server_wait_s"]
            self._autostart = self.create_timer(0.2, self._start_up, clock=STEADY)

    def close(self) -> None:
        """Brake if an episode runs, and let go of the server."""
        if self._pilot is not None and self.context.ok():
            self._listen()
            self._pilot.cancel("the policy node was ended")
        self._disconnect()

    # --- lifecycle --------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._connect()
        except SkimoError as error:
            self._disconnect()
            self._why_not = error
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = True
        self.get_logger().info("ready for policy/start_episode")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        if self._pilot is not None:
            self._listen()
            self._pilot.cancel("the policy node was deactivated")
        self._tick_timer.cancel()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._disconnect()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def _start_up(self) -> None:
        """Configure and activate once the server answers; a bundle that does not fit, or none at all, ends the node."""
        assert self._autostart is not None
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self._autostart.cancel()
            self.trigger_activate()
        elif isinstance(self._why_not, SpecError) or time.monotonic() > self._give_up_s:
            self._autostart.cancel()
            self.failure = str(self._why_not)
            self.context.try_shutdown()

    # --- the server -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        values = self._values
        self._policy_clients = (self._make_client(), self._make_client())
        acting, planner = self._policy_clients
        spec = acting.connect(values["hello_timeout_s"])
        planner.connect(values["hello_timeout_s"])
        if warning := check_bundle_robot(spec.bundle_id, spec.robot, self._limits):
            self.get_logger().warning(warning)
        self._planning = BackgroundPlanning(planner, values["plan_deadline_s"])
        arm = Arm(robot=self._state.robot, objects=self._state.objects, send=self._send, clock=lambda: now_s(self))
        audience = Audience(news=self._tell_news, record=self._record)
        simulated = self._beat.clock is not STEADY
        jumps = JumpWatch(lambda: now_s(self), None if simulated else time.monotonic, values["clock_jump_max_s"])
        self._pilot = Pilot(
            self._domain,
            self._limits,
            acting,
            self._planning,
            arm,
            audience,
            noise=values["noise"],
            jumps=jumps,
            config=self._actuation,
            doubt=doubt_config(values),
            retrace=retrace_config(values),
            recovery=recovery_config(values),
            contact=self._cell.contact,
        )
        self.get_logger().info(f"policy server {self._endpoint} serves bundle {spec.bundle_id[:12]}")

    def _make_client(self) -> PolicyClient:
        bundle_id, served_as = _asked(self._values["bundle"])
        return PolicyClient(
            self._endpoint,
            observation=self._domain.observation,
            action=self._domain.action,
            domain=self._domain.named,
            bundle_id=bundle_id,
            served_as=served_as,
        )

    def _spec_now(self) -> PolicySpec:
        """What the server serves; raises SkimoError if it does not answer, or serves one that won't do here."""
        return self._policy_clients[0].look_again(self._values["hello_timeout_s"])

    def _disconnect(self) -> None:
        self._pilot = None
        if self._planning is not None:
            self._planning.close()
            self._planning = None
        for client in self._policy_clients:
            client.close()
        self._policy_clients = ()

    # --- topics -----------------------------------------------------------------------------------------------------

    def _connect_topics(self) -> None:
        self._why_not: SkimoError = SetupError("the node is not configured")
        self._state = ArmState(self, self._adapter, self._rig)
        self._proposals = self.create_publisher(TrajectoryMsg, Names.PROPOSED, COMMAND_QOS)
        self._hand = self.create_publisher(GripperMsg, Names.GRIPPER, EVENT_QOS)
        self._status = self.create_publisher(PlanStatus, Names.PLAN_STATUS, LATEST_QOS)
        self._candidates = self.create_publisher(PlanCandidates, Names.CANDIDATES, STATE_QOS)
        self._events = self.create_publisher(EpisodeEvent, Names.EPISODE, RECORD_QOS)
        self._steps = self.create_publisher(EpisodeStep, Names.EPISODE_STEP, RECORD_QOS)
        self._health = self.create_publisher(DiagnosticArray, Names.DIAGNOSTICS, EVENT_QOS)
        self._complaints = Complaints(self.get_logger().warning)
        self._gate_name = f"{self.get_namespace().rstrip('/')}/{GATE}"
        group = PolledGroup()
        self._passed_on = subscribe_polled(self, TrajectoryMsg, self._adapter.command, EVENT_QOS, group, raw=True)
        self._verdicts = subscribe_polled(self, GateEvent, Names.GATE, EVENT_QOS, group, raw=True)
        self._teleop = subscribe_polled(self, JointState, Names.TELEOP, EVENT_QOS, group, raw=True)
        self._person: tuple[float, FloatArray] | None = None
        self._taken_over = False
        self._recorder: RecorderStatus | None = None
        self.create_subscription(RecorderStatus, Names.RECORDER, self._take_recorder, LATEST_QOS)
        self.create_service(StartEpisode, Names.START_EPISODE, self._start_episode)
        self.create_service(Trigger, Names.RESUME, self._resume)
        self.create_service(Trigger, Names.POLICY_HOLD, self._hold)
        self.create_service(Trigger, Names.CANCEL, self._cancel)
        self.create_service(SetBool, Names.INTERVENE, self._intervene)

    def _send(self, command: JointCommand) -> None:
        self._proposals.publish(convert.to_trajectory(command.trajectory, self._adapter.joints))
        if command.gripper is not None:
            self._hand.publish(convert.to_gripper(command.gripper, command.trajectory.start_s))

    def _listen(self) -> None:
        """Take what the gate has said and passed on since the last time."""
        for subscription, use in ((self._verdicts, self._take_verdict), (self._passed_on, self._confirm)):
            for data, _ in take_all(subscription):
                try:
                    use(decode(subscription.msg_type, data))
                except SpecError as error:
                    self._complain(subscription, error)

    def _let_a_person_act(self) -> None:
        """Take what a person wants done who has taken over; at other times it is dropped."""
        assert self._pilot is not None
        said = [data for data, _ in take_all(self._teleop)]
        if self._pilot.state != "held" or not self._taken_over:
            self._person = None
            return
        try:
            for data in said:
                message = decode(JointState, data)
                joints, fingers = self._adapter.joints, self._adapter.fingers
                action_A = convert.to_action(message, joints, fingers, self._domain.action)
                self._person = (now_s(self), action_A)
        except SpecError as error:
            self._complain(self._teleop, error)
        if self._person and now_s(self) - self._person[0] < TELEOP_PERIODS * self._beat.period_s:
            try:
                self._pilot.intervene(self._person[1])
            except SkimoError as error:
                self._complaints.about("a person's command", str(error), lambda: "")

    def _complain(self, subscription: Subscription, error: SpecError) -> None:
        topic = subscription.topic_name
        who = lambda: f" (published by {', '.join(publishers_of(self, topic))})"  # noqa: E731
        self._complaints.about(f"message on {topic!r}", str(error), who)

    def _confirm(self, message: TrajectoryMsg) -> None:
        if self._pilot is None:
            return
        if convert.sender_of(message) != self._gate_name:
            self._note_foreign(message)
            return
        self._pilot.confirm(meant(convert.from_trajectory(message, self._adapter.joints, now_s(self)), self._rig))

    def _note_foreign(self, message: TrajectoryMsg) -> None:
        """Hold: the arm now follows somebody else. Only the graph knows whom; the message says what it likes."""
        assert self._pilot is not None
        topic = self._passed_on.topic_name
        others = [name for name in publishers_of(self, topic) if name != self._gate_name]
        who = ", ".join(others) or f"a publisher that has gone (it says it is {convert.sender_of(message)!r})"
        self._pilot.note_foreign(f"a trajectory on {topic!r} is not the gate's; there publishes {who}")

    def _take_verdict(self, message: GateEvent) -> None:
        report = convert.from_gate_event(message)
        if self._pilot is not None:
            decision = report.decision
            self._pilot.note_verdict(decision.verdict, latched=report.latched, reasons=decision.reasons)

    def _take_recorder(self, message: RecorderStatus) -> None:
        self._recorder = message

    def _not_recorded(self) -> str:
        """Why the episode that starts now will not be recorded; empty if it will."""
        if self._recorder is None or not self.count_publishers(Names.RECORDER):
            return "not recorded: no recorder_node is there"
        report = convert.from_recorder_status(self._recorder)
        return f"not recorded: {report.reason}" if report.state == "failed" else ""

    def _tell_news(self, news: EpisodeNews) -> None:
        self._events.publish(convert.to_episode_event(news))
        words = {
            "start": "begins",
            "end": f"ends: {news.detail or 'done'}",
            "subtask": f"{news.subtask} done",
            "doubt": news.detail,
        }
        done = f"{news.subtasks_done}/{len(news.episode.subtasks)}"
        self.get_logger().info(f"episode {news.episode.episode_id} {words[news.kind]} ({done} at step {news.steps})")

    def _record(self, episode_id: str, record: StepRecord) -> None:
        self._steps.publish(convert.to_episode_step(record, episode_id))

    # --- the beat ---------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._look_again()  # the last word on the tick before, should it still be open
        late_s, skipped = self._beat.take()
        self._fly(now_s(self) - late_s, skipped)

    def _look_again(self) -> None:
        self._again_timer.cancel()
        due_s, self._open_tick_s = self._open_tick_s, None
        if due_s is not None:
            self._fly(due_s)

    def _fly(self, due_s: float, skipped: int = 0) -> None:
        if self._pilot is None:
            return
        self._listen()
        self._let_a_person_act()
        if not self._pilot.tick(due_s, skipped):
            self._open_tick_s = due_s
            self._again_timer.reset()
        if self._pilot.state == "done":
            self._tick_timer.cancel()
        self._tell_status()

    def _tell_status(self, *, always: bool = False) -> None:
        report = self._report()
        new_plan = report.plan_index > 0 and (report.episode_id, report.plan_index) != self._told_plan
        told = (report.state, report.reason, report.episode_id, report.plan_index, report.subtasks_done)
        if told == self._told and not always:
            return
        if report.state == "held" and self._told[:1] != ("held",):
            self.get_logger().error(f"held: {report.reason}; mend it, then `skimo reset`")
        self._told, self._told_plan = told, (report.episode_id, report.plan_index)
        self._status.publish(convert.to_plan_status(report, now_s(self), with_prediction=new_plan))
        if new_plan:
            if report.candidates is not None:
                self._candidates.publish(convert.to_candidates(report, now_s(self)))
            listened = self._candidates.get_subscription_count() > 0
            self._policy_clients[1].candidates = self._values["candidates"] if listened else 0

    def _report(self) -> PolicyReport:
        if self._pilot is None:
            return PolicyReport(state="unconfigured", reason=str(self._why_not))
        return self._pilot.report()

    def _tell_health(self) -> None:
        self._listen()
        self._tell_status(always=True)
        report, skew = self._report(), self._state.skew
        troubled = report.missed_ticks or skew.words() or report.doubt
        level = "error" if report.state in ("held", "unconfigured") else "warn" if troubled else "ok"
        values: dict[str, object] = {
            "episode": report.episode_id,
            "step": report.step,
            "missed_ticks": report.missed_ticks,
            "late_plans": report.late_plans,
            "plan_ms": report.plan_ms,
            "act_ms": report.act_ms,
        }
        if self._pilot is not None:
            values["worst_tick_late_ms"] = self._pilot.timings.worst_tick_late_ms
            values["worst_act_ms"] = self._pilot.timings.worst_act_ms
            values["speed"] = self._pilot.speed
            values["objects_hidden"] = ", ".join(self._pilot.hidden_objects) or "none"
            values["driver_clock_behind_ms"] = "unknown" if skew.skew_s is None else 1e3 * skew.skew_s
        text = report.reason or skew.words() or report.doubt or report.state
        self._health.publish(convert.diagnostics(now_s(self), component(self, "policy"), level, text, values))

    # --- services ---------------------------------------------------------------------------------------------------

    def _start_episode(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        try:
            task_name, seed, episode_id = convert.from_start_request(request)
            if not task_name:
                task_name, seed = self._values["task"], self._values["seed"]
            if self._pilot is None or not self._active:
                raise SetupError(f"the policy node is not active: {self._why_not}")
            task = self._domain.task(task_name)
        except SkimoError as error:
            return convert.answer_start(response, False, str(error), "")
        try:
            spec = self._spec_now()
            episode = Episode(
                episode_id=episode_id or self._draw_id(seed),
                task=task_name,
                subtasks=tuple(s.name for s in task.subtasks),
                seed=seed,
                bundle_id=spec.bundle_id,
                explore=spec.explore,
            )
            self._listen()
            self._pilot.start(episode, task, now_s(self))
            self._taken_over = False
        except SkimoError as error:
            return convert.answer_start(response, False, str(error), "")
        self._beat.restart()
        self._tick_timer.reset()
        self._tell_status()
        return convert.answer_start(response, True, self._not_recorded(), episode.episode_id)

    def _draw_id(self, seed: int) -> str:
        """A name that also tells the recordings of two arms apart, whose folder may be the same."""
        arm = namespace_of(self.get_namespace()).strip("/").replace("/", "-")
        drawn = f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}"
        return f"{arm}-{drawn}" if arm else drawn

    def _resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._pilot is None or self._pilot.state != "held":
            return convert.answer_trigger(response, True, "nothing was held")
        try:
            self._spec_now()
            self._listen()
            self._pilot.resume()
            self._taken_over = False
        except SkimoError as error:
            return convert.answer_trigger(response, False, str(error))
        self._beat.restart()
        self._tick_timer.reset()
        self.get_logger().info("resumed by the operator")
        return convert.answer_trigger(response, True, "goes on")

    def _hold(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._pilot is not None:
            self._pilot.hold("policy/hold was called")
        return convert.answer_trigger(response, True, "holds until policy/resume")

    def _intervene(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if not request.data:
            self._taken_over = False
            response.success, response.message = True, "nobody acts; `skimo reset` lets the policy go on"
        elif self._pilot is None or self._pilot.state not in UNDER_WAY:
            response.success, response.message = False, "no episode is under way; `skimo start` begins one"
        else:
            self._pilot.hold("a person has taken over")
            self._taken_over = True
            response.success, response.message = True, f"{self._teleop.topic_name} acts until this says false"
        return response

    def _cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        report = self._report()
        if self._pilot is None or self._pilot.episode is None or report.state in ("idle", "done"):
            return convert.answer_trigger(response, True, "no episode was under way")
        self._listen()
        held = f" while it was held: {report.reason}" if report.state == "held" else ""
        self._pilot.cancel(f"policy/cancel was called{held}")
        self._tick_timer.cancel()
        self._tell_status()
        return convert.answer_trigger(response, True, f"episode {report.episode_id} ends")


def _asked(bundle: str) -> tuple[str | None, str | None]:
    """The id, or else the name, that a server must tell for it to serve this bundle; neither for any.

    A link pins no id: it is followed, by the name that the server was told.

    Raises:
        SpecError: a folder without a manifest that names an id.
    """
    manifest = Path(bundle).expanduser() / "manifest.json"
    if not bundle:
        return None, None
    if manifest.parent.is_symlink():
        return None, bundle
    if not manifest.parent.is_dir():
        return (bundle, None) if BUNDLE_ID.fullmatch(bundle) else (None, bundle)
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["bundle_id"]), None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"bundle {bundle!r}: {manifest} names no bundle_id ({error}); give a bundle's folder") from None


def main() -> int:
    """Run the policy's node."""
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
