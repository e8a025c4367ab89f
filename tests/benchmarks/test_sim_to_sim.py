"""Sim to sim: links without weight, an arm written and read back, and how its figures are told."""

from __future__ import annotations

import numpy as np
from sim_to_sim_arm import Weightless, read_arm, written
from sim_to_sim_report import flights, paired

from skimo_core.contract.types import JOINTS, Array


class Known:
    """Links that weigh 2 Nm wherever they are, and 0.1 kg m2."""

    def torque(self, q_rad: Array, dq_rad_s: Array, ddq_rad_s2: Array) -> Array:
        return 2.0 + 0.1 * ddq_rad_s2


def test_links_without_weight_keep_their_inertia() -> None:
    still, ddq = np.zeros((1, JOINTS)), np.ones((1, JOINTS))
    light = Weightless(Known())
    assert np.allclose(light.torque(still, still, still), 0.0) and np.allclose(light.torque(still, still, ddq), 0.1)


def test_a_cell_is_told_with_its_interval_and_both_counts() -> None:
    rows = [
        {
            "done": done,
            "any_order": ["kettle"] * own,
            "predicted": [0.5, 1.0],
            "came_true": [0, 1],
            "verdicts": {"HOLD": 1},
        }
        for done, own in ((4, 4), (1, 3), (4, 4), (1, 3))
    ]
    line = flights({"shipped, position, there": {"rows": rows}})[-1]
    assert "2.50 (1.00 .. 4.00) | 3.50 | 2 | 4 | 0.75, 0.50 | 4 |" in line


def test_drivers_are_compared_seed_by_seed() -> None:
    cells = {
        f"shipped, {driver}, there": {"rows": [{"seed": seed, "done": done} for seed, done in enumerate(values)]}
        for driver, values in (("position", (1, 2, 3)), ("compensated", (2, 3, 4, 0)))
    }
    (told,) = [line for line in paired(cells) if line]
    assert "+1.00 (+1.00 .. +1.00), 3 seeds" in told
    assert paired({"shipped, compensated, there": cells["shipped, compensated, there"]}) == []


def test_an_arm_is_read_back_as_it_was_written() -> None:
    rows = {name: [0.5] * JOINTS for name in ("kp", "friction_nm", "damping_nm_s", "armature_kg_m2", "offset_nm")}
    for carried in (
        {"payload_kg": 0.0, "payload_centre_m": [0.0] * 3},
        {"payload_kg": 0.3, "payload_centre_m": [0.1] * 3},
    ):
        data = {**rows, "late_s": 0.04, **carried}
        assert written(read_arm(data)) == data
