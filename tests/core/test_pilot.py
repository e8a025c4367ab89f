"""The pilot in simulated time: what it does when states, actions, plans or the gate fail."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from skimo_core.contract.errors import BackendError, DeadlineError, MissingError, SpecError
from skimo_core.contract.policy import FloatArray, Goals, Plan, PolicySpec
from skimo_core.contract.specs import SkillSpec
from skimo_core.contract.types import JOINTS, JointCommand, JointTrajectory, ObjectStates, RobotState, Verdict
from skimo_core.control.actuate import ActuatorConfig
from skimo_core.control.clocks import JumpWatch
from skimo_core.control.doubt import DoubtConfig
from skimo_core.control.loop import StepKind
from skimo_core.control.pilot import Arm, Audience, Pilot
from skimo_core.control.planning import ImmediatePlanning
from skimo_core.control.reports import Episode, EpisodeNews, StepRecord
from skimo_core.control.retrace import RetraceConfig
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain.domain import load_domain
from skimo_core.domain.kinematics import arm_points
from skimo_core.domain.robot import load_limits
from skimo_core.safety.gate import Gate
from skimo_core.safety.situation import GateConfig

DOMAIN, LIMITS = load_domain(), load_limits("panda")
PERIOD_S = DOMAIN.action.period_s
SPEC = PolicySpec(observation=DOMAIN.observation, action=DOMAIN.action, skill=SkillSpec(), bundle_id="fake")


class FakePolicy:
    """Gives the same small action for ever; fails when told to."""

    spec = SPEC

    def __init__(self) -> None:
        self.failing = False
        self.promise = 0.5
        self.action = np.full(DOMAIN.action.size, 0.2, np.float32)

    def plan(
        self,
        observation_O: FloatArray,
        goals: Goals,
        *,
        seed: int,
        warm_start_PZ: FloatArray | None,
        deadline_s: float,
        warm_start_of: str = "",
        spent: int = 0,
    ) -> Plan:
        if self.failing:
            raise DeadlineError("no plan")
        skills = np.zeros((3, SPEC.skill.dim), np.float32)
        predicted = np.zeros((3, DOMAIN.observation.size), np.float32)
        return Plan(
            skills_PZ=skills,
            warm_start_PZ=skills,
            value=0.0,
            predicted_PO=predicted,
            success_probability=self.promise,
            bundle_id="fake",
        )

    def act(
        self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str = "", *, deadline_s: float
    ) -> FloatArray:
        if self.failing:
            raise DeadlineError("no action")
        return self.action


@dataclass
class World:
    """A clock, an arm that follows exactly behind a real gate, and everything that was told."""

    now_s: float = 0.0
    frozen_s: float | None = None
    steady_offset_s: float = 0.0
    sent: list[JointCommand] = field(default_factory=list)
    news: list[EpisodeNews] = field(default_factory=list)
    records: list[StepRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy = FakePolicy()
        self.follower = TrajectoryFollower(LIMITS.home_q_rad)
        self.gate = Gate(LIMITS)
        self.heard: JointTrajectory | None = None
        self.refuse = self.jerky = False
        self.history_rad_s: dict[int, np.ndarray] = {}
        self.objects_at: dict[int, float] = {}
        self.finger_m = np.zeros(2)
        self.make_pilot(None)

    def make_pilot(
        self,
        jumps: JumpWatch | None,
        config: ActuatorConfig | None = None,
        doubt: DoubtConfig | None = None,
        retrace: RetraceConfig | None = None,
    ) -> None:
        arm = Arm(robot=self.robot, objects=self.objects, send=self.send, clock=lambda: self.now_s)
        audience = Audience(news=self.news.append, record=lambda _, record: self.records.append(record))
        planning = ImmediatePlanning(self.policy, 1.0)
        self.pilot = Pilot(
            DOMAIN,
            LIMITS,
            self.policy,
            planning,
            arm,
            audience,
            jumps=jumps,
            config=config,
            doubt=doubt,
            retrace=retrace,
        )

    def robot(self) -> RobotState:
        q, dq, _ = (x[0] for x in self.follower.sample(np.array([self.now_s])))
        stamp_s = self.now_s if self.frozen_s is None else self.frozen_s
        return RobotState(stamp_s=stamp_s, q_rad=q, dq_rad_s=dq, tau_nm=np.zeros(JOINTS), finger_m=self.finger_m)

    def objects(self) -> ObjectStates:
        names = DOMAIN.observation.objects
        values = np.full(len(names), 5.0)
        for channel, value in self.objects_at.items():
            values[channel] = value
        return ObjectStates(stamp_s=self.now_s, names=names, values=values)

    def send(self, command: JointCommand) -> None:
        self.sent.append(command)
        if self.jerky:
            path = command.trajectory
            command = replace(command, trajectory=replace(path, dq_rad_s=6 * path.dq_rad_s))
        if self.refuse:
            return
        decision = self.gate.consider(command, self.robot(), self.now_s)
        self.pilot.note_verdict(decision.verdict, latched=self.gate.stopped, reasons=decision.reasons)
        if decision.command is not None:
            self.follower.set(decision.command.trajectory, self.now_s)
            self.heard = decision.command.trajectory

    def run(self, periods: int, skipped: int = 0) -> None:
        for _ in range(periods):
            self.now_s += PERIOD_S * (1 + skipped)
            before, due_s = len(self.sent), self.now_s
            self.history_rad_s[round(due_s / PERIOD_S)] = self.robot().dq_rad_s
            over = self.pilot.tick(due_s, skipped)
            while not over:
                self.now_s += 0.005
                over = self.pilot.tick(due_s)
            self.now_s = due_s
            heard, self.heard = self.heard, None
            if len(self.sent) > before and heard is not None:
                self.pilot.confirm(heard)

    def start(self, seed: int = 0, named: str = "kitchen") -> None:
        task = DOMAIN.task(named)
        episode = Episode(
            episode_id="e", task="kitchen", subtasks=tuple(s.name for s in task.subtasks), seed=seed, bundle_id="fake"
        )
        self.pilot.start(episode, task, self.now_s)

    @property
    def speed(self) -> float:
        return float(np.abs(self.robot().dq_rad_s).max())


@pytest.fixture
def world() -> World:
    world = World()
    world.start()
    return world


def test_an_episode_begins_with_states_newer_than_its_start_and_runs(world: World) -> None:
    world.run(1)
    assert world.pilot.state == "preparing" and world.news[0].kind == "start"
    world.run(30)
    report = world.pilot.report()
    assert report.state == "running" and report.missed_ticks == 0 and report.plan_index == 3
    assert [r.index for r in world.records] == list(range(len(world.records)))
    assert world.gate.counts.by_verdict[Verdict.HOLD] == 0


def test_it_begins_with_nothing_older(world: World) -> None:
    world.frozen_s = -1.0
    world.run(60)
    assert world.pilot.state == "done" and "newer than the reset" in world.news[-1].detail and not world.sent


def test_one_missed_action_goes_on_and_two_hold_until_resumed(world: World) -> None:
    world.run(8)
    world.policy.failing = True
    world.run(1)
    assert world.pilot.state == "missed"
    world.policy.failing = False
    world.run(2)
    assert world.pilot.state == "running"
    world.policy.failing = True
    world.run(2)
    sent = len(world.sent)
    assert world.pilot.state == "held" and "no action" in world.pilot.report().reason
    world.run(5)
    assert world.speed < 1e-6 and len(world.sent) == sent
    missed = world.pilot.report().missed_ticks
    assert missed == 8
    world.policy.failing = False
    world.run(3)
    assert world.pilot.state == "held"
    world.pilot.resume()
    world.run(3)
    assert world.pilot.state == "running" and len(world.sent) > sent


def test_without_a_first_plan_it_holds_and_says_what_the_planner_said(world: World) -> None:
    world.policy.failing = True
    world.run(60)
    assert world.pilot.state == "held" and "no first plan" in world.pilot.report().reason
    assert "no plan" in world.pilot.report().reason
    world.policy.failing = False
    world.pilot.resume()
    world.run(3)
    assert world.pilot.state == "running"


def test_ticks_that_were_slept_through_count(world: World) -> None:
    world.run(5)
    world.run(1, skipped=2)
    assert world.pilot.report().missed_ticks >= 2


def test_a_tick_that_begins_late_sends_nothing(world: World) -> None:
    world.run(5)
    sent = len(world.sent)
    world.now_s += PERIOD_S
    world.pilot.tick(world.now_s - 0.045)
    assert len(world.sent) == sent and world.pilot.report().missed_ticks == 1


def test_stale_states_are_missed_ticks_and_say_so(world: World) -> None:
    world.run(5)
    world.frozen_s = world.now_s - 1.0
    world.run(2)
    assert world.pilot.state == "held" and "robot state is" in world.pilot.report().reason


def test_states_that_come_a_little_later_are_waited_for(world: World) -> None:
    world.run(5)
    world.now_s += PERIOD_S
    due_s, world.frozen_s = world.now_s, world.now_s - 0.1
    sent = len(world.sent)
    assert not world.pilot.tick(due_s) and len(world.sent) == sent
    world.now_s, world.frozen_s = due_s + 0.012, None
    assert world.pilot.tick(due_s)
    world.pilot.confirm(world.heard)
    assert len(world.sent) == sent + 1 and world.sent[-1].trajectory.start_s == due_s
    world.now_s, world.frozen_s = due_s + PERIOD_S, due_s - 0.1
    assert not world.pilot.tick(due_s + PERIOD_S)
    world.now_s += 0.021
    assert world.pilot.tick(due_s + PERIOD_S)
    assert world.pilot.state == "missed" and world.pilot.report().missed_ticks == 1


def test_a_refused_command_is_withdrawn_and_the_next_joins_the_path(world: World) -> None:
    world.run(5)
    world.refuse = True
    world.run(1)
    world.refuse = False
    world.run(5)
    assert world.gate.counts.by_verdict[Verdict.HOLD] == 0 and world.gate.counts.by_verdict[Verdict.LIMIT] == 0


def test_the_gates_stop_holds_and_refuses_a_new_episode_until_reset(world: World) -> None:
    world.run(5)
    stop = world.gate.stop("a test", world.now_s)
    world.pilot.note_verdict(stop.verdict, latched=True, reasons=stop.reasons)
    world.run(6)  # until the arm is at rest
    assert world.pilot.state == "held" and "a test" in world.pilot.report().reason
    with pytest.raises(BackendError, match="skimo reset"):
        world.pilot.resume()
    with pytest.raises(BackendError, match="skimo reset"):
        world.start()
    assert world.gate.reset(stop.generation, world.robot(), world.now_s)[0]
    world.pilot.note_verdict(Verdict.PASS, latched=False, reasons=())
    world.pilot.resume()
    world.run(2)
    assert world.pilot.state == "running"


def told(world: World, record: StepRecord) -> np.ndarray:
    """What the arm was told in that step, by the arm: its desired velocity at the period's end, in action units."""
    return world.history_rad_s[round((record.due_s + PERIOD_S) / PERIOD_S)] / DOMAIN.action.scale_rad_s


def refuse(world: World) -> None:
    world.refuse = True


def fail(world: World) -> None:
    world.policy.failing = True


def ask_too_much(world: World) -> None:
    world.jerky = True


def stop(world: World) -> None:
    world.pilot.note_verdict(Verdict.STOP, latched=True, reasons=("test: stop",))


def hold_the_hand(world: World) -> None:
    world.pilot.note_verdict(Verdict.HOLD, latched=False, reasons=("hand: busy",))


@pytest.mark.parametrize("trouble", [refuse, fail, ask_too_much, stop, hold_the_hand])
def test_the_action_applied_is_what_the_arm_was_told_whatever_became_of_the_command(world: World, trouble) -> None:
    world.run(8)
    trouble(world)
    world.run(1)
    world.policy.failing = world.refuse = world.jerky = False
    world.run(6)
    records = [r for r in world.records[2:] if r.applied_A is not None]
    assert len(records) > 6
    for record in records:
        np.testing.assert_allclose(record.applied_A[:JOINTS], told(world, record), atol=2e-3, err_msg=str(record.index))


def test_a_hold_of_the_hand_is_told_and_takes_nothing_from_the_arm(world: World) -> None:
    world.run(5)
    hold_the_hand(world)
    world.run(2)
    held = [r for r in world.records if r.verdict is Verdict.HOLD]
    assert len(held) == 1 and held[0].applied_A is not None
    np.testing.assert_allclose(held[0].applied_A[:JOINTS], world.policy.action[:JOINTS], atol=1e-6)


def test_an_arm_that_coasts_is_recorded_as_moving(world: World) -> None:
    world.run(8)
    world.policy.failing = True
    world.run(1)
    world.policy.failing = False
    world.run(2)
    missed = [r for r in world.records if r.step.kind is StepKind.MISSED]
    assert len(missed) == 1 and missed[0].applied_A is not None and missed[0].applied_A[:JOINTS].any()
    assert not missed[0].applied_A[JOINTS:].any()


def test_the_step_limit_ends_with_a_last_observation(world: World) -> None:
    world.policy.action = np.zeros(DOMAIN.action.size, np.float32)
    world.run(290)
    last = world.records[-1]
    assert world.pilot.state == "done" and last.applied_A is None and last.index == DOMAIN.step_limit
    assert world.news[-1].kind == "end" and "step limit" in world.news[-1].detail


def test_an_episode_that_is_slept_through_is_held_and_has_lost_two_steps(world: World) -> None:
    world.policy.action = np.zeros(DOMAIN.action.size, np.float32)
    world.run(5)
    world.run(1, skipped=DOMAIN.step_limit + 10)
    assert world.pilot.state == "held" and "slept through" in world.pilot.report().reason
    assert [n.kind for n in world.news] == ["start"]
    world.pilot.resume()
    world.run(3)
    assert world.pilot.state == "running"


def test_time_spent_held_leaves_the_step_limit_alone_and_the_numbers_without_a_gap(world: World) -> None:
    world.policy.action = np.zeros(DOMAIN.action.size, np.float32)
    world.run(5)
    world.pilot.hold("an operator looks")
    world.run(DOMAIN.step_limit + 100)
    assert world.pilot.state == "held"
    world.pilot.resume()
    world.run(DOMAIN.step_limit - 10)
    assert world.pilot.state == "running"
    world.run(12)
    held = sum(r.step.reason == "an operator looks" for r in world.records)
    assert world.pilot.state == "done" and "step limit" in world.news[-1].detail and held == DOMAIN.step_limit + 100
    assert [r.index for r in world.records] == list(range(len(world.records)))
    assert world.records[-1].index == world.news[-1].steps == DOMAIN.step_limit + held


def test_an_episode_that_runs_ends_for_a_new_one(world: World) -> None:
    world.run(5)
    world.start()
    assert world.news[-1].kind == "end" and "superseded" in world.news[-1].detail


def test_a_held_episode_is_not_followed_by_a_new_one_until_it_is_cancelled(world: World) -> None:
    world.run(5)
    world.pilot.hold("an operator looks")
    for _ in range(2):  # at once, and once it has taken effect
        with pytest.raises(BackendError, match=r"held: an operator looks; `skimo reset` .*`skimo start --anew` drops"):
            world.start()
        world.run(1)
    assert world.pilot.state == "held" and [n.kind for n in world.news] == ["start"]
    world.pilot.cancel("dropped")
    world.start()
    world.run(4)
    assert world.pilot.state == "running" and [n.kind for n in world.news] == ["start", "end", "start"]


def test_nothing_is_seen_before_anything_came() -> None:
    world = World()

    def missing() -> RobotState:
        raise MissingError("no joint states")

    arm = Arm(robot=missing, objects=world.objects, send=world.send, clock=lambda: 5.0)
    audience = Audience(news=world.news.append, record=lambda _, record: None)
    world.pilot = Pilot(DOMAIN, LIMITS, world.policy, ImmediatePlanning(world.policy, 1.0), arm, audience)
    world.start()
    world.pilot.tick(5.0)
    assert world.pilot.state == "done" and "no joint states" in world.news[-1].detail


def test_how_much_of_the_arm_a_policy_may_use_is_the_pilot_s_caller_s_to_say() -> None:
    fastest = {}
    for fraction in (0.6, 0.05):
        world = World()
        world.make_pilot(None, ActuatorConfig(velocity_fraction=fraction))
        world.policy.action[:] = 1.0
        world.start()
        world.now_s += 0.1
        world.run(6)
        speeds = [np.abs(command.trajectory.dq_rad_s) / LIMITS.dq_max_rad_s for command in world.sent]
        fastest[fraction] = max(speed.max() for speed in speeds)
        assert speeds and fastest[fraction] <= fraction + 1e-9
    assert fastest[0.05] == pytest.approx(0.05) and fastest[0.6] > 0.2


def test_cancelling_brakes(world: World) -> None:
    world.run(8)
    world.pilot.cancel("test")
    assert world.pilot.state == "done" and world.news[-1].detail == "test"
    world.now_s += 0.4
    assert world.speed < 1e-6


def test_a_frozen_gate_is_noticed_after_two_commands(world: World) -> None:
    world.run(5)
    world.run(1)
    before = len(world.records)
    world.refuse = True  # nothing comes back: neither the command nor a verdict
    world.run(2)
    assert world.pilot.state == "running"
    sent = len(world.sent)
    world.run(1)
    assert world.pilot.state == "held" and "is gate_node alive" in world.pilot.report().reason
    world.run(3)
    assert len(world.sent) == sent
    silent = world.records[before + 1 : before + 3]
    assert [r.step.kind for r in silent] == [StepKind.ACT] * 2
    assert all(r.verdict is Verdict.HOLD for r in silent)
    assert not silent[1].applied_A.any(), "what was sent last has come to its end"
    assert all("did not pass" in r.step.reason for r in silent)
    assert world.records[before].applied_A.any() and world.records[before].verdict is Verdict.PASS
    world.refuse = False
    world.pilot.resume()
    world.run(4)
    assert world.pilot.state == "running" and world.records[-1].applied_A.any()


def test_a_gate_that_refuses_is_not_frozen(world: World) -> None:
    world.run(5)
    world.refuse = True
    for _ in range(6):
        world.run(1)
        world.pilot.note_verdict(Verdict.HOLD, latched=False, reasons=("test: x",))
    assert world.pilot.state == "running"


def test_a_command_that_is_confirmed_late_counts_as_applied(world: World) -> None:
    world.run(5)
    world.refuse = True
    world.run(1)
    late = world.sent[-1].trajectory
    world.now_s += PERIOD_S
    world.pilot._settle()
    world.pilot.confirm(late)
    world.refuse = False
    world.pilot.tick(world.now_s)
    assert world.records[-1].applied_A.any() and world.records[-1].verdict is Verdict.PASS


@pytest.mark.parametrize(("broken", "names"), [(np.nan, "'kettle"), (np.inf, "'kettle"), (-np.inf, "'kettle")])
def test_one_object_frame_that_is_not_finite_costs_one_tick_and_names_the_channel(
    world: World, broken: float, names: str
) -> None:
    world.run(5)
    channel = next(i for i, name in enumerate(DOMAIN.observation.objects) if name.startswith("kettle"))
    world.objects_at = {channel: broken}
    world.run(1)
    report = world.pilot.report()
    assert world.pilot.state == "missed" and report.missed_ticks == 1 and names in report.reason
    world.objects_at = {}
    world.run(3)
    assert world.pilot.state == "running" and world.pilot.report().missed_ticks == 1
    world.objects_at = {channel: broken}
    world.run(2)
    assert world.pilot.state == "held" and "2 actions missed in a row" in world.pilot.report().reason


def test_absent_fingers_are_missing_and_not_closed(world: World) -> None:
    world.run(5)
    world.finger_m = np.zeros(0)
    world.run(2)
    assert world.pilot.state == "held" and "0 finger positions, 2 are wanted" in world.pilot.report().reason


def test_somebody_elses_command_holds_and_says_whose(world: World) -> None:
    world.run(5)
    world.pilot.note_foreign("a trajectory on '/x' is not the gate's; there publishes /intruder")
    sent = len(world.sent)
    world.run(2)
    assert world.pilot.state == "held" and "/intruder" in world.pilot.report().reason and len(world.sent) == sent


@pytest.mark.parametrize("jump_s", [-10.0, 10.0, 0.2])
def test_an_episode_in_which_time_jumps_ends_with_that_reason(jump_s: float) -> None:
    world = World()
    world.steady_offset_s = 100.0
    watch = JumpWatch(lambda: world.now_s, lambda: world.now_s + world.steady_offset_s, 0.1)
    world.make_pilot(watch)
    world.start()
    world.run(5)
    world.now_s += jump_s
    world.steady_offset_s -= jump_s
    sent = len(world.sent)
    world.pilot.tick(world.now_s)
    assert world.pilot.state == "done" and len(world.sent) == sent
    assert f"the ROS clock jumped by {jump_s:+.3f} s" in world.news[-1].detail and world.news[-1].kind == "end"


def test_an_episode_that_begins_with_a_sub_task_done_ends_at_once_and_says_which() -> None:
    world = World()
    kettle = DOMAIN.subtasks["kettle"]
    at = [c - DOMAIN.observation.joints - DOMAIN.observation.fingers for c in kettle.channels]
    world.objects_at = dict(zip(at, kettle.goal))
    world.start()
    world.run(1)
    assert world.pilot.state == "done" and not world.sent and [n.kind for n in world.news] == ["end"]
    assert "already done at the start: kettle" in world.news[-1].detail and "twin/reset" in world.news[-1].detail


def test_an_episode_whose_way_undoes_what_is_done_at_its_start_begins() -> None:
    world = World()
    channel = DOMAIN.observation.objects.index("microwave")
    world.objects_at = {channel: 0.0}
    world.start(named="microwave=-0.4,microwave closed")
    world.run(3)
    assert world.pilot.state == "running" and world.pilot.report().subtask == "microwave=-0.4+-0.1"
    for value in (-0.4, 0.0):
        world.objects_at[channel] = value
        world.run(1)
    assert [n.subtask for n in world.news if n.kind == "subtask"] == ["microwave=-0.4+-0.1", "microwave closed"]
    assert world.news[-1].kind == "end" and world.news[-1].success


@pytest.mark.parametrize("hold", [False, True])
def test_plans_that_promise_little_are_said_once_and_hold_where_asked(hold: bool) -> None:
    world = World()
    world.make_pilot(None, doubt=DoubtConfig(hold=hold))
    world.policy.promise = 0.1
    world.start()
    world.run(20)  # the third plan takes effect with the 21st step
    assert world.pilot.report().doubt == ""
    world.run(2)
    doubt = "3 plans in a row promise microwave with at most 0.10 (bound 0.2)"
    assert world.pilot.report().doubt == doubt and world.pilot.report().plan_index == 3
    world.run(30)
    assert [(n.subtask, n.detail) for n in world.news if n.kind == "doubt"] == [("microwave", doubt)]
    assert world.pilot.state == ("held" if hold else "running")
    if hold:
        assert world.pilot.report().reason == f"in doubt: {doubt}" and world.speed == 0.0
        world.policy.promise = 0.9
        world.pilot.resume()
        world.run(15)
        assert world.pilot.state == "running" and world.pilot.report().doubt == ""


def test_a_stop_while_the_arm_comes_to_rest_holds_the_episode_that_begins(world: World) -> None:
    world.pilot.note_verdict(Verdict.STOP, latched=True, reasons=("test: y",))
    world.run(2)
    assert world.pilot.state == "held" and "test: y" in world.pilot.report().reason and not world.sent


def test_a_goal_beyond_what_the_policys_data_cover_is_refused_and_nothing_begins() -> None:
    world = World()
    size, task = DOMAIN.observation.size, DOMAIN.task("microwave=-2.0+-0.1")
    world.policy.spec = replace(SPEC, low_O=(-1.0,) * size, high_O=(1.0,) * size)
    episode = Episode(episode_id="e", task=task.name, subtasks=(task.subtasks[0].name,), seed=0, bundle_id="fake")
    with pytest.raises(SpecError, match=r"microwave -2 rad is not within 0.1 of what the policy's data cover, -1 to 1"):
        world.pilot.start(episode, task, 0.0)
    assert world.pilot.state == "idle" and not world.news


def test_a_person_acts_in_the_policys_place_while_it_holds_and_it_goes_on_from_there(world: World) -> None:
    pilot = world.pilot
    with pytest.raises(BackendError, match="nothing is held"):
        pilot.intervene(world.policy.action)
    world.start()
    world.run(12)
    pilot.hold("asked for help")
    world.run(5)
    assert pilot.state == "held" and world.speed == 0.0
    missed, steps = pilot.report().missed_ticks, pilot.report().step
    with pytest.raises(SpecError):
        pilot.intervene(np.full(DOMAIN.action.size, 2.0, np.float32))
    for _ in range(6):
        pilot.intervene(np.full(DOMAIN.action.size, -0.3, np.float32))
        world.run(1)
        assert pilot.state == "held"
    assert world.speed > 0.1
    pilot.resume()
    world.run(3)
    report = pilot.report()
    assert report.state == "running" and report.missed_ticks == missed and report.step == steps + 9
    acted = [record for record in world.records if record.step.kind is StepKind.INTERVENE]
    assert len(acted) == 6 and all(record.verdict is Verdict.PASS for record in acted)
    np.testing.assert_allclose(acted[-1].applied_A[: DOMAIN.action.joints], -0.3, atol=1e-3)
    assert [record.index for record in world.records] == list(range(len(world.records)))


def test_a_person_whose_word_ends_waits_for_the_policy_to_be_resumed(world: World) -> None:
    world.start()
    world.run(12)
    world.pilot.hold("asked for help")
    world.run(2)
    world.pilot.intervene(np.full(DOMAIN.action.size, 0.3, np.float32))
    world.run(8)  # one action, then none: the arm comes to rest
    assert world.pilot.state == "held" and world.speed == 0.0
    stop(world)
    with pytest.raises(BackendError, match="gate is stopped"):
        world.pilot.intervene(world.policy.action)


def walled(retrace: RetraceConfig | None = None) -> World:
    """A world whose gate ends the workspace 0.1 m beside the arm, where the policy's action leads it."""
    world = World()
    world.make_pilot(None, retrace=retrace)
    side_m = float(arm_points(LIMITS, LIMITS.home_q_rad[None])[..., 1].max()) + 0.1
    world.gate = Gate(LIMITS, GateConfig(workspace_high_m=(2.0, side_m, 2.0), workspace_low_m=(-2.0, -2.0, -2.0)))
    world.policy.action = np.zeros(DOMAIN.action.size, np.float32)
    world.policy.action[0] = 0.3
    world.start()
    return world


def spans(world: World) -> list[tuple[str, Verdict, int]]:
    """What was decided and what the gate made of it, run by run."""
    found: list[tuple[str, Verdict, int]] = []
    for record in world.records:
        key = record.step.kind.value, record.verdict
        count = found.pop()[2] if found and found[-1][:2] == key else 0
        found.append((*key, count + 1))
    return found


def test_an_arm_that_the_gate_refuses_goes_back_the_way_it_came_and_plans_anew_without_a_miss() -> None:
    world = walled(RetraceConfig(refused=4, steps=6))
    world.run(30)
    ran, held, back, *_ = spans(world)
    assert ran[:2] == ("act", Verdict.PASS) and back == ("retrace", Verdict.PASS, 6)
    assert held[:2] == ("act", Verdict.HOLD) and 4 <= held[2] <= 5
    assert all(record.step.skill_Z is None for record in world.records if record.step.kind is StepKind.RETRACE)
    first = next(r for r in world.records if r.step.kind is StepKind.RETRACE)
    assert "refused 4 commands in a row" in first.step.reason
    last = [r for r in world.records if r.step.kind is StepKind.RETRACE][-1]
    assert first.applied_A is not None and first.applied_A[0] < -0.1
    way_rad = [record.observation_O[0] for record in world.records[: ran[2]]]
    assert np.abs(np.array(way_rad) - last.observation_O[0]).min() < 0.01, "it stands where it stood before"
    after = world.records[last.index + 1]
    assert after.step.kind is StepKind.ACT and after.step.new_plan is not None and after.step.step_in_skill == 0
    assert world.pilot.report().missed_ticks == 0 and not world.gate.stopped


def test_held_again_it_goes_back_further_and_never_where_it_is_told_not_to() -> None:
    world = walled(RetraceConfig(refused=4, steps=4))
    world.run(60)
    ways = [count for kind, _, count in spans(world) if kind == "retrace"]
    assert ways[0] == 4 < ways[1]
    world = walled(RetraceConfig(refused=0))
    world.run(60)
    assert [kind for kind, _, _ in spans(world)] == ["act", "act"] and world.records[-1].verdict is Verdict.HOLD


def test_a_hold_ends_the_way_back_and_who_resumes_goes_on_from_there() -> None:
    world = walled(RetraceConfig(refused=4, steps=10))
    while not world.records or world.records[-1].step.kind is not StepKind.RETRACE:
        world.run(1)
    world.pilot.hold("an operator")
    world.run(6)
    assert world.pilot.state == "held" and world.speed == 0.0
    world.pilot.resume()
    world.run(4)
    assert world.records[-1].step.kind is StepKind.ACT


def test_an_arm_whose_policy_is_gone_comes_to_rest_on_its_way_back_too() -> None:
    world = walled(RetraceConfig(refused=4, steps=10))
    while not world.records or world.records[-1].step.kind is not StepKind.RETRACE:
        world.run(1)
    world.policy.failing = True
    sent = len(world.sent)
    world.run(5)
    assert world.pilot.state == "held" and "no action" in world.pilot.report().reason
    assert world.speed == 0.0 and len(world.sent) == sent
    world.policy.failing = False
    world.pilot.resume()
    world.run(4)
    assert world.records[-1].step.kind is StepKind.ACT
