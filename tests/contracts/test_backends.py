"""Every backend runs the contract; the ROS one does so in tests/ros."""

import pytest
from contracts.backend import BackendContract, Rig

from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_sim.condition import Actuation, Sensors
from skimo_sim.impaired import ImpairedTwin
from skimo_sim.kinematic import KinematicTwin
from skimo_sim.twin import Twin, scene_twin


class TestTwin(BackendContract):
    @pytest.fixture
    def rig(self) -> Rig:
        twin = Twin()
        return Rig(backend=twin, wait=twin.advance, follow_rad=0.001)


class TestSceneTwin(BackendContract):
    """A scene file's."""

    @pytest.fixture
    def rig(self) -> Rig:
        domain = load_domain("table")
        twin = scene_twin("table", domain, load_limits(domain.robot))
        return Rig(backend=twin, wait=twin.advance, follow_rad=0.002)


class TestKinematicTwin(BackendContract):
    @pytest.fixture
    def rig(self) -> Rig:
        domain = load_domain()
        twin = KinematicTwin(domain, load_limits(domain.robot))
        return Rig(backend=twin, wait=twin.advance, follow_rad=1e-6)


class TestImpairedTwin(BackendContract):
    """Off and late, it is a backend all the same."""

    @pytest.fixture
    def rig(self) -> Rig:
        sensors, late = Sensors(encoder_rad=0.05, objects_delay_s=0.1), Actuation(delay_s=(0.02, 0.04))
        twin = ImpairedTwin(Twin(), sensors, late)
        return Rig(backend=twin, wait=twin.advance, follow_rad=0.001)
