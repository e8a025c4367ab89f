"""Recordings as files: safe names, private, protected by checksums, bounded when read, mended after a kill.

SKIMO_FUZZ_RECORDINGS=200000 draws that many mutated recordings instead of the 3,000 of every run.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import struct
import time
import tracemalloc
import zlib
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import lz4.frame
import numpy as np
import pytest
from core.mutated import mutate
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as PlainWriter
from mcap_ros2.decoder import DecoderFactory
from mcap_ros2.writer import Writer

from skimo_core.contract.errors import EpisodeError, SetupError
from skimo_core.episodes import episode as episode_module
from skimo_core.episodes import files
from skimo_core.episodes.cache import from_episodes, load_folder, read_cache, write_cache
from skimo_core.episodes.cli import repair as repair_command
from skimo_core.episodes.definitions import EPISODE_STEP, EPISODE_STEP_TYPE
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.files import STEM_BYTES, check_folder, create_free, file_stem, write_atomic
from skimo_core.episodes.locks import lock
from skimo_core.episodes.recording import (
    METADATA,
    OUTCOME,
    EpisodeWriter,
    metadata_records,
    read_episode,
    read_meta,
    write_episode,
)
from skimo_core.episodes.repair import repair, unended
from skimo_core.episodes.seal import check_seal, sealed
from skimo_core.episodes.stream import MIB, ReadLimits

MUTATIONS = int(os.environ.get("SKIMO_FUZZ_RECORDINGS", "3000"))


def an_episode(steps: int = 20, name: str = "play-0") -> Episode:
    rng = np.random.default_rng(0)
    return Episode(
        observations=rng.normal(size=(steps + 1, 30)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(steps, 9)).astype(np.float32),
        meta=EpisodeMeta(episode_id=name, source="play", task="kettle", seed=7),
    )


def a_recording(path: Path, steps: int = 20) -> bytes:
    write_episode(path, an_episode(steps))
    return path.read_bytes()


def write_steps(path: Path, numbers: list[int], meta: EpisodeMeta) -> None:
    """A recording of control steps of these numbers; every observation is filled with its step's number."""
    with EpisodeWriter(path, meta) as writer:
        for number in numbers:
            writer._step = number
            writer.step(0.08 * number, np.full(30, number, np.float32), np.zeros(9, np.float32))


# --- names and modes ------------------------------------------------------------------------------------------------


@given(ids=st.lists(st.text(max_size=500), min_size=2, max_size=2, unique=True))
@settings(max_examples=100, deadline=None)
def test_every_id_becomes_a_safe_name_of_its_own(ids: list[str]) -> None:
    stems = [file_stem(episode_id) for episode_id in ids]
    assert stems[0] != stems[1]
    for stem in stems:
        assert 0 < len(stem.encode()) <= STEM_BYTES and stem.isascii() and "/" not in stem and "\0" not in stem
        assert stem[0] not in ".-"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../x", "a/b", "a\0b", "-rf", "CON", "nul.txt", "x" * 400, "é" * 300]
)
def test_an_id_that_is_no_file_name_is_recorded_and_read_back(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    path, descriptor = create_free(folder, file_stem(name))
    os.close(descriptor)
    assert path.parent == folder and [p.name for p in folder.iterdir()] == [path.name]
    path.unlink()
    episode = an_episode(3, name)
    write_episode(path, episode)
    assert read_episode(path).meta.episode_id == name == read_meta(path).episode_id
    assert file_stem("20261126-101500-0") == "20261126-101500-0"


def test_what_is_written_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_folder(tmp_path / "own")
        files.make_folder(tmp_path / "shared", group=True)
        write_episode(tmp_path / "own" / "play-0.mcap", an_episode())
        EpisodeWriter(tmp_path / "shared" / "e.mcap", an_episode().meta, group=True).close()
        load_folder(tmp_path / "own")
    finally:
        os.umask(before)
    modes = {p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert {mode for name, mode in modes.items() if name.startswith("own/") and "." in name} == {0o600}
    assert (modes["own"], modes["own/cache"], modes["shared"], modes["shared/e.mcap"]) == (0o700, 0o700, 0o750, 0o640)


def test_a_folder_that_can_t_take_recordings_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SetupError, match=r"file, not a folder.*move the file"):
        check_folder(tmp_path / "file")
    with pytest.raises(SetupError, match=r"MiB are free there, at least 999999999 MiB.*make room"):
        check_folder(tmp_path, min_free_mib=999_999_999)
    with pytest.raises(SetupError, match=r"give another directory"):
        check_folder(Path("/proc/recordings"))
    check_folder(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


# --- checksums ------------------------------------------------------------------------------------------------------


def test_a_changed_seed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    whole = a_recording(path)
    assert whole.count(b'"seed": 7') == 1
    path.write_bytes(whole.replace(b'"seed": 7', b'"seed": 8'))
    for salvage in (False, True):
        with pytest.raises(EpisodeError, match=r"e\.mcap: metadata record 'skimo\.episode' was altered"):
            read_episode(path, salvage=salvage)


def test_a_changed_outcome_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    a_recording(path)
    path.write_bytes(path.read_bytes()[:-300])
    assert repair(path).done == "repaired"
    path.write_bytes(path.read_bytes().replace(b"complete\x05\0\0\0false", b"complete\x05\0\0\0truth"))
    with pytest.raises(EpisodeError, match=r"'skimo\.outcome' was altered"):
        read_episode(path)


def end_with(path: Path, outcome: dict[str, str], *, definition: str = EPISODE_STEP) -> None:
    """A recording as a recorder ends it, its steps of this definition."""
    fields = {line.split()[1] for line in definition.partition("=")[0].splitlines()}
    with path.open("xb") as file:
        writer = Writer(file, chunk_size=1024, compression=CompressionType.LZ4)
        schema = writer.register_msgdef(EPISODE_STEP_TYPE, definition)
        writer.add_metadata(METADATA, metadata_records(an_episode().meta))
        for step in range(4):
            whole = {
                "header": {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": ""},
                "episode_id": "play-0",
                "step": step,
                "kind": "act",
                "reason": "",
                "observation": [0.0] * 30,
                "action_proposed": [0.5] * 9,
                "action_applied": [0.25] * 9,
                "skill": [0.1] * 10,
                "step_in_skill": step,
                "reward": 1.0,
                "verdict": 1,
                "bundle_id": "b",
            }
            writer.write_message("/skimo/episode_step", schema, {k: v for k, v in whole.items() if k in fields}, 0)
        writer._writer.add_metadata(OUTCOME, sealed(outcome))
        writer.finish()


@pytest.mark.parametrize(("told", "success"), [("true", True), ("false", False), (None, None)])
def test_the_outcome_says_whether_an_episode_succeeded(tmp_path: Path, told: str | None, success: bool | None) -> None:
    end_with(tmp_path / "e.mcap", {"complete": "true"} | ({} if told is None else {"success": told}))
    assert read_episode(tmp_path / "e.mcap").meta.success is success
    assert load_folder(tmp_path)[0].metas[0].success is success
    assert load_folder(tmp_path)[0].metas[0].success is success  # out of the cache


def test_an_outcome_of_other_words_is_refused(tmp_path: Path) -> None:
    end_with(tmp_path / "e.mcap", {"success": "perhaps"})
    with pytest.raises(EpisodeError, match=r"e\.mcap: .*'skimo\.outcome' says success 'perhaps', must be"):
        read_episode(tmp_path / "e.mcap")


def test_a_definition_that_lacks_fields_gives_none_for_them(tmp_path: Path) -> None:
    lines, later = EPISODE_STEP.splitlines(keepends=True), ("skill", "reward", "verdict", "bundle_id")
    older = "".join(line for line in lines if line.split()[-1] not in later)
    end_with(tmp_path / "whole.mcap", {})
    end_with(tmp_path / "older.mcap", {}, definition=older)
    whole, less = read_episode(tmp_path / "whole.mcap"), read_episode(tmp_path / "older.mcap")
    assert whole.skills is not None and whole.skills.shape == (3, 10)
    assert whole.rewards is not None and whole.verdicts is not None and whole.verdicts.tolist() == [1] * 4
    assert whole.bundle_ids is not None and whole.bundle_ids.tolist() == ["b"] * 3
    assert (less.skills, less.rewards, less.verdicts, less.bundle_ids) == (None, None, None, None)
    assert less.kinds is not None and less.actions_proposed is not None and (less.actions_proposed == 0.5).all()


def test_metadata_without_a_checksum_is_refused_until_it_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.mcap"
    with monkeypatch.context() as old:
        old.setattr("skimo_core.episodes.recording.sealed", lambda entries: dict(entries))
        a_recording(path)
    with pytest.raises(EpisodeError, match=r"no checksum.*skimo repair --seal"):
        read_episode(path)
    assert repair_command([str(path)]) == 1
    assert repair_command([str(path), "--seal"]) == 0
    assert read_episode(path).meta.seed == 7


@given(entries=st.dictionaries(st.text(max_size=20), st.text(max_size=20)), key=st.text(max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_seal_holds_exactly_what_was_sealed(entries: dict[str, str], key: str) -> None:
    entries.pop("sha256", None)
    made = sealed(entries)
    assert check_seal("r", made) == entries
    if key != "sha256":
        with pytest.raises(EpisodeError):
            check_seal("r", {**made, key: made.get(key, "") + "x"})


def test_every_metadata_field_has_its_check() -> None:
    assert list(episode_module._FIELDS) == [field.name for field in fields(EpisodeMeta)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ('"rate_hz": 12.5', '"rate_hz": NaN'),
        ('"rate_hz": 12.5', '"rate_hz": -1'),
        ('"seed": 7', '"seed": "7"'),
        ('"channels": []', '"channels": 3'),
        ('"channels": []', '"channels": [[1]]'),
        ('"episode_id": "play-0"', '"episode_id": 5'),
        ('"part": 1', '"part": 0'),
        ('"task": "kettle"', '"colour": "red"'),
        ('{"bundle_id"', "[" * 100_000 + '{"bundle_id"'),
        ("{", "["),
    ],
)
def test_metadata_of_other_types_is_refused_by_field(change: str, field: str) -> None:
    text = an_episode().meta.to_json()
    assert change in text
    with pytest.raises(EpisodeError, match="metadata can't be read"):
        EpisodeMeta.from_json(text.replace(change, field, 1))


# --- damage ---------------------------------------------------------------------------------------------------------


def test_mutated_recordings_are_refused_or_unchanged(tmp_path: Path) -> None:
    """Whatever is done to a file: an EpisodeError that names it, or just what was written; salvage never differs."""
    path = tmp_path / "e.mcap"
    whole = a_recording(path, 5)
    original = read_episode(path)
    refused = read = saved = 0
    for seed in range(MUTATIONS):
        path.write_bytes(mutate(whole, np.random.default_rng(seed)))
        for salvage in (False, True):
            try:
                found = read_episode(path, salvage=salvage)
            except EpisodeError as error:
                assert str(error).startswith("e.mcap: ") and len(str(error)) < 1000, f"seed {seed}: {error}"
                refused += 1
                continue
            read, saved = read + (not salvage), saved + salvage
            assert np.isfinite(found.observations).all() and found.steps >= 1, f"seed {seed}"
            assert found.meta == original.meta, f"seed {seed}: altered metadata was taken"
    assert refused > MUTATIONS / 2 and read > MUTATIONS / 50 and saved > MUTATIONS / 10


def test_single_flipped_bits_never_change_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    whole = a_recording(path, 3)
    original = read_episode(path)
    for at in range(0, len(whole), max(1, len(whole) * 8 // MUTATIONS)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        try:
            found = read_episode(path)
        except EpisodeError:
            continue
        assert np.array_equal(found.observations, original.observations), at
        assert np.array_equal(found.actions, original.actions) and found.meta == original.meta, at


def test_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    for content, words in ((b"", "is empty"), (b"\x89HDF\r\n", "no MCAP"), (b"\x89MCAP0\r\n", "cut short")):
        (tmp_path / "x.mcap").write_bytes(content)
        with pytest.raises(EpisodeError, match=rf"x\.mcap: .*{words}"):
            read_episode(tmp_path / "x.mcap")
    with pytest.raises(EpisodeError, match=r"none\.mcap: can't be read"):
        read_episode(tmp_path / "none.mcap")
    (tmp_path / "folder.mcap").mkdir()
    with pytest.raises(EpisodeError, match=r"folder\.mcap: can't be read"):
        read_episode(tmp_path / "folder.mcap", salvage=True)


def test_a_foreign_mcap_is_said_to_be_none_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "bag.mcap").open("xb") as file:
        writer = PlainWriter(file)
        writer.start(profile="ros2", library="x")
        writer.finish()
    for read in (read_episode, read_meta):
        with pytest.raises(EpisodeError, match=r"bag\.mcap: .*is no skimo recording.*with `skimo ingest`"):
            read(tmp_path / "bag.mcap")


def test_missing_steps_are_named_and_salvage_takes_the_longest_run(tmp_path: Path) -> None:
    path = tmp_path / "gap.mcap"
    meta = EpisodeMeta(episode_id="gap", source="policy")
    write_steps(path, [*range(10), *range(40, 70), *range(80, 85)], meta)
    with pytest.raises(EpisodeError, match=r"gap\.mcap.*field step.*40 are missing.*10 to 39, 70 to 79"):
        read_episode(path)
    saved = read_episode(path, salvage=True)
    assert (saved.first_step, saved.steps, saved.lost) == (40, 29, ((10, 39), (70, 79)))
    assert saved.observations[:, 0].tolist() == list(range(40, 70))


def test_a_part_begun_in_mid_episode_is_whole_in_itself(tmp_path: Path) -> None:
    path = tmp_path / "e.part2.mcap"
    write_steps(path, list(range(57, 90)), EpisodeMeta(episode_id="e", source="policy", part=2))
    part = read_episode(path)
    assert (part.first_step, part.steps, part.lost, part.meta.part) == (57, 32, (), 2)


def test_a_damaged_chunk_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    data = bytearray(a_recording(path, 400))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    saved = read_episode(path, salvage=True)
    assert saved.lost and re.search("altered|can't be unpacked", saved.damage) and saved.steps > 100
    assert np.array_equal(saved.observations[0], an_episode(400).observations[saved.first_step])


# --- bounds ---------------------------------------------------------------------------------------------------------


@functools.cache
def small_records() -> tuple[int, int, bytes]:
    content = struct.pack("<BQ", 0x70, 0) * (64 * MIB // 9)
    return len(content), zlib.crc32(content), lz4.frame.compress(content)


def a_bomb(path: Path, chunks: int, declared: int | None = None) -> None:
    """A file whose chunks each unpack to 64 MiB of the smallest records: some 260 kB each as they are stored."""
    size, crc, packed = small_records()
    size = size if declared is None else declared
    head = struct.pack("<QQQII", 0, 0, size, crc, 3) + b"lz4" + struct.pack("<Q", len(packed))
    with path.open("xb") as file:
        file.write(b"\x89MCAP0\r\n")
        for _ in range(chunks):
            file.write(struct.pack("<BQ", 6, len(head) + len(packed)) + head + packed)


@pytest.mark.parametrize("declared", [None, 100, 2**63])
@pytest.mark.parametrize("salvage", [False, True])
def test_a_file_that_expands_is_refused_with_the_bound(tmp_path: Path, declared: int | None, salvage: bool) -> None:
    path = tmp_path / "bomb.mcap"
    a_bomb(path, 17, declared)
    limits = ReadLimits(total_bytes=128 * MIB, records=100_000_000 if declared else 10_000)
    tracemalloc.start()
    try:
        begun_s = time.process_time()
        with pytest.raises(EpisodeError) as caught:
            read_episode(path, salvage=salvage, limits=limits)
        assert time.process_time() - begun_s < 10.0
        assert tracemalloc.get_traced_memory()[1] < 300 * MIB
    finally:
        tracemalloc.stop()
    words = str(caught.value)
    assert words.startswith("bomb.mcap: ")
    if declared is None:
        assert "bound records 10,000" in words and "larger ReadLimits" in words
    elif declared == 2**63:
        assert "chunk_bytes 67,108,864" in words


def test_messages_and_steps_are_bounded_and_the_bounds_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    a_recording(path, 20)
    for limits, name in ((ReadLimits(records=25), "records 25"), (ReadLimits(steps=20), "steps 20")):
        with pytest.raises(EpisodeError, match=rf"bound {name}"):
            read_episode(path, limits=limits)
        assert read_episode(path, limits=replace(limits, records=30, steps=21)).steps == 20


# --- mending --------------------------------------------------------------------------------------------------------


def cut_recording(path: Path) -> Episode:
    """A recording that ends in mid-chunk, as after a kill."""
    whole = a_recording(path, 300)
    path.write_bytes(whole[: int(0.8 * len(whole))])
    return an_episode(300)


def test_a_cut_recording_is_mended_and_public_readers_take_it(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    original = cut_recording(path)
    path.chmod(0o640)
    saved = read_episode(path, salvage=True)
    assert unended(tmp_path) == [path] and repair_command([str(tmp_path)]) == 0
    assert unended(tmp_path) == [] and sorted(p.name for p in tmp_path.iterdir()) == ["e.mcap"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    back = read_episode(path)
    assert np.array_equal(back.observations, saved.observations) and back.steps > 150
    assert np.array_equal(back.actions, original.actions[: back.steps]) and back.meta == original.meta
    with path.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        assert sum(1 for _ in reader.iter_decoded_messages()) == back.steps + 1
        names = {record.name: record.metadata for record in reader.iter_metadata()}
    assert set(names) == {METADATA, OUTCOME} and names[OUTCOME]["complete"] == "false"
    assert names[OUTCOME]["repaired"] == "true" and "cut short" in names[OUTCOME]["damage"]
    assert repair(path).done == "whole"


def test_a_file_that_is_being_written_and_one_that_is_no_recording_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    cut_recording(path)
    before = path.read_bytes()
    with path.open("rb") as writing:
        assert lock(writing.fileno())
        assert repair(path).done == "busy" and path.read_bytes() == before
    (tmp_path / "foreign.mcap").write_bytes(b"precious")
    with pytest.raises(EpisodeError, match=r"foreign\.mcap"):
        repair(tmp_path / "foreign.mcap")
    assert (tmp_path / "foreign.mcap").read_bytes() == b"precious"


def test_a_repair_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.mcap"
    cut_recording(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EpisodeError, match=r"No space left.*as it was"):
        repair(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["e.mcap"]


# --- the cache ------------------------------------------------------------------------------------------------------


def cached(tmp_path: Path) -> Path:
    a_recording(tmp_path / "play-0.mcap")
    load_folder(tmp_path)
    return tmp_path / "cache"


def test_a_recording_rewritten_in_the_same_size_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skimo_core.episodes.recording.CompressionType", SimpleNamespace(LZ4=CompressionType.NONE))
    path = tmp_path / "play-0.mcap"
    write_steps(path, [0, 1, 2], EpisodeMeta(episode_id="e", source="teleop"))
    before, _ = load_folder(tmp_path)
    status = path.stat()
    path.unlink()
    with EpisodeWriter(path, EpisodeMeta(episode_id="e", source="teleop")) as writer:
        for number in (0, 1, 2):
            writer.step(0.08 * number, np.full(30, number, np.float32), np.full(9, 0.5, np.float32))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    after, _ = load_folder(tmp_path)
    assert after.digest != before.digest and (after.actions == 0.5).all()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_cut_cache_index_says_what_to_do(tmp_path: Path, keep: float) -> None:
    index = cached(tmp_path) / "meta.json"
    index.write_bytes(index.read_bytes()[: int(keep * index.stat().st_size)])
    for read in (lambda: read_cache(index.parent), lambda: load_folder(tmp_path)):
        with pytest.raises(EpisodeError, match=r"cache: meta\.json is cut short or altered.*delete that folder"):
            read()


@pytest.mark.parametrize(("old", "new"), [(b'\\"seed\\": 7', b'\\"seed\\": 8'), (b'"format": 3', b'"format": 9')])
def test_a_changed_cache_index_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    index = cached(tmp_path) / "meta.json"
    assert old in index.read_bytes()
    index.write_bytes(index.read_bytes().replace(old, new))
    with pytest.raises(EpisodeError, match="delete that folder"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": 3, "about": 3, "sha256": ""}']
)
def test_a_cache_index_of_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    index = cached(tmp_path) / "meta.json"
    index.write_bytes(content)
    for read in (lambda: read_cache(index.parent), lambda: load_folder(tmp_path)):
        with pytest.raises(EpisodeError, match=r"cache: meta\.json is cut short or altered.*delete that folder"):
            read()


def test_cached_arrays_of_anything_else_are_refused(tmp_path: Path) -> None:
    folder = cached(tmp_path)
    np.savez(folder / "other.npz", a=np.zeros(3))
    zipped = (folder / "other.npz").read_bytes()
    for content in (b"", b"PK\x03\x04", zipped, b"\x93NUMPY\x01\x00"):
        (folder / "actions.npy").write_bytes(content)
        with pytest.raises(EpisodeError, match=r"cache can't be read.*delete that folder"):
            load_folder(tmp_path)


def test_a_cache_that_can_t_be_written_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    calls = []

    def full_at_the_second(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(EpisodeError, match=r"No space left.*make room"):
        write_cache(folder, from_episodes([an_episode(9)]))
    monkeypatch.undo()
    assert not (folder / "meta.json").exists() and set(before) - {"meta.json"} == {p.name for p in folder.iterdir()}
    assert len(load_folder(tmp_path)[0]) == 1


def test_an_atomic_write_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["f"]


# --- other definitions ----------------------------------------------------------------------------------------------


def defined(path: Path, definition: str, kind: str = EPISODE_STEP_TYPE) -> None:
    """A recording whose steps are said to be of this definition."""
    with path.open("xb") as file:
        writer = PlainWriter(file, compression=CompressionType.LZ4)
        writer.start(profile="ros2", library="x")
        writer.add_metadata(METADATA, sealed({"json": an_episode().meta.to_json()}))
        schema = writer.register_schema(kind, "ros2msg", definition.encode())
        channel = writer.register_channel("/skimo/episode_step", "cdr", schema)
        writer.add_message(channel, log_time=0, publish_time=0, data=b"\0\1\0\0" + bytes(64))
        writer.finish()


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("", "field episode_id"),
        (EPISODE_STEP.replace("uint32 step\n", "float64 step\n"), "field step .* is float64, must be uint32"),
        (EPISODE_STEP.replace("string kind", "skimo_msgs/EpisodeStep kind"), "plain fields"),
        (EPISODE_STEP.replace("int32 sec", "builtin_interfaces/Time sec"), "Time' with other fields"),
        (EPISODE_STEP.replace("string kind", "string __class__"), "only plain fields"),
        (EPISODE_STEP.replace("string kind", "string[<=5] kind"), "plain fields"),
        (EPISODE_STEP.replace("float32 reward", "string reward"), "field reward .* is string, must be float32"),
        (EPISODE_STEP + "x" * 70_000, "at most 65,536"),
        (EPISODE_STEP.replace("MSG: std_msgs/Header", "MSG: std_msgs-Header"), "other fields"),
    ],
)
def test_a_definition_that_is_not_plain_is_refused(tmp_path: Path, definition: str, words: str) -> None:
    path = tmp_path / "e.mcap"
    defined(path, definition)
    with pytest.raises(EpisodeError, match=rf"e\.mcap: .*{words}"):
        read_episode(path)
