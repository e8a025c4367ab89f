"""The ROS side of `skimo doctor`: what is installed, what the environment says, who is there and what is heard.

Importing this imports nothing of ROS. Listening joins the graph with a node of its own for a second or two, in a
context of its own, publishes nothing and asks nobody. Times s, ages by the stamps of messages; rates Hz.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skimo_core.contract.errors import SetupError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.link.endpoint import ros_domain
from skimo_core.process.isolation import namespace_of, role
from skimo_core.setup.finding import Asked, Check, Finding, fail, ok, split_remedy, warn

REMEDY = "source ROS 2 (. /opt/ros/$ROS_DISTRO/setup.bash) and the workspace, or use the environment that has them"
DISCOVERY_S, LISTEN_S, LOOK_S = 0.8, 1.2, 0.02
QUEUE = 500
AHEAD_S = 0.02
"""A stamp this far in the future is another clock's."""
LATE_S = 0.5
"""Joint states that are so old when they come are another clock's too."""
RMW_DEFAULT = "rmw_fastrtps_cpp"
INTERFACES = ("rclpy", "sensor_msgs.msg", "trajectory_msgs.msg", "skimo_msgs.msg")
OURS = tuple(f"skimo_ros.{module}" for module in ("conversions", "guarded", "nodes", "polling"))
IMPORTING = threading.Lock()
"""Checks run side by side, and ROS's packages import one another in circles: two threads would wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came on a topic while we listened.

    Attributes:
        publishers: names of the nodes that publish it.
        messages: how many came, in `span_s`.
        age_s: of the newest, when it came, by its stamp.
        names: of joints or channels in any message; `blind`: those without a value in the newest.
    """

    topic: str
    publishers: tuple[str, ...]
    messages: int = 0
    span_s: float = 1.0
    age_s: float = 0.0
    names: frozenset[str] = frozenset()
    blind: frozenset[str] = frozenset()

    @property
    def rate_hz(self) -> float:
        return self.messages / self.span_s

    def __str__(self) -> str:
        return f"{self.topic}: {self.rate_hz:.0f} Hz, {self.age_s * 1e3:.0f} ms old"


def installed(asked: Asked) -> Iterable[Finding]:
    """Whether ROS can be imported, and our messages."""
    for module in INTERFACES:
        try:
            _load(module)
        except ImportError as error:
            package = module.partition(".")[0]
            remedy = "build the interfaces: make setup, or colcon build in ros2_ws" if "skimo" in package else REMEDY
            yield fail("ros", f"{package} can't be imported ({error})", remedy)
            return
    _load(*OURS)
    from rclpy.utilities import get_rmw_implementation_identifier

    distro = os.environ.get("ROS_DISTRO", "")
    yield ok("ros", f"rclpy and skimo_msgs are there{f', ROS_DISTRO is {distro}' if distro else ''}")
    try:
        yield ok("middleware", get_rmw_implementation_identifier())
    except Exception as error:  # a middleware that was asked for and is not there
        yield fail("middleware", str(error), f"install it, or unset RMW_IMPLEMENTATION ({RMW_DEFAULT} is the default)")


def _load(*modules: str) -> None:
    """Import them, one thread at a time; raises ImportError."""
    with IMPORTING:
        for module in modules:
            importlib.import_module(module)


def driver(asked: Asked) -> Iterable[Finding]:
    """Whether the driver's interfaces are the installed ones, and it drives this robot."""
    _load(*OURS)
    from .adapters import NONE, load_adapter, recovery_type, robot_state_type
    from .robots import limits_of

    adapter = load_adapter(asked.driver)
    limits = limits_of(adapter, asked.robot, load_domain(asked.domain))
    try:
        if adapter.tells_state:
            robot_state_type(adapter)
        if adapter.recovery != NONE:
            recovery_type(adapter)
    except SetupError as error:
        yield split_remedy("interfaces", "fail", str(error))
        return
    if not adapter.tells_state:
        what = f"driver {adapter.name} tells no robot state: reflexes and user stops are not seen by the gate"
        yield warn("interfaces", what, "take a driver that tells it, such as franka_ros2, where there is one")
        return
    yield ok("interfaces", f"driver {adapter.name} speaks {adapter.robot_state_type}, for a {limits.name}")


def environment(asked: Asked) -> Iterable[Finding]:
    """The ROS domain, who is in it on this machine, and how far ROS looks for others."""
    domain = ros_domain()
    told = "ROS_DOMAIN_ID" if os.environ.get("ROS_DOMAIN_ID") else "not set, so"
    own = role(asked.namespace, "stack")
    there = roles_of(domain)
    what = f"{told} {domain}"
    if own in there:
        yield ok("ros domain", f"{what}: our stack runs there ({', '.join(sorted(there))})")
    elif there:
        remedy = "to start a second one: skimo up --isolated, another ROS_DOMAIN_ID, or another --namespace"
        yield warn("ros domain", f"{what}: another skimo stack runs there ({', '.join(sorted(there))})", remedy)
    else:
        yield ok("ros domain", f"{what}: no skimo stack of this machine is in it")
    yield reach(os.environ)


def roles_of(domain: int, table: Path = Path("/proc/net/unix")) -> frozenset[str]:
    """Roles held in a ROS domain on this machine (`isolation.DomainLock`), such as stack or /left/gate_node."""
    prefix = f"@skimo/domain/{domain}/"
    try:
        last_words = [line.rsplit(" ", 1)[-1].strip() for line in table.read_text().splitlines()]
    except OSError:
        return frozenset()
    return frozenset(word.removeprefix(prefix) for word in last_words if word.startswith(prefix))


def reach(variables: Mapping[str, str]) -> Finding:
    """How far discovery goes: other machines in this ROS domain are heard, and hear, unless it is kept at home."""
    wide = variables.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper()
    local = variables.get("ROS_LOCALHOST_ONLY", "")
    if wide and local:
        what = (
            f"ROS_AUTOMATIC_DISCOVERY_RANGE is {wide} and ROS_LOCALHOST_ONLY {local}: the second one wins, and is old"
        )
        return warn("discovery", what, "unset ROS_LOCALHOST_ONLY")
    if wide not in ("", "SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT"):
        what = f"ROS_AUTOMATIC_DISCOVERY_RANGE is {wide}"
        return fail("discovery", what, "it must be LOCALHOST, SUBNET, OFF or SYSTEM_DEFAULT")
    if wide == "OFF":
        return fail("discovery", "ROS_AUTOMATIC_DISCOVERY_RANGE is OFF: nodes find nobody", "set it to LOCALHOST")
    if wide == "LOCALHOST" or local == "1":
        return ok("discovery", "this machine alone")
    if wide:
        remedy = "set ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST where robot, nodes and operator are on one machine"
        return warn("discovery", f"{wide}: every machine of the network in this ROS domain takes part", remedy)
    return ok("discovery", "not set: `skimo up` keeps its nodes to this machine")


def topics(asked: Asked) -> Iterable[Finding]:
    """What the arm and the tracker tell, if anybody is there."""
    _load(*OURS)
    found = load_domain(asked.domain)
    heard, company = listen(asked)
    own = namespace_of(asked.namespace)
    if not any(below == own or (own and below.startswith(f"{own}/")) for below in company):
        others = f" (there are nodes below {', '.join(sorted(company))})" if company else ""
        where = f"below {own} in" if own else "in"
        yield ok("topics", f"nobody is {where} this ROS domain yet{others}; nothing was listened to")
        return
    from .adapters import load_adapter
    from .robots import limits_of

    adapter = load_adapter(asked.driver)
    adapter = adapter.of(limits_of(adapter, asked.robot, found))
    if found.observation.joints:
        yield arm(heard["arm"], adapter.joints, found.action.rate_hz)
    if found.observation.fingers:
        yield hand(heard["arm"], adapter.fingers)
    if found.observation.objects:
        yield objects(heard["objects"], found)


def arm(heard: Heard, joints: tuple[str, ...], rate_hz: float) -> Finding:
    """The joint states: there, of this arm, often and fresh enough."""
    if nobody := _nobody("joint states", heard, "start the driver, or the twin: skimo up"):
        return nobody
    if missing := [name for name in joints if name not in heard.names]:
        what = f"{heard.topic} names {_few(heard.names)}, not {missing[0]}"
        return fail("joint states", what, "name the robot, or the arm's id, as the driver does (robot:=, driver:=)")
    if wrong := _clocks_apart(heard):
        return fail("joint states", wrong, "set both machines' clocks by one (chrony, PTP)")
    if heard.rate_hz < rate_hz:
        return fail("joint states", f"{heard}, needed {rate_hz:g} Hz", "raise the driver's joint_state_rate")
    return ok("joint states", str(heard))


def hand(heard: Heard, fingers: tuple[str, ...]) -> Finding:
    """The gripper's fingers, which come with the joint states."""
    if missing := [name for name in fingers if name not in heard.names]:
        what = f"no message on {heard.topic} names {missing[0]}"
        return fail("gripper", what, "start the driver with its gripper (load_gripper:=true), and home it")
    return ok("gripper", f"{', '.join(fingers)} on {heard.topic}")


def objects(heard: Heard, domain: Domain) -> Finding:
    """What a tracker or the twin tells of objects: every channel, and not too old."""
    wanted, bound_s = domain.observation.objects, domain.tracking.max_age_s
    if nobody := _nobody("object states", heard, "start the tracker (use_tracker:=true), or the lab's own"):
        return nobody
    if missing := [name for name in wanted if name not in heard.names]:
        what = f"{heard.topic} lacks {len(missing)} of {len(wanted)} channels: {', '.join(missing[:8])}"
        return fail("object states", what, "let the tracker name them as the domain does, or take them from the domain")
    if wrong := _clocks_apart(heard):
        return fail("object states", wrong, "set both machines' clocks by one (chrony, PTP)")
    if heard.age_s > bound_s:
        what = f"{heard}, bound {bound_s * 1e3:.0f} ms"
        return fail("object states", what, "a faster tracker, or a larger objects.max_age_s in the domain's file")
    if heard.blind:
        what = f"{heard}; not seen now: {', '.join(sorted(heard.blind)[:8])}"
        return warn("object states", what, "see that the tags are in the cameras' pictures")
    return ok("object states", f"{heard}, all {len(wanted)} channels")


def _nobody(name: str, heard: Heard, remedy: str) -> Finding | None:
    if heard.messages:
        return None
    if heard.publishers:
        who = ", ".join(heard.publishers)
        what = f"{who} publishes {heard.topic}, and nothing came in {heard.span_s:.1f} s"
        return fail(name, what, "look at that node; another user's shared memory and a firewall do this too")
    return fail(name, f"nobody publishes {heard.topic}", remedy)


def _clocks_apart(heard: Heard) -> str:
    if heard.age_s < -AHEAD_S:
        return f"{heard.topic} is stamped {-heard.age_s:.2f} s in the future"
    return f"{heard.topic} is stamped {heard.age_s:.2f} s in the past" if heard.age_s > LATE_S else ""


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


# --- listening ------------------------------------------------------------------------------------------------------


def listen(asked: Asked) -> tuple[dict[str, Heard], frozenset[str]]:
    """What comes on the topics "arm" and "objects", and in which namespaces there are nodes ("": in none)."""
    from rclpy.context import Context
    from rclpy.node import Node

    context = Context()
    context.init(domain_id=ros_domain())
    try:
        name = f"skimo_doctor_{os.getpid()}"
        node = Node(name, namespace=namespace_of(asked.namespace), context=context, enable_rosout=False)
        try:
            return _listen(node, asked)
        finally:
            node.destroy_node()
    finally:
        context.try_shutdown()


def _listen(node: Any, asked: Asked) -> tuple[dict[str, Heard], frozenset[str]]:
    from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import JointState
    from skimo_msgs.msg import ObjectStates

    from . import conversions as convert
    from .adapters import load_adapter
    from .polling import PolledGroup, subscribe_polled

    adapter = load_adapter(asked.driver)
    qos = QoSProfile(depth=QUEUE, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
    group = PolledGroup()
    ears = {
        "arm": subscribe_polled(node, JointState, adapter.joint_states, qos, group),
        "objects": subscribe_polled(node, ObjectStates, adapter.object_states, qos, group),
    }
    _pass(DISCOVERY_S)
    nodes = [(n, ns) for n, ns in node.get_node_names_and_namespaces() if n != node.get_name() and n[:1] != "_"]
    company = frozenset(ns.rstrip("/") for _, ns in nodes)
    if not company:
        return {key: Heard(topic=ear.topic_name, publishers=()) for key, ear in ears.items()}, company
    told = {"arm": convert.joint_positions, "objects": convert.channel_values}
    return {key: _hear(node, ear, told[key]) for key, ear in _gather(node, ears).items()}, company


def _gather(node: Any, ears: Mapping[str, Any]) -> dict[str, tuple[Any, list[tuple[float, Any]]]]:
    """Each subscription with its messages of LISTEN_S and when, on the node's clock, each was taken."""
    from .nodes import now_s
    from .polling import take_all

    for ear in ears.values():
        take_all(ear)  # of the time before
    got: dict[str, tuple[Any, list[tuple[float, Any]]]] = {key: (ear, []) for key, ear in ears.items()}
    until_s = time.monotonic() + LISTEN_S
    while time.monotonic() < until_s:
        _pass(LOOK_S)
        for ear, messages in got.values():
            messages += [(now_s(node), message) for message, _ in take_all(ear)]
    return got


def _hear(node: Any, got: tuple[Any, list[tuple[float, Any]]], told: Any) -> Heard:
    from . import conversions as convert
    from .guarded import publishers_of

    ear, messages = got
    heard = Heard(topic=ear.topic_name, publishers=tuple(publishers_of(node, ear.topic_name)), span_s=LISTEN_S)
    if not messages:
        return heard
    values = [told(message) for _, message in messages]
    came_s, newest = messages[-1]
    return Heard(
        topic=heard.topic,
        publishers=heard.publishers,
        messages=len(messages),
        span_s=LISTEN_S,
        age_s=came_s - convert.stamp_of(newest),
        names=frozenset(name for row in values for name in row),
        blind=frozenset(name for name, value in values[-1].items() if value != value),
    )


def _pass(duration_s: float) -> None:
    time.sleep(duration_s)


CHECKS = (
    Check(name="ros", look=installed),
    Check(name="interfaces", look=driver),
    Check(name="ros environment", look=environment),
    Check(name="topics", look=topics),
)
