"""How far and how hard an arm is led against what is in its way: a wall that gives like a spring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from skimo_core.contract.types import JOINTS, JointCommand, ObjectStates, RobotState
from skimo_core.control.commander import Arm, Commander
from skimo_core.domain.cell import Contact
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits

ACTION, LIMITS = load_domain().action, load_limits("panda")
CONTACT = Contact(
    torque_hold_share=2.0,
    torque_stop_share=3.0,
    tracking_hold_rad=np.array([0.4]),
    tracking_stop_rad=np.array([0.6]),
)
JOINT = 1
PRESS_NM = CONTACT.press_share * LIMITS.reflex_tau_nm[JOINT]


@dataclass
class Blocked:
    """An arm that a wall of some stiffness, Nm/rad, keeps where it began; every command is passed on."""

    stiffness: float
    tells: bool = True
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.commander = Commander(
            LIMITS,
            ACTION,
            Arm(robot=self.robot, objects=self.objects, send=self.pass_on, clock=lambda: self.now_s),
            contact=CONTACT,
        )
        self.commander.reset(LIMITS.home_q_rad, 0.0)

    @property
    def lead_rad(self) -> np.ndarray:
        return self.commander.actuator.commanded(self.now_s)[0] - LIMITS.home_q_rad

    def robot(self) -> RobotState:
        return RobotState(
            stamp_s=self.now_s,
            q_rad=LIMITS.home_q_rad,
            dq_rad_s=np.zeros(JOINTS),
            tau_nm=np.zeros(JOINTS),
            finger_m=np.zeros(2),
            tau_ext_nm=-self.stiffness * self.lead_rad if self.tells else None,
        )

    def objects(self) -> ObjectStates:
        return ObjectStates(stamp_s=self.now_s, names=(), values=np.zeros(0))

    def pass_on(self, command: JointCommand) -> None:
        self.passed = command.trajectory

    def push(self, velocity_rad_s: float, periods: int) -> np.ndarray:
        """How far the joint is led after each control period in which it is asked for that velocity."""
        action_A, leads = np.zeros(ACTION.size, np.float32), []
        action_A[JOINT] = velocity_rad_s / ACTION.scale_rad_s
        for _ in range(periods):
            self.commander.send(action_A, self.now_s)
            self.commander.confirm(self.passed)
            self.now_s += ACTION.period_s
            self.commander.settle()
            leads.append(self.lead_rad[JOINT])
        return np.array(leads)


@pytest.mark.parametrize("stiffness", [300.0, 1000.0, 3000.0])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_joint_presses_no_harder_than_it_may_whatever_gives(stiffness: float, side: float) -> None:
    pressed_nm = stiffness * np.abs(Blocked(stiffness).push(side * 0.1, 60))
    assert pressed_nm[-20:].max() < PRESS_NM * 1.02 and pressed_nm[-1] > 0.7 * PRESS_NM
    hold_nm = CONTACT.torque_hold_share * LIMITS.reflex_tau_nm[JOINT]
    assert pressed_nm.max() < hold_nm


def test_what_gives_easily_may_be_led_as_far_as_the_arm_may_lie_behind() -> None:
    soft_nm_rad = 0.5 * PRESS_NM / CONTACT.lead_rad[0]
    leads_rad = Blocked(soft_nm_rad).push(0.1, 80)
    assert 0.9 * CONTACT.lead_rad[0] < leads_rad[-1] <= CONTACT.lead_rad[0] + 1e-6


def test_a_robot_that_tells_no_torque_is_led_by_position_alone() -> None:
    leads_rad = Blocked(3000.0, tells=False).push(0.1, 80)
    assert leads_rad[-1] == pytest.approx(CONTACT.lead_rad[0], rel=0.1)


def test_a_joint_that_presses_goes_back_as_it_is_asked_and_one_that_is_pushed_harder_gives_way() -> None:
    arm = Blocked(1000.0)
    pressed_rad = arm.push(0.1, 60)[-1]
    assert arm.push(-0.1, 4)[-1] < pressed_rad - 0.02
    arm = Blocked(1000.0)
    pressed_rad = arm.push(0.1, 60)[-1]
    arm.stiffness = 2000.0
    assert arm.push(0.1, 20)[-1] == pytest.approx(pressed_rad / 2, rel=0.15)


def test_what_pushes_a_joint_along_does_not_hold_it_back() -> None:
    arm = Blocked(-1000.0)
    free = Blocked(0.0)
    np.testing.assert_allclose(arm.push(0.1, 10), free.push(0.1, 10), atol=1e-9)
