"""Domains and robots as data: found by name, path or entry point, checked, and not only a Panda's."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import GripperCommand, RobotState, Verdict
from skimo_core.control.actuate import Actuator
from skimo_core.control.trajectory import TrajectoryFollower
from skimo_core.domain import library
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain, known_domains, load_domain
from skimo_core.domain.robot import RobotLimits, load_limits, parse_limits
from skimo_core.domain.urdf import robot_description
from skimo_core.safety.gate import Gate

TABLE: dict[str, Any] = {
    "name": "table",
    "robot": "fr3",
    "cell": "open",
    "rate_hz": 20,
    "horizon": 8,
    "step_limit": 60,
    "action": {"velocity_scale_rad_s": 1.0},
    "channels": [
        *({"name": f"fr3_joint{k}", "source": "joint", "unit": "rad"} for k in range(1, 8)),
        {"name": "cube.x", "source": "object", "unit": "m", "scale": 0.02, "noise": 0.001, "start": 0.4},
        {"name": "cube.yaw", "source": "object", "unit": "rad", "scale": 0.5},
    ],
    "subtasks": {"push": {"goal": {"cube.x": 0.6, "cube.yaw": 0.0}, "threshold": 1.0}},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump({**TABLE, **changes}))
    return path


def test_a_domain_is_found_by_path_and_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    domain = load_domain(write(tmp_path))
    assert (domain.name, domain.twin, domain.default_task, domain.tracking.max_age_s) == (
        "table",
        "kinematic",
        "push",
        0.05,
    )
    assert domain.observation.fingers == 0 and domain.action.names[-1] == "fr3_joint7.velocity"
    assert (
        domain.start[7] == np.float32(0.4)
        and domain.noise[7] == np.float32(0.001)
        and domain.source.endswith("table.yaml")
    )


def test_files_that_a_domain_names_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "cell.yaml").write_text(Path(library.__file__).with_name("cells").joinpath("open.yaml").read_text())
    domain = load_domain(write(tmp_path, cell="./cell.yaml"))
    assert load_cell(domain.cell).digest == load_cell("open").digest


def test_an_installed_package_brings_a_domain_and_can_not_replace_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    (tmp_path / "mylab.py").write_text("from pathlib import Path\nTABLE = Path(__file__).with_name('table.yaml')\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ("bench", "kitchen", "broken")
    entries = metadata.EntryPoints(
        metadata.EntryPoint(name=n, value="mylab:TABLE" if n != "broken" else "mylab:GONE", group="skimo.domains")
        for n in names
    )
    monkeypatch.setattr(metadata, "entry_points", lambda **wanted: entries.select(**wanted))
    assert known_domains() == (*library.shipped("domains"), "bench", "broken")
    assert load_domain("bench").name == "table" and load_domain("kitchen").name == "kitchen"
    with pytest.raises(SpecError, match="broken = mylab:GONE gives no path"):
        load_domain("broken")


def test_the_digest_covers_what_a_policy_depends_on_and_nothing_else(tmp_path: Path) -> None:
    digest = load_domain(write(tmp_path)).digest
    other_goal = {
        "push": {"goal": {"cube.x": 0.1}, "threshold": 2.0},
        "more": {"goal": {"cube.yaw": 1.0}, "threshold": 1},
    }
    assert load_domain(write(tmp_path, subtasks=other_goal, step_limit=10, robot="panda")).digest == digest
    renamed = [{**row, "name": row["name"].replace("cube", "box")} for row in TABLE["channels"]]
    goal = {"push": {"goal": {"box.x": 0.6}, "threshold": 1.0}}
    for changes in ({"rate_hz": 25}, {"horizon": 9}, {"action": {"velocity_scale_rad_s": 1.5}}):
        assert load_domain(write(tmp_path, **changes)).digest != digest
    assert load_domain(write(tmp_path, channels=renamed, subtasks=goal)).digest != digest


def test_metres_and_radians_add_up_in_their_scales(tmp_path: Path) -> None:
    domain = load_domain(write(tmp_path))
    seen = np.zeros(domain.observation.size, np.float32)
    seen[7:] = 0.6 + 0.01, 0.25
    assert domain.subtasks["push"].distance(seen) == pytest.approx(np.hypot(0.5, 0.5), abs=1e-5)
    goals = domain.task().goals(0, domain.observation.size)
    assert goals.weights_KO[0, 7:].tolist() == [50.0, 2.0]
    assert goals.precision_KO[0].tolist() == [*[0.0] * 7, *(goals.weights_KO[0, 7:] / goals.thresholds_K[0]).tolist()]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": TABLE["channels"][::-1]}, "joints come first, then fingers, then objects"),
        ({"channels": [{**TABLE["channels"][0], "source": "camera"}]}, "source must be one of joint, finger, object"),
        ({"channels": [{**TABLE["channels"][0], "nose": 1}, *TABLE["channels"][7:]]}, "unknown key 'nose'"),
        ({"channels": TABLE["channels"] + TABLE["channels"][-1:]}, "channel names are not unique"),
        ({"subtasks": {"push": {"goal": {"ball": 1.0}, "threshold": 1.0}}}, "no channel 'ball'"),
        ({"subtasks": {"push": {"goal": {}, "threshold": 1.0}}}, "a goal over no channel"),
        ({"subtasks": {"push": {"goal": {"cube.x": 1.0}}}}, "has no 'threshold'"),
        ({"subtasks": {}}, "at least one"),
        ({"subtasks": {"a,b": {"goal": {"cube.x": 1.0}, "threshold": 1.0}}}, "has a comma"),
        ({"tasks": {"all": ["pull"]}}, "no sub-task 'pull'; there are push"),
        ({"rate_hz": 1000}, "rate_hz is 1000, must lie in 1 to 40"),
        ({"horizon": 2}, "horizon must be a whole number of at least 3"),
        ({"objects": {"max_age_s": 100.0}}, "max_age_s is 100"),
        ({"action": {"velocity_scale_rad_s": 1.0, "others": ["push"]}}, "names its actions in `others`"),
        ({"nmae": "x"}, "unknown key 'nmae'"),
    ],
)
def test_a_domain_that_makes_no_sense_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_domain(write(tmp_path, **changes))
    assert words in str(refused.value) and "table.yaml" in str(refused.value)


def test_an_unknown_domain_is_refused_and_an_unknown_task_too() -> None:
    with pytest.raises(SpecError, match="no domain 'garage'; there are kitchen"):
        load_domain("garage")
    with pytest.raises(SpecError, match="unknown task or sub-task 'fly' in domain kitchen"):
        load_domain().task("fly")


def test_a_domain_may_have_no_arm(tmp_path: Path) -> None:
    point = {
        "action": {"others": ["push.x", "push.y"]},
        "channels": [{"name": f"point.{axis}", "source": "object", "unit": "m"} for axis in "xy"],
        "subtasks": {"there": {"goal": {"point.x": 1.0}, "threshold": 0.1}},
    }
    domain: Domain = load_domain(write(tmp_path, **point))
    assert (domain.observation.joints, domain.action.joints, domain.action.size) == (0, 0, 2)
    assert domain.action.check(np.zeros(2, np.float32)).shape == (2,)


# --- another arm ------------------------------------------------------------------------------------------------------


def six_joints() -> RobotLimits:
    """The Panda's first six joints, without a hand, as a robot file of its own."""
    text = Path(library.__file__).with_name("robots").joinpath("panda.yaml").read_text()
    data = yaml.safe_load(text)
    for name in ("joint_names", "home_q_rad"):
        data[name] = data[name][:6]
    for table in ("joints", "kinematics"):
        data[table] = {k: v[:6] if isinstance(v, list) else v for k, v in data[table].items()}
    for name in ("hand", "finger_names", "former_digests"):
        del data[name]
    del data["kinematics"]["hand_yaw_rad"]
    data["name"] = "six"
    kept = [f"link{k}" for k in range(7)]
    data["collision"]["links"] = {name: data["collision"]["links"][name] for name in kept}
    data["collision"]["pairs"] = [p for p in data["collision"]["pairs"] if set(p.split()) <= set(kept)]
    return parse_limits(yaml.safe_dump(data), "robots/six.yaml")


def test_an_arm_of_six_joints_without_a_hand_is_led_and_judged() -> None:
    limits = six_joints()
    columns = [{"name": f"j{k}", "source": "joint", "unit": "rad"} for k in range(6)]
    source = library.Source(
        text=yaml.safe_dump({**TABLE, "channels": columns, "subtasks": {"s": {"goal": {"j0": 1.0}, "threshold": 1}}}),
        where="six.yaml",
    )
    from skimo_core.domain.domain import parse_domain

    spec = parse_domain(source, "six").action
    actuator, gate = Actuator(limits, spec), Gate(limits)
    arm = TrajectoryFollower(limits.home_q_rad)
    actuator.reset(limits.home_q_rad, 0.0)
    for step in range(20):
        now_s = step * spec.period_s
        q, dq, _ = arm.at(now_s)
        robot = RobotState(stamp_s=now_s, q_rad=q, dq_rad_s=dq, tau_nm=0 * q, finger_m=np.zeros(0), desired_q_rad=q)
        command = actuator.command(np.full(6, 0.3 * (-1) ** (step // 5), np.float32), now_s)
        assert command.gripper is None
        decision = gate.consider(command, robot, now_s)
        assert decision.verdict is Verdict.PASS and decision.command is not None, decision.reasons
        arm.set(decision.command.trajectory, now_s)
        actuator.adopt(decision.command.trajectory)
    assert np.abs(arm.at(1.0)[0] - limits.home_q_rad).max() > 0.01
    assert "link6" in (urdf := robot_description(limits)) and "hand" not in urdf
    assert load_limits("panda").joints == 7
    with pytest.raises(SpecError, match="tracking_hold_rad has 7 numbers for 6 joints"):
        Gate(limits, cell=load_cell("kitchen"))
    hand = GripperCommand(kind="move", width_m=0.04, speed_m_s=0.1)
    assert gate.consider_hand(hand, robot, 1.0).verdict is not Verdict.PASS
