"""FrankaKitchen-v1 as a backend, and our twin with an arm like its: nothing of it is changed, all of it is told."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
from contracts.backend import BackendContract, Rig

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import JOINTS, Array, JointCommand, JointTrajectory
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_sim.franka_kitchen import ENVIRONMENT, ZERO_RAD, FrankaKitchen
from skimo_sim.impaired import actual
from skimo_sim.scenes.dynamics import Plant
from skimo_sim.servo import Ask, Compensated, Driver, ServoTwin, by_position, by_velocity, sampled

PERIOD_S = 0.08
KP, DAMPING = np.repeat([870.0, 120.0], [4, 3]), np.repeat([100.0, 10.0], [4, 3])
PLANT = Plant(damping_nm_s=DAMPING, kp=KP, kv=np.zeros(JOINTS))


@pytest.fixture(scope="module")
def kitchen() -> FrankaKitchen:
    return FrankaKitchen(load_domain(), load_limits())


def servo_twin(driver: Driver) -> ServoTwin:
    return ServoTwin(load_domain(), load_limits(), PLANT, driver)


def ramp(start_s: float, q_rad: Array, speed_rad_s: Array, duration_s: float) -> JointCommand:
    """At that speed after 0.1 s, and at rest 0.1 s after so long."""
    still = np.zeros((1, JOINTS))
    times_s = np.array([0.1, duration_s, duration_s + 0.1])
    q = q_rad + speed_rad_s * (times_s - [0.05, 0.05, 0.1])[:, None]
    dq = np.concatenate([speed_rad_s[None], speed_rad_s[None], still])
    return JointCommand(
        trajectory=JointTrajectory(
            start_s=start_s, times_s=times_s, q_rad=q, dq_rad_s=dq, ddq_rad_s2=np.zeros((3, JOINTS))
        )
    )


class TestContract(BackendContract):
    """It is a backend: one that lags and sags."""

    @pytest.fixture
    def rig(self, kitchen: FrankaKitchen) -> Rig:
        kitchen.reset()
        kitchen.advance(1.2)  # what it sags by at first
        return Rig(backend=kitchen, wait=kitchen.advance, rest_rad_s=0.05, follow_rad=0.045)


def test_the_environment_is_as_it_ships(kitchen: FrankaKitchen) -> None:
    """Stepped by hand with the actions that mean the same, it goes the same way, to the bit."""
    plain = gymnasium.make(ENVIRONMENT, disable_env_checker=True)
    seen, _ = plain.reset(seed=5)
    kitchen.reset(seed=5)
    told = kitchen.read().q_rad
    for _ in range(6):
        held = np.concatenate([told - ZERO_RAD, np.full(2, kitchen.hand_width_m / 2)])
        held[JOINTS:] = np.clip(kitchen._hand.widths(np.array([kitchen.now_s() + PERIOD_S]))[0] / 2, 0.0, 0.04)
        action = np.clip((held - seen["observation"][:9]) / (2.0 * PERIOD_S), -1.0, 1.0)
        seen, *_ = plain.step(action)
        kitchen.advance(PERIOD_S)
        state = kitchen.read()
        assert np.array_equal(state.q_rad, seen["observation"][:JOINTS] + ZERO_RAD)
        assert np.array_equal(kitchen.read_objects().values, seen["observation"][18:39])
    plain.close()


def test_states_are_those_of_the_last_step_and_the_truth_is_without_noise(kitchen: FrankaKitchen) -> None:
    kitchen.reset(seed=3)
    kitchen.advance(0.2)
    assert kitchen.now_s() == pytest.approx(0.2) and kitchen.read().stamp_s == pytest.approx(0.16)
    truth = actual(kitchen)
    data = kitchen.environment.unwrapped.data
    assert np.array_equal(truth.read().q_rad, data.qpos[:JOINTS] + ZERO_RAD)
    assert np.array_equal(truth.read_objects().values, data.qpos[9:30])
    off = np.abs(kitchen.read().q_rad - truth.read().q_rad)
    assert 0 < off.max() <= 0.001 + 1e-12, "its own noise, 1 % of 0.1 rad"


def test_it_is_told_once_a_step_however_time_is_sliced(kitchen: FrankaKitchen) -> None:
    found = []
    for slices in (1, 2, 5):
        kitchen.reset(seed=1)
        kitchen.write(ramp(0.0, kitchen.read().q_rad, np.full(JOINTS, 0.2), 0.3))
        for _ in range(5 * slices):
            kitchen.advance(PERIOD_S / slices)
        found.append(actual(kitchen).read().q_rad)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_as_velocities_it_creeps_and_as_positions_it_stays() -> None:
    moved = {}
    for driver in (by_velocity, by_position):
        kitchen = FrankaKitchen(load_domain(), load_limits(), driver)
        begin = kitchen.read().q_rad
        kitchen.advance(2.0)
        moved[driver] = np.abs(actual(kitchen).read().q_rad - begin).max()
    assert moved[by_velocity] > 0.2 and moved[by_position] < 0.05


def test_another_rate_and_other_channels_are_refused() -> None:
    domain, limits = load_domain(), load_limits()
    faster = dataclasses.replace(domain, action=dataclasses.replace(domain.action, rate_hz=20.0))
    with pytest.raises(SpecError, match=r"20 Hz.*12\.5"):
        FrankaKitchen(faster, limits)
    with pytest.raises(SpecError, match="object channels"):
        FrankaKitchen(load_domain("table"), load_limits("fr3"))


def test_drivers_hold_what_they_say() -> None:
    q, now, end = np.zeros(JOINTS), np.full(JOINTS, 0.1), np.full(JOINTS, 0.15)
    ask = Ask(q_rad=q, from_rad=now, to_rad=end, period_s=PERIOD_S)
    assert np.allclose(by_velocity(ask), 0.05) and np.array_equal(sampled(ask), now)
    assert np.array_equal(by_position(ask), end)
    stiff = Compensated(kp=KP, damping_nm_s=np.zeros(JOINTS), weight_nm=lambda q_rad: np.zeros(JOINTS))
    assert np.allclose(stiff(ask), end), "an arm that doesn't lag needs no help"
    limp = Compensated(kp=KP, damping_nm_s=DAMPING, weight_nm=lambda q_rad: KP * 0.01)
    assert (limp(ask) > end + 0.01).all()


def test_our_twin_with_such_an_arm_lags_and_sags_and_is_helped_by_knowing_it() -> None:
    speed = np.array([0.3, 0.0, 0.2, 0.2, -0.2, 0.2, 0.3])
    errors = {}
    for name in ("position", "compensated"):
        twin = servo_twin(by_position)
        if name == "compensated":

            def weight_nm(q_rad: Array, twin: ServoTwin = twin) -> Array:
                return twin.data.qfrc_bias[:JOINTS].copy()  # of where it is; near enough at these speeds

            twin._driver = Compensated(kp=KP, damping_nm_s=DAMPING, weight_nm=weight_nm)
        begin = twin.desired()[0]
        twin.write(ramp(twin.now_s(), begin, speed, 0.9))
        left = []
        for _ in range(15):
            twin.advance(PERIOD_S)
            left.append(twin.read().q_rad - twin.desired()[0])
        errors[name] = float(np.sqrt((np.array(left[2:]) ** 2).mean()))
    assert errors["position"] > 0.01
    assert errors["compensated"] < errors["position"] / 4


def test_its_time_may_be_sliced() -> None:
    found = []
    for slices in (1, 2):
        twin = servo_twin(by_position)
        twin.write(ramp(twin.now_s(), twin.desired()[0], np.full(JOINTS, 0.2), 0.3))
        for _ in range(4 * slices):
            twin.advance(PERIOD_S / slices)
        found.append(twin.data.qpos.copy())
    assert np.array_equal(*found)


def test_torques_that_the_model_does_not_explain_bend_it() -> None:
    """A motor that owes 1 Nm more comes to rest 1 / kp further back."""
    rests = []
    for offset_nm in (np.zeros(JOINTS), np.full(JOINTS, 1.0)):
        twin = ServoTwin(load_domain(), load_limits(), PLANT, by_position, offset_nm=offset_nm)
        goal = twin.desired()[0]
        twin.write(ramp(twin.now_s(), goal, np.zeros(JOINTS), 0.3))
        twin.advance(2.0)
        rests.append(twin.read().q_rad)
    assert np.allclose(KP * (rests[0] - rests[1]), 1.0, atol=0.1)
