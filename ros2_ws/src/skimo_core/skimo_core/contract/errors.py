"""The one tree of errors that callers may catch.

    SkimoError
    |-- SpecError            an array, a file or a parameter does not fit its declared shape, type or bounds
    |-- ObservationError     an observation can't be assembled
    |   |-- StaleError       ... because its input is older than its bound
    |   `-- MissingError     ... because its input never came
    |-- EpisodeError         a recording is damaged or mis-shaped (names file, episode and field)
    |-- BundleError          a bundle is refused (names the file and the reason)
    |-- StoreError           a store of bundles or its ledger is damaged, in use, or hasn't what is asked for
    |-- WireError            a frame breaks the protocol (carries a code for the other side)
    |-- PolicyError          the policy gave no usable answer
    |   |-- DeadlineError    ... in time
    |   `-- UnreachableError ... because nobody answers at the address
    |-- BackendError         a robot or twin can't do what it was asked
    |   `-- SimulationError  the twin's physics diverged
    `-- SetupError           something that must be installed or running is not (names the remedy)

A message says what, the value, the bound, the unit and the remedy.
"""

from __future__ import annotations


class SkimoError(Exception):
    """Base of every error that this project raises for its callers."""


class SpecError(SkimoError):
    """A value does not fit its spec."""


class ObservationError(SkimoError):
    """An observation can't be assembled."""


class StaleError(ObservationError):
    """An input is older than its bound."""


class MissingError(ObservationError):
    """An input never came."""


class EpisodeError(SkimoError):
    """A recording is damaged or mis-shaped."""


class BundleError(SkimoError):
    """A bundle is refused."""


class StoreError(SkimoError):
    """A store of bundles or its ledger can't be used so."""


class WireError(SkimoError):
    """A frame breaks the protocol; `code` is what the other side is told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PolicyError(SkimoError):
    """The policy gave no usable answer."""


class DeadlineError(PolicyError):
    """The answer did not come in time."""


class UnreachableError(PolicyError):
    """Nobody answers at the policy's address."""


class BackendError(SkimoError):
    """A robot or twin can't do what it was asked."""


class SimulationError(BackendError):
    """The twin's physics diverged."""


class SetupError(SkimoError):
    """Something that must be installed or running is not."""
