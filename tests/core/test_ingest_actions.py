"""Actions of foreign recordings: given ones keep their meaning or are refused, made ones lead back along the motion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from core.test_mapping import ARM, FINGERS, MAPPING, InMemory, bench, ingested, posture, refused, session, signal

from skimo_core.contract.errors import SpecError
from skimo_core.control.actuate import ActuatorConfig
from skimo_core.domain.domain import Domain, parse_domain
from skimo_core.domain.kinematics import POINTS, arm_points
from skimo_core.domain.library import Source
from skimo_core.domain.robot import load_limits
from skimo_core.ingest import motion
from skimo_core.ingest.execution import executed_path
from skimo_core.ingest.mapping_file import parse_mapping
from skimo_core.ingest.pipeline import ingest_source
from skimo_core.ingest.source import Session, Signal

__all__ = ["bench"]
FR3 = load_limits("fr3")
PERIOD_S = 0.05


def reach(times_s: np.ndarray, far_rad: float = 0.5) -> np.ndarray:
    """Joint positions [T, 7] from rest to rest and back, each joint with its own share (minimum jerk)."""
    share = np.clip(np.minimum(times_s / 1.6, (times_s[-1] - times_s) / 1.6), 0, 1)
    way = 10 * share**3 - 15 * share**4 + 6 * share**5
    return FR3.home_q_rad + far_rad * way[:, None] * np.array([1, -0.6, 0.4, 0.5, -0.3, 0.8, 0.7])


def reaching(far_rad: float = 0.5, **signals: Signal) -> Session:
    times_s = np.arange(81) * PERIOD_S
    return session(signals={"q": signal("q", times_s, reach(times_s, far_rad)), **signals})


def arm(domain: Domain, made: Session, entry: dict[str, Any]) -> np.ndarray:
    """The arm's actions [T, 7] under an entry of the mapping."""
    return ingested(domain, made, actions={"arm": entry}).episodes[0].actions[:, :7]


# --- velocities from positions --------------------------------------------------------------------------------------


def test_velocities_from_positions_lead_back_along_them_when_they_are_executed(bench: Domain) -> None:
    (episode,) = ingested(bench, reaching()).episodes
    off_rad = np.abs(executed_path(episode, bench, FR3) - episode.observations[:, :7])
    went_rad = np.abs(episode.observations[:, :7] - episode.observations[0, :7]).max()
    assert went_rad > 0.45 and off_rad.max() < 0.01 and off_rad[-1].max() < 0.002


def test_a_recording_that_begins_in_motion_is_led_on_as_well(bench: Domain) -> None:
    made = session()  # sines: under way at the start
    (episode,) = ingested(bench, made).episodes
    off_rad = np.abs(executed_path(episode, bench, FR3) - episode.observations[:, :7])
    assert off_rad.max() < 0.01


def test_velocities_may_come_from_positions_that_were_asked_for(bench: Domain) -> None:
    times_s = np.arange(81) * PERIOD_S
    asked = signal("asked", times_s, np.rad2deg(reach(times_s, 0.4)))
    entry = {"kind": "velocities", "field": "asked", "columns": "0..6", "unit": "deg"}
    found = ingested(bench, reaching(asked=asked), actions={"arm": entry})
    expected = motion.velocities(reach(times_s, 0.4), PERIOD_S)
    np.testing.assert_allclose(found.episodes[0].actions[:, :7], expected, atol=1e-6)
    assert any("velocities from positions in field asked" in note for note in found.notes)


def test_what_is_faster_than_an_action_can_be_is_at_the_bound_and_counted(bench: Domain) -> None:
    found = ingested(bench, reaching(far_rad=1.3))
    top = np.minimum(1.0, ActuatorConfig().velocity_fraction * FR3.dq_max_rad_s / bench.action.scale_rad_s)
    actions = found.episodes[0].actions[:, :7]
    assert (np.abs(actions) <= top + 1e-6).all() and found.made[0].clipped > 0 and 1.1 < found.made[0].most < 2


# --- given actions --------------------------------------------------------------------------------------------------


def given(**keys: Any) -> dict[str, Any]:
    return {"kind": "given", "field": "a", "columns": "0..6", "unit": "1", **keys}


def with_actions(values: np.ndarray, rate_hz: float = 20.0) -> Session:
    return reaching(a=signal("a", np.arange(len(values)) / rate_hz, values))


def test_given_actions_are_converted_by_what_one_means(bench: Domain) -> None:
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (80, 7))
    made = with_actions(drawn)
    np.testing.assert_allclose(arm(bench, made, given()), drawn, atol=1e-7)
    np.testing.assert_allclose(arm(bench, made, given(one_means_rad_s=0.5)), drawn / 2, atol=1e-7)
    np.testing.assert_allclose(arm(bench, made, given(one_means_rad_s=0.5, as_they_are=True)), drawn, atol=1e-7)
    np.testing.assert_allclose(arm(bench, made, given(unit="rad/s")), drawn / bench.action.scale_rad_s, atol=1e-7)
    degrees = with_actions(np.rad2deg(drawn))
    np.testing.assert_allclose(arm(bench, degrees, given(unit="deg/s")), drawn / bench.action.scale_rad_s, atol=1e-6)


def test_actions_of_a_faster_source_are_means_or_interpolated(bench: Domain) -> None:
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (800, 7))
    made = with_actions(drawn, rate_hz=200.0)
    np.testing.assert_allclose(arm(bench, made, given()), drawn.reshape(80, 10, 7).mean(1), atol=1e-6)
    slow = np.sin(np.arange(800) / 200.0)[:, None] * np.ones(7) / 2
    found = arm(bench, with_actions(slow, rate_hz=200.0), given(between="interpolated"))
    np.testing.assert_allclose(found[3:-3], slow[::10][3:-3], atol=2e-3)


def test_actions_out_of_range_are_refused_or_clipped_and_counted(bench: Domain) -> None:
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (80, 7))
    drawn[12, 3], drawn[40, 1] = 11.9, -1.5
    words = refused(bench, with_actions(drawn), actions={"arm": given()})
    assert "episode s0: actions step 12: fr3_joint4.velocity is 11.9, must lie in -1 to 1" in words
    found = ingested(bench, with_actions(drawn), actions={"arm": given(beyond="clip")})
    assert (found.made[0].clipped, found.made[0].most) == (2, 11.9) and np.abs(found.episodes[0].actions).max() == 1


def test_actions_that_are_positions_are_told_apart(bench: Domain) -> None:
    asked = reach(np.arange(81) * PERIOD_S)[1:]
    words = refused(bench, with_actions(asked), actions={"arm": given()})
    assert "actions in field a are no velocities: they correlate 1.00 with the joints' positions" in words
    assert "say `arm: {kind: velocities, field: " in words
    speeds = motion.velocities(reach(np.arange(81) * PERIOD_S), PERIOD_S)
    assert not motion.why_positions(speeds, reach(np.arange(81) * PERIOD_S))
    pulled = 2.0 * (asked[-1] + 0.5 - asked)  # a controller that pulls towards a goal: correlates with -1
    assert not motion.why_positions(pulled, reach(np.arange(81) * PERIOD_S))


def test_an_action_after_the_last_observation_may_be_missing(bench: Domain) -> None:
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (81, 7))
    drawn[80] = np.nan
    assert arm(bench, with_actions(drawn), given()).shape == (80, 7)
    drawn[30] = np.nan
    assert "field a row 30: column 0 is nan" in refused(bench, with_actions(drawn), actions={"arm": given()})


def test_a_gap_in_the_actions_is_not_bridged(bench: Domain) -> None:
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (80, 7))
    kept = np.r_[0:30, 60:80]
    made = reaching(a=signal("a", kept / 20, drawn[kept]))
    assert "field a has no row for 1.55 s after 1.450 s" in refused(bench, made, actions={"arm": given()})
    found = ingested(bench, made, actions={"arm": given()}, episodes={"gap": "split"})
    assert [episode.steps for episode in found.episodes] == [29, 20]


# --- poses' changes -------------------------------------------------------------------------------------------------


def test_the_jacobian_is_the_kinematics_derivative() -> None:
    rng, step = np.random.default_rng(0), 1e-6
    q_rad = rng.uniform(FR3.q_min_rad, FR3.q_max_rad, (20, 7))
    jacobian, rotation = motion.flange_jacobian(FR3, q_rad)
    for joint in range(7):
        moved = q_rad + step * np.eye(7)[joint]
        shift = (arm_points(FR3, moved) - arm_points(FR3, q_rad))[:, POINTS.index("flange")] / step
        turn = (motion.flange_jacobian(FR3, moved)[1] @ rotation.transpose(0, 2, 1) - np.eye(3)) / step
        np.testing.assert_allclose(jacobian[:, :3, joint], shift, atol=1e-5)
        np.testing.assert_allclose(jacobian[:, 3:, joint], turn[:, [2, 0, 1], [1, 2, 0]], atol=1e-5)


@pytest.mark.parametrize("frame", ["base", "tool"])
@pytest.mark.parametrize("size", [3, 6])
def test_poses_changes_move_the_hand_as_they_say(bench: Domain, frame: str, size: int) -> None:
    twist = np.array([0.06, -0.04, 0.05, 0.1, -0.2, 0.15])[:size]
    steps = np.tile(twist * PERIOD_S / np.array([0.02] * 3 + [0.05] * 3)[:size], (80, 1))
    entry: dict[str, Any] = {"kind": "end_effector", "field": "a", "columns": f"0..{size - 1}", "frame": frame}
    entry |= {"one_means_m": 0.02, "per": "step"} | ({"one_means_rad": 0.05} if size == 6 else {})
    found = ingested(bench, with_actions(steps), actions={"arm": entry})
    q_rad = found.episodes[0].observations[:-1, :7].astype(np.float64)
    dq_rad_s = found.episodes[0].actions[:, :7] * bench.action.scale_rad_s
    jacobian, rotation = motion.flange_jacobian(FR3, q_rad)
    does = np.einsum("kij,kj->ki", jacobian, dq_rad_s)
    if frame == "tool":
        does = np.concatenate([np.einsum("kji,kj->ki", rotation, does[:, i : i + 3]) for i in (0, 3)], axis=1)
    np.testing.assert_allclose(does[:, :size], np.tile(twist, (80, 1)), atol=0.03 * np.abs(twist).max())
    assert any(f"along the axes of the {frame} frame" in note for note in found.notes)


def test_near_a_singular_posture_velocities_stay_bounded() -> None:
    q_rad = np.zeros((1, 7))  # the arm straight up: nothing moves the flange further up
    up = motion.joint_velocities(FR3, q_rad, np.array([[0.0, 0.0, 0.2]]), "base")
    assert np.isfinite(up).all() and np.abs(up).max() < 0.2 / (2 * motion.DAMPING) + 1e-9


def test_an_end_effectors_columns_are_three_or_six(bench: Domain) -> None:
    entry = {
        "kind": "end_effector",
        "field": "a",
        "columns": "0..4",
        "frame": "base",
        "one_means_m": 1.0,
        "per": "step",
    }
    with pytest.raises(SpecError, match=r"columns must name 3 \(a shift\) or 6"):
        ingested(bench, reaching(), actions={"arm": entry})


# --- the hand -------------------------------------------------------------------------------------------------------


def test_a_hands_intent_follows_its_width_with_hysteresis() -> None:
    rng = np.random.default_rng(0)
    grasp = np.concatenate(
        [np.full(50, 0.08), np.linspace(0.08, 0.03, 10), np.full(40, 0.03), np.linspace(0.03, 0.08, 10)]
    )
    intents = motion.intents_of_width(grasp + rng.normal(0, 3e-4, len(grasp)), 0.01)
    changes = np.flatnonzero(np.diff(intents)) + 1
    assert intents[0] == 1 and len(changes) == 2  # a grasp that an object stops at 3 cm is one, noise is none
    assert abs(changes[0] - 50) <= 2 and abs(changes[1] - 100) <= 2  # dated where the hand set out
    assert (motion.intents_of_width(np.full(9, 0.08), 0.01) == 1).all()
    assert (motion.intents_of_width(np.zeros(9), 0.01) == -1).all()
    assert motion.intents_of_width(grasp[::-1], 0.01)[0] == -1  # it sets out to close with the first row
    assert motion.intents_of_width(grasp[90:], 0.01)[0] == -1  # it opens first, so it was closed


@pytest.mark.parametrize(("open_at", "closed_at"), [(1, 0), (-1, 1), (0, 255)])
def test_a_hands_command_says_open_and_closed_in_its_own_numbers(
    bench: Domain, open_at: float, closed_at: float
) -> None:
    told = signal("g", np.array([0.0, 1.02, 2.5]), np.array([open_at, closed_at, (open_at + closed_at) / 2], float))
    entry = {"kind": "command", "field": "g", "open_at": open_at, "closed_at": closed_at}
    actions = ingested(bench, reaching(g=told), actions={"hand": entry}).episodes[0].actions[:, 7:]
    expected = np.repeat([1.0, -1.0, 0.0], [21, 29, 30])
    np.testing.assert_allclose(actions, np.stack([expected, expected], axis=1), atol=1e-7)


def test_a_hand_that_is_never_used_is_open(bench: Domain) -> None:
    channels = {FINGERS: {"constant": 0.04}, ARM: {"field": "q", "columns": "0..6", "unit": "rad"}}
    found = ingested(bench, reaching(), actions={"hand": {"kind": "open"}}, channels=channels)
    assert (found.episodes[0].actions[:, 7:] == 1).all() and (
        found.episodes[0].observations[:, 7] == np.float32(0.04)
    ).all()
    assert any("constant 0.04, as mapping lab says" in note for note in found.notes)


# --- no arm ---------------------------------------------------------------------------------------------------------


def test_a_domain_without_an_arm_takes_its_actions_as_they_are_given() -> None:
    words = {
        "name": "car",
        "robot": "panda",
        "cell": "open",
        "rate_hz": 10,
        "horizon": 5,
        "step_limit": 50,
        "action": {"others": ["throttle", "steer"]},
        "channels": [{"name": name, "source": "object", "unit": "m"} for name in ("x", "y")],
        "subtasks": {"go": {"goal": {"x": 1.0}, "threshold": 0.1}},
    }
    domain = parse_domain(Source(text=yaml.safe_dump(words), where="car.yaml"), "car.yaml")
    lab = {
        "name": "lab",
        "domain": "car",
        "licence": "CC0-1.0",
        "channels": {"x..y": {"field": "place", "unit": "m"}},
        "actions": {"others": {"kind": "given", "field": "pedals", "unit": "1"}},
    }
    times_s, pedals = np.arange(31) / 10, np.random.default_rng(0).uniform(-1, 1, (30, 2))
    signals = {
        "place": signal("place", times_s, np.stack([times_s, 0 * times_s], axis=1)),
        "pedals": signal("pedals", times_s[:30], pedals),
    }
    made = Session(name="s0", signals=signals, rate_hz=10.0)
    mapping = parse_mapping(yaml.safe_dump(lab), "lab.yaml", domain)
    found = ingest_source(InMemory((made,)), "drive", domain=domain, mappings=(mapping,))
    np.testing.assert_array_equal(found.episodes[0].actions, pedals.astype(np.float32))
    too_far = replace(made, signals={**signals, "pedals": signal("pedals", times_s[:30], 3 * pedals)})
    with pytest.raises(Exception, match=r"drive: episode s0: actions step \d+: (throttle|steer) is"):
        ingest_source(InMemory((too_far,)), "drive", domain=domain, mappings=(mapping,))


def test_the_mapping_of_these_tests_is_whole(bench: Domain) -> None:
    assert set(MAPPING["actions"]) == {"arm", "hand"} and posture(np.zeros(1)).shape == (1, 7)
    assert ingested(bench, session()).mappings[0].named.digest
