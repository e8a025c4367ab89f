"""The ledger: whatever is changed in it or missing from it shows."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from promote.conftest import fill

from skimo_core.contract.errors import StoreError
from skimo_core.episodes.files import write_atomic
from skimo_promote.ledger import FIRST, Ledger


def written(folder: Path, count: int = 3) -> Ledger:
    ledger = Ledger(folder, clock=lambda: "2026-01-01T00:00:00Z")
    for number in range(count):
        ledger.append("added", f"{number:064d}", f"reason {number}", {"pairs": number})
    return ledger


def test_decisions_read_back_in_order_each_sealed_by_the_next(tmp_path: Path) -> None:
    entries = written(tmp_path).entries()
    assert [(e.number, e.why, e.evidence) for e in entries] == [(i, f"reason {i}", {"pairs": i}) for i in range(3)]
    assert [e.previous for e in entries] == [FIRST, entries[0].digest, entries[1].digest]
    assert Ledger(tmp_path / "elsewhere").entries() == []


@given(place=st.integers(0, 10**6), change=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_every_byte_counts(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = written(folder)
    data = bytearray((folder / "ledger.jsonl").read_bytes())
    data[place % len(data)] ^= change
    (folder / "ledger.jsonl").write_bytes(data)
    with pytest.raises(StoreError, match="backup"):
        ledger.entries()
    with pytest.raises(StoreError):
        ledger.append("added", "0" * 64, "over a changed ledger")
    assert (folder / "ledger.jsonl").read_bytes() == bytes(data)


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_line_is_found_the_last_as_well(tmp_path: Path, missing: int) -> None:
    ledger = written(tmp_path, count=4)
    lines = (tmp_path / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(lines[:missing] + lines[missing + 1 :]))
    with pytest.raises(StoreError, match="missing"):
        ledger.entries()


@pytest.mark.parametrize("damage", ["", "{}", '{"number": 7, "digest": "x"}', "\0"])
def test_a_damaged_head_is_found(tmp_path: Path, damage: str) -> None:
    ledger = written(tmp_path)
    (tmp_path / "ledger.head").write_text(damage)
    with pytest.raises(StoreError, match="head"):
        ledger.entries()


def test_a_writer_that_dies_leaves_a_ledger_that_goes_on(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    lines, head = tmp_path / "ledger.jsonl", tmp_path / "ledger.head"
    whole, before = lines.read_bytes(), head.read_bytes()
    lines.write_bytes(whole + whole[:50])  # in the middle of a line: no decision yet
    assert len(ledger.entries()) == 3
    ledger.append("added", "1" * 64, "the next one")
    assert [e.why for e in ledger.entries()][-1] == "the next one"
    head.write_bytes(before)  # between line and head: decided
    assert len(ledger.entries()) == 4
    ledger.append("added", "2" * 64, "and the next")
    assert len(ledger.entries()) == 5 and json.loads(head.read_bytes())["number"] == 4


def test_writers_that_die_one_after_the_other_leave_a_ledger_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = written(tmp_path)
    for number in (3, 4, 5):

        def dies(path: Path, data: bytes, number: int = number) -> None:
            if json.loads(data)["number"] == number:  # between its line and the head
                raise KeyboardInterrupt
            write_atomic(path, data)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("skimo_promote.ledger.write_atomic", dies)
            ledger.append("added", f"{number}" * 64, "decided")
        assert len(ledger.entries()) == number + 1
    ledger.append("added", "6" * 64, "and the next")
    assert json.loads((tmp_path / "ledger.head").read_bytes())["number"] == 6


def test_what_a_full_disk_does_not_take_is_not_decided_however_often_it_is_tried(small_disk: Path) -> None:
    """Such a disk may have room for a line in the ledger's last block, and none for a head."""
    ledger = written(small_disk)
    whole, filler = (small_disk / "ledger.jsonl").read_bytes(), fill(small_disk)
    for _ in range(3):
        with pytest.raises(StoreError, match=r"No space left.*does not hold: make room"):
            ledger.append("added", "1" * 64, "no room")
        assert (small_disk / "ledger.jsonl").read_bytes() == whole and len(ledger.entries()) == 3
    filler.unlink()
    ledger.append("added", "1" * 64, "room again")
    assert [e.why for e in ledger.entries()][3:] == ["room again"]


def test_writers_take_turns(tmp_path: Path) -> None:
    def write(name: int) -> None:
        for number in range(10):
            Ledger(tmp_path).append("added", f"{name}", f"{number}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    entries = Ledger(tmp_path).entries()
    assert len(entries) == 30
    assert [e.why for e in entries if e.bundle_id == "1"] == [str(n) for n in range(10)]


def test_what_cannot_be_written_is_not_decided(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    with pytest.raises(StoreError, match="finite"):
        ledger.append("added", "3" * 64, "not a number", {"mean": math.nan})
    with pytest.raises(StoreError, match="bytes"):
        ledger.append("added", "3" * 64, "x" * 100_000)
    assert len(ledger.entries()) == 3
    with pytest.raises(StoreError, match="can write"):
        Ledger(tmp_path / "nowhere").append("added", "3" * 64, "no folder")
