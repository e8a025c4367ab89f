"""Tests that may be looked at after every number: is a mean more than a bound, or below what another one was?

By betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86(1), 2024):
somebody who bets on "more than the bound" with what the numbers before suggest (their aGRAPA) never gets rich if it is
not so. The chance that the capital ever reaches 1 / alpha is at most alpha (Ville's inequality), however long the test
goes on, whenever it is looked at, and whatever the numbers' distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

MAX_STAKE = 0.75
"""Share of the capital that one number may cost; below 1, so that none is ruin."""
LEVELS = 100
STAKES = np.arange(1, 6) / 6
"""Shares of the capital that one number may cost, of the parts that it is divided into."""
MAX_LOG_ODDS = 50.0
Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Bet:
    """Bets that the mean of numbers in `low` to `high` is more than `bound`.

    Attributes:
        capital: what 1 has become.
        best: the most that it ever was.
    """

    low: float
    high: float
    bound: float
    capital: float = 1.0
    best: float = 1.0
    count: int = 0
    _sum: float = field(default=0.5, repr=False)
    _squares: float = field(default=0.25, repr=False)

    def take(self, value: float) -> None:
        """One more number; raises ValueError outside the range."""
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is outside {self.low} to {self.high}")
        x = (value - self.low) / (self.high - self.low)
        m = (self.bound - self.low) / (self.high - self.low)
        mean, variance = self._sum / (self.count + 1), self._squares / (self.count + 1)
        edge = mean - m
        stake = min(max(edge / (variance + edge * edge), 0.0), MAX_STAKE / m)
        self.capital *= 1.0 + stake * (x - m)
        self.best = max(self.best, self.capital)
        self.count += 1
        self._sum += x
        self._squares += (x - self._sum / (self.count + 1)) ** 2

    def won(self, alpha: float) -> bool:
        """Whether it is shown, with a chance of at most `alpha` that it is not so."""
        return self.best >= 1.0 / alpha


class Drop:
    """Bets that the mean of new numbers is below that of old ones; all lie in 0 to 1.

    At the old mean, whatever it is, "the old mean is above this level" and "the new one is below it" are both games
    that nobody gets rich at unless it has dropped; so is their product. Which level it is nobody knows: so at every
    level the product of the two capitals has to reach 1 / alpha. Between two levels the old numbers are held against
    the upper, the new ones against the lower, so that the old mean may lie anywhere between them. The stakes are fixed,
    and the capital is divided among them: the old numbers are too few to learn a stake from.

    Attributes:
        count: new numbers so far.
    """

    def __init__(self, old: Sequence[float]) -> None:
        """The old numbers, of which no more come."""
        self.count = 0
        levels_L = np.arange(1, LEVELS + 1) / LEVELS
        self._below_L = 1.0 - (levels_L - 1.0 / LEVELS)
        old_SL = np.zeros((len(STAKES), LEVELS))
        for value in old:
            old_SL += _log_gain(value, levels_L)
        self._log_old_L = _log_mean(old_SL)
        self._log_new_SL = np.zeros_like(old_SL)
        self._log_best_L = np.zeros(LEVELS)

    def take(self, value: float) -> None:
        """One more new number; raises ValueError outside the range."""
        self._log_new_SL += _log_gain(1.0 - value, self._below_L)
        self._log_best_L = np.maximum(self._log_best_L, _log_mean(self._log_new_SL))
        self.count += 1

    @property
    def odds(self) -> float:
        """To 1 that it has dropped: the most, so far, that is reached at every level."""
        return math.exp(min((self._log_old_L + self._log_best_L).min(), MAX_LOG_ODDS))

    def won(self, alpha: float) -> bool:
        """Whether a drop is shown, with a chance of at most `alpha` that there is none."""
        return self.odds >= 1.0 / alpha


def _log_gain(value: float, bounds_L: Floats) -> Floats:
    """[S, L], log of what 1 becomes that is staked on "above the bound"."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{value} is outside 0 to 1")
    return np.log1p(STAKES[:, None] * (value / bounds_L - 1.0))


def _log_mean(capital_SL: Floats) -> Floats:
    """[L], log of the mean over the stakes, of logs."""
    most_L = capital_SL.max(0)
    return most_L + np.log(np.exp(capital_SL - most_L).mean(0))
