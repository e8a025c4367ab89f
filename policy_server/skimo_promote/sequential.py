"""A test that may be looked at after every pair: is the mean of bounded numbers more than a bound?

By betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86(1), 2024):
somebody who bets on "more than the bound" with what the numbers before suggest (their aGRAPA) never gets rich if it is
not so. The chance that the capital ever reaches 1 / alpha is at most alpha (Ville's inequality), however long the test
goes on, whenever it is looked at, and whatever the numbers' distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_STAKE = 0.75
"""Share of the capital that one number may cost; below 1, so that none is ruin."""


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
