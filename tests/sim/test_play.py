"""The scripted teleoperator's parts: kinematics against the twin, handles against the scene, disturbances."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimo_core.contract.types import RobotState
from skimo_core.domain.domain import load_domain
from skimo_sim.play.arm import Aim, View
from skimo_sim.play.disturbance import Disturbance, DisturbanceConfig
from skimo_sim.play.kinematics import FINGERTIP_M, pointing, rotation_vector
from skimo_sim.play.kitchen.geometry import HANDLES, KETTLE, handles
from skimo_sim.play.kitchen.scripts import GOALS, SCRIPTS, Drag, Home, Shove, posts
from skimo_sim.play.kitchen.teleoperator import KitchenTeleoperator, first
from skimo_sim.play.player import Agenda, Player, careful, freely, in_order
from skimo_sim.play.teleoperator import PlayConfig, ScriptInfo, Style
from skimo_sim.twin import Twin

SEEN_O = np.zeros(30, np.float32)
PLAIN = Style()


@pytest.fixture(scope="module")
def player() -> Player:
    return Player(load_domain())


@pytest.fixture(scope="module")
def twin(player: Player) -> Twin:
    assert isinstance(player.twin, Twin)
    return player.twin


@pytest.fixture(scope="module")
def teleoperator(player: Player) -> KitchenTeleoperator:
    assert isinstance(player.teleoperator, KitchenTeleoperator)
    return player.teleoperator


def seen(twin: Twin, teleoperator: KitchenTeleoperator, objects: npt.NDArray[np.float64]) -> View:
    """What is seen with the arm at the papers' start and object values [21]."""
    still, q = np.zeros(7), twin.scene.start_qpos[:7]
    robot = RobotState(stamp_s=0.0, q_rad=q, dq_rad_s=still, tau_nm=still, finger_m=np.full(2, 0.04))
    return teleoperator.view(robot, objects)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_kinematics_agree_with_the_twin(twin: Twin, teleoperator: KitchenTeleoperator, seed: int) -> None:
    limits = twin.limits
    q = np.random.default_rng(seed).uniform(limits.q_min_rad, limits.q_max_rad)
    data = mujoco.MjData(twin.model)
    data.qpos[:] = twin.scene.start_qpos
    data.qpos[:7] = q
    mujoco.mj_kinematics(twin.model, data)
    hand = data.body("panda_hand")
    tip, rotation = teleoperator.kinematics.fingertips(q)
    np.testing.assert_allclose(rotation, hand.xmat.reshape(3, 3), atol=1e-9)
    np.testing.assert_allclose(tip, hand.xpos + FINGERTIP_M * rotation[:, 2], atol=1e-9)


def test_joint_velocities_move_the_fingertips_as_asked(twin: Twin, teleoperator: KitchenTeleoperator) -> None:
    kinematics = teleoperator.kinematics
    q = twin.scene.start_qpos[:7]
    twist = np.array([0.05, 0.1, 0.05, 0.1, 0.0, -0.1])
    dq = kinematics.joint_velocity(q, twist, q)
    np.testing.assert_allclose(kinematics.jacobian(q) @ dq, twist, atol=0.02)
    fast = kinematics.joint_velocity(q, 20.0 * twist, q)
    assert np.abs(fast).max() <= kinematics.config.speed_max_rad_s + 1e-9


def test_motion_towards_a_joint_limit_fades_out(twin: Twin, teleoperator: KitchenTeleoperator) -> None:
    kinematics, limits = teleoperator.kinematics, twin.limits
    q = twin.scene.start_qpos[:7].copy()
    q[1] = limits.q_min_rad[1] + 0.05
    rng = np.random.default_rng(0)
    for _ in range(20):
        dq = kinematics.joint_velocity(q, rng.normal(size=6) * 0.3, q)
        assert dq[1] > -0.05


def test_handles_move_as_the_scene_moves_them(twin: Twin) -> None:
    scene = twin.scene
    data = mujoco.MjData(scene.model)
    rng = np.random.default_rng(0)
    for name, handle in handles(scene).items():
        joint, site = HANDLES[name]
        for share in rng.uniform(size=3):
            low, high = scene.model.joint(joint).range
            data.qpos[:] = scene.start_qpos
            data.joint(joint).qpos[0] = value = low + share * (high - low)
            mujoco.mj_kinematics(scene.model, data)
            np.testing.assert_allclose(handle.at(value), data.site(site).xpos, atol=1e-9)


def test_orientation_words() -> None:
    ahead = pointing(0.0, 0.0)
    np.testing.assert_allclose(ahead[:, 2], [0, 1, 0], atol=1e-12)  # the hand points into the kitchen
    np.testing.assert_allclose(np.abs(ahead[:, 1]), [1, 0, 0], atol=1e-12)  # the fingers open sideways
    assert pointing(0.3, 0.0)[0, 2] < 0 < pointing(0.0, 0.3)[2, 2]  # left of it; above it
    np.testing.assert_allclose(rotation_vector(pointing(0.3, 0.0), ahead), [0, 0, 0.3], atol=1e-9)


def test_disturbances_are_seeded_and_grow_with_speed() -> None:
    def run(seed: int, speed: float) -> np.ndarray:
        disturbance = Disturbance(DisturbanceConfig(shove_probability=0.0), 7, np.random.default_rng(seed))
        return np.stack([disturbance.shift(np.full(7, speed, np.float32)) for _ in range(500)])

    assert np.array_equal(run(0, 0.5), run(0, 0.5))
    assert run(0, 1.0).std() > 2.0 * run(0, 0.0).std() > 0.0
    with_shoves = Disturbance(DisturbanceConfig(wobble=0.0, shove_probability=1.0), 7, np.random.default_rng(0))
    assert np.abs(with_shoves.shift(np.zeros(7, np.float32))).max() > 0.05
    config = DisturbanceConfig(wobble=0.0, shove_probability=0.0, slip_probability=0.1)
    slips = Disturbance(config, 7, np.random.default_rng(0))
    told = np.stack([_disturbed(slips, np.r_[np.zeros(7), 1.0, 1.0].astype(np.float32)) for _ in range(200)])
    assert set(np.unique(told[:, 7:])) == {-1.0, 1.0} and not told[:, :7].any()


def _disturbed(disturbance: Disturbance, action: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    disturbance.apply(action, 7)
    return action


def applies(name: str) -> bool:
    return True


def still_at_it(name: str, style: Style) -> bool:
    return False


def test_an_agenda_goes_on_when_a_script_is_over_and_gives_up_when_one_takes_too_long() -> None:
    config = PlayConfig(patience_steps=5, misjudged=0.0)
    agenda = Agenda(in_order(("a", "b")), config, np.random.default_rng(0))
    assert [agenda.current(step, still_at_it, applies, SEEN_O) for step in range(4)] == ["a"] * 4
    assert agenda.current(4, lambda name, style: name == "a", applies, SEEN_O) == "b"
    assert agenda.finished == [("a", 4)] and agenda.turned == 4
    assert agenda.current(9, still_at_it, applies, SEEN_O) == "b" and not agenda.gave_up
    assert agenda.current(10, still_at_it, applies, SEEN_O) is None and agenda.gave_up
    assert Agenda(in_order(()), config, np.random.default_rng(0)).current(0, still_at_it, applies, SEEN_O) is None


def test_a_misjudged_attempt_is_noticed_after_work_in_vain_or_when_it_takes_long() -> None:
    config = PlayConfig(patience_steps=5, misjudged=1.0)
    working, waiting = (Agenda(in_order(("a",)), config, np.random.default_rng(0)) for _ in range(2))
    noticed = {}
    for name, agenda, engaged in (("working", working, True), ("waiting", waiting, False)):
        assert agenda.current(0, still_at_it, applies, SEEN_O) == "a"
        beside_m, short_m = agenda.style.miss_m
        assert 0.03 <= math.hypot(beside_m, short_m) <= 0.12 and short_m >= 0.0
        for step in range(60):
            agenda.note(step, engaged)
            if not agenda.style.misses:
                noticed[name] = step
                break
    assert noticed["working"] < 10 < noticed["waiting"]
    assert waiting.current(noticed["waiting"] + 5, still_at_it, applies, SEEN_O) == "a"  # patience starts anew


class Drives:
    """A driver that acts for some steps, and then gives up; `there` says when it takes itself to be."""

    def __init__(self, steps: int, there: bool = False) -> None:
        self.steps, self.there, self.begun = steps, there, list[str]()

    def begin(self, goal: str, steps: tuple[int, int], chance: np.random.Generator) -> None:
        self.begun.append(goal)
        self.left = self.steps

    def reached(self, observation_O: np.ndarray) -> bool:
        return self.there and self.left < self.steps

    def act(self, observation_O: np.ndarray) -> np.ndarray | None:
        self.left -= 1
        return np.zeros(9, np.float32) if self.left >= 0 else None


def test_a_driver_has_every_script_until_it_gives_up_or_is_there() -> None:
    config = PlayConfig(patience_steps=5, misjudged=0.0)
    gives_up, arrives = Drives(20), Drives(20, there=True)
    agenda = Agenda(in_order(("a", "b")), config, np.random.default_rng(0), gives_up)
    acted = []
    for step in range(40):
        if agenda.current(step, still_at_it, applies, SEEN_O) is None:
            break
        acted.append(agenda.driven(step, SEEN_O) is not None)
    assert acted == [True] * 20 + [False] * 6 and agenda.gave_up  # patience counts from the handing over
    agenda = Agenda(in_order(("a", "b")), config, np.random.default_rng(0), arrives)
    for step in range(3):
        agenda.current(step, still_at_it, applies, SEEN_O)
        agenda.driven(step, SEEN_O)
    assert agenda.finished == [("a", 1), ("b", 1)] and arrives.begun == ["a", "b"]


def test_a_script_whose_goal_holds_already_does_not_count() -> None:
    at_once = Drives(20, there=True)
    at_once.reached = lambda observation_O: at_once.begun[-1] == "a"
    agenda = Agenda(in_order(("a", "b")), PlayConfig(misjudged=0.0), np.random.default_rng(0), at_once)
    assert agenda.current(0, still_at_it, applies, SEEN_O) == "b" and agenda.finished == []


def test_what_a_driver_leaves_undone_the_teleoperator_does_from_there() -> None:
    player = Player(load_domain(), Drives(5), careful)
    played = player.play(in_order(("slide cabinet",)), 3, asked=("slide cabinet",))
    assert played.driven.tolist() == [True] * 5 + [False] * (len(played.actions) - 5)
    assert played.done == ("slide cabinet",) and not played.gave_up
    assert np.abs(played.actions[:5, :7]).max() < 0.01 < np.abs(played.actions[5:, :7]).max()


def test_free_play_chooses_what_applies_subtasks_more_often_and_favoured_kinds() -> None:
    chance = np.random.default_rng(0)
    scripts = {name: ScriptInfo(goal=name, kind=name) for name in ("kettle", "microwave", "home")}
    choose = freely(scripts, load_domain(), {"microwave": 2.0}, undoing=0.45)
    drawn = [choose(lambda name: name in ("kettle", "home"), chance) for _ in range(400)]
    assert set(drawn) == {"kettle", "home"} and drawn.count("kettle") > 1.5 * drawn.count("home")
    drawn = [choose(lambda name: True, chance) for _ in range(400)]
    assert drawn.count("microwave") > 1.5 * drawn.count("kettle")
    assert choose(lambda name: False, chance) is None
    never = freely(scripts, load_domain(), {"kettle": 0.0})
    assert "kettle" not in [never(lambda name: True, chance) for _ in range(100)]
    assert never(lambda name: name == "kettle", chance) is None


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_a_script_applies_until_it_is_over(twin: Twin, teleoperator: KitchenTeleoperator, name: str) -> None:
    """At the papers' start every sub-task is to be done, nothing to be undone."""
    view = seen(twin, teleoperator, twin.scene.start_qpos[9:])
    to_do = name in twin.domain.subtasks or name in ("kettle at front right", "kettle at back right")
    assert teleoperator.applies(name, view) == to_do != teleoperator.over(name, Style(), view)


def test_a_part_may_be_left_between() -> None:
    slide = SCRIPTS["slide cabinet"]
    assert slide.over(0.1, Style(extent=0.5)) and not slide.over(0.1, Style())
    closed = SCRIPTS["slide cabinet closed"]
    assert closed.over(0.02, Style(extent=0.5)) and not closed.over(0.1, Style(extent=0.5))


def kettle_at(twin: Twin, x: float, y: float, turn_rad: float) -> npt.NDArray[np.float64]:
    """Object values [21] of the papers' start with the kettle elsewhere."""
    objects = twin.scene.start_qpos[9:].copy()
    objects[KETTLE] = [x, y, 1.62, math.cos(turn_rad / 2), 0.0, 0.0, math.sin(turn_rad / 2)]
    return objects


@given(turn_rad=st.floats(-0.75, 0.75), x=st.floats(-0.4, 0.0))
@settings(max_examples=50, deadline=None)
def test_the_kettle_is_touched_on_its_rear_face_where_that_turns_it_back(x: float, turn_rad: float) -> None:
    shove = SCRIPTS["kettle"]
    assert isinstance(shove, Shove)
    kettle = np.array([x, 0.4, 1.62, math.cos(turn_rad / 2), 0.0, 0.0, math.sin(turn_rad / 2)])
    c, s = math.cos(turn_rad), math.sin(turn_rad)
    touch = shove.touch(kettle) + np.array([0.0, shove.skin_m, 0.0])
    along, out = touch[0] * c + touch[1] * s, touch[0] * s - touch[1] * c
    assert out == pytest.approx(shove.half_m) and abs(along) < shove.half_m
    wanted = np.clip(shove.turn_rad_per_m * shove.off_line_m(kettle), -shove.turn_rad, shove.turn_rad)
    push = np.array([-s, c])  # a face takes force along its normal alone
    torque = touch[0] * push[1] - touch[1] * push[0]
    if abs(turn_rad) > 0.3 and (turn_rad - wanted) * turn_rad > 0:
        assert torque * turn_rad < 0


def test_a_kettle_off_its_line_is_drawn_in_front_of_its_place_first(twin: Twin) -> None:
    def now(*pose: float) -> str:
        return first("kettle", kettle_at(twin, *pose))

    assert now(-0.23, 0.35, 0.0) == now(-0.30, 0.60, 0.3) == "kettle"
    assert now(0.05, 0.55, 0.0) == now(0.21, 0.35, 0.0) == "kettle at front left"
    assert now(-0.38, 0.60, 0.0) == "kettle"  # between hood and microwave, whose wall leads it
    assert now(-0.14, 0.35, 0.0) == "kettle at front left"  # the arm's own foot leaves no room behind it there
    assert first("microwave", kettle_at(twin, 0.05, 0.55, 0.0)) == "microwave"


def test_the_microwave_s_side_of_the_kettle_s_handle_is_taken_where_it_leaves_room(twin: Twin) -> None:
    drag = SCRIPTS["kettle at back right"]
    assert isinstance(drag, Drag)

    def by_the_right(view: View) -> bool:
        return drag.by_the_right(view.objects[KETTLE], view)

    def view(kettle: npt.NDArray[np.float64], tip_m: npt.NDArray[np.float64], finger_m: float) -> View:
        return View(q_rad=np.zeros(7), tip_m=tip_m, rotation=np.eye(3), finger_m=finger_m, objects=kettle)

    far, front, deep = np.zeros(3), kettle_at(twin, -0.26, 0.35, 0.0), kettle_at(twin, -0.26, 0.60, 0.0)
    assert not by_the_right(view(front, far, 0.04)) and by_the_right(view(deep, far, 0.04))
    assert not by_the_right(view(kettle_at(twin, 0.21, 0.75, 0.0), far, 0.04))  # no microwave there
    for kettle in (front, deep):  # a post that is held stays the one
        left_m, right_m = posts(drag, kettle[KETTLE])
        assert not by_the_right(view(kettle, left_m, 0.02)) and by_the_right(view(kettle, right_m, 0.02))
    np.testing.assert_array_equal(drag.next_m(front[KETTLE]), drag.to_m)
    assert drag.next_m(deep[KETTLE])[1] < 0.5


class KettleAt(Player):
    """Starts with the kettle where it is told."""

    pose = (-0.23, 0.70, 0.1)

    def start(self, seed: int, *, attempt: int = 0, asked: tuple[str, ...] = ()) -> None:
        super().start(seed, attempt=attempt, asked=asked)
        assert isinstance(self.twin, Twin)
        qpos = self.twin.data.qpos.copy()
        qpos[9:][KETTLE] = kettle_at(self.twin, *self.pose)[KETTLE]
        self.twin.set_state(qpos)
        self.arm.gate.resync(self.twin.read(), self.twin.now_s())
        self.commander.reset(self.twin.read().q_rad, self.twin.now_s())


def test_the_kettle_comes_out_from_between_hood_and_microwave() -> None:
    player = KettleAt(load_domain(), adapt=careful)
    played = player.play(in_order(("kettle at front left",)), 3)
    assert [name for name, _ in played.scripts] == ["kettle at front left"] and not played.gave_up
    assert not player.arm.gate.stopped


def test_a_wrung_wrist_is_unwound_unless_the_hand_is_at_work(teleoperator: KitchenTeleoperator) -> None:
    operator, posture_rad = teleoperator.operator, np.array(SCRIPTS["hinge cabinet"].posture_rad)

    def wrist(aside_rad: float, *, engaged: bool = False) -> float:
        q_rad = posture_rad + aside_rad * np.eye(7)[4]
        tip_m, rotation = teleoperator.kinematics.fingertips(q_rad)
        view = View(q_rad=q_rad, tip_m=tip_m, rotation=rotation, finger_m=0.04, objects=np.zeros(21))
        here = Aim(velocity_m_s=np.zeros(3), rotation=rotation, intent=1.0, engaged=engaged)
        return float(operator.act(here, view, posture_rad)[4])

    assert wrist(1.7) < -0.4 and wrist(-1.7) > 0.4
    assert wrist(1.7) < 1.5 * wrist(1.7, engaged=True) < 0.0  # the redundancy goes to its posture all the same
    assert wrist(1.0) == pytest.approx(wrist(1.0, engaged=True))


def test_the_kettle_is_shoved_until_its_goal_holds_turn_included(twin: Twin, teleoperator: KitchenTeleoperator) -> None:
    def over(*pose: float, style: Style = PLAIN) -> bool:
        return teleoperator.over("kettle", style, seen(twin, teleoperator, kettle_at(twin, *pose)))

    assert over(-0.25, 0.66, 0.1) and not over(-0.25, 0.66, 0.7) and not over(-0.25, 0.45, 0.0)
    assert over(-0.25, 0.45, 0.0, style=Style(extent=0.5))


@pytest.mark.parametrize(
    "name", [name for name, script in SCRIPTS.items() if isinstance(script, Drag | Home) or script.back]
)
def test_wherever_a_script_ends_its_goal_holds(name: str) -> None:
    """What play never reaches, nobody learns from it: the right burners were missed by up to 8 cm."""
    domain, script = load_domain(), SCRIPTS[name]
    goal = domain.task(GOALS.get(name, name)).subtasks[0]
    if isinstance(script, Drag):
        furthest = float(np.linalg.norm(np.array(script.to_m) - goal.goal)) + script.near_m
    elif isinstance(script, Home):
        furthest = float(np.linalg.norm(np.array(script.posture_rad) - goal.goal)) + script.until
    else:
        furthest = abs(script.until)
    assert furthest < goal.threshold
