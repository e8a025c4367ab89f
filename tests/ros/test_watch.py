"""The page that looks on: a twin and its gate behind it, asked over HTTP, by its own objects and by its buttons'
callbacks; `test_watch_stack` has a browser click them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import viser
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from ros.ros_harness import clear_gate, send_home
from sensor_msgs.msg import JointState
from skimo_msgs.msg import EpisodeEvent, GateEvent, ObjectStates, PlanCandidates, PlanStatus, RecorderStatus
from support.waiting import wait_until

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.policy import Foreseen
from skimo_core.contract.types import Verdict
from skimo_core.control.reports import PolicyReport
from skimo_core.domain.bodies import bodies_of, gauges_of, objects_in_base
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain, load_domain, parse_domain
from skimo_core.domain.kinematics import arm_points
from skimo_core.domain.library import Source
from skimo_core.domain.rig import BARE
from skimo_core.domain.robot import load_limits
from skimo_core.domain.rotations import matrix
from skimo_core.domain.urdf import robot_description
from skimo_core.process.isolation import free_port
from skimo_core.safety.gate import Decision
from skimo_ros import conversions as convert
from skimo_ros import watch, watch_door, watch_page, watch_words
from skimo_ros.adapters import load_adapter
from skimo_ros.backend import RosBackend
from skimo_ros.guarded import GuardedExecutor
from skimo_ros.nodes import Names
from skimo_ros.operator import Operator
from skimo_ros.reports import GateReport
from skimo_ros.robots import Setup
from skimo_ros.watch_desk import Desk
from skimo_ros.watch_feed import Feed, Seen
from skimo_ros.watch_page import WatchPage, open_watch_page
from skimo_ros.watch_scene import arm_surfaces, link_poses
from skimo_sim.scenes.kitchen import build_kitchen

pytestmark = pytest.mark.ros
ANSWER_S = 20.0
ARMLESS = """
name: puddle
rate_hz: 10
horizon: 5
step_limit: 50
action: {others: [push.x, push.y]}
channels:
  - {name: boat.x, source: object, unit: m, start: 0.5}
  - {name: boat.y, source: object, unit: m}
  - {name: boat.yaw, source: object, unit: rad}
  - {name: level, source: object, unit: m, start: 0.2}
threshold: 0.1
subtasks: {over: {goal: {boat.x: -0.5}}}
"""


def setup_of(domain: Domain) -> Setup:
    limits = load_limits(domain.robot)
    adapter = load_adapter("twin")
    return Setup(domain=domain, adapter=adapter.of(limits) if limits.joints else adapter, limits=limits, rig=BARE)


@dataclass
class Watching:
    """A page of the session's twin, whose node a thread spins."""

    page: WatchPage
    now_s: float = 0.0

    def look(self) -> Seen:
        """Listen and draw once."""
        self.page.feed.listen()
        self.now_s = max([0.0, *self.page.feed.seen.came_s.values()])
        self.page.show(self.now_s)
        return self.page.feed.seen


@pytest.fixture(scope="module")
def watching(arm: RosBackend, context: Context) -> Iterator[Watching]:
    node = Node("skimo_watch_test", context=context)
    executor = GuardedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    page = open_watch_page(node, free_port(), setup_of(load_domain()), load_cell(load_domain().cell))
    page.desk._ask.timeout_s = 1.0
    yield Watching(page)
    page.close()
    executor.shutdown()
    thread.join(5.0)
    node.destroy_node()


# --- the door --------------------------------------------------------------------------------------------------------


def ask(port: int, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
    finally:
        connection.close()


def test_the_page_opens_with_its_key_and_keeps_it_in_a_cookie(watching: Watching) -> None:
    door = watching.page.door
    status, body, headers = ask(door.port, f"/?key={door.key}")
    assert status == 200 and "<html" in body and headers["X-Frame-Options"] == "DENY"
    cookie = headers["Set-Cookie"].split(";")[0]
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    assert ask(door.port, "/", Cookie=cookie)[0] == 200
    status, body, _ = ask(door.port, "/", Cookie=f"{door.cookie}=another")
    assert status == 403 and "the address that `skimo watch` printed" in body


@pytest.mark.parametrize("host", ["elsewhere.test", "192.168.0.7", "127.0.0.1", ""])
def test_a_page_under_another_name_is_not_there(watching: Watching, host: str) -> None:
    """DNS rebinding: a name of somebody else's that leads here; the port is part of the name."""
    door = watching.page.door
    assert ask(door.port, f"/?key={door.key}", Host=host)[0] == 403


def upgrade(origin: str, cookie: str) -> dict[str, str]:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    headers |= {
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec_WebSocket_Protocol": f"viser-v{viser.__version__}",
    }
    return headers | {"Cookie": cookie} | ({"Origin": origin} if origin else {})


def test_only_the_pages_own_websocket_is_let_in(watching: Watching) -> None:
    door = watching.page.door
    own, cookie = f"http://127.0.0.1:{door.port}", f"{door.cookie}={door.key}"
    assert ask(door.port, **upgrade(own, cookie))[0] == 101
    for origin, with_cookie in (("http://elsewhere.test", cookie), ("", cookie), ("null", cookie), (own, "")):
        assert ask(door.port, **upgrade(origin, with_cookie))[0] == 403


def test_it_listens_on_loopback_alone_and_shares_nothing(watching: Watching) -> None:
    port = watching.page.door.port
    sockets = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    listening = [
        line.split()[1] for line in sockets if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]
    assert watching.page.server.request_share_url() is None


def test_another_host_and_a_taken_port_are_refused_in_words(
    watching: Watching, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch.watch(["--host", "0.0.0.0"]) == 1
    assert "binds 127.0.0.1 alone" in capsys.readouterr().err
    assert watch.watch(["--port", "80"]) == 1
    assert "port is 80, must lie in 1024 to 65535" in capsys.readouterr().err
    with pytest.raises(SetupError, match=r"can't be had .* --port"):
        watch_door.open_page(watching.page.door.port, "second")


def test_a_viser_that_lets_strangers_in_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_door.Door, "guard", lambda door, answer: answer)
    with pytest.raises(SetupError, match="lets in who has no key"):
        watch_door.open_page(free_port(), "open to all")


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_arm_and_objects_stand_where_the_twin_has_them(watching: Watching, arm: RosBackend) -> None:
    send_home(arm)
    stage, limits, robot = watching.page.stage, load_limits(), arm.read()
    there = lambda: np.allclose(watching.look().observation_O[:7], robot.q_rad, atol=1e-3)  # noqa: E731
    wait_until(there, "the arm's state", ANSWER_S)
    hand = stage._links["hand"]
    tool_m = hand.position + (limits.tool_m - limits.flange_m) * matrix(hand.wxyz)[:, 2]
    np.testing.assert_allclose(tool_m, arm_points(limits, robot.q_rad[None])[0, -1], atol=2e-3)
    kettle = dict(zip(arm.read_objects().names, arm.read_objects().values))
    shown = stage._bodies["kettle"]
    np.testing.assert_allclose(shown.position, [kettle[f"kettle.{axis}"] for axis in "xyz"], atol=2e-3)
    assert shown.visible and "microwave" in watching.page.panel.channels.content
    assert not [handle for handle, colour in stage._aged.handles if tuple(handle.color) == (150, 150, 150)]


def test_the_base_of_the_kitchens_arm_is_the_scenes() -> None:
    scene = build_kitchen()
    model, data = scene.model, mujoco.MjData(scene.model)
    data.qpos[:] = scene.start_qpos
    mujoco.mj_kinematics(model, data)
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "panda_link0")
    base = load_domain().base
    np.testing.assert_allclose(data.xpos[body], base.position_m, atol=1e-6)
    np.testing.assert_allclose(data.xmat[body].reshape(3, 3), base.rotation, atol=1e-3)  # it says 1.57 rad


def test_a_plan_shows_its_ways_its_rivals_and_what_it_moves(watching: Watching) -> None:
    domain, seen = load_domain(), watching.look()
    names = domain.observation.names
    moved_PO = np.repeat(np.nan_to_num(seen.observation_O)[None], 3, axis=0).astype(np.float32)
    moved_PO[:, names.index("kettle.y")] += [0.1, 0.2, 0.3]
    moved_PO[:, 0] += [0.2, 0.4, 0.6]
    seen.predicted_PO = moved_PO
    seen.candidates = Foreseen(weights_E=np.array([0.6, 0.4], np.float32), predicted_EPO=np.stack([moved_PO, moved_PO]))
    seen.report = PolicyReport(state="running", episode_id="e", task="kitchen", subtasks_done=1, subtasks_total=4)
    watching.page.show(watching.now_s)
    stage = watching.page.stage
    drawn = {ghost.name: ghost for ghost in stage._ghosts}
    assert {"/fan/plan", "/fan/others", "/plan/kettle 3", "/plan/arm 1"} <= set(drawn)
    assert drawn["/fan/plan"].points.shape == (6, 2, 3)  # tool and kettle over three skills
    assert drawn["/fan/others"].points.shape == (12, 2, 3)
    in_base = objects_in_base(domain)
    np.testing.assert_allclose(drawn["/fan/plan"].points[-1, 1], in_base.points(moved_PO[-1, 23:26]), atol=1e-4)
    np.testing.assert_allclose(drawn["/plan/kettle 3"].position, in_base.points(moved_PO[-1, 23:26]), atol=1e-6)
    assert [goal.name for goal in stage._goals] == ["/goal/kettle", "/goal/kettle/label"]
    watching.now_s += watch_page.WORDS_EVERY_S
    watching.page.show(watching.now_s)
    assert "&#9654; kettle" in watching.page.panel.progress.content
    seen.predicted_PO = seen.candidates = None
    watching.page.show(watching.now_s)
    assert not stage._ghosts


def test_what_is_old_is_grey_and_said_so(watching: Watching) -> None:
    watching.look()
    watching.page.show(watching.now_s + 60.0)
    panel = watching.page.panel
    assert "THE STACK IS GONE" in panel.banner.content and "gate: silent for 60 s" in panel.banner.content
    assert "grayscale" in panel.verdict.content and "grayscale" in panel.channels.content
    assert {tuple(handle.color) for handle, _ in watching.page.stage._aged.handles} == {(150, 150, 150)}
    beats = panel.alive.content
    watching.page.show(watching.now_s + 62.0)
    assert panel.alive.content != beats and "NO CONNECTION" in beats
    watching.page._next_words_s = watching.page._next_plot_s = 0.0
    wait_until(lambda: watching.look() and "THE STACK IS GONE" not in panel.banner.content, "it to be fresh", ANSWER_S)
    assert {tuple(handle.color) for handle, _ in watching.page.stage._aged.handles} != {(150, 150, 150)}


def test_words_from_topics_are_only_words() -> None:
    evil = "<script>alert(1)</script>"
    decision = Decision(verdict=Verdict.HOLD, reasons=(evil,), command=None, generation=0)
    gate = GateReport(decision=decision, latched=False, commands=1, limited=0, held=1, stops=0, state_age_s=0.0)
    report = PolicyReport(state="held", reason=evil, episode_id=evil, task=evil, doubt=evil, success_probability=0.5)
    seen = Seen(observation_O=np.zeros(3), gate=gate, report=report, came_s={Names.GATE: 0.0, Names.PLAN_STATUS: 0.0})
    fresh = watch_words.Freshness(silent=(), states=True, policy=True, gate=True)
    domain = load_domain()
    said = watch_words.banner(seen, fresh) + watch_words.verdict(seen, True) + watch_words.progress(seen, domain, True)
    assert "<script" not in said + watch_words.said(evil) + watch_words.times(seen, True) and "&lt;script" in said


# --- the buttons -----------------------------------------------------------------------------------------------------


def test_stop_and_reset_are_the_operators_and_say_what_came_of_them(watching: Watching, arm: RosBackend) -> None:
    page = watching.page
    page.answer(page.desk.stop)
    assert "gate: stopped" in page.panel.said.content
    wait_until(lambda: arm.verdict is Verdict.STOP, "the stop", ANSWER_S)
    wait_until(lambda: (gate := watching.look().gate) is not None and gate.latched, "it to be shown", ANSWER_S)
    assert [heard.what for heard in page.feed.seen.verdicts][-1].startswith("STOP")
    page.answer(page.desk.reset)
    assert "cleared" in page._said or "nobody answers for service policy/resume" in page._said
    wait_until(lambda: arm.verdict is not Verdict.STOP, "the stop to be cleared", ANSWER_S)


def test_a_start_that_can_t_be_is_refused_in_words_before_anybody_is_asked(watching: Watching) -> None:
    assert "unknown task" in watching.page.desk.start("no such task", 0)


def test_a_stop_that_reaches_no_gate_says_so(context: Context) -> None:
    operators = [Operator("/nowhere", timeout_s=0.3, context=context) for _ in range(2)]
    try:
        said = Desk(*operators, load_domain()).stop()
    finally:
        for operator in operators:
            operator.close()
    assert said.startswith("NOT STOPPED: nobody answers") and "emergency stop" in said


def test_one_thing_is_asked_at_a_time_and_a_stop_never_waits(watching: Watching, arm: RosBackend) -> None:
    desk = watching.page.desk
    with desk._busy:
        assert desk.start("kettle", 0) == desk.reset() == "still busy with what was asked before"
        assert desk.stop().startswith("gate: stopped")
    clear_gate(arm)


# --- other domains ---------------------------------------------------------------------------------------------------


def test_a_domain_without_an_arm_still_shows_its_bodies_and_channels(context: Context) -> None:
    domain = parse_domain(Source(text=ARMLESS, where="puddle.yaml"), "puddle")
    node = Node("skimo_watch_puddle", context=context)
    page = open_watch_page(node, free_port(), setup_of(domain), load_cell("open"))
    try:
        page.feed.seen.observation_O[:] = [0.1, 0.2, np.pi / 2, 0.3]
        page.feed.seen.came_s = {"object_states": 0.0}
        page.show(0.0)
        assert not page.stage._links and "level" in page.panel.channels.content
        np.testing.assert_allclose(page.stage._bodies["boat"].position, [0.1, 0.2, 0.0])
        np.testing.assert_allclose(page.stage._bodies["boat"].wxyz, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-6)
        page.feed.seen.observation_O[0] = np.nan
        page.show(1.0)
        assert not page.stage._bodies["boat"].visible and "not seen" in page.panel.bodies.content
    finally:
        page.close()
        node.destroy_node()


def test_bodies_and_gauges_are_told_apart() -> None:
    domain = load_domain("table")
    bodies = bodies_of(domain.observation)
    assert [body.name for body in bodies] == ["red", "green", "blue"]
    assert [domain.observation.names[k] for k in gauges_of(domain.observation, bodies)] == ["drawer"]


def test_an_arm_without_meshes_is_drawn_by_its_capsules() -> None:
    limits = replace(load_limits(), meshes=None)
    surfaces = {name: surface for name, surface, _ in arm_surfaces(limits)}
    assert set(surfaces) == set(link_poses(limits, limits.home_q_rad, np.zeros(2)))
    shape = limits.capsules
    for k, link in enumerate(shape.link):
        name = shape.links[link]
        if name in surfaces:  # every capsule's ends lie that deep within the surface
            reach = np.linalg.norm(surfaces[name].vertices_m - shape.ends_m[k, 0], axis=1)
            assert np.isclose(reach.min(), shape.radius_m[k], atol=0.02) or reach.min() < shape.radius_m[k]


# --- candidates ------------------------------------------------------------------------------------------------------


def test_candidates_survive_the_way_through_a_message_and_nonsense_does_not() -> None:
    told = Foreseen(
        weights_E=np.array([0.75, 0.25], np.float32), predicted_EPO=np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    )
    message = convert.to_candidates(PolicyReport(state="running", candidates=told), 0.0)
    back = convert.from_candidates(message, 4)
    np.testing.assert_array_equal(back.predicted_EPO, told.predicted_EPO)
    for wrong in (
        PlanCandidates(boundaries=0, weights=[1.0], predicted=[0.0] * 4),
        PlanCandidates(boundaries=3, weights=[1.0], predicted=[0.0] * 8),
        PlanCandidates(boundaries=1, weights=[1.0], predicted=[0.0] * 5),
        PlanCandidates(boundaries=1, weights=[1.0], predicted=[float("nan")] * 4),
    ):
        with pytest.raises(SpecError):
            convert.from_candidates(wrong, 4)


def test_a_message_of_another_kind_is_left_out_and_counted(watching: Watching) -> None:
    feed: Feed = watching.page.feed
    before = feed.seen.unread
    publisher = feed_node(watching).create_publisher(PlanCandidates, Names.CANDIDATES, 1)
    try:
        wait_until(lambda: publisher.get_subscription_count() > 0, "the page to be known", ANSWER_S)

        def counted() -> bool:
            publisher.publish(PlanCandidates(boundaries=7, weights=[1.0], predicted=[1.0]))
            watching.look()
            return feed.seen.unread > before

        wait_until(counted, "nonsense to be counted", ANSWER_S)
    finally:
        feed_node(watching).destroy_publisher(publisher)


def feed_node(watching: Watching) -> Node:
    return watching.page.desk._ask.node


# --- Foxglove --------------------------------------------------------------------------------------------------------

LAYOUT = Path(__file__).resolve().parents[2] / "docs/foxglove/skimo.json"
TOPICS = {
    f"/{Names.PLAN_STATUS}": PlanStatus,
    f"/{Names.GATE}": GateEvent,
    f"/{Names.RECORDER}": RecorderStatus,
    f"/{Names.EPISODE}": EpisodeEvent,
    "/joint_states": JointState,
    "/object_states": ObjectStates,
}


def panels_of(tree: object) -> list[str]:
    """Panels in a part of a layout: a panel's id, or two parts beside each other."""
    if isinstance(tree, str):
        return [tree]
    assert isinstance(tree, dict) and set(tree) == {"direction", "first", "second", "splitPercentage"}
    assert tree["direction"] in ("row", "column") and 0 < tree["splitPercentage"] < 100
    return [*panels_of(tree["first"]), *panels_of(tree["second"])]


def test_foxglove_s_layout_is_whole_and_asks_for_what_is_told() -> None:
    layout = json.loads(LAYOUT.read_text())
    assert set(layout) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    panels, shown = layout["configById"], panels_of(layout["layout"])
    for name in [name for name in shown if name.startswith("Tab!")]:
        shown += [panel for tab in panels[name]["tabs"] for panel in panels_of(tab["layout"])]
    assert sorted(shown) == sorted(panels)
    kinds = {name.split("!")[0] for name in panels}
    assert kinds == {"3D", "Plot", "StateTransitions", "Table", "RawMessages", "Tab"}
    paths = [row["value"] for config in panels.values() for row in config.get("paths", ())]
    paths += [config["topicPath"] for config in panels.values() if "topicPath" in config]
    assert len(paths) > 20
    for path in paths:
        topic, _, rest = path.partition(".")
        fields = TOPICS[topic].get_fields_and_field_types()
        assert not rest or rest.split("[")[0] in fields, path
    layers = panels["3D!scene"]["layers"]
    assert layers["live"]["topic"] == f"/{Names.DESCRIPTION}" and layers["recorded"]["jointStatesTopic"] in TOPICS
    frame = load_adapter("twin").base_frame
    assert panels["3D!scene"]["followTf"] == layers["grid"]["frameId"] == frame
    assert f'<link name="{frame}">' in robot_description(load_limits())
