"""Mappings: from named signals of any rate and unit to a domain; what does not fit is told with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from skimo_core.contract.errors import EpisodeError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.fit import why_unlike
from skimo_core.ingest import units
from skimo_core.ingest.mapping_file import parse_mapping
from skimo_core.ingest.pipeline import Imported, ingest_source
from skimo_core.ingest.resampling import held_means, low_pass, resample
from skimo_core.ingest.source import About, Session, Signal

WORKBENCH = Path(__file__).parents[1] / "eval" / "workbench.yaml"
ARM = "fr3_joint1..fr3_joint7"
FINGERS = "fr3_finger_joint1..fr3_finger_joint2"
MAPPING: dict[str, Any] = {
    "name": "lab",
    "domain": "workbench",
    "licence": "CC0-1.0",
    "channels": {
        ARM: {"field": "q", "columns": "0..6", "unit": "rad"},
        FINGERS: {"width_field": "width", "unit": "m"},
        "cube.x": {"field": "cube", "column": "x", "unit": "m"},
        "cube.y": {"field": "cube", "column": "y", "unit": "m"},
        "cube.z": {"field": "cube", "column": "z", "unit": "m"},
    },
    "actions": {"arm": {"kind": "velocities"}, "hand": {"kind": "width", "threshold_m": 0.01}},
}


@dataclass(frozen=True)
class InMemory:
    """A source of sessions that are there already."""

    sessions_: tuple[Session, ...]
    licence: str = ""

    def about(self) -> About:
        return About(format="memory", files=("made",), digest="0" * 64, licence=self.licence)

    def sessions(self, *, skip_damaged: bool = False) -> Iterator[Session]:
        yield from self.sessions_


@pytest.fixture(scope="module")
def bench() -> Domain:
    return load_domain(WORKBENCH)


def posture(times_s: np.ndarray) -> np.ndarray:
    """Joint positions [T, 7] of slow sines round the FR3's home."""
    phase = np.arange(7)
    return load_limits("fr3").home_q_rad + 0.3 * np.sin(0.8 * times_s[:, None] + phase)


def signal(name: str, times_s: np.ndarray, values: np.ndarray, columns: str = "", unit: str = "") -> Signal:
    rows = values.reshape(len(times_s), -1)
    names = tuple(columns.split()) or tuple(map(str, range(rows.shape[1])))
    return Signal(name=name, columns=names, times_s=times_s, values=rows, unit=unit)


def session(rate_hz: float = 20.0, seconds: float = 4.0, *, timed: bool = True, **changes: Any) -> Session:
    """A lab's session: joints, the hand's width and a cube at one rate."""
    times_s = np.arange(round(seconds * rate_hz) + 1) / rate_hz
    cube = np.stack([0.4 + 0.05 * np.sin(times_s), 0.1 * np.cos(times_s), 0.02 + 0 * times_s], axis=1)
    signals = {
        "q": signal("q", times_s, posture(times_s)),
        "width": signal("width", times_s, np.where(times_s < seconds / 2, 0.08, 0.0)),
        "cube": signal("cube", times_s, cube, "x y z"),
    }
    signals |= changes.pop("signals", {})
    rate = None if timed else rate_hz
    return Session(**({"name": "s0", "signals": signals, "timed": timed, "rate_hz": rate} | changes))


def mapped(words: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The mapping with keys replaced; of `channels` and `actions` only those that are named."""
    merged = {**words, **{key: value for key, value in changes.items() if key not in ("channels", "actions")}}
    for table in ("channels", "actions"):
        rows = {**words[table], **changes.get(table, {})}
        merged[table] = {key: row for key, row in rows.items() if row is not None}
    return merged


def ingested(domain: Domain, *sessions: Session, options: dict[str, Any] | None = None, **changes: Any) -> Imported:
    mapping = parse_mapping(yaml.safe_dump(mapped(MAPPING, **changes)), "lab.yaml", domain)
    return ingest_source(InMemory(sessions), "play", domain=domain, mappings=(mapping,), **(options or {}))


def refused(domain: Domain, *sessions: Session, **changes: Any) -> str:
    with pytest.raises(EpisodeError) as caught:
        ingested(domain, *sessions, **changes)
    return str(caught.value)


# --- channels -------------------------------------------------------------------------------------------------------


def test_rows_at_the_domains_rate_come_out_as_they_are(bench: Domain) -> None:
    made = session()
    (episode,) = ingested(bench, made).episodes
    np.testing.assert_array_equal(episode.observations[:, :7], made.signals["q"].values.astype(np.float32))
    np.testing.assert_array_equal(episode.observations[:, 9:], made.signals["cube"].values.astype(np.float32))
    np.testing.assert_allclose(episode.observations[:, 7:9], made.signals["width"].values / 2 @ np.ones((1, 2)))
    assert (episode.steps, episode.meta.origin.name, episode.meta.licence) == (80, "memory play: s0", "CC0-1.0")
    assert episode.meta.mapping.name == "lab" and not why_unlike(episode.meta, bench, load_limits("fr3"))


def test_units_signs_and_zeros_are_converted(bench: Domain) -> None:
    made = session()
    zero = np.arange(7) / 10
    theirs = {
        "q": signal("q", made.signals["q"].times_s, np.rad2deg(-(made.signals["q"].values - zero))),
        "cube": signal("cube", made.signals["cube"].times_s, 1e3 * made.signals["cube"].values, "x y z", unit="mm"),
    }
    arm = {"field": "q", "columns": "0..6", "unit": "deg", "sign": -1, "offset": zero.tolist()}
    cube = {f"cube.{k}": {"field": "cube", "column": k} for k in "xyz"}  # the source says its unit
    (episode,) = ingested(bench, session(signals=theirs), channels={ARM: arm, **cube}).episodes
    (plain,) = ingested(bench, made).episodes
    np.testing.assert_allclose(episode.observations, plain.observations, atol=2e-6)


def test_a_unit_that_cannot_be_is_refused(bench: Domain) -> None:
    assert "unit 'mm' can't become 'rad': length is no angle" in refused(
        bench, session(), channels={ARM: {"field": "q", "unit": "mm"}}
    )
    words = refused(bench, session(), channels={ARM: {"field": "q"}})
    assert words.startswith(
        "play: session s0: field q: neither the source nor the mapping says its unit; say `unit: rad`"
    )
    with pytest.raises(SpecError, match="unit 'furlong' is not known; known are rad"):
        ingested(bench, session(), channels={ARM: {"field": "q", "unit": "furlong"}})
    with pytest.raises(SpecError, match="is no angle per second"):
        units.factor("rad", "deg/s")
    assert units.factor("deg/s", "rad/s") == pytest.approx(np.pi / 180)


def test_degrees_that_are_taken_for_radians_are_told(bench: Domain) -> None:
    made = session()
    degrees = {"q": signal("q", made.signals["q"].times_s, np.rad2deg(made.signals["q"].values))}
    words = refused(bench, session(signals=degrees))
    assert words.startswith("play: episode s0: field q row ") and "but fr3 reaches -2.744 to 2.744 rad" in words
    assert "these look like degrees: say `unit: deg`" in words
    found = ingested(bench, session(), channels={ARM: {"field": "q", "unit": "deg"}})
    assert any("if they are radians, say `unit: rad`" in note for note in found.notes)


@pytest.mark.parametrize("order", ["xyzw", "wxyz", None])
def test_a_pose_is_one_line_and_its_quaternion_keeps_its_side(order: str | None) -> None:
    domain = load_domain()  # the kettle has position and quaternion
    times_s = np.arange(41) / 12.5
    half = 0.9 * times_s  # the turn's half angle passes a half turn: w changes its sign
    turn = {"w": np.cos(half), "x": 0 * half, "y": 0 * half, "z": np.sin(half)}
    jumpy = np.where(np.arange(41) % 2, -1.0, 1.0)
    place = np.stack([0.1 + times_s, 0 * times_s, 1 + 0 * times_s], axis=1)
    parts = np.stack([turn[k] * jumpy for k in order or "xyzw"], axis=1)
    ros = "pose.position.x pose.position.y pose.position.z " + " ".join(f"pose.orientation.{k}" for k in "xyzw")
    pose = signal("pose", times_s, np.concatenate([place, parts], axis=1), "" if order else ros)
    others = [name for name in domain.observation.names if not name.startswith("kettle")]
    words = {
        **MAPPING,
        "domain": "kitchen",
        "channels": {
            **{name: {"constant": 0.5 if "finger" not in name else 0.02} for name in others},
            "panda_joint4": {"constant": -1.5},
            "kettle": {"pose_field": "pose", "unit": "m"} | ({"order": order} if order else {}),
        },
    }
    mapping = parse_mapping(yaml.safe_dump(words), "kettle.yaml", domain)
    made = Session(name="s0", signals={"pose": pose}, timed=True)
    (episode,) = ingest_source(InMemory((made,)), "play", domain=domain, mappings=(mapping,)).episodes
    np.testing.assert_allclose(episode.observations[:, -7:-4], place, atol=1e-6)
    expected = np.stack([turn[k] for k in "wxyz"], axis=1)
    np.testing.assert_allclose(episode.observations[:, -4:], expected, atol=1e-6)


def test_a_yaw_is_read_off_a_pose_and_goes_on_beyond_a_half_turn(tmp_path: Path) -> None:
    words = yaml.safe_load(WORKBENCH.read_text())
    words["channels"] += [{"name": "cube.yaw", "source": "object", "unit": "rad"}]
    (tmp_path / "turning.yaml").write_text(yaml.safe_dump(words))
    domain = load_domain(tmp_path / "turning.yaml")
    made = session()
    times_s = made.signals["q"].times_s
    turn = np.stack([0 * times_s, 0 * times_s, np.sin(0.6 * times_s), np.cos(0.6 * times_s)], axis=1)
    pose = signal("cube", times_s, np.concatenate([made.signals["cube"].values, turn], axis=1))
    lines = {"cube": {"pose_field": "cube", "order": "xyzw", "unit": "m"}, **{f"cube.{k}": None for k in "xyz"}}
    (episode,) = ingested(domain, session(signals={"cube": pose}), channels=lines).episodes
    np.testing.assert_allclose(episode.observations[:, 12], 1.2 * times_s, atol=1e-5)
    np.testing.assert_allclose(episode.observations[:, 9:12], made.signals["cube"].values, atol=1e-6)


def test_poses_that_a_tracker_tells_in_its_own_frame_come_out_in_the_base_s(tmp_path: Path) -> None:
    words = yaml.safe_load(WORKBENCH.read_text())
    words["channels"] += [{"name": "cube.yaw", "source": "object", "unit": "rad"}]
    (tmp_path / "turning.yaml").write_text(yaml.safe_dump(words))
    domain, made = load_domain(tmp_path / "turning.yaml"), session()
    times_s, place_m = made.signals["q"].times_s, made.signals["cube"].values
    turn = np.stack([0 * times_s, 0 * times_s, np.sin(0.2 * times_s), np.cos(0.2 * times_s)], axis=1)
    pose = signal("cube", times_s, np.concatenate([place_m, turn], axis=1))
    frame = {"position_m": [0.5, 0.0, 0.8], "quat_wxyz": [0.0, 1.0, 0.0, 0.0]}  # hangs from the ceiling, looking down
    lines = {"cube": {"pose_field": "cube", "order": "xyzw", "unit": "m", "frame": frame}}
    lines |= {f"cube.{k}": None for k in "xyz"}
    (episode,) = ingested(domain, session(signals={"cube": pose}), channels=lines).episodes
    expected_m = np.array([0.5, 0.0, 0.8]) + place_m * [1, -1, -1]
    np.testing.assert_allclose(episode.observations[:, 9:12], expected_m, atol=1e-6)
    yaw_rad = episode.observations[:, 12]
    np.testing.assert_allclose(yaw_rad - yaw_rad[0], -0.4 * times_s, atol=1e-5)
    with pytest.raises(SpecError, match="frame"):
        ingested(domain, session(signals={"cube": pose}), channels={**lines, "cube": {**lines["cube"], "frame": {}}})


def test_what_is_no_quaternion_is_refused() -> None:
    with pytest.raises(EpisodeError, match="row 3 has length 2, must be 1"):
        quaternions = np.tile([1.0, 0, 0, 0], (9, 1))
        quaternions[3] *= 2
        resample(np.arange(9.0), quaternions, np.arange(9.0), "turn")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": {"cube.z": None}}, "no entry for cube.z; say where it comes from, or `constant: VALUE`"),
        ({"channels": {"cube.x..cube.y": {"constant": 0}}}, "cube.x has two entries"),
        ({"channels": {"cup.x": {"constant": 0}}}, "the domain has no channel 'cup.x'; it has fr3_joint1"),
        ({"channels": {"cube.z": {"constant": 0, "field": "cube"}}}, "must have one of field, width_field, pose_field"),
        ({"channels": {"cube.z": {"field": "cube", "colum": 2}}}, "unknown key 'colum'"),
        ({"channels": {"cube.z": {"field": "cube", "sign": 2}}}, "sign must be 1 or -1"),
        ({"channels": {"cube.z": {"width_field": "cube"}}}, "width_field is of the fingers (fr3_finger_joint1"),
        ({"channels": {"lamp": {"pose_field": "cube", "order": "xyzw"}}}, "the domain has no channel lamp.x"),
        ({"actions": {"arm": None}}, "no entry 'arm' for the domain's actions fr3_joint1.velocity"),
        ({"actions": {"hand": None}}, "no entry 'hand'"),
        ({"actions": {"others": {"kind": "given", "field": "a"}}}, "domain 'workbench' has no such actions"),
        ({"actions": {"arm": {"kind": "magic"}}}, "kind must be one of given, velocities, end_effector"),
        ({"actions": {"hand": {"kind": "width", "threshold_m": 0}}}, "threshold_m must be above 0"),
        ({"actions": {"hand": {"kind": "command", "field": "g", "open_at": 1, "closed_at": 1}}}, "they must differ"),
        ({"episodes": {"jump": "ignore"}}, "jump must be one of refuse, split"),
        ({"episodes": {"least_s": -1}}, "least_s must be at least 0"),
        ({"episode": {}}, "unknown key 'episode'"),
        ({"widths": {"qq": 7}}, "widths: nothing is taken from field 'qq'; fields are cube, q, width"),
        ({"rate_hz": 0}, "rate_hz must be above 0"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_by_key(bench: Domain, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        ingested(bench, session(), **changes)
    assert str(caught.value).startswith("lab.yaml") and words in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"field": "joints", "unit": "rad"}, "no field joints; there are q, width, cube"),
        ({"field": "cub", "unit": "rad"}, "no field cub, did you mean 'cube'?"),
        (
            {"field": "q", "columns": ["a", 1, 2, 3, 4, 5, 6], "unit": "rad"},
            "field q has no column 'a'; it has 7: 0, 1",
        ),
        ({"field": "cube", "unit": "rad"}, "field cube has 3 columns (x, y, z), 7 are wanted"),
    ],
)
def test_a_field_or_column_that_is_not_there_is_told_with_those_that_are(
    bench: Domain, entry: dict[str, Any], words: str
) -> None:
    said = refused(bench, session(), channels={ARM: entry})
    assert said.startswith("play: session s0: ") and words in said


# --- rates ----------------------------------------------------------------------------------------------------------


def test_a_faster_source_is_filtered_before_rows_are_left_out(bench: Domain) -> None:
    fast = session(rate_hz=1000.0, seconds=6.0)
    times_s = fast.signals["q"].times_s
    hum = 0.05 * np.sin(2 * np.pi * 19.0 * times_s)  # between 10 and 20 Hz, at 20 Hz it would look like 1 Hz
    noisy = {"q": signal("q", times_s, fast.signals["q"].values + hum[:, None])}
    (clean,), (made,) = (
        ingested(bench, s).episodes for s in (session(seconds=6.0), replace(fast, signals={**fast.signals, **noisy}))
    )
    off = np.abs(made.observations[:, :7] - clean.observations[:, :7])
    assert off[10:-10].max() < 2e-3 and off.max() < 0.02
    bare = made.observations[:, :7] * 0 + np.interp(np.arange(121) / 20, times_s, hum)[:, None]
    assert np.abs(bare).max() > 0.04  # what taking every fiftieth row would have kept


@pytest.mark.parametrize("ratio", [2.4, 7.0, 50.0])
def test_the_low_pass_keeps_what_a_control_step_can_show_and_nothing_above(ratio: float) -> None:
    taps = low_pass(ratio)
    at = np.arange(len(taps)) - len(taps) // 2

    def gain(share: float) -> float:
        """Of a sine at a share of the wanted rate."""
        return float(abs((taps * np.exp(2j * np.pi * share / ratio * at)).sum()))

    np.testing.assert_allclose(taps, taps[::-1], atol=1e-15)  # zero phase
    assert gain(0.0) == pytest.approx(1.0) and gain(0.25) > 0.99 and 0.4 < gain(0.4) < 0.6
    assert max(gain(share) for share in np.linspace(0.5, min(ratio / 2, 3.0), 40)) < 0.02


@pytest.mark.parametrize("rate_hz", [30.0, 47.3])
def test_an_odd_rate_with_jitter_is_interpolated(bench: Domain, rate_hz: float) -> None:
    made = session(rate_hz=rate_hz)
    times_s = made.signals["q"].times_s + np.random.default_rng(0).uniform(
        0, 0.3 / rate_hz, len(made.signals["q"].times_s)
    )
    made = session(rate_hz=rate_hz, signals={"q": signal("q", times_s, posture(times_s))})
    (episode,) = ingested(bench, made).episodes
    begin_s = times_s[0]
    expected = posture(begin_s + np.arange(episode.steps + 1) / 20)
    assert np.abs(episode.observations[5:-5, :7] - expected[5:-5]).max() < 2e-3
    assert set(np.unique(episode.observations[:, 7]).tolist()) == {0.0, np.float32(0.04)}  # fingers never between


def test_signals_of_their_own_rates_meet_on_the_domains_grid(bench: Domain) -> None:
    cube_s = np.arange(0.1, 3.9, 1 / 25)
    cube = signal("cube", cube_s, np.stack([0.4 + 0.01 * cube_s, 0 * cube_s, 0 * cube_s], axis=1), "x y z")
    (episode,) = ingested(bench, session(rate_hz=100.0, signals={"cube": cube})).episodes
    assert episode.steps == 75  # from where both are there to where both still are
    np.testing.assert_allclose(episode.observations[3:-3, 9], 0.4 + 0.01 * (0.1 + np.arange(76) / 20)[3:-3], atol=1e-5)


def test_a_domain_faster_than_the_source_is_refused_or_told(bench: Domain) -> None:
    slow = session(rate_hz=8.0)
    words = refused(bench, slow)
    assert "field cube has 8 rows a second, the domain 20" in words and "slower: interpolate" in words
    found = ingested(bench, slow, slower="interpolate")
    assert found.episodes[0].steps == 80 and any("interpolated" in note for note in found.notes)


def test_a_source_without_times_needs_a_rate_from_one_and_not_from_two(bench: Domain) -> None:
    counted = session(timed=False)
    assert ingested(bench, counted).episodes[0].steps == 80
    assert "the source says 20 rows a second, mapping lab 30" in refused(bench, counted, rate_hz=30)
    rows = {name: replace(part, times_s=np.arange(81.0)) for name, part in counted.signals.items()}
    bare = replace(counted, rate_hz=None, signals=rows)
    assert "says the rate of its rows; add rate_hz" in refused(bench, bare)
    assert ingested(bench, bare, rate_hz=20).episodes[0].steps == 80


def test_times_that_fall_are_named_and_repeated_ones_count_once(bench: Domain) -> None:
    made = session()
    times_s = made.signals["q"].times_s.copy()
    times_s[40] = times_s[39]
    found = ingested(
        bench, session(signals={"q": signal("q", times_s, made.signals["q"].values)}), episodes={"gap_s": 0.2}
    )
    assert any("field q: 1 rows of a session have the next one's stamp" in note for note in found.notes)
    times_s[40] = 0.5
    words = refused(bench, session(signals={"q": signal("q", times_s, made.signals["q"].values)}))
    assert "field q row 40: its time 0.5 s lies before that of the row before it, 1.95 s" in words


def test_held_actions_come_out_as_their_means() -> None:
    times_s, values = np.arange(0, 2, 0.01), np.random.default_rng(0).normal(size=(200, 2))
    wanted_s = np.arange(21) / 10.0
    means = held_means(times_s, values, wanted_s)
    np.testing.assert_allclose(means, values.reshape(20, 10, 2).mean(1), atol=1e-9)
    same = held_means(wanted_s, values[:21], wanted_s)
    np.testing.assert_array_equal(same, values[:20])


# --- episodes -------------------------------------------------------------------------------------------------------


def flat(ends: tuple[int, ...]) -> Session:
    """A table of two runs end to end, between which the arm is put elsewhere."""
    made = session(timed=False)
    q_rad = np.concatenate([made.signals["q"].values[:40], made.signals["q"].values[40:] + 0.8])
    return session(timed=False, whole=False, ends=ends, signals={"q": signal("q", made.signals["q"].times_s, q_rad)})


def test_flat_tables_are_cut_at_marks_or_at_jumps(bench: Domain) -> None:
    assert [episode.steps for episode in ingested(bench, flat((39, 80))).episodes] == [39, 40]
    assert "no end of an episode is marked in 81 rows" in refused(bench, flat(()))
    found = ingested(bench, flat(()), episodes={"jump": "split"})
    assert [episode.steps for episode in found.episodes] == [39, 40]
    assert any("split at 1 jumps, the first at 1.95 s: field q rows 39 to 40" in note for note in found.notes)
    words = refused(bench, flat(()), options={"one_episode": True})
    assert "field q rows 39 to 40: fr3_joint" in words and "3 times what fr3 can" in words and "jump: split" in words


def test_gaps_are_refused_or_split(bench: Domain) -> None:
    made = session()
    keep = (made.signals["q"].times_s < 1.5) | (made.signals["q"].times_s > 2.2)
    gappy = signal("q", made.signals["q"].times_s[keep], made.signals["q"].values[keep])
    assert "field q has no row for 0.8 s after 1.450 s" in refused(bench, session(signals={"q": gappy}))
    found = ingested(bench, session(signals={"q": gappy}), episodes={"gap": "split", "least_s": 1.6})
    assert [episode.steps for episode in found.episodes] == [35]
    assert "lasts 1.45 s, shorter than 1.6 s (least_s)" in str(found.dropped[0])
    assert len(ingested(bench, session(signals={"q": gappy}), episodes={"gap_s": 1.0}).episodes) == 1


def test_seconds_are_dropped_at_the_ends(bench: Domain) -> None:
    (episode,) = ingested(bench, session(), episodes={"drop_first_s": 1.0, "drop_last_s": 0.5}).episodes
    np.testing.assert_allclose(episode.observations[:, :7], posture(1 + np.arange(51) / 20), atol=1e-6)


def test_rows_that_are_not_finite_are_refused_or_interpolated(bench: Domain) -> None:
    made = session()
    cube = made.signals["cube"].values.copy()
    cube[30:33, 1] = np.nan
    hidden = session(signals={"cube": signal("cube", made.signals["cube"].times_s, cube, "x y z")})
    words = refused(bench, hidden)
    assert words.startswith(
        "play: episode s0: field cube row 30: column y is nan, must be finite (3 of 81 rows are not)"
    )
    rows = {f"cube.{k}": {"field": "cube", "column": k, "unit": "m", "missing": "interpolate"} for k in "xyz"}
    found = ingested(bench, hidden, channels=rows, episodes={"gap_s": 0.3})
    np.testing.assert_allclose(found.episodes[0].observations[:, 10], made.signals["cube"].values[:, 1], atol=1e-4)
    assert any("3 rows of a session aren't finite" in note for note in found.notes)


def test_what_is_good_still_loads_and_the_rest_is_listed(bench: Domain) -> None:
    good, empty = session(name="a"), Session(name="b", signals={}, damage="session b: cut short")
    bad = session(name="c", signals={"q": signal("q", np.arange(3) / 20, np.full((3, 7), np.nan))})
    cut = session(name="d", damage="the last chunk is missing")
    with pytest.raises(EpisodeError, match="play: session b: cut short; or leave it out with --skip-damaged"):
        ingested(bench, good, empty)
    found = ingested(bench, good, empty, bad, cut, options={"skip_damaged": True})
    assert [episode.meta.episode_id for episode in found.episodes] == ["a", "d"] and found.sessions == 4
    assert [str(dropped).split(": ")[1] for dropped in found.dropped] == ["session b", "episode c"]
    assert any("session d is damaged, and here as far as it can be read" in note for note in found.notes)
    with pytest.raises(EpisodeError, match="play: holds no episodes: 1 are left out, the first: play: session b: cut"):
        ingested(bench, empty, options={"skip_damaged": True})


def test_a_licence_must_be_said_by_somebody(bench: Domain) -> None:
    mapping = parse_mapping(yaml.safe_dump({k: v for k, v in MAPPING.items() if k != "licence"}), "lab.yaml", bench)

    def licence(source: str = "", given: str = "") -> tuple[str, str]:
        found = ingest_source(InMemory((session(),), source), "play", domain=bench, mappings=(mapping,), licence=given)
        assert found.episodes[0].meta.licence == found.licence
        return found.licence, found.licence_by

    with pytest.raises(
        EpisodeError, match="neither the recording nor the mapping names a licence; say it with --licence"
    ):
        licence()
    assert licence(given="not stated") == ("not stated", "command line")
    assert licence("MIT", "not stated") == ("MIT", "source")


def test_a_task_is_taken_where_the_domain_can_read_it(bench: Domain) -> None:
    found = ingested(bench, session(task="push"), session(task="move the box"))
    assert [episode.meta.task for episode in found.episodes] == ["push", ""]
    assert any("'move the box' is none of the domain's" in note for note in found.notes)
    assert ingested(bench, session(task="?"), task="look left").episodes[0].meta.task == "look left"
    assert "mapping lab: task: " in refused(bench, session(), task="somersault")
