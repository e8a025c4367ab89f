"""Twenty thousand mutated messages: a message, SpecError or WireError; the benchmark does a million."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from skimo_core.contract.errors import WireError
from skimo_core.link import wire

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_wire.py"


def test_no_mutated_message_raises_anything_else() -> None:
    description = importlib.util.spec_from_file_location("fuzz_wire", SCRIPT)
    assert description is not None and description.loader is not None
    fuzz_wire = importlib.util.module_from_spec(description)
    description.loader.exec_module(fuzz_wire)
    found = fuzz_wire.fuzz(20_000, seed=1)
    assert found.total() == 20_000
    refused = {name.removeprefix("refused: ") for name in found if name.startswith("refused")}
    assert refused >= {"malformed", "size", "version", "op", "dtype", "finite"}
    assert found["a message that fits its operation"] > 100, "the changes must be small enough that some get through"
    assert wire.CODES.keys() >= refused
    with pytest.raises(WireError):
        wire.decode([])
