"""The sequential test: how often it says what isn't so, and how soon it says what is."""

from __future__ import annotations

import numpy as np
import pytest

from skimo_promote.sequential import Bet, Drop

RUNS, PAIRS, ALPHA = 600, 200, 0.05


def shown_after(mean: float, seed: int) -> list[int]:
    """Pairs after which each of many runs has it that the mean difference is above 0; PAIRS + 1 for never."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RUNS):
        bet = Bet(-4.0, 4.0, 0.0)
        differences = rng.choice([-3.0, -1.0, 0.0, 1.0, 3.0], PAIRS, p=[0.05, 0.15, 0.6, 0.15, 0.05])
        better = rng.random(PAIRS) < mean  # a sub-task more in so many episodes
        for difference in np.minimum(differences + better, 4.0):
            bet.take(float(difference))
            if bet.won(ALPHA):
                break
        found.append(bet.count if bet.won(ALPHA) else PAIRS + 1)
    return found


def test_no_difference_is_seldom_taken_for_one_however_often_one_looks() -> None:
    wrong = np.mean(np.array(shown_after(0.0, seed=0)) <= PAIRS)
    assert wrong <= ALPHA + 3.0 * (ALPHA / RUNS) ** 0.5


def test_half_a_subtask_is_seen_within_a_hundred_pairs() -> None:
    soon = np.array(shown_after(0.5, seed=1))
    assert np.mean(soon <= 100) > 0.8 and np.median(soon) < 60


def test_a_bet_never_ruins_and_knows_its_range() -> None:
    bet = Bet(-4.0, 4.0, 0.0)
    for value in [4.0] * 20 + [-4.0] * 200:
        bet.take(value)
        assert bet.capital > 0.0
    assert bet.won(ALPHA) and bet.capital < bet.best  # what was shown once stays shown
    with pytest.raises(ValueError, match="outside"):
        bet.take(4.1)


@pytest.mark.parametrize("old", [[], [1.0], [0.0] * 50, [1.0] * 50, [0.123] * 7])
def test_extremes_show_a_drop_or_nothing(old: list[float]) -> None:
    drop = Drop(old)
    for _ in range(200):
        drop.take(1.0)
    assert not drop.won(0.5)
    for _ in range(2000):
        drop.take(0.0)
    assert np.isfinite(drop.odds) and drop.won(ALPHA) == (len(old) == 50 and old[0] == 1.0)
    with pytest.raises(ValueError, match="outside"):
        drop.take(1.1)
