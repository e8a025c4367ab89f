"""What an import tells: what came out, what did not and why, what never moved; drafts that work once checked."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from core.test_ingest_actions import reach
from core.test_mapping import ARM, WORKBENCH
from support.foreign import JOINTS, arm_bag, wave

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.cache import load_folder
from skimo_core.episodes.recording import read_meta
from skimo_core.ingest.cli import ingest
from skimo_core.ingest.mapping_file import parse_mapping
from skimo_core.ingest.pipeline import read

ROWS = 61


def recording(path: Path, episodes: int = 2, *, still: bool = False, seed: int = 0) -> None:
    """A lab's HDF5 file: groups of an FR3's joints, its hand's width in mm, and a cube that never leaves its height."""
    rng, times_s = np.random.default_rng(seed), np.arange(ROWS) / 20
    with h5py.File(path, "w") as file:
        for index in range(episodes):
            group = file.create_group(f"run_{index}")
            q_rad = reach(times_s, 0.0 if still else rng.uniform(0.2, 0.5))
            group["time"] = times_s
            group["fr3/joint_positions"] = q_rad
            group["gripper/width"] = np.where(times_s < 1.5, 80.0, 80.0 if still else 20.0)
            group["cube"] = np.stack(
                [0.4 + 0 * times_s + (0 if still else 0.1 * times_s), 0 * times_s, 0 * times_s], axis=1
            )


def mapping(path: Path, **changes: Any) -> Path:
    words = {
        "name": "lab",
        "domain": "workbench",
        "channels": {
            ARM: {"field": "fr3/joint_positions", "columns": "0..6", "unit": "rad"},
            "fr3_finger_joint1..fr3_finger_joint2": {"width_field": "gripper/width", "unit": "mm"},
            "cube.x..cube.z": {"field": "cube", "unit": "m"},
        },
        "actions": {"arm": {"kind": "velocities"}, "hand": {"kind": "width", "threshold_m": 0.01}},
    }
    path.write_text(yaml.safe_dump({**words, **changes}))
    return path


def options(tmp_path: Path, *sources: Path, **more: str) -> list[str]:
    said = ["--source", *map(str, sources), "--domain", str(WORKBENCH), "--out", str(tmp_path / "out")]
    said += ["--mapping", str(mapping(tmp_path / "lab.yaml"))] if "mapping" not in more else []
    return [*said, *(part for key, value in more.items() for part in (f"--{key}", value))]


def test_an_import_is_reported_as_text_json_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").mkdir()
    recording(tmp_path / "play.hdf5")
    recording(tmp_path / "b" / "play.hdf5", 1, seed=1)
    assert ingest(options(tmp_path, tmp_path / "play.hdf5", tmp_path / "b" / "play.hdf5", licence="CC-BY-4.0")) == 0
    said = capsys.readouterr().out
    assert "ingested 3 episodes 180 steps digest " in said.splitlines()[-1]
    assert "licence CC-BY-4.0 (by the command line)" in said and "velocities from measured positions (2 times)" in said
    assert "cube.z                            0 .. 0          m  never moved: can't be a goal, and the model" in said
    assert "executed, 180 steps of them lead to within 0.00" in said and "0.00% at the limit" in said
    told = json.loads((tmp_path / "out" / "import.json").read_text())
    assert [channel["name"] for channel in told["channels"] if channel["still"]] == ["cube.y", "cube.z"]
    assert (tmp_path / "out" / "import.png").read_bytes().startswith(b"\x89PNG")
    cache, _ = load_folder(tmp_path / "out")
    assert cache.digest == told["digest"] and sorted(meta.episode_id for meta in cache.metas) == [
        "play-00000",
        "play-00001",
        "play-2-00000",
    ]
    meta = read_meta(tmp_path / "out" / "play-2-00000.mcap")
    assert meta.origin.name == "hdf5 play.hdf5: run_0" and meta.origin.digest == told["sources"][1]["digest"]
    assert (meta.licence, meta.mapping.digest) == ("CC-BY-4.0", told["sources"][0]["mapping_digests"][0])


def test_a_channel_that_never_moved_is_no_goal_for_what_learns_of_it(tmp_path: Path) -> None:
    recording(tmp_path / "play.hdf5")
    domain = load_domain(WORKBENCH)
    lab = mapping(tmp_path / "lab.yaml", licence="CC0-1.0")
    rows = read(tmp_path / "play.hdf5", domain=domain, mapping=lab).episodes[0].observations
    low, high = rows.min(0).tolist(), rows.max(0).tolist()
    domain.check_within(domain.task("cube.x=0.5"), low, high)
    with pytest.raises(SpecError, match=r"cube\.z 0\.3 m is not within .* of what the policy's data cover, 0 to 0 m"):
        domain.check_within(domain.task("cube.z=0.3"), low, high)


def test_a_recording_in_which_nothing_moves_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording(tmp_path / "play.hdf5", still=True)
    assert ingest(options(tmp_path, tmp_path / "play.hdf5", licence="CC0-1.0")) == 1
    said = capsys.readouterr().err
    assert "play.hdf5: none of 12 channels ever moves in 2 episodes, 120 steps (fr3_joint1 stays 0 rad)" in said
    assert not (tmp_path / "out").exists()


def test_a_source_that_gives_nothing_is_listed_beside_those_that_give_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording(tmp_path / "play.hdf5")
    (tmp_path / "cut.hdf5").write_bytes((tmp_path / "play.hdf5").read_bytes()[:2000])
    both = options(tmp_path, tmp_path / "cut.hdf5", tmp_path / "play.hdf5", licence="CC0-1.0")
    assert ingest(both) == 1 and "cut.hdf5: can't be read as HDF5" in capsys.readouterr().err
    assert ingest([*both, "--skip-damaged"]) == 0
    assert capsys.readouterr().err.startswith("left out: cut.hdf5: can't be read as HDF5")


def test_without_matplotlib_the_rest_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, *args, **kwargs)

    recording(tmp_path / "play.hdf5")
    monkeypatch.setattr(builtins, "__import__", without)
    assert ingest(options(tmp_path, tmp_path / "play.hdf5", licence="CC0-1.0")) == 0
    assert "no picture: matplotlib is missing (pip install 'skimo_core[ingest]')" in capsys.readouterr().out
    assert (tmp_path / "out" / "import.json").exists() and not (tmp_path / "out" / "import.png").exists()


def test_a_draft_works_once_its_guesses_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording(tmp_path / "play.hdf5")
    draft = tmp_path / "draft.yaml"
    look = ["--source", str(tmp_path / "play.hdf5"), "--domain", str(WORKBENCH)]
    assert ingest([*look, "--draft", str(draft)]) == 0
    assert "guesses are marked" in capsys.readouterr().out
    text = draft.read_text()
    lines = {line.split(":")[0].strip(): line for line in text.splitlines() if line.startswith("  ") and ":" in line}
    assert "{field: fr3/joint_positions, columns: 0..6, unit: rad}  # guess: " in lines[ARM]
    assert (
        "{width_field: gripper/width, column: '0', unit: mm}  # guess: "
        in lines["fr3_finger_joint1..fr3_finger_joint2"]
    )
    assert "{kind: velocities}  # guess: " in lines["arm"] and "# licence: ..." in text
    assert all("# guess" in line for line in lines.values())  # nothing is guessed in silence
    parse_mapping(text, "draft.yaml", load_domain(WORKBENCH))
    given = options(tmp_path, tmp_path / "play.hdf5", mapping=str(draft), licence="CC0-1.0")
    assert "cube.z: {field: cube, column: 2, unit: m}" in lines["cube.z"]
    assert ingest(given) == 0
    assert load_folder(tmp_path / "out")[0].observations[:, 9].max() == pytest.approx(0.7)
    with h5py.File(tmp_path / "play.hdf5", "r+") as file:
        for index in range(2):
            file.move(f"run_{index}/cube", f"run_{index}/thing")
    assert ingest([*look, "--draft", str(tmp_path / "unlike.yaml")]) == 0
    unlike = options(tmp_path, tmp_path / "play.hdf5", mapping=str(tmp_path / "unlike.yaml"), licence="CC0-1.0")
    unlike[unlike.index("--out") + 1] = str(tmp_path / "other")
    assert ingest(unlike) == 1 and "no field FILL_IN" in capsys.readouterr().err  # it can't be taken by mistake
    assert ingest([*look, "--draft", str(draft)]) == 1
    assert "is there already, and is not overwritten" in capsys.readouterr().err


def test_a_bag_of_ros_comes_in_at_the_domains_rate(tmp_path: Path) -> None:
    arm_bag(150).write(tmp_path / "bag")
    domain = {
        "name": "bench",
        "robot": "panda",
        "cell": "open",
        "rate_hz": 12.5,
        "horizon": 5,
        "step_limit": 100,
        "action": {"velocity_scale_rad_s": 1.5},
        "channels": [
            *({"name": name, "source": "joint", "unit": "rad"} for name in JOINTS),
            *({"name": f"block.{letter}", "source": "object", "unit": "m"} for letter in "xyz"),
            {"name": "drawer", "source": "object", "unit": "m"},
        ],
        "subtasks": {"pull": {"goal": {"drawer": 0.3}, "threshold": 0.1}},
    }
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(domain))
    look = ["--source", str(tmp_path / "bag"), "--domain", str(tmp_path / "bench.yaml")]
    assert ingest([*look, "--draft", str(tmp_path / "draft.yaml")]) == 0
    words = yaml.safe_load((tmp_path / "draft.yaml").read_text())
    joints = words["channels"]["panda_joint1..panda_joint7"]
    assert joints["columns"] == list(JOINTS) and words["channels"]["block"]["pose_field"] == "/block/pose"
    assert words["channels"]["drawer"]["column"] == "drawer" and words["actions"] == {"arm": {"kind": "velocities"}}
    joints["offset"] = [0, 0, 0, -1.5, 0, 1.5, 0]  # the test's waves, into the Panda's range
    words["episodes"] = {"one_episode": True}
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump({**words, "licence": "CC0-1.0"}))
    assert ingest([*look, "--mapping", str(tmp_path / "lab.yaml"), "--out", str(tmp_path / "out")]) == 0
    rows = load_folder(tmp_path / "out")[0].observations
    at = 4 * np.arange(len(rows))  # 50 Hz to 12.5 Hz
    expected = wave(150, 7)[at] + np.array(joints["offset"])
    assert np.abs(rows[5:-5, :7] - expected[5:-5]).max() < 0.02
    np.testing.assert_allclose(rows[5:-5, 8], 0.001 * at[5:-5], atol=1e-4)


def test_a_look_tells_fields_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording(tmp_path / "play.hdf5")
    assert ingest(["--source", str(tmp_path / "play.hdf5"), "--inspect"]) == 0
    said = capsys.readouterr().out
    assert "fr3/joint_positions: 7 columns, 122 rows, 20 Hz" in said and "licence   none named" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["play.hdf5"]


def test_joints_of_the_test_are_within_the_robots_range() -> None:
    limits, q_rad = load_limits("fr3"), reach(np.arange(ROWS) / 20)
    assert (q_rad > limits.q_min_rad).all() and (q_rad < limits.q_max_rad).all()
