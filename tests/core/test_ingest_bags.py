"""Bags of ROS 2 and MCAP files of JSON, by rosbags and mcap: names, times and values come out as they went in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.mutated import flip
from core.test_ingest_sources import check, refused, sessions, values
from house.repository import ROOT
from mcap_ros2.writer import Writer as Ros2Writer
from support.foreign import JOINTS, POINTER, START_NS, ForeignBag, arm_bag, json_mcap, wave

from skimo_core.contract.errors import EpisodeError
from skimo_core.episodes.stream import DamageError
from skimo_core.ingest import cdr, message_types
from skimo_core.ingest.common_messages import COMMON
from skimo_core.ingest.formats import open_source

SECOND = 1_000_000_000


def storage_file(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.name != "metadata.yaml")


def notes(path: Path) -> str:
    return " | ".join(open_source(path).about().notes)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("packed", ["", "file", "message"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_bag_comes_out_as_it_went_in(tmp_path: Path, storage: str, packed: str, alone: bool) -> None:
    arm_bag(20).write(tmp_path / "bag", storage, packed)
    path = storage_file(tmp_path / "bag") if alone else tmp_path / "bag"
    (session,) = sessions(path)
    check(session)
    assert session.timed and not session.whole and not session.damage
    q = session.signals["/joint_states.position"]
    order = [q.columns.index(name) for name in JOINTS]
    np.testing.assert_array_equal(q.values[:, order], wave(20, 7))
    np.testing.assert_array_equal(values(session, "/joint_states.velocity")[:, order], 10 * wave(20, 7))
    np.testing.assert_allclose(q.times_s, 0.02 * np.arange(20), atol=1e-9)  # the header's stamps, not the log's
    assert q.times_s is session.signals["/joint_states.velocity"].times_s
    pose = session.signals["/block/pose"]
    assert pose.columns[:4] == ("pose.position.x", "pose.position.y", "pose.position.z", "pose.orientation.x")
    np.testing.assert_allclose(pose.values[:, 1], 0.001 * np.arange(20))
    objects = session.signals["/skimo/object_states.values"]
    assert objects.columns == ("drawer", "lid")
    np.testing.assert_allclose(objects.values[:, 0], 0.1 * np.arange(20), rtol=1e-6)
    about = open_source(path).about()
    assert about.format == "rosbag2" and "/status (std_msgs/msg/String): skipped: data is text" in " ".join(about.notes)
    assert "/joint_states.effort" not in session.signals  # an empty list is no column


def test_a_bag_without_definitions_is_read_by_those_of_common_messages(tmp_path: Path) -> None:
    bag = arm_bag(4)
    bag.write(tmp_path / "bag", "sqlite3")
    with sqlite3.connect(storage_file(tmp_path / "bag")) as base:
        base.execute("DROP TABLE message_definitions")
        base.execute("UPDATE topics SET type = 'lab_msgs/msg/Own' WHERE name = '/block/pose'")
    base.close()
    (session,) = sessions(tmp_path / "bag")
    np.testing.assert_allclose(values(session, "/skimo/object_states.values")[:, 1], 0.5)
    assert "/block/pose" not in session.signals and len(values(session, "/joint_states.position")) == 4
    said = notes(tmp_path / "bag")
    assert "/block/pose (lab_msgs/msg/Own) is skipped: the definition of lab_msgs/Own is not in the recording" in said
    assert "source the ROS workspace" in said


def test_a_sourced_workspace_defines_the_labs_own_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "share/lab_msgs/msg"
    folder.mkdir(parents=True)
    (folder / "Own.msg").write_text(
        "# mine\nuint8 KIND=1\nHeader header\nInner[] inner\nfloat64[2] pair\nstring<=5 say\n"
    )
    (folder / "Inner.msg").write_text("float32 x 1.5\nstring name\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    fields = message_types.known("lab_msgs/msg/Own")
    assert [(field.name, field.count) for field in fields] == [
        ("header", None), ("inner", -1), ("pair", 2), ("say", None)
    ]  # fmt: skip


def test_common_definitions_are_those_of_their_packages() -> None:
    store = ForeignBag().store
    for name in COMMON:
        package, kind = name.split("/")
        ours = message_types.known(name)
        own = ROOT / f"ros2_ws/src/{package}/msg/{kind}.msg"
        if package == "skimo_msgs":
            text = own.read_text(encoding="utf-8")
            theirs = message_types.parse(name, f"{text}\n{'=' * 80}\nMSG: std_msgs/Header\n{COMMON['std_msgs/Header']}")
        else:
            text, _ = store.generate_msgdef(f"{package}/msg/{kind}", ros_version=2)
            theirs = message_types.parse(name, text)
        assert ours == theirs, name


def test_transforms_become_a_signal_for_each_frame(tmp_path: Path) -> None:
    bag = ForeignBag()
    for k in range(6):
        at_ns = START_NS + k * SECOND // 10
        bag.transforms(at_ns, {"cup": 0.1 * k, "lid": 1.0} if k % 2 else {"lid": 1.0})
    bag.write(tmp_path / "bag")
    (session,) = sessions(tmp_path / "bag")
    check(session)
    np.testing.assert_allclose(values(session, "/tf.cup")[:, 0], [0.1, 0.3, 0.5])
    np.testing.assert_allclose(session.signals["/tf.cup"].times_s, [0.1, 0.3, 0.5])
    assert len(values(session, "/tf.lid")) == 6 and session.signals["/tf.lid"].columns[0] == "translation.x"


def test_objects_that_share_a_topic_are_told_apart_by_their_frame(tmp_path: Path) -> None:
    bag = ForeignBag()
    kind = "geometry_msgs/msg/TransformStamped"
    for k in range(4):
        at_ns = START_NS + k * SECOND
        made = bag.transform(at_ns, "cup" if k % 2 else "lid", float(k))
        bag.add("/mocap", kind, at_ns, header=made.header, child_frame_id=made.child_frame_id, transform=made.transform)
        bag.add("/one", kind, at_ns, header=made.header, child_frame_id="cup", transform=made.transform)
    bag.write(tmp_path / "bag")
    (session,) = sessions(tmp_path / "bag")
    assert set(session.signals) == {"/mocap.cup", "/mocap.lid", "/one"}
    np.testing.assert_array_equal(values(session, "/mocap.cup")[:, 0], [1, 3])


def test_trajectories_are_rows_until_the_next_one_takes_their_place(tmp_path: Path) -> None:
    bag = ForeignBag()
    bag.trajectory(START_NS, [(0.1, [1.0, 0.0]), (0.2, [2.0, 0.0]), (0.3, [3.0, 0.0])])
    bag.trajectory(START_NS + SECOND // 4, [(0.1, [9.0, 0.0])])
    bag.write(tmp_path / "bag")
    (session,) = sessions(tmp_path / "bag")
    check(session)
    command = session.signals["/command.positions"]
    assert command.columns == ("a", "b")
    np.testing.assert_array_equal(command.values[:, 0], [1, 2, 9])
    np.testing.assert_allclose(command.times_s, [0, 0.1, 0.25])
    single = ForeignBag()
    for k in range(3):  # a stream of single points: each is where the arm should be by then
        single.trajectory(START_NS + k * SECOND // 50, [(0.5, [float(k), 0.0])])
    single.write(tmp_path / "single")
    command = sessions(tmp_path / "single")[0].signals["/command.positions"]
    np.testing.assert_array_equal(command.values[:, 0], [0, 1, 2])
    np.testing.assert_allclose(command.times_s, [0, 0.02, 0.04])


def test_arrays_wrenches_and_bools_are_columns_by_path(tmp_path: Path) -> None:
    bag = ForeignBag()
    vector = bag.make("geometry_msgs/msg/Vector3", x=1.0, y=2.0, z=3.0)
    layout = bag.make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    wrench = bag.make("geometry_msgs/msg/Wrench", force=vector, torque=vector)
    bag.add("/action", "std_msgs/msg/Float64MultiArray", START_NS, layout=layout, data=np.array([0.5, -0.5]))
    bag.add("/force", "geometry_msgs/msg/WrenchStamped", START_NS, header=bag.header(START_NS), wrench=wrench)
    bag.add("/grip", "std_msgs/msg/Bool", START_NS, data=True)
    pose = bag.make(
        "geometry_msgs/msg/Pose",
        position=bag.make("geometry_msgs/msg/Point", x=1.0, y=2.0, z=3.0),
        orientation=bag.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    for k, count in enumerate((2, 1)):
        at_ns = START_NS + k * SECOND
        bag.add("/poses", "geometry_msgs/msg/PoseArray", at_ns, header=bag.header(at_ns), poses=[pose] * count)
    bag.write(tmp_path / "bag")
    (session,) = sessions(tmp_path / "bag")
    np.testing.assert_array_equal(values(session, "/action.data"), [[0.5, -0.5]])
    assert session.signals["/force"].columns == tuple(f"wrench.{a}.{b}" for a in ("force", "torque") for b in "xyz")
    assert values(session, "/grip").tolist() == [[1.0]] and session.signals["/grip"].columns == ("data",)
    poses = session.signals["/poses.poses"]
    assert poses.columns[0] == "0.position.x" and poses.columns[7] == "1.position.x"
    assert np.isnan(poses.values[1, 7:]).all() and np.isfinite(poses.values[1, :7]).all()
    assert "/poses.poses: 7 values are NaN" in notes(tmp_path / "bag")


def test_a_joint_that_a_message_leaves_out_is_no_number_there(tmp_path: Path) -> None:
    bag = ForeignBag()
    bag.joint_state(START_NS, ("a", "b"), [1.0, 2.0])
    bag.joint_state(START_NS + SECOND, ("b",), [3.0])
    bag.write(tmp_path / "bag")
    (session,) = sessions(tmp_path / "bag")
    np.testing.assert_array_equal(values(session, "/joint_states.position"), [[1, 2], [np.nan, 3]])


@pytest.mark.parametrize(
    ("names", "q", "words"),
    [
        (("a", "b"), [1.0, 2.0, 3.0], "field position has 3 values for 2 names (a, b)"),
        (("a", "a"), [1.0, 2.0], "/joint_states names 'a' twice"),
    ],
)
def test_names_that_don_t_go_with_values_are_refused(tmp_path: Path, names: Any, q: Any, words: str) -> None:
    bag = ForeignBag()
    bag.joint_state(START_NS, names, q)
    bag.write(tmp_path / "bag")
    assert words in refused(tmp_path / "bag")


# --- times ----------------------------------------------------------------------------------------------------------


def test_stamps_that_can_t_be_true_give_way_to_the_log(tmp_path: Path) -> None:
    for case, shift_ns, word in (
        ("simulated", -START_NS, "its stamps lie up to 1.7e+09 s from the log"),
        ("ahead", 30 * SECOND, "its stamps lie up to 30 s from the log, bound 1 s; timed by the log"),
    ):
        bag = ForeignBag()
        for k in range(4):
            log_ns = START_NS + k * SECOND // 2
            bag.joint_state(log_ns, ("a",), [float(k)], stamp_ns=log_ns + shift_ns)
        bag.write(tmp_path / case)
        (session,) = sessions(tmp_path / case)
        np.testing.assert_allclose(session.signals["/joint_states.position"].times_s, [0, 0.5, 1, 1.5])
        assert word in notes(tmp_path / case)


def test_rows_that_were_logged_out_of_order_are_sorted(tmp_path: Path) -> None:
    bag = ForeignBag()
    for k in (1, 0, 2):
        bag.pose("/p", START_NS + k * SECOND, (float(k), 0.0, 0.0))
    bag.write(tmp_path / "bag")
    (session,) = sessions(tmp_path / "bag")
    check(session)
    np.testing.assert_array_equal(values(session, "/p")[:, 0], [0, 1, 2])


def latched(at_s: float, x: float, *, sec: str = "nanosec") -> dict[str, Any]:
    stamp = {"sec": int(at_s), sec: round(at_s % 1 * 1e9)}
    return {"header": {"stamp": stamp, "frame_id": "world"}, "x": x, "list": [x, 1], "say": "hello"}


def test_messages_without_a_log_time_are_timed_by_their_stamp_or_left_out(tmp_path: Path) -> None:
    path, start_s = tmp_path / "lab.mcap", START_NS / 1e9
    messages = [
        ("/tf_static", 0, {"x": 1.0}),
        ("/a", 0, latched(0.0, -1.0)),
        ("/a", 0, latched(start_s + 0.5, 0.5)),
        *(("/a", START_NS + k * SECOND, latched(start_s + k, float(k))) for k in range(3)),
    ]
    json_mcap(path, messages)
    (session,) = sessions(path)
    check(session)
    np.testing.assert_allclose(session.signals["/a"].times_s, [0, 0.5, 1, 2], atol=1e-6)
    np.testing.assert_array_equal(values(session, "/a")[:, 0], [0, 0.5, 1, 2])
    assert session.signals["/tf_static"].times_s.tolist() == [0.0]
    said = notes(path)
    assert "/a: 1 of 5 messages have no time (log time 0) and are left out" in said
    assert "/tf_static: has no times (log time 0); its last message stands at the start" in said
    assert "say is text" in said


def test_two_clocks_in_one_file_are_refused_by_their_times(tmp_path: Path) -> None:
    json_mcap(tmp_path / "lab.mcap", [("/a", 5 * SECOND, {"x": 1}), ("/b", START_NS, {"x": 1})])
    words = refused(tmp_path / "lab.mcap")
    assert "times go from 5.000 s (/a) to 1700000000.000 s (/b), more than 86400 s: two clocks are mixed" in words
    json_mcap(tmp_path / "none.mcap", [("/a", 0, {"x": 1})])
    assert "no message has a time" in refused(tmp_path / "none.mcap")


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_json_messages_are_flattened(tmp_path: Path) -> None:
    path = tmp_path / "lab.mcap"
    message = {
        "timestamp": {"sec": START_NS // SECOND, "nsec": 0},
        "q": [0.1, 0.2],
        "hand": {"width": 0.08, "moving": True, "text": "open"},
        "matrix": [[1, 2], [3, 4]],
        "cups": [{"x": 1.5}, {"x": 2.5}],
        "picture": [0] * 5000,
        "nothing": None,
        "empty": [],
    }
    state = {"name": ["b", "a"], "position": [2, 1], "velocity": []}
    json_mcap(path, [("/state", START_NS + 5, message), ("/js", START_NS, state)], statistics=False)
    (session,) = sessions(path)
    check(session)
    assert values(session, "/state.q").tolist() == [[0.1, 0.2]]
    assert session.signals["/state"].columns == ("hand.width", "hand.moving")
    assert values(session, "/state.matrix").tolist() == [[1, 2, 3, 4]]
    assert values(session, "/state.cups").tolist() == [[1.5, 2.5]]
    assert session.signals["/js.position"].columns == ("b", "a")
    about = open_source(path).about()
    assert about.format == "mcap_json" and "picture has 5,000 elements" in " ".join(about.notes)


def test_a_robot_is_named_by_its_description(tmp_path: Path) -> None:
    urdf = '<?xml version="1.0"?>\n<robot name="fr3">'
    json_mcap(tmp_path / "a.mcap", [("/robot_description", START_NS, {"data": urdf}), ("/a", START_NS, {"x": 1})])
    assert open_source(tmp_path / "a.mcap").about().robot == "fr3"


@pytest.mark.parametrize(
    ("message", "words"),
    [(b"{", "is no JSON"), (b"[1]", "is list in JSON, must be an object"), (b'{"a":' * 3000, "is no JSON")],
)
def test_json_that_is_none_is_refused(message: bytes, words: str, tmp_path: Path) -> None:
    from mcap.writer import Writer

    with (tmp_path / "bad.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("/a", "json", 0)
        writer.add_message(channel, START_NS, b'{"x": 1}', START_NS)
        writer.add_message(channel, START_NS, message, START_NS)
        writer.finish()
    assert words in refused(tmp_path / "bad.mcap")
    (session,) = sessions(tmp_path / "bad.mcap", skip_damaged=True)
    assert words in session.damage and values(session, "/a").tolist() == [[1.0]]


# --- what is wrong --------------------------------------------------------------------------------------------------


def test_a_bag_of_texts_says_what_it_holds(tmp_path: Path) -> None:
    bag = ForeignBag()
    bag.add("/chatter", "std_msgs/msg/String", START_NS, data="hello")
    for storage in ("mcap", "sqlite3"):
        bag.write(tmp_path / storage, storage)
        words = refused(tmp_path / storage)
        assert "holds nothing that is a number over time: /chatter (std_msgs/msg/String, 1 messages)" in words
        with pytest.raises(EpisodeError, match="nothing that is a number"):
            open_source(tmp_path / storage).about()


def edited(text: str, new: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        path = folder / "metadata.yaml"
        was = path.read_text()
        assert text in was
        path.write_text(was.replace(text, new))

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda folder: storage_file(folder).unlink(), "names bag.mcap, which is not there; copy the whole bag"),
        (lambda folder: storage_file(folder).write_text(POINTER), "is a Git LFS pointer"),
        (lambda folder: storage_file(folder).write_bytes(b""), "is empty (0 bytes)"),
        (lambda folder: storage_file(folder).write_bytes(b"x" * 50), "is neither MCAP nor SQLite3"),
        (edited("bag.mcap", "../secret.mcap"), "must lie within the recording's own folder"),
        (edited("bag.mcap", "/etc/passwd"), "must lie within the recording's own folder"),
        (edited("message_count: 16", "message_count: 17"), "counts 17 messages, its files hold 16"),
        (edited("rosbag2_bagfile_information", "other"), "has no rosbag2_bagfile_information"),
        (lambda folder: (folder / "metadata.yaml").write_text("a: [1"), "is not YAML"),
        (lambda folder: (folder / "metadata.yaml").write_text("a: &a [1]\nb: [*a, *a]"), "refers to itself"),
        (lambda folder: (folder / "metadata.yaml").write_text("- 1"), "has no rosbag2_bagfile_information"),
        (edited("compression_format: ''", "compression_format: lz9"), "is packed as 'lz9'"),
    ],
)
def test_a_bag_that_is_not_whole_is_refused_in_words(
    tmp_path: Path, edit: Callable[[Path], object], words: str
) -> None:
    arm_bag(4).write(tmp_path / "bag")
    edit(tmp_path / "bag")
    said = refused(tmp_path / "bag")
    assert words in said, said


def test_a_bag_cut_short_is_refused_and_what_is_there_loads_on_request(tmp_path: Path) -> None:
    arm_bag(400).write(tmp_path / "mcap", "mcap")
    arm_bag(400).write(tmp_path / "sqlite3", "sqlite3")
    for storage in ("mcap", "sqlite3"):
        path = storage_file(tmp_path / storage)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.9)])
        words = refused(tmp_path / storage)
        assert words.startswith(f"{storage}: ") and "cut short" in words and "--skip-damaged" in words
        (session,) = sessions(path, skip_damaged=True)
        check(session)
        assert "cut short" in session.damage
        assert 10 < len(values(session, "/joint_states.position")) <= (400 if storage == "mcap" else 399)


def test_rows_that_were_never_written_back_are_not_lost_in_silence(tmp_path: Path) -> None:
    arm_bag(4).write(tmp_path / "bag", "sqlite3")
    path = storage_file(tmp_path / "bag")
    path.with_name(f"{path.name}-wal").write_bytes(b"x" * 100)
    assert "holds what was not yet written into the bag" in refused(path)
    assert "not yet written" in sessions(path, skip_damaged=True)[0].damage


def test_another_program_s_database_is_no_bag(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db3") as base:
        base.execute("CREATE TABLE people (name TEXT)")
    base.close()
    assert "with tables people, and no bag" in refused(tmp_path / "other.db3")


def test_a_definition_of_another_version_is_found_out(tmp_path: Path) -> None:
    with (tmp_path / "a.mcap").open("wb") as file:
        writer = Ros2Writer(file)
        schema = writer.register_msgdef("lab_msgs/msg/Own", "float64 x\nfloat64 y\nfloat64 z")
        writer.write_message("/a", schema, {"x": 1.0, "y": 2.0, "z": 3.0}, log_time=START_NS)
        writer.finish()
    data = (tmp_path / "a.mcap").read_bytes()
    three, one = message_types.parse("a/A", "float64 x\nfloat64 y\nfloat64 z"), message_types.parse("a/A", "float64 x")
    message = b"\0\1\0\0" + np.array([1.0, 2.0, 3.0]).tobytes()
    assert cdr.decode(message, three) == {"x": 1.0, "y": 2.0, "z": 3.0} and data
    with pytest.raises(DamageError, match="leaves 16 of its 28 bytes unread"):
        cdr.decode(message, one)
    with pytest.raises(DamageError, match="end within a field"):
        cdr.decode(message[:-4], three)
    with pytest.raises(DamageError, match="no plain CDR"):
        cdr.decode(b"\0\7\0\0" + message[4:], three)
    assert len(sessions(tmp_path / "a.mcap")) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A a\n" + "=" * 80 + "\nMSG: a/A\nA a", "holds itself"),
        ("B b", "the definition of a/B is not in the recording"),
        ("float64[0] none", "a list of fixed length 0"),
        ("wstring text", "wide string"),
        ("float64", "which is no field"),
        ("import os", "the definition of a/import"),
        ("float64 x\n" + "=" * 80 + "\nIDL: a/b", "must begin with 'MSG: '"),
        ("x" * (2 << 20), "bytes long, at most"),
    ],
)
def test_definitions_that_can_t_be_read_are_refused(text: str, words: str) -> None:
    with pytest.raises(EpisodeError) as caught:
        message_types.parse("a/msg/A", text)
    assert words in str(caught.value)


def test_counts_that_no_bytes_hold_cost_nothing() -> None:
    fields = message_types.parse("a/A", "B[] list\n" + "=" * 80 + "\nMSG: a/B\n")
    with pytest.raises(DamageError):
        cdr.decode(b"\0\1\0\0" + b"\xff\xff\xff\xff", fields)
    fields = message_types.parse("a/A", "float64[] list\nstring s")
    with pytest.raises(DamageError):
        cdr.decode(b"\0\1\0\0" + b"\xff\xff\xff\x7f" + bytes(16), fields)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_altered_bags_raise_nothing_but_refusals(tmp_path: Path, storage: str) -> None:
    arm_bag(6).write(tmp_path / "bag", storage)
    path = storage_file(tmp_path / "bag")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refusals = 0
    for _ in range(40):
        path.write_bytes(flip(whole, rng))
        try:
            for session in open_source(path).sessions(skip_damaged=True):
                check(session)
        except EpisodeError:
            refusals += 1
    assert refusals < 40
