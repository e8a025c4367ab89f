"""Simulated time at other paces than real time, across pauses of the machine."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_ros.twin_node import LATEST_S, TwinClock

RATE_HZ = 100.0


class Machine:
    """Real time, which passes where it is told to."""

    def __init__(self) -> None:
        self.s = 5000.0

    def sleep(self, duration_s: float) -> None:
        self.s += duration_s


def clock_of(machine: Machine, factor: float) -> TwinClock:
    return TwinClock(lambda: 70.0, factor, (factor or 1.0) / RATE_HZ, lambda: machine.s)


def test_a_pause_does_not_turn_time_back() -> None:
    machine = Machine()
    clock = clock_of(machine, 2.0)
    for _ in range(1000):
        machine.sleep(clock.tick())
    assert clock.now() == pytest.approx(90.0)
    machine.sleep(1.2)
    clock.tick()
    assert clock.now() == pytest.approx(92.4)


@pytest.mark.parametrize("seed", range(20))
def test_time_never_goes_back_and_goes_on_at_its_factor_after_any_pause(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = float(np.exp(rng.uniform(np.log(0.05), np.log(100.0))))
    machine = Machine()
    clock, begun_s, shown_s = clock_of(machine, factor), machine.s, []
    for _ in range(400):
        shown_s.append(clock.now())
        machine.sleep(float(rng.choice([0.0, rng.uniform(0, 0.02), rng.uniform(0, 4.0)], p=[0.5, 0.45, 0.05])))
        shown_s.append(clock.now())
        sleep_s = clock.tick()
        assert 0.0 <= sleep_s <= 1.0 / RATE_HZ + 1e-9
        shown_s.append(clock.now())
        machine.sleep(sleep_s)
        assert clock.now() == pytest.approx(70.0 + factor * (machine.s - begun_s))
    assert (np.diff(shown_s) >= 0.0).all()


def test_the_beat_is_regular_again_after_a_pause() -> None:
    machine = Machine()
    clock = clock_of(machine, 0.5)
    clock.tick()
    machine.sleep(LATEST_S + 0.5)
    clock.tick()
    beats_s = [clock.tick() for _ in range(3) if not machine.sleep(1.0 / RATE_HZ)]
    assert beats_s == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    assert clock.tick() == pytest.approx(1.0 / RATE_HZ)


def test_as_fast_as_it_goes_a_tick_is_a_period() -> None:
    clock = clock_of(Machine(), 0.0)
    assert [(clock.tick(), clock.now()) for _ in range(2)] == [(0.0, 70.0 + 1 / RATE_HZ), (0.0, 70.0 + 2 / RATE_HZ)]
