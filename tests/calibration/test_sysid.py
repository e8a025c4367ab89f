"""Identification: parameters are found where the log tells them, and not told where it doesn't; hold-out is better."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skimo_calibration.cli import calibrate
from skimo_calibration.dynamics.estimates import FRICTION, Estimate, collinear, estimate
from skimo_calibration.dynamics.excitation import ExcitationConfig, Motion, Series, find_series
from skimo_calibration.dynamics.flange_load import inertia_about_centre, load_regressor, parameters
from skimo_calibration.dynamics.log_csv import write_csv
from skimo_calibration.dynamics.logs import JointLog, checked
from skimo_calibration.dynamics.plant_fit import ArmDynamics, fit_plant
from skimo_calibration.dynamics.regress import Prior, Rows, solve
from skimo_calibration.dynamics.servo_fit import fit_servo
from skimo_calibration.dynamics.signals import prepare
from skimo_calibration.dynamics.sysid import Arm, Identified, as_rig, identify, split
from skimo_calibration.dynamics.sysid_page import page_of
from skimo_calibration.twin.twin_arm import LinkModel, Noise, drawn_arm, links_of, play, replay, shipped_arm
from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.cell import load_cell
from skimo_core.domain.rig import Made, Rig
from skimo_core.domain.rig_file import load_rig, write_rig
from skimo_core.domain.robot import load_limits

LIMITS, CELL = load_limits(), load_cell("kitchen")
MADE = Made(date=datetime.date(2026, 1, 31), method="a test")
ZERO = np.zeros(7)
NOTHING = ArmDynamics(friction_nm=ZERO, damping_nm_s=ZERO, armature_kg_m2=ZERO, offset_nm=ZERO)


@pytest.fixture(scope="module")
def links() -> LinkModel:
    return links_of(LIMITS, hand=True)


@pytest.fixture(scope="module")
def series() -> Series:
    config = ExcitationConfig(harmonics=5, period_s=10.0, tries=40)
    return find_series(LIMITS, CELL, LIMITS.home_q_rad, config, np.random.default_rng(0))[0]


# --- linear least squares ---------------------------------------------------------------------------------------------


def drawn_rows(rng: np.random.Generator, count: int = 400) -> tuple[Rows, Array]:
    """Two groups with noise of their own, and the parameters behind them."""
    true = np.array([1.0, -2.0, 0.3])
    x, group = rng.standard_normal((count, 3)), np.arange(count) % 2
    y = x @ true + rng.standard_normal(count) * np.where(group == 0, 0.1, 1.0)
    return Rows(x=x, y=y, group=group, block=np.arange(count) // 20), true


WIDE = Prior(value=np.zeros(3), sigma=np.full(3, 100.0), low=np.full(3, -np.inf))


def test_least_squares_weighs_groups_and_its_intervals_hold_the_truth_as_often_as_they_say() -> None:
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows, true = drawn_rows(rng)
        found = solve(rows, WIDE, rng)
        inside.append(np.abs(found.value - true) <= found.half)
        assert found.noise == pytest.approx([0.1, 1.0], rel=0.3)
    assert 0.9 < np.mean(inside) <= 1.0


def test_what_no_row_tells_stays_at_the_prior_and_bounds_hold() -> None:
    rng = np.random.default_rng(1)
    rows, _ = drawn_rows(rng)
    unseen = replace(rows, x=rows.x * np.array([1.0, 1.0, 0.0]))
    prior = Prior(value=np.array([0.0, 0.0, 7.0]), sigma=np.full(3, 2.0), low=np.array([-np.inf, 0.0, -np.inf]))
    found = solve(unseen, prior, rng)
    assert found.value[2] == pytest.approx(7.0) and found.half[2] == pytest.approx(1.96 * 2.0, rel=1e-3)
    assert found.value[1] == pytest.approx(0.0, abs=1e-9)
    assert not estimate(FRICTION, "", found.value[2], found.half[2]).identifiable


def test_too_few_rows_are_refused() -> None:
    rows, _ = drawn_rows(np.random.default_rng(0), 5)
    with pytest.raises(SpecError, match="only 5 samples of a moving arm are left for 3 parameters; record a longer"):
        solve(rows, WIDE, None)


def test_collinear_parameters_are_named() -> None:
    rng = np.random.default_rng(2)
    rows, _ = drawn_rows(rng)
    x = rows.x.copy()
    x[:, 2] = x[:, 1] + 1e-3 * rng.standard_normal(len(x))
    found = solve(replace(rows, x=x), WIDE, rng)
    told = collinear(["a", "b", "c"], found.correlation)
    assert set(told) == {1, 2} and told[1].startswith("collinear with c (-1.000)")


# --- what a load owes -------------------------------------------------------------------------------------------------


def test_a_loads_torques_are_those_of_the_simulators_inverse_dynamics(links: LinkModel) -> None:
    import mujoco

    from skimo_sim.scenes.dynamics import Load, Plant, apply_dynamics

    rng = np.random.default_rng(3)
    q = rng.uniform(LIMITS.q_min_rad, LIMITS.q_max_rad, (20, 7))
    dq, ddq = rng.standard_normal((2, 20, 7)) * np.array([1.0, 4.0])[:, None, None]
    square = rng.uniform(1e-4, 1e-3, 3)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    inertia = turn @ np.diag(square.sum() - square) @ turn.T
    centre = np.array([0.03, -0.05, 0.08])
    bare = links.torque(q, dq, ddq)
    laden = LinkModel()
    plant = Plant(payload=Load(mass_kg=0.7, centre_m=centre, inertia_kg_m2=inertia))
    apply_dynamics(laden._model, mujoco.MjData(laden._model), plant)
    values = parameters(0.7, centre, inertia)
    difference = laden.torque(q, dq, ddq) - bare
    assert np.abs(difference - load_regressor(LIMITS, q, dq, ddq) @ values).max() < 1e-10
    assert np.abs(difference).max() > 3.0
    assert np.allclose(inertia_about_centre(values), inertia)


# --- synthetic logs: the model is exact -------------------------------------------------------------------------------


def synthetic(series: Series, links: LinkModel, dynamics: ArmDynamics, *, still: tuple[int, ...] = ()) -> JointLog:
    """The torques that such an arm has in the series, with a little noise; some joints stand still."""
    t_s = np.arange(0.0, series.period_s, 0.004)
    q, dq, ddq = series.sample(t_s)
    for joint in still:
        q[:, joint], dq[:, joint], ddq[:, joint] = q[0, joint], 0.0, 0.0
    tau = links.torque(q, dq, ddq) + dynamics.torque(LIMITS, q, dq, ddq)
    rng = np.random.default_rng(4)
    noisy = tau + 0.05 * rng.standard_normal(tau.shape)
    late = np.stack([np.interp(t_s - dynamics.lag_s, t_s, column) for column in noisy.T], axis=1)
    return JointLog(name="made", digest="", t_s=t_s, q_rad=q, dq_rad_s=dq + 1e-9, tau_nm=late)


TRUE = ArmDynamics(
    friction_nm=np.array([0.3, 0.2, 0.5, 0.4, 0.3, 0.2, 0.25]),
    damping_nm_s=np.array([0.5, 1.0, 0.3, 0.6, 0.2, 0.3, 0.1]),
    armature_kg_m2=np.array([0.1, 0.2, 0.05, 0.1, 0.03, 0.05, 0.02]),
    offset_nm=np.array([0.2, -0.4, 0.1, 0.0, 0.05, -0.1, 0.0]),
    lag_s=0.003,
)


def of(estimates: tuple[Estimate, ...], name: str) -> Estimate:
    return next(e for e in estimates if e.name == name)


def test_a_synthetic_arm_is_found_again_and_no_payload_is_made_up(series: Series, links: LinkModel) -> None:
    piece = prepare(synthetic(series, links, TRUE))
    found = fit_plant([piece], links, LIMITS, NOTHING, np.random.default_rng(0))
    for name in ("friction_nm", "damping_nm_s", "armature_kg_m2"):
        assert getattr(found.dynamics, name) == pytest.approx(getattr(TRUE, name), rel=0.1, abs=0.01)
    assert found.dynamics.offset_nm == pytest.approx(TRUE.offset_nm, abs=0.02)
    assert found.dynamics.lag_s == pytest.approx(TRUE.lag_s, abs=3e-4)
    assert found.dynamics.payload is None and "none" in of(found.estimates, "payload mass").why_not
    assert sum(e.identifiable for e in found.estimates) == 28


def test_a_joint_that_stood_still_is_not_identifiable_and_stays_as_it_was(series: Series, links: LinkModel) -> None:
    piece = prepare(synthetic(series, links, TRUE, still=(4,)))
    prior = replace(NOTHING, friction_nm=np.full(7, 0.33))
    found = fit_plant([piece], links, LIMITS, prior, np.random.default_rng(0), payload=False)
    for kind in ("friction", "damping", "armature"):
        told = of(found.estimates, f"{kind} joint 5")
        assert not told.identifiable and "interval +-" in told.why_not
        assert of(found.estimates, f"{kind} joint 4").identifiable
    assert found.dynamics.friction_nm[4] == pytest.approx(0.33, abs=0.05)


def test_an_arm_far_from_the_prior_is_not_drawn_to_it(series: Series, links: LinkModel) -> None:
    """A hundred times the damping, and the friction that would pass for it is none."""
    damping = np.repeat([100.0, 10.0], [4, 3])
    piece = prepare(synthetic(series, links, replace(TRUE, damping_nm_s=damping, friction_nm=ZERO)))
    found = fit_plant([piece], links, LIMITS, TRUE, np.random.default_rng(0))
    assert found.dynamics.damping_nm_s == pytest.approx(damping, rel=0.02)
    assert found.dynamics.friction_nm == pytest.approx(ZERO, abs=0.15)
    for joint in range(7):
        told = of(found.estimates, f"damping joint {joint + 1}")
        assert told.identifiable and told.high - told.low < 0.1 * damping[joint]


def test_a_missing_hand_is_noticed(series: Series, links: LinkModel) -> None:
    log = synthetic(series, links_of(LIMITS, hand=False), TRUE)
    with pytest.raises(SpecError, match=r"the flange bears 0\.7\d kg .* less than the model's hand .* \(--no-hand\)"):
        fit_plant([prepare(log)], links, LIMITS, NOTHING, np.random.default_rng(0))


def test_without_a_reference_there_is_no_servo(series: Series, links: LinkModel) -> None:
    piece = prepare(synthetic(series, links, TRUE))
    assert fit_servo([piece], links, LIMITS, 0.0, (np.ones(7), np.ones(7)), np.random.default_rng(0)) is None


# --- a disturbed arm of the twin --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disturbed(series: Series, links: LinkModel) -> tuple[Identified, Arm, list[JointLog]]:
    rng = np.random.default_rng(11)
    true = drawn_arm(rng)
    config = ExcitationConfig(harmonics=5, period_s=10.0)
    motion = Motion(LIMITS, series.sample(np.zeros(1))[0][0], series, config)
    log = play(motion, LIMITS, CELL, arm=true, noise=Noise(), rng=rng).log
    fitted, held_out = split(checked(log, LIMITS))
    shipped = shipped_arm()
    found = identify(fitted, held_out, LIMITS, links, shipped, rng, replay=lambda log, arm: replay(log, LIMITS, arm))
    return found, true, held_out


def test_a_disturbed_arm_is_identified(disturbed: tuple[Identified, Arm, list[JointLog]]) -> None:
    found, true, _ = disturbed
    ours, theirs = found.arm.dynamics, true.dynamics
    assert ours.payload is not None and theirs.payload is not None
    assert ours.friction_nm == pytest.approx(theirs.friction_nm, rel=0.1)
    assert np.median(np.abs(ours.friction_nm / theirs.friction_nm - 1)) < 0.05
    assert np.median(np.abs(ours.damping_nm_s / theirs.damping_nm_s - 1)) < 0.10
    assert ours.payload.mass_kg == pytest.approx(theirs.payload.mass_kg, rel=0.02)
    assert np.linalg.norm(ours.payload.centre_m - theirs.payload.centre_m) < 0.005
    assert found.arm.late_s == pytest.approx(true.late_s, abs=0.001)
    identifiable = {e.name for e in found.estimates if e.identifiable}
    assert {"friction joint 1", "damping joint 4", "payload mass", "payload centre z", "delay"} <= identifiable


def test_intervals_hold_the_truth(disturbed: tuple[Identified, Arm, list[JointLog]]) -> None:
    found, true, _ = disturbed
    rows = {
        "friction": true.dynamics.friction_nm,
        "damping": true.dynamics.damping_nm_s,
        "kp": true.kp,
        "kv": true.kv,
    }
    inside = [
        e.low - 0.5 * e.sigma <= row[j] <= e.high + 0.5 * e.sigma
        for kind, row in rows.items()
        for j in range(7)
        for e in [of(found.estimates, f"{kind} joint {j + 1}")]
    ]
    assert np.mean(inside) > 0.7


def test_what_was_held_out_is_explained_three_times_better(disturbed: tuple[Identified, Arm, list[JointLog]]) -> None:
    found, true, held_out = disturbed
    assert found.torque_gain > 3.0 and found.joint_gain is not None and found.joint_gain > 3.0
    assert found.after.joint_rad is not None
    late = replace(shipped_arm(), late_s=true.late_s)  # so that the delay alone doesn't make the difference
    told = np.concatenate([replay(log, LIMITS, late) - log.q_rad for log in held_out])
    assert np.linalg.norm(np.sqrt((told**2).mean(axis=0))) > 3.0 * np.linalg.norm(found.after.joint_rad)


def test_the_page_tells_and_judges(
    disturbed: tuple[Identified, Arm, list[JointLog]], links: LinkModel, tmp_path: Path
) -> None:
    found, _, held_out = disturbed
    page = page_of(found, held_out, links, LIMITS, shipped_arm())
    assert page.passed, page.failures
    text = page.write(tmp_path / "sysid.html").read_text(encoding="utf-8")
    assert "payload mass" in text and "hold-out joint error" in text and "interval +-" in text
    worse = replace(found, before=found.after, after=found.before)
    assert not page_of(worse, held_out, links, LIMITS, shipped_arm()).passed


def test_a_rig_file_takes_what_was_found(disturbed: tuple[Identified, Arm, list[JointLog]], tmp_path: Path) -> None:
    found, _, _ = disturbed
    dynamics, payload = as_rig(found, MADE)
    assert payload is not None
    rig = Rig(name="lab", robot="panda", dynamics=dynamics, payload=payload)
    write_rig(tmp_path / "lab.yaml", rig)
    back = load_rig(str(tmp_path / "lab.yaml"))
    assert back.dynamics is not None and back.payload is not None
    assert back.dynamics.friction_nm == pytest.approx(found.arm.dynamics.friction_nm)
    assert (back.dynamics.sigma_friction_nm > 0).all()
    assert back.payload.centre_m == pytest.approx(payload.centre_m)


# --- borders ----------------------------------------------------------------------------------------------------------


def test_short_logs_hold_nothing_out_and_are_refused(series: Series, links: LinkModel) -> None:
    short = synthetic(series, links, TRUE).part(slice(0, 1500))
    fitted, held_out = split([short])
    assert len(fitted) == 1 and not held_out
    with pytest.raises(SpecError, match=r"1 pieces of log to fit and 0 to hold out; give at least 8 s of log"):
        identify(fitted, held_out, LIMITS, links, shipped_arm(), np.random.default_rng(0))


def test_a_robot_without_a_model_of_its_links_is_refused() -> None:
    with pytest.raises(SpecError, match="the links' inertias of a fr3 are not known here; only a panda's are"):
        links_of(load_limits("fr3"), hand=True)


Argue = Callable[[Path], list[str]]


def test_the_commands_make_a_log_and_identify_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, rig, out = tmp_path / "log.csv", tmp_path / "lab.yaml", tmp_path / "page"
    made = ["excite", "--out", str(log), "--period-s", "8", "--tries", "10", "--disturb", "5"]
    assert calibrate(made) == 0, capsys.readouterr().err
    assert "pieces passed the gate" in capsys.readouterr().out
    assert calibrate(["sysid", "--log", str(log), "--out", str(out), "--rig", str(rig)]) == 0
    told = capsys.readouterr().out
    assert "payload mass" in told and "pass  hold-out joint error" in told and (out / "sysid.html").is_file()
    known = load_rig(str(rig))
    assert known.dynamics is not None and known.payload is not None and known.command is None
    rig.write_text(rig.read_text(encoding="utf-8").replace("model: panda", "model: fr3"), encoding="utf-8")
    assert calibrate(["sysid", "--log", str(log), "--out", str(out), "--rig", str(rig)]) == 1
    assert "is the rig of a fr3, the logs are a panda's; name another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argue", "words"),
    [
        (lambda d: ["sysid", "--log", str(d / "none.csv"), "--out", str(d)], "there is no such file"),
        (lambda d: ["sysid", "--log", str(d / "log.csv"), "--out", str(d), "--robot", "fr3"], "inertias of a fr3"),
        (lambda d: ["sysid", "--log", str(d / "log.csv"), "--out", str(d / "log.csv")], "can't be written"),
        (
            lambda d: ["excite", "--out", str(d / "x.csv"), "--centre", "1", "2"],
            "centre holds 2 numbers, must hold 7",
        ),
        (lambda d: ["excite", "--out", str(d / "x.csv"), "--tries", "1"], r"tries 1 \(>= 2\)"),
    ],
)
def test_a_command_refuses_in_words(
    argue: Argue, words: str, series: Series, links: LinkModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "log.csv", synthetic(series, links, TRUE))
    assert calibrate(argue(tmp_path)) == 1
    told = capsys.readouterr().err
    assert told.startswith("skimo calibrate: ") and "Traceback" not in told
    assert pytest.RaisesExc(SpecError, match=words).matches(SpecError(told))
