"""The example `table`: its scene does what its domain says, and what fingers do there."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_core.contract.types import Array, GripperCommand, JointCommand, JointTrajectory
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.starts import Starts
from skimo_core.safety.collision import Collision
from skimo_sim.scenes.physics import mujoco
from skimo_sim.twin import Twin, scene_twin

DOMAIN = load_domain("table")
ROBOT = load_limits(DOMAIN.robot)
BLOCKS = ("red", "green", "blue")
FINGERS_ALONG_Y = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
"""The hand pointing down, its fingers opening along y."""


@pytest.fixture(scope="module")
def shared() -> Twin:
    return scene_twin("table", DOMAIN, ROBOT, Starts())


@pytest.fixture
def twin(shared: Twin) -> Twin:
    shared.reset()
    return shared


def value(twin: Twin, name: str) -> float:
    return float(twin.read_objects().values[DOMAIN.observation.objects.index(name)])


def posture(twin: Twin, tcp_m: Array, rotation: Array) -> Array:
    """Joint positions [7] with the tool there, by damped least squares from the present ones."""
    model, data, q_rad = twin.model, mujoco.MjData(twin.model), twin.read().q_rad
    site, rows, turn, quat = model.site("panda_tcp").id, np.zeros((6, model.nv)), np.zeros(3), np.zeros(4)
    for _ in range(150):
        data.qpos[:7] = q_rad
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mju_mat2Quat(quat, (rotation @ data.site_xmat[site].reshape(3, 3).T).ravel())
        mujoco.mju_quat2Vel(turn, quat, 1.0)
        off = np.concatenate([tcp_m - data.site_xpos[site], turn])
        mujoco.mj_jacSite(model, data, rows[:3], rows[3:], site)
        columns = rows[:, :7]
        q_rad = q_rad + 0.5 * columns.T @ np.linalg.solve(columns @ columns.T + 1e-4 * np.eye(6), off)
    assert np.abs(off).max() < 1e-3
    return q_rad


def go(twin: Twin, *tcp_m: float, seconds: float = 1.5) -> None:
    """Move the tool there in a line in joint space, at rest at both ends."""
    begin, count = twin.desired()[0], 30
    way = posture(twin, np.array(tcp_m), FINGERS_ALONG_Y) - begin
    s = np.arange(1, count + 1)[:, None] / count
    trajectory = JointTrajectory(
        start_s=twin.now_s(),
        times_s=seconds * s[:, 0],
        q_rad=begin + way * s**3 * (10 - 15 * s + 6 * s**2),
        dq_rad_s=way * 30 * s**2 * (1 - s) ** 2 / seconds,
        ddq_rad_s2=way * 60 * s * (1 - s) * (1 - 2 * s) / seconds**2,
    )
    twin.write(JointCommand(trajectory=trajectory))
    twin.advance(seconds + 0.2)


def hand(twin: Twin, kind: str, width_m: float, force_n: float = 0.0) -> None:
    twin.command_hand(GripperCommand(kind=kind, width_m=width_m, speed_m_s=0.1, force_n=force_n))
    twin.advance(1.0)


def test_what_is_gripped_is_lifted_and_does_not_creep(twin: Twin) -> None:
    x, y = value(twin, "green.x"), value(twin, "green.y")
    go(twin, x, y, 0.15)
    go(twin, x, y, 0.02)
    hand(twin, "grasp", 0.0, 30.0)
    assert twin.hand_width_m == pytest.approx(0.04, abs=1e-3)
    go(twin, x, y, 0.25)
    lifted = value(twin, "green.z")
    assert lifted == pytest.approx(0.25, abs=3e-3)
    twin.advance(2.0)
    assert value(twin, "green.z") == pytest.approx(lifted, abs=5e-4)
    assert value(twin, "red.z") == pytest.approx(0.02, abs=1e-3)


def test_a_hooked_handle_opens_the_drawer_and_stays_open(twin: Twin) -> None:
    hand(twin, "move", 0.0)
    hook = twin.data.site("drawer_hook").xpos.copy()
    go(twin, *(hook + np.array([0.0, 0.0, 0.12])))
    go(twin, *hook)
    go(twin, *(hook - np.array([0.15, 0.0, 0.0])))
    opened = value(twin, "drawer")
    assert DOMAIN.subtasks["drawer open"].complete(np.concatenate([np.zeros(9), twin.read_objects().values]))
    go(twin, *(hook - np.array([0.15, 0.0, -0.12])))
    assert value(twin, "drawer") == pytest.approx(opened, abs=2e-3)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_marks_are_where_the_goals_are(block: str, shared: Twin) -> None:
    seen = shared.drawn()
    data = mujoco.MjData(seen.model)
    mujoco.mj_kinematics(seen.model, data)
    goal = DOMAIN.subtasks[f"{block} on pad"]
    wanted = dict(zip((DOMAIN.observation.names[k] for k in goal.channels), goal.goal))
    np.testing.assert_allclose(data.geom(f"pad_{block}").xpos[:2], [wanted[f"{block}.x"], wanted[f"{block}.y"]])


def test_each_sub_task_can_stand_complete(shared: Twin) -> None:
    """Put where its goal has it and left alone, it still holds after a second."""
    for name, subtask in DOMAIN.subtasks.items():
        wanted = shared.observed(shared.scene.start_qpos)
        wanted[list(subtask.channels)] = subtask.goal
        shared.set_state(shared.state_of(wanted))
        shared.advance(1.0)
        assert subtask.complete(shared.observed(shared.data.qpos)), name


def test_the_cell_is_the_scene_s_furniture(shared: Twin) -> None:
    """What stands fast in the scene above the table lies within the cell's box; the table's top is its plane."""
    data, cell = shared.data, load_cell(DOMAIN.cell)
    box, plane = cell.boxes[0], cell.planes[0]
    for geom in np.flatnonzero(shared.model.geom_bodyid == shared.model.body("cabinet").id):
        middle, half = data.geom_xpos[geom], shared.model.geom_size[geom]
        assert (np.abs(middle - box.centre_m) + half <= box.half_m + 1e-6).all()
    top = data.geom("table_top").xpos[2] + shared.model.geom("table_top").size[2]
    assert top == pytest.approx(plane.offset_m, abs=1e-9)


def test_the_arm_may_start_by_the_gate_wherever_it_is_drawn() -> None:
    """No drawn start is one that the gate would hold at once."""
    drawn = scene_twin("table", DOMAIN, ROBOT)
    starts = []
    for seed in range(8):
        drawn.reset(seed=seed)
        starts.append(drawn.read().q_rad)
    room = Collision(ROBOT, load_cell(DOMAIN.cell)).room(np.array(starts))
    assert room.obstacle_m.min() > 0.0 and room.self_m.min() > 0.0
