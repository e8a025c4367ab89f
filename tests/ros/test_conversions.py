"""Messages and the core's types: what goes out comes back; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from franka_msgs.action import Grasp, Move
from franka_msgs.msg import FrankaRobotState
from franka_msgs.srv import SetLoad
from ros.fuzz import Fuzzer
from sensor_msgs.msg import JointState
from skimo_msgs.msg import EpisodeEvent, GateEvent, PlanStatus
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg
from std_srvs.srv import Empty, Trigger
from trajectory_msgs.msg import JointTrajectory as TrajectoryMsg

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import GripperCommand, JointTrajectory, ObjectStates, RobotMode, RobotState, Verdict
from skimo_core.control.actuate import Actuator
from skimo_core.control.reports import Episode, EpisodeNews, PolicyReport
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.safety.gate import Decision
from skimo_ros import conversions as convert
from skimo_ros.adapters import load_adapter
from skimo_ros.definitions import full_definition
from skimo_ros.hand import HandReport, HandState
from skimo_ros.reports import GateReport

NOW_S = 1230.123456
ADAPTER = load_adapter("twin")
HAND_GOAL = GripperCommand(kind="move", width_m=0.08, speed_m_s=0.1)
RNG = np.random.default_rng(0)
ROBOT = RobotState(
    stamp_s=NOW_S,
    q_rad=RNG.normal(size=7),
    dq_rad_s=RNG.normal(size=7),
    tau_nm=RNG.normal(size=7),
    finger_m=np.array([0.01, 0.03]),
    mode=RobotMode.MOVE,
)


def trajectory() -> JointTrajectory:
    actuator = Actuator(load_limits(), load_domain().action)
    return actuator.command(np.full(9, 0.4, np.float32), NOW_S).trajectory


def test_robot_state_comes_back_whatever_the_order_of_joints() -> None:
    message = convert.fill_joint_state(JointState(), ROBOT, ADAPTER.joints, ADAPTER.fingers)
    order = RNG.permutation(len(message.name))
    shuffled = JointState(header=message.header, name=[message.name[i] for i in order])
    shuffled.position = [message.position[i] for i in order]
    shuffled.velocity = [message.velocity[i] for i in order]
    shuffled.effort = [message.effort[i] for i in order]
    back = convert.robot_state(shuffled, ADAPTER.joints, ADAPTER.fingers, RobotMode.MOVE)
    for name in ("q_rad", "dq_rad_s", "tau_nm", "finger_m"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ROBOT, name))
    assert back.stamp_s == pytest.approx(NOW_S, abs=1e-6) and back.mode is RobotMode.MOVE


def test_a_missing_joint_is_named() -> None:
    message = convert.fill_joint_state(JointState(), ROBOT, ADAPTER.joints, ADAPTER.fingers)
    with pytest.raises(SpecError, match="fr3_joint1"):
        convert.robot_state(message, load_adapter("franka_ros2").joints, (), RobotMode.IDLE)


def test_trajectories_come_back() -> None:
    sent = trajectory()
    back = convert.from_trajectory(convert.to_trajectory(sent, ADAPTER.joints), ADAPTER.joints, 0.0)
    assert back.start_s == pytest.approx(sent.start_s, abs=1e-6)
    np.testing.assert_allclose(back.times_s, sent.times_s, atol=1e-9)
    for name in ("q_rad", "dq_rad_s", "ddq_rad_s2"):
        np.testing.assert_array_equal(getattr(back, name), getattr(sent, name))


def test_a_trajectory_without_a_stamp_starts_now_and_one_for_another_arm_is_refused() -> None:
    message = convert.to_trajectory(trajectory(), ADAPTER.joints)
    message.header.stamp = Time()
    assert convert.from_trajectory(message, ADAPTER.joints, 7.0).start_s == 7.0
    with pytest.raises(SpecError, match="fr3_joint1"):
        convert.from_trajectory(message, load_adapter("franka_ros2").joints, 0.0)
    message.points[0].velocities = []
    with pytest.raises(SpecError, match="points hold 0, 7 velocities"):
        convert.from_trajectory(message, ADAPTER.joints, 0.0)


def test_objects_and_hand_goals_come_back() -> None:
    objects = ObjectStates(stamp_s=NOW_S, names=("a", "b"), values=np.array([0.5, -2.0]))
    back = convert.object_states(convert.fill_object_states(ObjectStatesMsg(), objects))
    assert back.names == objects.names
    np.testing.assert_array_equal(back.values, objects.values)
    for goal in (
        GripperCommand(kind="move", width_m=0.08, speed_m_s=0.1),
        GripperCommand(kind="grasp", width_m=0.0, speed_m_s=0.1, force_n=40.0),
    ):
        assert convert.from_gripper(convert.to_gripper(goal, NOW_S)) == goal
        kind = {"move": Move, "grasp": Grasp}[goal.kind]
        assert convert.from_gripper_goal(convert.gripper_goal(kind, goal, 0.08)) == goal


def test_a_grasp_succeeds_within_its_epsilon_as_libfranka_judges_it() -> None:
    goal = Grasp.Goal(width=0.02)
    goal.epsilon.inner = goal.epsilon.outer = 0.005
    assert convert.gripper_outcome(goal, 0.024)[0] and not convert.gripper_outcome(goal, 0.03)[0]
    assert convert.gripper_outcome(Move.Goal(width=0.08), 0.079)[0]
    assert not convert.gripper_outcome(Move.Goal(width=0.08), 0.04)[0]


def test_franka_state_is_filled_in_place() -> None:
    filler = convert.FrankaStateFiller(FrankaRobotState, ADAPTER.joints, "panda_link0")
    message = filler.fill(ROBOT, ROBOT.q_rad, ROBOT.dq_rad_s)
    assert message is filler.fill(ROBOT, ROBOT.q_rad, ROBOT.dq_rad_s)
    assert convert.robot_mode(message) is RobotMode.MOVE
    assert list(message.measured_joint_state.position) == ROBOT.q_rad.tolist()
    message.robot_mode = 77
    assert convert.robot_mode(message) is RobotMode.OTHER


def test_reports_come_back() -> None:
    decision = Decision(verdict=Verdict.STOP, reasons=("a: b",), command=None, generation=3)
    gate = GateReport(decision=decision, latched=True, commands=9, limited=1, held=2, stops=3, state_age_s=0.5)
    assert convert.from_gate_event(convert.to_gate_event(gate, NOW_S)) == gate
    goal = GripperCommand(kind="grasp", width_m=0.0, speed_m_s=0.1, force_n=40.0)
    hand = HandReport(state=HandState.FAILED, goal_id=3, goal=goal, asked_s=7.5, attempts=2, reason="r")
    assert convert.from_hand_status(convert.to_hand_status(hand, NOW_S)) == hand
    assert convert.from_hand_status(convert.to_hand_status(HandReport(), NOW_S)) == HandReport()
    episode = Episode(episode_id="e", task="t", subtasks=("a", "b"), seed=5, bundle_id="x", explore=0.3)
    news = EpisodeNews(kind="end", stamp_s=NOW_S, episode=episode, success=True, subtasks_done=2, steps=7, detail="d")
    back = convert.from_episode_event(convert.to_episode_event(news))
    assert back.episode == episode and back.stamp_s == pytest.approx(NOW_S, abs=1e-6) and back.detail == "d"
    predicted = np.ones((3, 30), np.float32)
    report = PolicyReport(state="held", reason="r", step=4, plan_ms=2.5, predicted_PO=predicted)
    assert not convert.to_plan_status(report, NOW_S, with_prediction=False).predicted
    message = convert.to_plan_status(report, NOW_S, with_prediction=True)
    assert len(message.predicted) == 90 and convert.from_plan_status(message).reason == "r"


def test_recovery_services_answer_in_their_own_words() -> None:
    for kind in (Trigger, SetLoad):
        answer = convert.answer_recovery(kind.Response(), False, "No errors")
        assert convert.from_recovery(answer) == (False, "No errors")
    assert convert.from_recovery(Empty.Response()) == (True, "")


def test_definitions_hold_everything_that_a_message_contains() -> None:
    text = full_definition("trajectory_msgs/msg/JointTrajectory")
    parts = ("std_msgs/Header", "trajectory_msgs/JointTrajectoryPoint", "builtin_interfaces/Duration")
    assert all(f"MSG: {part}\n" in text for part in parts)
    assert "MSG: skimo_msgs/GripperCommand\n" in full_definition("skimo_msgs/msg/HandStatus")


def spoiled(change: str) -> TrajectoryMsg:
    """A sound trajectory with one thing wrong."""
    message = convert.to_trajectory(trajectory(), ADAPTER.joints)
    point = message.points[-1]
    if change == "three accelerations":
        point.accelerations = [0.0] * 3
    elif change == "accelerations in some":
        point.accelerations = []
    elif change == "no velocities":
        for each in message.points:
            each.velocities = []
    elif change == "one joint twice":
        message.joint_names = [*ADAPTER.joints[:6], ADAPTER.joints[0]]
    elif change == "no points":
        message.points = []
    elif change == "many points":
        message.points = message.points * 1000
    elif change == "many names":
        message.joint_names = ["x"] * 100_000
    return message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("three accelerations", "points hold 3, 7 accelerations, must hold 7 (or 0 accelerations in all)"),
        ("accelerations in some", "points hold 0, 7 accelerations"),
        ("no velocities", "points hold 0 velocities, must hold 7"),
        ("one joint twice", "'panda_joint1' stands twice"),
        ("no points", "0 points, bounds 1 and 2000"),
        ("many points", "points, bounds 1 and 2000"),
        ("many names", "100000 names, bound 256"),
    ],
)
def test_a_trajectory_that_is_not_sound_is_refused_in_words(change: str, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        convert.from_trajectory(spoiled(change), ADAPTER.joints, 0.0)
    assert words in str(refused.value) and len(str(refused.value)) < 500


def test_trajectories_come_back_whatever_the_order_of_joints() -> None:
    sent = trajectory()
    order = list(RNG.permutation(7))
    message = convert.to_trajectory(sent, ADAPTER.joints, sender="/gate_node")
    message.joint_names = [ADAPTER.joints[i] for i in order]
    for point in message.points:
        for name in ("positions", "velocities", "accelerations"):
            setattr(point, name, [getattr(point, name)[i] for i in order])
    back = convert.from_trajectory(message, ADAPTER.joints, 0.0)
    np.testing.assert_array_equal(back.q_rad, sent.q_rad)
    np.testing.assert_array_equal(back.ddq_rad_s2, sent.ddq_rad_s2)
    assert convert.sender_of(message) == "/gate_node"


def test_what_a_driver_leaves_out_is_not_known_rather_than_zero() -> None:
    message = JointState(name=list(ADAPTER.joints), position=[0.1] * 7)
    state = convert.robot_state(message, ADAPTER.joints, ADAPTER.fingers, RobotMode.IDLE)
    assert len(state.finger_m) == 0 and np.isnan(state.dq_rad_s).all() and np.isnan(state.tau_nm).all()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", [*ADAPTER.joints, ADAPTER.joints[2]], "'panda_joint3' stands twice"),
        ("name", ["x"] * 300, "300 names, bound 256"),
        ("position", [0.0] * 3, "7 names but 3 of position"),
        ("position", [], "lack 'all positions'"),
        ("velocity", [0.0] * 8, "7 names but 8 of velocity"),
        ("effort", [0.0], "7 names but 1 of effort"),
    ],
)
def test_joint_states_that_contradict_themselves_are_refused(field: str, value: list, words: str) -> None:
    message = JointState(name=list(ADAPTER.joints), position=[0.1] * 7, velocity=[0.0] * 7)
    setattr(message, field, value)
    if field == "name":
        message.position, message.velocity = [0.1] * len(value), []
    with pytest.raises(SpecError, match=words):
        convert.robot_state(message, ADAPTER.joints, ADAPTER.fingers, RobotMode.IDLE)


def test_the_controllers_reference_is_read_by_name_too() -> None:
    message = FrankaRobotState()
    order = list(RNG.permutation(7))
    message.desired_joint_state.name = [ADAPTER.joints[i] for i in order]
    message.desired_joint_state.position = [float(i) for i in order]
    np.testing.assert_array_equal(convert.desired_positions(message, ADAPTER.joints)[1], np.arange(7.0))
    message.desired_joint_state.name = []
    np.testing.assert_array_equal(convert.desired_positions(message, ADAPTER.joints)[1], np.array(order, float))
    message.desired_joint_state.position = [0.0] * 3
    with pytest.raises(SpecError, match="3 values for 7 names"):
        convert.desired_positions(message, ADAPTER.joints)
    message.desired_joint_state.position = []
    assert convert.desired_positions(message, ADAPTER.joints)[1] is None
    assert convert.external_torques(message, ADAPTER.joints) is None
    message.tau_ext_hat_filtered.effort = [1.0] * 7
    np.testing.assert_array_equal(convert.external_torques(message, ADAPTER.joints), np.ones(7))


def test_unknown_numbers_and_unequal_lengths_are_refused_in_words() -> None:
    with pytest.raises(SpecError, match="verdict 9 is not known"):
        convert.from_gate_event(GateEvent(verdict=9))
    with pytest.raises(SpecError, match="episode event of kind 7"):
        convert.from_episode_event(EpisodeEvent(kind=7))
    with pytest.raises(SpecError, match="2 names but 1 values"):
        convert.object_states(ObjectStatesMsg(names=["a", "b"], values=[1.0]))
    with pytest.raises(SpecError, match="'a' stands twice"):
        convert.object_states(ObjectStatesMsg(names=["a", "a"], values=[1.0, 2.0]))
    with pytest.raises(SpecError, match="episode_id: 400 characters, bound 128"):
        convert.from_start_request(convert.start_request("kitchen", 0, "x" * 400))
    with pytest.raises(SpecError, match="task: 100000 characters, bound 1000"):
        convert.from_reset_request(convert.reset_request("x" * 100_000, 0))
    for time_s in (1e300, -1e300, np.nan, np.inf, 2.0**31):
        with pytest.raises(SpecError, match="does not fit a ROS stamp"):
            convert.to_time(time_s)


def test_a_gates_endless_reasons_are_cut() -> None:
    report = convert.from_gate_event(GateEvent(reasons=["y" * 10**6] * 1000))
    assert sum(map(len, report.decision.reasons)) < 50_000


def test_figures_beyond_float32_do_not_break_a_status() -> None:
    report = PolicyReport(state="running", value=1e300, plan_ms=float("inf"), act_ms=float("nan"))
    assert convert.to_plan_status(report, NOW_S, with_prediction=False).value > 3e38


def test_whatever_a_message_holds_conversions_refuse_in_words_or_take_it() -> None:
    """Seeded noise and mutations of sound messages, through every function that reads one."""
    fuzzer = Fuzzer(5)
    joint_state = convert.fill_joint_state(JointState(), ROBOT, ADAPTER.joints, ADAPTER.fingers)
    sound = (
        convert.to_trajectory(trajectory(), ADAPTER.joints),
        joint_state,
        FrankaRobotState(),
        ObjectStatesMsg(names=["a", "b"], values=[1.0, 2.0]),
        convert.to_gripper(GripperCommand(kind="move", width_m=0.08, speed_m_s=0.1), NOW_S),
        GateEvent(reasons=["a"]),
        EpisodeEvent(),
        PlanStatus(),
        convert.to_hand_status(
            HandReport(goal_id=1, goal=GripperCommand(kind="move", width_m=0.0, speed_m_s=0.1)), 1.0
        ),
    )
    read = (
        lambda m: convert.from_trajectory(m, ADAPTER.joints, 0.0),
        lambda m: convert.robot_state(m, ADAPTER.joints, ADAPTER.fingers, RobotMode.IDLE),
        lambda m: (convert.robot_mode(m), convert.desired_positions(m, ADAPTER.joints)),
        convert.object_states,
        convert.from_gripper,
        convert.from_gate_event,
        convert.from_episode_event,
        convert.from_plan_status,
        convert.from_hand_status,
    )
    taken = refused = 0
    for message, use in zip(sound, read):
        for k in range(150):
            try:
                use(fuzzer.message(type(message)) if k % 2 else fuzzer.mutated(message))
                taken += 1
            except SpecError:
                refused += 1
    assert taken > 100 and refused > 100
