"""What ends the twin's physics ends the twin's node, with a code and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from ros.ros_harness import Processes
from support.waiting import START_S

pytestmark = pytest.mark.ros
FAILING = """
from skimo_core.contract.errors import SimulationError
from skimo_sim.kinematic import KinematicTwin

class Failing(KinematicTwin):
    def advance(self, dt_s):
        self.advances = getattr(self, "advances", 0) + 1
        if self.advances > 50:
            raise ERROR
        super().advance(dt_s)
"""


@pytest.fixture
def processes(tmp_path: Path, ros_domain: int) -> Processes:
    return Processes(tmp_path, ros_domain)


@pytest.mark.parametrize(
    ("error", "told", "traced"),
    [
        ('SimulationError("diverged")', "TwinNode: diverged", False),
        ('IndexError("joint 9")', "TwinNode: the physics ended with IndexError: joint 9", True),
    ],
)
def test_an_error_in_the_physics_ends_the_node_with_its_reason(
    processes: Processes, error: str, told: str, traced: bool
) -> None:
    """The twin is one that a package has registered, as a lab's own is."""
    registered = processes.folder / "failing-1.0.dist-info"
    registered.mkdir()
    (registered / "METADATA").write_text("Metadata-Version: 2.1\nName: failing\nVersion: 1.0\n")
    (registered / "entry_points.txt").write_text("[skimo.twins]\nfailing = failing:Failing\n")
    (processes.folder / "failing.py").write_text(FAILING.replace("ERROR", error))
    path = processes.environment.get("PYTHONPATH", "")
    processes.environment["PYTHONPATH"] = f"{processes.folder}:{path}" if path else str(processes.folder)
    try:
        code = processes.node("twin_node", twin="failing").wait(START_S)
    finally:
        processes.end_all()
    said = processes.log("twin_node")
    assert code == 1 and told in said, said
    assert ("Traceback" in said) == traced, said
    assert not traced or ("physics:\nTraceback" in said and "in advance\n" in said)
