"""Every backend runs the contract; the ROS one does so in tests/ros."""

import pytest
from contracts.backend import BackendContract, Rig

from skimo_sim.twin import Twin


class TestTwin(BackendContract):
    @pytest.fixture
    def rig(self) -> Rig:
        twin = Twin()
        return Rig(backend=twin, wait=twin.advance, follow_rad=0.001)
