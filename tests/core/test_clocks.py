"""Clocks that disagree are measured and named; one that jumps is found."""

from __future__ import annotations

import pytest

from skimo_core.control.clocks import JumpWatch, SkewWatch


@pytest.mark.parametrize("behind_s", [-0.03, 0.0, 0.2])
def test_a_drivers_clock_that_is_ahead_or_behind_is_named_with_the_number(behind_s: float) -> None:
    watch = SkewWatch()
    for k in range(200):  # 25 Hz looks at 100 Hz states: 1 to 10 ms old when they are taken
        watch.note(behind_s + 0.001 + 0.009 * (k % 7) / 6, 0.04 * k)
    assert watch.skew_s == pytest.approx(behind_s + 0.001)
    if behind_s < 0:
        assert "29 ms ahead" in watch.words()
    elif behind_s > 0:
        assert "201 ms old at best" in watch.words()
    else:
        assert not watch.words()


def test_a_skew_that_has_gone_is_forgotten() -> None:
    watch = SkewWatch()
    assert watch.skew_s is None and not watch.words()
    for k in range(400):
        watch.note(-0.05 if k < 200 else 0.002, 0.04 * k)
    assert watch.skew_s == pytest.approx(0.002)


@pytest.mark.parametrize(("jump_s", "found"), [(-10.0, True), (0.5, True), (0.05, False), (0.0, False)])
def test_a_jump_against_the_steady_clock_is_found(jump_s: float, found: bool) -> None:
    ros, steady = [1e9], [5.0]
    watch = JumpWatch(lambda: ros[0], lambda: steady[0], 0.1)
    ros[0], steady[0] = ros[0] + 20.0 + jump_s, steady[0] + 20.0
    assert bool(watch.words()) is found
    watch.restart()
    assert not watch.words()


def test_a_simulated_clock_may_go_at_any_pace_but_not_back() -> None:
    now = [0.0]
    watch = JumpWatch(lambda: now[0], None, 0.1)
    for now[0] in (0.1, 5.0, 5.0, 400.0):
        assert not watch.words()
    now[0] = 390.0
    assert "-10.000 s against what it showed before" in watch.words()
