"""LeRobot's data sets, written by pyarrow as v2.1 and v3.0: what is read, and how what is missing or wrong is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from core.mutated import cut, flip
from core.test_ingest_sources import check, refused, sessions, values
from house.test_layers import run_without
from support.foreign import JOINTS, POINTER, lerobot_folder, lerobot_rows, wave

from skimo_core.contract.errors import EpisodeError
from skimo_core.ingest.formats import open_source

VERSIONS = ("v2.0", "v2.1", "v3.0")
FIRST = {"v2.1": "data/chunk-000/episode_000000.parquet", "v3.0": "data/chunk-000/file-000.parquet"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_data_set_comes_out_as_it_went_in(tmp_path: Path, version: str) -> None:
    steps = (8, 5, 6)
    lerobot_folder(tmp_path / "set", version, steps)
    found = sessions(tmp_path / "set")
    assert [session.name for session in found] == ["episode_0", "episode_1", "episode_2"]
    for index, session in enumerate(found):
        check(session)
        state = session.signals["observation.state"]
        assert state.columns == JOINTS and session.signals["action"].columns == tuple("0123456")
        np.testing.assert_allclose(state.values, wave(steps[index], 7, index), atol=1e-6)
        np.testing.assert_allclose(values(session, "action"), wave(steps[index], 7, index) + 0.01, atol=1e-6)
        assert values(session, "next.done")[-1] == 1 and set(session.signals) == {
            "observation.state", "action", "next.done"
        }  # fmt: skip
        np.testing.assert_allclose(state.times_s, np.arange(steps[index]) / 10, atol=1e-9)
        assert (session.rate_hz, session.timed, session.whole) == (10.0, False, True)
        assert session.task == ("stack the blocks" if index % 2 else "open the drawer")
    about = open_source(tmp_path / "set").about()
    assert (about.format, about.robot) == ("lerobot", "panda") and version in about.notes[0]
    assert "observation.images.wrist is skipped: it holds pictures (video)" in about.notes
    assert "meta/info.json" in about.files and FIRST.get(version, FIRST["v2.1"]) in about.files


def test_tasks_by_number_stand_in_where_the_episodes_name_none(tmp_path: Path) -> None:
    lerobot_folder(tmp_path / "set", "v2.1")
    path = tmp_path / "set/meta/episodes.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps({**row, "tasks": []}) for row in rows))
    assert [session.task for session in sessions(tmp_path / "set")] == [
        "open the drawer", "stack the blocks", "open the drawer"
    ]  # fmt: skip


def test_stamps_that_aren_t_just_the_rows_number_are_the_times(tmp_path: Path) -> None:
    lerobot_folder(tmp_path / "set", "v2.1", (6,))
    path = tmp_path / "set" / FIRST["v2.1"]
    stamps = pa.array(np.array([3.0, 3.1, 3.25, 3.3, 3.9, 4.0], np.float32))
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", stamps), path)
    (session,) = sessions(tmp_path / "set")
    assert session.timed
    np.testing.assert_allclose(session.signals["action"].times_s, [0, 0.1, 0.25, 0.3, 0.9, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (list(JOINTS), JOINTS),
        ({"axes": list(JOINTS)}, JOINTS),
        ([list(JOINTS)], JOINTS),
        ({name: 6 - k for k, name in enumerate(JOINTS)}, JOINTS[::-1]),
        (list(JOINTS[:3]), tuple("0123456")),
        (["same"] * 7, tuple("0123456")),
        ({"a": 1}, tuple("0123456")),
        (7, tuple("0123456")),
    ],
)
def test_names_of_columns_are_taken_in_each_of_their_forms(
    tmp_path: Path, names: Any, columns: tuple[str, ...]
) -> None:
    lerobot_folder(tmp_path / "set", "v2.1", (3,))
    edit_info(lambda info: info["features"]["observation.state"].update(names=names))(tmp_path / "set")
    assert sessions(tmp_path / "set")[0].signals["observation.state"].columns == columns


def test_matrices_and_the_card_s_licence_are_read(tmp_path: Path) -> None:
    lerobot_folder(tmp_path / "set", "v2.1", (3,))
    (tmp_path / "set/README.md").write_text("---\ntags:\n- LeRobot\nlicense: cc-by-4.0\n---\nWords")
    path = tmp_path / "set" / FIRST["v2.1"]
    table = pq.read_table(path)
    pq.write_table(table.append_column("pose", pa.array(np.arange(12).reshape(3, 2, 2).tolist())), path)
    edit_info(lambda info: info["features"].update(pose={"dtype": "int64", "shape": [2, 2]}))(tmp_path / "set")
    pose = sessions(tmp_path / "set")[0].signals["pose"]
    assert pose.columns == ("0.0", "0.1", "1.0", "1.1") and pose.values[1].tolist() == [4, 5, 6, 7]
    assert open_source(tmp_path / "set").about().licence == "cc-by-4.0"


# --- what is wrong --------------------------------------------------------------------------------------------------


def edit_info(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        path = folder / "meta/info.json"
        info = json.loads(path.read_text())
        edit(info)
        path.write_text(json.dumps(info))

    return edited


def edit_rows(edit: Callable[[pa.Table], pa.Table], name: str = FIRST["v3.0"]) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        pq.write_table(edit(pq.read_table(folder / name)), folder / name)

    return edited


def put(name: str, column: Any) -> Callable[[Path], None]:
    return edit_rows(lambda table: table.set_column(table.column_names.index(name), name, pa.array(column)))


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return edited


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (write("meta/info.json", "{"), "is no JSON"),
        (write("meta/info.json", POINTER), "info.json: is a Git LFS pointer"),
        (edit_info(lambda i: i.update(codebase_version="v1.6")), "codebase_version is 'v1.6', only v2.0, v2.1, v3.0"),
        (edit_info(lambda i: i.update(fps=0)), "fps is '0', must be a number above 0"),
        (edit_info(lambda i: i.update(features=[])), "features is list"),
        (
            edit_info(lambda i: [i["features"].pop(k) for k in ("action", "observation.state", "next.done")]),
            "no feature",
        ),
        (edit_info(lambda i: i.update(total_episodes=4)), "counts 4 episodes, its table 3"),
        (edit_info(lambda i: i.update(total_frames=20)), "counts 20 frames, its table of episodes 19"),
        (
            edit_info(lambda i: i.update(data_path="../{chunk_index}/{file_index}")),
            "must lie within the recording's own",
        ),
        (edit_info(lambda i: i.update(data_path="{chunk_index.__class__}/x")), "is missing; fetch or copy the whole"),
        (edit_info(lambda i: i.update(data_path="{video_key}")), "wants 'video_key', known are chunk_index"),
        (edit_info(lambda i: i["features"]["action"].update(shape=[6])), "'action' has 7 values in a row, must have 6"),
        (lambda folder: (folder / "meta/episodes/chunk-000/file-000.parquet").unlink(), "holds no Parquet file"),
        (lambda folder: (folder / FIRST["v3.0"]).unlink(), "file-000.parquet is missing"),
        (write(FIRST["v3.0"], POINTER), "file-000.parquet: is a Git LFS pointer"),
        (write(FIRST["v3.0"], b""), "is empty (0 bytes)"),
        (write(FIRST["v3.0"], b"PAR1" + bytes(90)), "can't be read as Parquet"),
        (write(FIRST["v3.0"], "hello"), "is no Parquet file"),
        (edit_rows(lambda table: table.slice(0, 10)), "session episode_1: "),
        (edit_rows(lambda table: table.slice(0, 10)), "holds 2 rows of it, the table of episodes says 5"),
        (edit_rows(lambda table: table.drop(["action"])), "has no column 'action'"),
        (put("action", ["a"] * 13), "column 'action' holds string, must hold numbers"),
        (put("action", [[1.0] * 7] * 12 + [[1.0] * 6]), "column 'action' has 6 values at row 4, 7 before"),
        (put("action", [[1.0] * 7] * 12 + [None]), "column 'action' has no value in 1 rows"),
        (put("action", [[1.0] * 7] * 12 + [[None] * 7]), "column 'action' has no value in 7 places"),
        (put("frame_index", np.arange(13) % 3), "frame_index is 0 at row 3 of the episode, must be 3"),
        (put("timestamp", np.zeros(13) - np.arange(13)), "timestamp is -1 s at row 1 of the episode, must not fall"),
        (put("episode_index", np.arange(13) % 2), "the table of episodes says 8"),
    ],
)
def test_a_data_set_that_is_not_whole_is_refused_in_words(
    tmp_path: Path, edit: Callable[[Path], None], words: str
) -> None:
    lerobot_folder(tmp_path / "set")
    edit(tmp_path / "set")
    said = refused(tmp_path / "set")
    assert words in said and said.count("set") >= 0, said


def test_an_episode_without_its_file_is_told_and_the_others_load(tmp_path: Path) -> None:
    lerobot_folder(tmp_path / "set", "v2.1")
    (tmp_path / "set/data/chunk-000/episode_000001.parquet").unlink()
    words = refused(tmp_path / "set")
    assert words.startswith("session episode_1: set: data/chunk-000/episode_000001.parquet is missing")
    found = sessions(tmp_path / "set", skip_damaged=True)
    assert [bool(session.damage) for session in found] == [False, True, False] and not found[1].signals
    (tmp_path / "set/meta/episodes.jsonl").write_text('{"episode_index": 0}\n')
    assert "line 1: has no episode_index and length" in refused(tmp_path / "set")
    (tmp_path / "set/meta/episodes.jsonl").write_text('{"episode_index": 0, "length": 8}\n' * 2)
    assert "lists episode 0 twice" in refused(tmp_path / "set")


def test_a_file_that_declares_more_rows_than_memory_holds_is_refused_unread(tmp_path: Path) -> None:
    lerobot_folder(tmp_path / "set", "v2.1", (3,))
    rows = 21_000_000  # packed to nothing: all the same
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([0.0]))
    pq.write_table(pa.table({"action": column}), tmp_path / "big.parquet")
    assert (tmp_path / "big.parquet").stat().st_size < 100_000
    (tmp_path / "big.parquet").rename(tmp_path / "set" / FIRST["v2.1"])
    edit_info(lambda info: info["features"].pop("observation.state"))(tmp_path / "set")
    edit_info(lambda info: info["features"].pop("next.done"))(tmp_path / "set")
    assert "declares 21,000,000 rows, bound 20,000,000" in refused(tmp_path / "set")


@pytest.mark.parametrize("name", [FIRST["v3.0"], "meta/episodes/chunk-000/file-000.parquet"])
def test_altered_files_raise_nothing_but_refusals(tmp_path: Path, name: str) -> None:
    lerobot_folder(tmp_path / "set")
    path = tmp_path / "set" / name
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for index in range(40):
        path.write_bytes((flip, cut)[index % 2](whole, rng))
        try:
            for session in open_source(tmp_path / "set").sessions(skip_damaged=True):
                check(session)
        except EpisodeError:
            assert index >= 0


def test_a_missing_extra_is_told_with_its_command(tmp_path: Path) -> None:
    lerobot_folder(tmp_path / "set")
    pq.write_table(lerobot_rows(0, 3, 10.0), tmp_path / "rows.parquet")
    code = f"""
        from pathlib import Path
        from skimo_core.contract.errors import SetupError
        from skimo_core.ingest.formats import open_source
        for name in ("set", "x.h5"):
            Path({str(tmp_path)!r}, "x.h5").write_bytes(b"\\x89HDF\\r\\n\\x1a\\n")
            try:
                list(open_source(Path({str(tmp_path)!r}) / name).sessions())
            except SetupError as error:
                print(error)
    """
    said = run_without({"pyarrow", "h5py"}, code)
    assert said.stdout.count("pip install 'skimo_core[ingest]'") == 2, said.stderr
