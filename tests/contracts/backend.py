"""The contract of skimo_core.contract.backend.Backend: subclass `BackendContract`, provide the fixture `rig`, run it.

A rig is a backend and a way to let its time pass. The arm must be free to move 0.1 rad about the pose that it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from skimo_core.contract.backend import Backend
from skimo_core.contract.errors import BackendError, SpecError
from skimo_core.contract.types import JOINTS, JointCommand, JointTrajectory, RobotMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A backend under test.

    Attributes:
        backend: the arm.
        wait: lets so many seconds of the backend's time pass.
        rest_rad_s: joint speed under which it counts as at rest.
        follow_rad: how near it comes to where it is sent.
    """

    backend: Backend
    wait: Callable[[float], None]
    rest_rad_s: float = 0.01
    follow_rad: float = 0.005


def move(backend: Backend, step_rad: float, duration_s: float = 0.5) -> JointCommand:
    """A command that moves every joint by `step_rad` and ends at rest."""
    goal = backend.read().q_rad + step_rad
    still = np.zeros((1, JOINTS))
    trajectory = JointTrajectory(
        start_s=backend.now_s(),
        times_s=np.array([duration_s]),
        q_rad=goal[None],
        dq_rad_s=still,
        ddq_rad_s2=still,
    )
    return JointCommand(trajectory=trajectory)


class BackendContract:
    """What every backend does."""

    @pytest.fixture
    def rig(self) -> Rig:
        raise NotImplementedError("a subclass provides the backend under test")

    def test_states_are_finite_and_fit(self, rig: Rig) -> None:
        state = rig.backend.read()
        assert state.q_rad.shape == state.dq_rad_s.shape == state.tau_nm.shape == (JOINTS,)
        assert state.finger_m.shape == (2,)
        assert all(np.isfinite(x).all() for x in (state.q_rad, state.dq_rad_s, state.tau_nm, state.finger_m))
        objects = rig.backend.read_objects()
        assert len(objects.names) == len(objects.values) and np.isfinite(objects.values).all()

    def test_what_is_read_stays_as_it_was(self, rig: Rig) -> None:
        before, objects = rig.backend.read(), rig.backend.read_objects()
        copies = before.q_rad.copy(), objects.values.copy()
        rig.backend.write(move(rig.backend, 0.05))
        rig.wait(0.3)
        assert np.array_equal(before.q_rad, copies[0]) and np.array_equal(objects.values, copies[1])

    def test_stamps_come_from_the_backends_clock_and_advance(self, rig: Rig) -> None:
        first = rig.backend.read().stamp_s
        rig.wait(0.2)
        assert first < rig.backend.read().stamp_s <= rig.backend.now_s()

    def test_goes_where_it_is_sent_and_rests_there(self, rig: Rig) -> None:
        command = move(rig.backend, 0.05)
        rig.backend.write(command)
        rig.wait(0.8)
        state = rig.backend.read()
        assert np.abs(state.q_rad - command.trajectory.q_rad[-1]).max() < rig.follow_rad
        assert np.abs(state.dq_rad_s).max() < rig.rest_rad_s

    def test_a_new_command_replaces_the_old_one(self, rig: Rig) -> None:
        start = rig.backend.read().q_rad
        rig.backend.write(move(rig.backend, 0.1))
        rig.wait(0.1)
        back = move(rig.backend, 0.0)
        back.trajectory.q_rad[0] = start
        rig.backend.write(back)
        rig.wait(0.8)
        assert np.abs(rig.backend.read().q_rad - start).max() < rig.follow_rad

    def test_silence_ends_at_rest(self, rig: Rig) -> None:
        rig.backend.write(move(rig.backend, 0.05, duration_s=0.2))
        rig.wait(0.5)
        resting = rig.backend.read().q_rad
        rig.wait(0.5)
        assert np.abs(rig.backend.read().q_rad - resting).max() < rig.follow_rad

    def test_hold_brakes_and_a_later_write_moves_on(self, rig: Rig) -> None:
        goal = rig.backend.read().q_rad + 0.1
        rig.backend.write(move(rig.backend, 0.1))
        rig.wait(0.15)
        rig.backend.hold()
        rig.wait(0.5)
        held = rig.backend.read()
        assert np.abs(held.dq_rad_s).max() < rig.rest_rad_s
        assert np.abs(held.q_rad - goal).min() > 0.02
        rig.backend.write(move(rig.backend, 0.03))
        rig.wait(0.8)
        assert np.abs(rig.backend.read().q_rad - held.q_rad - 0.03).max() < 2 * rig.follow_rad

    def test_stop_brakes_and_refuses_every_write(self, rig: Rig) -> None:
        rig.backend.write(move(rig.backend, 0.1))
        rig.wait(0.15)
        rig.backend.stop("a test")
        with pytest.raises(BackendError, match="stopped"):
            rig.backend.write(move(rig.backend, 0.0))
        rig.wait(0.5)
        assert np.abs(rig.backend.read().dq_rad_s).max() < rig.rest_rad_s
        assert rig.backend.read().mode is not RobotMode.MOVE

    def test_a_trajectory_that_does_not_end_at_rest_is_refused(self, rig: Rig) -> None:
        command = move(rig.backend, 0.05)
        command.trajectory.dq_rad_s[-1] = 0.2
        with pytest.raises(SpecError, match="at rest"):
            rig.backend.write(command)
