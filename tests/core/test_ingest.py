"""Other people's data sets: what fits the domain comes out in its channels; what doesn't is named by row and value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from mcap.writer import Writer

from skimo_core.contract.errors import EpisodeError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cache import EpisodeCache, load_folder
from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.fit import why_jumping, why_unlike
from skimo_core.ingest.cli import ingest
from skimo_core.ingest.mapping_file import PLAIN, find_mappings, known_mappings, parse_mapping
from skimo_core.ingest.pipeline import Imported, read

ZERO_RAD = np.array([0, 0, 0, 0, 0, np.pi / 2, np.pi / 4])
"""Franka's angles where the source arm's are 0."""
STEPS = (30, 20)


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain()


def panda_motion(rows: int, seed: int = 0) -> np.ndarray:
    """Joint positions [R, 7] that wander over the Panda's range, slower than it can."""
    limits, rng = load_limits("panda"), np.random.default_rng(seed)
    middle, half = (limits.q_max_rad + limits.q_min_rad) / 2, (limits.q_max_rad - limits.q_min_rad) / 2
    phase = rng.uniform(0, 2 * np.pi, 7) + 0.05 * np.arange(rows)[:, None]
    return middle + 0.95 * half * np.sin(phase)


def d4rl_columns(q_rad: np.ndarray, width: int = 60, seed: int = 0) -> np.ndarray:
    """Rows of a file in which that arm stands where the Panda would at `q_rad`."""
    rows = np.random.default_rng(seed).normal(size=(len(q_rad), width))
    rows[:, :7] = q_rad - ZERO_RAD
    return rows.astype(np.float32)


def d4rl_file(
    path: Path, *, width: int = 60, timeouts: bool = True, actions: int = 9, steps: tuple[int, ...] = STEPS
) -> np.ndarray:
    total = sum(steps)
    observations = np.concatenate([d4rl_columns(panda_motion(n, i), width, i) for i, n in enumerate(steps)])
    ends = np.zeros(total, bool)
    ends[np.cumsum(steps) - 1] = True
    with h5py.File(path, "w") as file:
        file["observations"] = observations
        file["actions"] = np.random.default_rng(0).uniform(-1, 1, (total, actions)).astype(np.float32)
        file["terminals"] = np.zeros(total, bool) if timeouts else ends
        if timeouts:
            file["timeouts"] = ends
    return observations


def change(path: Path, field: str, edit: Callable[[np.ndarray], Any]) -> None:
    """Edit a field of a file in place, or put there what `edit` returns."""
    with h5py.File(path, "r+") as file:
        array = np.asarray(file[field])
        edited = edit(array)
        del file[field]
        file[field] = array if edited is None else edited


def ingested(path: Path, *options: str) -> EpisodeCache:
    assert ingest(["--source", str(path), "--out", str(path.parent / "out"), *options]) == 0
    return load_folder(path.parent / "out")[0]


def words_of(found: Imported) -> list[str]:
    """What was left out, in words."""
    return [str(dropped) for dropped in found.dropped]


def test_d4rl_files_come_out_in_the_domains_channels(
    tmp_path: Path, domain: Domain, capsys: pytest.CaptureFixture[str]
) -> None:
    observations = d4rl_file(tmp_path / "kitchen.hdf5", timeouts=False)
    cache = ingested(tmp_path / "kitchen.hdf5")
    said = capsys.readouterr().out
    assert "ingested 2 episodes 48 steps digest " in said
    assert "panda_joint6 by +1.5708 rad, panda_joint7 by +0.785398 rad" in said
    assert "1 meant 2 rad/s there and means 1.5 rad/s here" in said
    assert "mapping d4rl: 30 channels from observations (60 columns, of which 0..29)" in said
    assert "licence CC-BY-4.0 (by the mapping)" in said
    assert cache.lengths.tolist() == [29, 19]  # the state after the last action was not stored
    found = cache.episode(1).observations
    np.testing.assert_array_equal(found[:, 7:], observations[30:, 7:30])
    np.testing.assert_allclose(found[:, :7], panda_motion(20, 1), atol=1e-6)
    for meta in cache.metas:
        assert (meta.domain, meta.robot, meta.channels, meta.rate_hz) == (
            domain.named,
            load_limits(domain.robot).named,
            domain.observation.names,
            domain.action.rate_hz,
        )
        assert not why_unlike(meta, domain, load_limits(domain.robot))
        assert meta.origin.name.startswith("d4rl kitchen.hdf5: ") and len(meta.origin.digest) == 64
        assert meta.mapping == find_mappings("d4rl", domain)[0].named and meta.licence == "CC-BY-4.0"


def test_d4rl_files_without_goals_come_out_alike(tmp_path: Path, domain: Domain) -> None:
    observations = d4rl_file(tmp_path / "kitchen.hdf5", width=30)
    found = read(tmp_path / "kitchen.hdf5", domain=domain).episodes
    assert [episode.steps for episode in found] == [29, 19]
    np.testing.assert_array_equal(found[1].observations[:, 7:], observations[30:, 7:30])
    np.testing.assert_allclose(found[1].observations[:, :7], panda_motion(20, 1), atol=1e-6)


def test_the_joints_lie_in_the_pandas_range_only_after_the_conversion(tmp_path: Path, domain: Domain) -> None:
    d4rl_file(tmp_path / "kitchen.hdf5", steps=(300,))
    limits = load_limits(domain.robot)

    def within(mapping: str) -> bool:
        q_rad = read(tmp_path / "kitchen.hdf5", domain=domain, mapping=mapping).episodes[0].observations[:, :7]
        return bool((q_rad >= limits.q_min_rad).all() and (q_rad <= limits.q_max_rad).all())

    assert within("")
    change(tmp_path / "kitchen.hdf5", "observations", lambda rows: rows[:, :30])
    assert within("d4rl")
    words = refused(tmp_path / "kitchen.hdf5", domain, mapping=PLAIN, licence="CC0-1.0")
    assert "panda_joint6 is -1.4" in words and "but panda reaches -0.0175 to 3.752 rad; look at its unit, sign" in words


def minari_file(path: Path, count: int = 12, width: int = 59) -> np.ndarray:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(count, 8, width))
    observations[:, :, :7] = [panda_motion(8, i) - ZERO_RAD for i in range(count)]
    with h5py.File(path, "w") as file:
        for i in range(count):
            group = file.create_group(f"episode_{i}")
            group.create_group("observations")["observation"] = observations[i]
            group["actions"] = rng.uniform(-1, 1, (7, 9))
    return observations


def test_minari_files_are_read_in_order(tmp_path: Path, domain: Domain) -> None:
    observations = minari_file(tmp_path / "main_data.hdf5")
    found = read(tmp_path / "main_data.hdf5", domain=domain)
    assert not found.dropped and [e.meta.episode_id for e in found.episodes] == [f"episode_{i}" for i in range(12)]
    expected = np.concatenate([observations[2][:, :9], observations[2][:, 18:39]], axis=1)
    expected[:, :7] += ZERO_RAD
    np.testing.assert_allclose(found.episodes[2].observations, expected, rtol=1e-5, atol=1e-6)
    assert "observations/observation (59 columns, of which 0..8, 18..38)" in found.notes[0]


def refused(path: Path, domain: Domain, **options: Any) -> str:
    with pytest.raises(EpisodeError) as caught:
        read(path, domain=domain, **options)
    return str(caught.value)


@pytest.mark.parametrize(("width", "actions"), [(45, 9), (61, 9), (12, 9), (60, 4), (30, 10)])
def test_another_width_is_refused_with_the_bound(tmp_path: Path, width: int, actions: int, domain: Domain) -> None:
    d4rl_file(tmp_path / "kitchen.hdf5", width=width, actions=actions)
    words = refused(tmp_path / "kitchen.hdf5", domain)
    assert words.startswith("kitchen.hdf5: session 0: no mapping of domain 'kitchen' (30 channels, 9 actions) fits")
    assert "--domain" in words and "--mapping" in words
    field, got, known = ("actions", actions, "9") if actions != 9 else ("observations", width, "30 or 60")
    assert f"mapping d4rl: {field} has {got} columns, the mapping wants {known}" in words
    assert "mapping minari: observations has" in words and "mapping plain: " in words


def test_an_action_out_of_bounds_is_named_by_row_and_value(tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "kitchen.hdf5"
    d4rl_file(path)
    change(path, "actions", lambda a: a.__setitem__((35, 3), 11.9))
    words = refused(path, domain)
    assert words.startswith(
        "kitchen.hdf5: episode 1: actions step 5: panda_joint4.velocity is 11.9, must lie in -1 to 1"
    )
    found = read(path, domain=domain, skip_damaged=True)
    assert len(found.episodes) == 1 and words_of(found)[0].startswith("kitchen.hdf5: episode 1: actions step 5")
    change(path, "actions", lambda a: a.__setitem__((35, 3), 1 + 5e-6))
    assert len(read(path, domain=domain).episodes) == 2


def test_a_file_without_any_end_is_refused_unless_it_is_said_to_be_one_episode(tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "kitchen.hdf5"
    d4rl_file(path, steps=(50,))
    change(path, "timeouts", lambda ends: ends.__setitem__(slice(None), False))
    assert "no end of an episode is marked in 50 rows" in refused(path, domain)
    assert "--one-episode" in refused(path, domain, skip_damaged=True)
    assert ingested(path, "--one-episode").lengths.tolist() == [49]


def test_rows_that_no_arm_could_follow_are_named(tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "kitchen.hdf5"
    d4rl_file(path)
    change(path, "timeouts", lambda ends: ends.__setitem__(29, False))  # two episodes taken for one
    words = refused(path, domain)
    assert "episode 0: field observations rows 29 to 30: panda_joint" in words and "jump: split" in words
    assert "rad in 0.08 s, at most 0.5" in words and "3 times what panda can" in words


def test_the_fastest_motion_is_no_jump(domain: Domain) -> None:
    limits = load_limits(domain.robot)
    rows = np.zeros((2, 30), np.float32)
    rows[1, :7] = limits.dq_max_rad_s * domain.action.period_s
    assert not why_jumping(rows, domain, limits)
    rows[1, :7] *= 3.1
    assert "panda_joint1" in why_jumping(rows, domain, limits)
    armless = replace(domain.observation, joints=0, fingers=0)
    assert not why_jumping(rows, replace(domain, observation=armless), limits)


def test_a_damaged_episode_is_named_and_the_rest_still_loads(tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "kitchen.hdf5"
    d4rl_file(path)
    change(path, "observations", lambda rows: rows.__setitem__((35, 12), np.nan))
    words = refused(path, domain)
    assert words.startswith(
        "kitchen.hdf5: episode 1: field observations row 35: column 12 is nan, must be finite (1 of 20"
    )
    found = read(path, domain=domain, skip_damaged=True)
    assert len(found.episodes) == 1 and "episode 1" in words_of(found)[0]


def test_a_minari_episode_without_a_field_is_named_and_the_rest_still_loads(tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "main_data.hdf5"
    minari_file(path, 3)
    with h5py.File(path, "r+") as file:
        del file["episode_1/actions"]
        file["episode_3"] = np.zeros(3)
    assert refused(path, domain).startswith("main_data.hdf5: session episode_1: field actions is missing")
    found = read(path, domain=domain, skip_damaged=True)
    assert [e.meta.episode_id for e in found.episodes] == ["episode_0", "episode_2"] and len(found.dropped) == 2


@pytest.mark.parametrize("name", ["episode_x", "episode_", "episode_1b"])
def test_a_group_of_another_name_is_refused_in_words(tmp_path: Path, name: str, domain: Domain) -> None:
    path = tmp_path / "main_data.hdf5"
    minari_file(path, 2)
    with h5py.File(path, "r+") as file:
        file.move("episode_1", name)
    assert f"main_data.hdf5: group {name!r} is not named episode_<number>" in refused(path, domain)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (["actions"], "field actions is missing"),
        (["terminals", "timeouts"], "no end of an episode is marked in 50 rows"),
    ],
)
def test_a_missing_field_or_a_cut_file_is_named(tmp_path: Path, fields: list[str], words: str, domain: Domain) -> None:
    path = tmp_path / "kitchen.hdf5"
    d4rl_file(path)
    with h5py.File(path, "r+") as file:
        for field in fields:
            del file[field]
    assert refused(path, domain).startswith("kitchen.hdf5: ") and words in refused(path, domain)
    path.write_bytes(path.read_bytes()[:1000])
    assert "is it cut short?" in refused(path, domain)


def test_fields_that_are_no_numbers_or_of_another_length_are_named(tmp_path: Path, domain: Domain) -> None:
    for field, edit, words in (
        ("timeouts", lambda ends: ends[:-1], "observations 50, timeouts 49"),
        ("timeouts", lambda ends: np.stack([ends, ends], 1), "observations 50, timeouts 100"),
        ("actions", lambda a: a[:-1], "observations 50, actions 49"),
        ("observations", lambda rows: rows[:, 0], r"observations is float32 (50,), must be a matrix"),
        ("terminals", lambda ends: "none", "field terminals holds texts"),
    ):
        path = tmp_path / "kitchen.hdf5"
        d4rl_file(path)
        change(path, field, edit)
        assert words in refused(path, domain)


def test_a_row_that_is_too_short_for_an_episode_is_said_to_be_left_out(tmp_path: Path, domain: Domain) -> None:
    d4rl_file(tmp_path / "kitchen.hdf5", steps=(30, 1, 20))
    found = read(tmp_path / "kitchen.hdf5", domain=domain)
    assert len(found.episodes) == 2 and "row 30 is an episode of its own" in words_of(found)[0]


def test_what_can_t_be_ingested_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    d4rl_file(tmp_path / "kitchen.hdf5")
    with (tmp_path / "bag.mcap").open("xb") as file:
        writer = Writer(file)
        writer.start(profile="ros2", library="x")
        writer.finish()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    good, out = str(tmp_path / "kitchen.hdf5"), str(tmp_path / "out")
    for options, words in (
        (["--source", str(tmp_path / "none.hdf5"), "--out", out], "there is no such file"),
        (["--source", good], "no --out is named"),
        (["--out", out, "--source"], "--source names nothing"),
        (["--source", str(tmp_path / "empty"), "--out", out], "is an empty folder"),
        (["--source", str(tmp_path / "bag.mcap"), "--out", out], "bag.mcap: holds nothing that is a number over time"),
        (["--source", good, "--out", str(tmp_path / "file")], "is a file; recordings go to a folder"),
        (["--source", good, "--out", str(tmp_path / "file" / "out")], "choose another folder"),
        (["--source", good, "--out", str(tmp_path)], "is not empty"),
        (["--source", good, "--out", out, "--domain", "garden"], "no domain 'garden'"),
        (["--source", good, "--out", out, "--mapping", "rlds"], "no mapping 'rlds'; there are d4rl, minari, plain"),
        (["--source", good, "--out", out, "--mapping", "minari"], "observations has 60 columns"),
        (["--source", good, "--out", out, "--format", "minari"], "holds no episodes"),
    ):
        assert ingest(options) == 1
        said = capsys.readouterr().err
        assert said.startswith("skimo ingest: ") and words in said and said.count("\n") == 1, said
    assert not Path(out).exists()


# --- mappings of the kitchen ----------------------------------------------------------------------------------------


MAPPING = """
name: mocap
domain: kitchen
licence: CC0-1.0
rate_hz: 12.5
widths: {observations: 45}
channels:
  panda_joint1..panda_joint7: {field: observations, columns: 0..6, unit: rad, offset: [0, 0, 0, 0, 0, 1.5707963, 1]}
  panda_finger_joint1..kettle.qz: {field: observations, columns: [7..8, 15..35], unit: same}
actions:
  arm: {kind: given, field: actions, columns: 0..6, unit: "1", one_means_rad_s: 1.5}
  hand: {kind: given, field: actions, columns: 7..8, unit: "1"}
"""


def test_a_labs_own_mapping_is_a_file(tmp_path: Path, domain: Domain) -> None:
    (tmp_path / "mocap.yaml").write_text(MAPPING)
    observations = d4rl_file(tmp_path / "kitchen.hdf5", width=45)
    found = read(tmp_path / "kitchen.hdf5", domain=domain, mapping=tmp_path / "mocap.yaml")
    rows = found.episodes[0].observations
    np.testing.assert_allclose(rows[:, 6], panda_motion(30)[:, 6] - np.pi / 4 + 1, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rows[:, 9:], observations[:30, 15:36])
    assert "1 meant" not in found.notes[0] and found.licence == "CC0-1.0"
    with pytest.raises(
        SpecError, match=r"mapping mocap .* is of domain 'kitchen', not 'workbench'; name that --domain"
    ):
        parse_mapping(MAPPING, "mocap.yaml", replace(domain, name="workbench"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("15..35", "25..45", "no column 45; it has 45: 0, 1"),
        ("15..35", "35..15", "columns must hold names, indices from 0 or FIRST..LAST, has '35..15'"),
        ("[7..8, 15..35]", "[]", "columns names 0 columns, 23 are wanted"),
        ("[7..8, 15..35]", "0..2", "columns names 3 columns, 23 are wanted"),
        ("{observations: 45}", "{observations: 0}", "whole numbers above 0"),
        ("name: mocap", "nam: mocap", "no 'name'"),
        ("one_means_rad_s: 1.5", "one_means_rad_s: -1", "above 0"),
        ("one_means_rad_s: 1.5", "one_means_rad_s: 1.5, more: 1", "unknown key 'more'"),
        ("rate_hz: 12.5", "rate_hz: 12.5\nrats: 1", "unknown key 'rats'"),
        ("offset: [0, 0, 0, 0, 0, 1.5707963, 1]", "offset: [0, 1]", "offset must hold 7 finite numbers"),
    ],
)
def test_a_malformed_mapping_is_refused_by_key(tmp_path: Path, domain: Domain, old: str, new: str, words: str) -> None:
    assert old in MAPPING
    d4rl_file(tmp_path / "kitchen.hdf5", width=45)
    (tmp_path / "mocap.yaml").write_text(MAPPING.replace(old, new))
    with pytest.raises((SpecError, EpisodeError)) as caught:
        read(tmp_path / "kitchen.hdf5", domain=domain, mapping=tmp_path / "mocap.yaml")
    assert "mocap" in str(caught.value) and words in str(caught.value)


def test_a_mapping_is_of_one_domain(domain: Domain) -> None:
    assert known_mappings() == ("d4rl", "minari", PLAIN)
    assert [mapping.name for mapping in find_mappings("", domain)] == ["d4rl", "minari", PLAIN]
    assert [mapping.name for mapping in find_mappings("", replace(domain, name="workbench"))] == [PLAIN]
    with pytest.raises(SpecError, match=r"mapping d4rl .* is of domain 'kitchen', not 'workbench'"):
        find_mappings("d4rl", replace(domain, name="workbench"))


# --- what a recording says of itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("domain", ("kitchen", "0" * 64), "domain 'kitchen' (digest 000000000000), wanted 'kitchen' (digest "),
        ("robot", ("fr3", "1" * 64), "robot 'fr3' (digest 111111111111), wanted 'panda'"),
        ("rate_hz", 20.0, "20 control steps per second, wanted 12.5"),
        ("channels", ("a",) * 30, "channel 0 'a', wanted 'panda_joint1'"),
    ],
)
def test_a_recording_of_something_else_is_told_apart(field: str, value: Any, words: str, domain: Domain) -> None:
    limits = load_limits(domain.robot)
    meta = EpisodeMeta(episode_id="e", source="play")
    assert not why_unlike(meta, domain, limits)
    former = replace(limits.named, digest=limits.former_digests[0])
    assert not why_unlike(replace(meta, domain=domain.named, robot=former), domain, limits)
    if isinstance(value, tuple) and len(value) == 2:
        value = replace(limits.named, name=value[0], digest=value[1])
    assert words in why_unlike(replace(meta, **{field: value}), domain, limits)


def test_recordings_from_before_imports_named_their_source_are_still_read() -> None:
    meta = EpisodeMeta(episode_id="e", source="import", licence="MIT")
    data = json.loads(meta.to_json())
    assert EpisodeMeta.from_json(json.dumps(data)) == meta
    old = {key: value for key, value in data.items() if key not in ("origin", "mapping", "licence")}
    assert EpisodeMeta.from_json(json.dumps(old)) == replace(meta, licence="")
    with pytest.raises(EpisodeError, match="field 'licence' is '3'"):
        EpisodeMeta.from_json(json.dumps({**data, "licence": 3}))
