"""Robots as data: their published limits, how velocity limits taper, what the digest covers, malformed files."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.domain.robot import RobotLimits, known_robots, load_limits, parse_limits

SHIPPED_BUNDLE_DIGEST = "d4dd6deeb1ee5fb8df83c0c13e819f18f7d780705931fe43a47e92c8aa8dde02"


def words_of(robot: str) -> str:
    return resources.files("skimo_core.domain").joinpath("robots", f"{robot}.yaml").read_text(encoding="utf-8")


PANDA = words_of("panda")


def changed(old: str, new: str) -> RobotLimits:
    assert old in PANDA
    return parse_limits(PANDA.replace(old, new, 1), "robots/mine.yaml")


def test_the_shipped_robots_have_franka_s_published_limits() -> None:
    panda, fr3 = load_limits("panda"), load_limits("fr3")
    assert known_robots() == ("fr3", "panda")
    assert (panda.q_min_rad[5], panda.q_max_rad[0], panda.ddq_max_rad_s2[1]) == (-0.0175, 2.8973, 7.5)
    assert (fr3.q_min_rad[5], fr3.q_max_rad[5], fr3.q_max_rad[0], fr3.q_max_rad[3]) == (0.5445, 4.5169, 2.7437, -0.1518)
    np.testing.assert_array_equal(fr3.dq_max_rad_s, [2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
    np.testing.assert_array_equal(fr3.ddq_max_rad_s2, np.full(7, 10.0))
    np.testing.assert_array_equal(fr3.dddq_max_rad_s3, np.full(7, 5000.0))
    assert fr3.joint_names[0] == "fr3_joint1" and fr3.finger_names == ("fr3_finger_joint1", "fr3_finger_joint2")


def test_positions_that_only_the_panda_reaches_are_outside_the_fr3() -> None:
    fr3 = load_limits("fr3")
    assert fr3.q_min_rad[5] > 0.30 and fr3.q_max_rad[0] < 2.85


def test_the_two_arms_share_their_kinematics() -> None:
    panda, fr3 = load_limits("panda"), load_limits("fr3")
    for name in ("dh_a_m", "dh_d_m", "dh_alpha_rad", "flange_m", "tool_m"):
        np.testing.assert_array_equal(getattr(panda, name), getattr(fr3, name))


def test_the_pandas_velocity_limits_are_the_same_everywhere() -> None:
    panda = load_limits("panda")
    low, high = panda.velocity_bounds(np.stack([panda.q_min_rad, panda.home_q_rad, panda.q_max_rad]))
    np.testing.assert_array_equal(high, np.broadcast_to(panda.dq_max_rad_s, (3, 7)))
    np.testing.assert_array_equal(low, -high)


def test_the_fr3s_velocity_limits_fall_towards_the_ends_as_published() -> None:
    fr3 = load_limits("fr3")
    q = np.stack([fr3.q_min_rad, fr3.home_q_rad, [2.7, 1.5, 2.8, -0.3, 2.7, 4.4, 3.0], fr3.q_max_rad])
    low, high = fr3.velocity_bounds(q)
    # "Robot and interface specifications": min(2.62, max(0, -0.3 + sqrt(max(0, 12 (2.7501 - q1))))), and so on
    scale = np.array([12, 5.17, 7, 8, 34, 11, 34])
    offset = np.array([0.3, 0.2, 0.2, 0.3, 0.35, 0.35, 0.35])
    top = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
    bottom = np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196])
    most = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
    np.testing.assert_allclose(high, np.clip(-offset + np.sqrt(np.maximum(0, scale * (top - q))), 0, most))
    np.testing.assert_allclose(low, -np.clip(-offset + np.sqrt(np.maximum(0, scale * (q - bottom))), 0, most))
    assert (high[3] < 0.15).all() and (low[0] > -0.15).all()
    assert (high[1] == most).all()
    beyond, _ = fr3.velocity_bounds(fr3.q_max_rad[None] + 0.1)
    assert (beyond <= 0).all() and np.isfinite(beyond).all()


def test_at_rest_every_position_is_within_the_velocity_limits() -> None:
    for robot in known_robots():
        limits = load_limits(robot)
        q = np.random.default_rng(0).uniform(limits.q_min_rad - 0.2, limits.q_max_rad + 0.2, (200, 7))
        low, high = limits.velocity_bounds(q)
        assert (low <= 0).all() and (high >= 0).all() and (np.abs(low) <= limits.dq_max_rad_s).all()


def test_the_digest_covers_what_a_policy_depends_on_and_nothing_else() -> None:
    digest = load_limits("panda").digest
    for old, new in (
        ("name: panda", "name: fer"),
        ("panda_joint", "fer_joint"),
        ("radius_m: 0.0", "radius_m: 0.1"),
        ("margin_m: 0.0 ", "margin_m: 0.02 "),
        ("reflex_torque_nm: [35.0", "reflex_torque_nm: [20.0"),
        ("  velocity_max_m_s: 1.7", "  velocity_max_m_s: 1.0"),
        ("# Franka Emika", "# A comment about the Franka Emika"),
    ):
        words = PANDA.replace(old, new)
        assert words != PANDA and parse_limits(words, "mine").digest == digest, old
    for old, new in (
        ("[2.8973, 1.7628", "[2.8972, 1.7628"),
        ("velocity_max_rad_s: [2.175", "velocity_max_rad_s: [2.0"),
        ("acceleration_max_rad_s2: [15.0", "acceleration_max_rad_s2: [14.0"),
        ("jerk_max_rad_s3: [7500.0", "jerk_max_rad_s3: [7000.0"),
        ("flange_m: 0.107", "flange_m: 0.207"),
        ("width_max_m: 0.08", "width_max_m: 0.07"),
        ("panda_joint1, panda_joint2", "panda_joint2, panda_joint1"),
    ):
        assert changed(old, new).digest != digest, old
    assert load_limits("fr3").digest != digest


def test_digests_of_earlier_versions_are_still_accepted() -> None:
    panda, fr3 = load_limits("panda"), load_limits("fr3")
    assert panda.accepts(panda.digest) and panda.accepts(SHIPPED_BUNDLE_DIGEST)
    assert not fr3.accepts(panda.digest) and not fr3.accepts(SHIPPED_BUNDLE_DIGEST) and not panda.accepts("")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  jerk_max_rad_s3", "  jerks_max_rad_s3", "has no 'jerk_max_rad_s3'"),
        ("  torque_rate", "  velocity_tapper: {}\n  torque_rate", "unknown key 'velocity_tapper'"),
        ("cartesian:", "carthesian:", "has no 'cartesian'"),
        (
            "position_max_rad: [2.8973, 1.7628",
            "position_max_rad: [1.7628",
            "position_max_rad must hold 7 finite numbers",
        ),
        ("position_max_rad: [2.8973", "position_max_rad: [.inf", "position_max_rad must hold 7 finite numbers"),
        ("position_max_rad: [2.8973", "position_max_rad: [-2.9", "joint 1 has position_min_rad -2.8973, not below"),
        ("velocity_max_rad_s: [2.175", "velocity_max_rad_s: [-2.175", "must hold numbers above 0"),
        ("velocity_max_rad_s: [2.175", "velocity_max_rad_s: [true", "must hold 7 finite numbers"),
        ("width_max_m: 0.08", "width_max_m: wide", "width_max_m must be a finite number, is 'wide'"),
        ("force_n: 40.0", "force_n: 0", "force_n must be above 0, is 0"),
        ("joint_names: [panda_joint1, ", "joint_names: [", "must hold 6 finite numbers"),
        ("joint_names: [panda_joint1", "joint_names: [panda_joint2", "names something twice"),
        ("home_q_rad: [0.0", "home_q_rad: [3.0", "home_q_rad of joint 1 is 3 rad, outside"),
        ("link0 hand", "link0 tool", "no link 'tool'; links are link0"),
        ("link0 hand", "hand link0", "must name the link nearer the base first"),
        ("link0 hand", "link0", "a pair must be two links"),
        ("radius_m: 0.0", "radius_m: -0.0", "radius_m must be above 0"),
        ("radius_m: 0.0", "radius: 0.0", "has no 'radius_m'"),
        ("link7:", "link8:", "has no 'link7'"),
        ("name: panda", "name: {", "is not YAML"),
        (PANDA, "7\n", "must be a table of keys"),
    ],
)
def test_malformed_robot_files_are_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(SpecError, match=r"robots/mine\.yaml") as refused:
        changed(old, new)
    assert words in str(refused.value)


@pytest.mark.parametrize("robot", ["ur5", "", "/etc/passwd", "../robots/panda", "panda.yaml", "/srv/panda"])
def test_unknown_robots_are_refused_and_the_known_ones_named(robot: str) -> None:
    words = "can't be read" if ("/" in robot and robot != "/etc/passwd") or robot.endswith(".yaml") else "fr3, panda"
    with pytest.raises(SpecError, match="must be a table|is not YAML" if robot == "/etc/passwd" else words):
        load_limits(robot)


def test_every_link_has_capsules_and_every_pair_can_move_apart() -> None:
    for robot in known_robots():
        shape = load_limits(robot).capsules
        assert set(shape.link) == set(range(len(shape.links)))
        assert (shape.radius_m > 0.02).all() and shape.margin_m >= 0
        assert len(set(shape.pairs)) == len(shape.pairs) > 10
