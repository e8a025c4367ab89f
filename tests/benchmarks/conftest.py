"""What the benchmarks' own parts are tried on is what pre-training is tried on."""

from learn.conftest import *  # noqa: F403
