"""The node behind `skimo record`: hears the arm, the hand and the objects, and whoever says when an episode begins.

    record/run      std_srvs/SetBool: true begins an episode, false ends it
    record/discard  std_srvs/Trigger: sets aside the episode that is recorded, or else the last one
    a pedal         std_msgs/Bool (true while pressed) or sensor_msgs/Joy (a button): each press begins or ends
It listens, and moves nothing: neither gate nor policy is needed. Names are relative to its namespace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState, Joy
from skimo_msgs.msg import EpisodeStep
from skimo_msgs.msg import ObjectStates as ObjectStatesMsg
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from skimo_core.contract.errors import SetupError, SpecError
from skimo_core.contract.types import Array, RobotMode
from skimo_core.control.rigged import corrected
from skimo_core.control.teleop import TeleopStep
from skimo_core.domain.cell import load_cell
from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.files import MEBIBYTE

from . import conversions as convert
from .adapters import robot_state_type
from .definitions import full_definition, type_name
from .episode_log import EpisodeLog, Folder
from .guarded import Complaints, publishers_of
from .nodes import Names, now_s, only_one
from .polling import PolledGroup, decode, subscribe_polled, take_all
from .record_session import TeleopSession, check_about
from .recorder_node import STATE_QUEUE_QOS
from .recording import Channel, Sample
from .robots import Setup
from .senders import SenderWatch

DRAIN_S = 0.02
PEDAL_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LEAST_SKILLS = 4
"""Control steps of so many skills make a window that training draws by default."""
RUN, DISCARD = "record/run", "record/discard"
FINGERS_AGE_PERIODS = 1.0
"""Fingers that come in messages of their own may be so many control periods older than the joints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig:
    """How teleoperation is recorded.

    Attributes:
        folder: where to.
        cell: what stands around the arm: a name or a file; empty: the domain's.
        task: what is done, for the recordings' metadata; empty: nothing is said.
        gripper_states: topic of the fingers, where they are not on that of the joints; empty: they are.
        pedal: topic of a pedal; empty: there is none.
        pedal_button: of a Joy; below 0: the pedal is a Bool.
        trim: leave out pauses at an episode's ends.
        least_s: an episode that is shorter is set aside; 0: than `LEAST_SKILLS`.
        keep_robot_state: keep the driver's own robot state too.
        robot_state_max_mib: most of it in an episode's file.
    """

    folder: Folder
    cell: str = ""
    task: str = ""
    gripper_states: str = ""
    pedal: str = ""
    pedal_button: int = -1
    trim: bool = False
    least_s: float = 0.0
    keep_robot_state: bool = False
    robot_state_max_mib: float = 256.0


class Record(Node):
    """Records teleoperation; `session` has the episodes.

    Raises:
        SetupError: recordings can't go to the folder, or another one records in this namespace.
        SpecError, EpisodeError: no such cell or topic, or the domain has no arm.
    """

    def __init__(
        self,
        setup: Setup,
        config: RecordConfig,
        say: Callable[[str], object],
        *,
        namespace: str = "",
        sim_time: bool = False,
        context: Context | None = None,
    ) -> None:
        check_about(setup.domain)
        if why := config.folder.why_unusable():
            raise SetupError(f"recordings can't go to {config.folder.path}: {why}")
        clock = [Parameter("use_sim_time", Parameter.Type.BOOL, sim_time)]
        super().__init__("record", namespace=namespace, parameter_overrides=clock, context=context)
        self._simulated = sim_time
        self._only_one = only_one(self)
        self._setup, self._config, self._say = setup, config, say
        self._group = PolledGroup()
        self._fingers: tuple[float, Array] | None = None
        self._pressed = False
        self._complaints = Complaints(say)
        self._senders = SenderWatch()
        self._hears()
        self._log = EpisodeLog(config.folder, self._channels(), lambda level, words: self._report(level, words))
        self.session = self._session()
        self.create_service(SetBool, RUN, self._run)
        self.create_service(Trigger, DISCARD, self._discard)
        if config.pedal:
            kind = Bool if config.pedal_button < 0 else Joy
            self.create_subscription(kind, config.pedal, self._press, PEDAL_QOS)
        self.create_timer(DRAIN_S, self.drain)

    def toggle(self) -> None:
        """Begin an episode, or end the one that is recorded."""
        self._say(self._end()[1] if self.session.under_way else self._start()[1])

    def discard(self) -> None:
        """Set aside the episode that is recorded, or else the last one."""
        self.drain()
        self._say(self.session.discard(now_s(self), time.monotonic())[1])

    def close(self) -> None:
        """End what is recorded, properly."""
        self.session.close(self._newest_s(), time.monotonic())
        self._only_one.release()

    def why_not_ready(self) -> str:
        """Why no episode could begin now; empty if one could."""
        if self._senders.several(now_s(self)):
            topic = self._setup.adapter.joint_states
            return f"more than one node sends this arm's joint states: {', '.join(publishers_of(self, topic))}"
        return self.session.look(now_s(self))

    def drain(self) -> None:
        """Take what has come, and write what is known by it."""
        for topic, subscription, use in self._topics:
            for data, info in take_all(subscription):
                sample = Sample(
                    topic=topic, data=data, log_ns=info["received_timestamp"], publish_ns=info["source_timestamp"]
                )
                if topic == self._extra:
                    self._log.put_extra(sample, round(self._config.robot_state_max_mib * MEBIBYTE))
                else:
                    self.session.put(sample)
                self._use(subscription, use, data, info)
        if self.session.under_way is not None and self._senders.several(now_s(self)):
            self._say(self._end(self.why_not_ready())[1])
        if ended := self.session.advance(now_s(self), time.monotonic()):
            self._say(ended)

    # --- who is asked -----------------------------------------------------------------------------------------------

    def _run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = self._start() if request.data else self._end()
        self._say(response.message)
        return response

    def _discard(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.drain()
        done, words = self.session.discard(now_s(self), time.monotonic())
        self._say(words)
        return convert.answer_trigger(response, done, words)

    def _press(self, message: Bool | Joy) -> None:
        if isinstance(message, Bool):
            pressed = message.data
        elif self._config.pedal_button < len(message.buttons):
            pressed = bool(message.buttons[self._config.pedal_button])
        else:
            raise SpecError(
                f"a Joy of {len(message.buttons)} buttons has no button {self._config.pedal_button}; count from 0 "
                "(--pedal-button)"
            )
        if pressed and not self._pressed:
            self.toggle()
        self._pressed = pressed

    def _start(self) -> tuple[bool, str]:
        self.drain()
        if why := self.why_not_ready():
            return False, f"no episode begins: {why}"
        return self.session.start(now_s(self))

    def _end(self, why: str = "") -> tuple[bool, str]:
        self.drain() if not why else None
        return self.session.end(self._newest_s(), time.monotonic(), why)

    # --- what is heard ----------------------------------------------------------------------------------------------

    def _hears(self) -> None:
        adapter, config = self._setup.adapter, self._config
        self._extra = ""
        self._kinds: dict[str, Any] = {}
        self._topics: list[tuple[str, Subscription, Callable[[Any, dict[str, Any]], None] | None]] = []
        self._hear(JointState, adapter.joint_states, self._take_joints)
        if config.gripper_states:
            self._hear(JointState, config.gripper_states, self._take_fingers)
        self._hear(ObjectStatesMsg, adapter.object_states, self._take_objects)
        self._hear(JointTrajectory, adapter.command, None)
        if config.keep_robot_state:
            self._extra = self._hear(robot_state_type(adapter), adapter.robot_state, None)

    def _hear(self, kind: Any, topic: str, use: Callable[[Any, dict[str, Any]], None] | None) -> str:
        resolved = self.resolve_topic_name(topic)
        self._kinds[resolved] = kind
        self._topics.append(
            (resolved, subscribe_polled(self, kind, topic, STATE_QUEUE_QOS, self._group, raw=True), use)
        )
        return resolved

    def _channels(self) -> tuple[Channel, ...]:
        self._steps = self.resolve_topic_name(Names.EPISODE_STEP)
        kinds = {self._steps: EpisodeStep, **self._kinds}
        return tuple(
            Channel(topic=topic, kind=type_name(kind), definition=full_definition(type_name(kind)))
            for topic, kind in kinds.items()
        )

    def _session(self) -> TeleopSession:
        setup, config = self._setup, self._config
        domain = setup.domain
        about = EpisodeMeta(
            episode_id="",
            source="teleop",
            task=config.task,
            rate_hz=domain.action.rate_hz,
            channels=domain.observation.names,
            domain=domain.named,
            robot=setup.limits.named,
            cell=load_cell(config.cell or domain.cell).named,
            rig=setup.rig.named,
        )
        return TeleopSession(
            domain,
            setup.limits,
            about,
            self._log,
            Path(config.folder.path),
            self._pack,
            least_steps=round(config.least_s * domain.action.rate_hz) or LEAST_SKILLS * domain.horizon,
            trim=config.trim,
            group=config.folder.group,
        )

    def _use(
        self,
        subscription: Subscription,
        use: Callable[[Any, dict[str, Any]], None] | None,
        data: bytes,
        info: dict[str, Any],
    ) -> None:
        if use is None:
            return
        try:
            use(decode(subscription.msg_type, data), info)
        except SpecError as error:
            topic = subscription.topic_name
            who = lambda: f" (published by {', '.join(publishers_of(self, topic))})"  # noqa: E731
            self._complaints.about(f"message on {topic!r}", str(error), who)

    def _take_joints(self, message: JointState, info: dict[str, Any]) -> None:
        """One of the arm, of the fingers alone, or of somebody else's joints."""
        adapter, names = self._setup.adapter, set(message.name)
        if not set(adapter.joints) <= names:
            self._take_fingers(message, info)
            return
        state = convert.robot_state(message, adapter.joints, adapter.fingers, RobotMode.UNKNOWN)
        period_s = self._setup.domain.action.period_s
        if not len(state.finger_m) and (fingers := self._fingers) is not None:
            fresh = state.stamp_s - fingers[0] <= FINGERS_AGE_PERIODS * period_s
            state = replace(state, finger_m=fingers[1]) if fresh else state
        if not np.isfinite(state.q_rad).all():
            raise SpecError("joint states hold a position that is not finite; check its driver")
        self._senders.note(info.get("publication_sequence_number"), state.stamp_s, state.q_rad, now_s(self))
        self.session.robot.add(corrected(state, self._setup.rig), self._came_s(info))

    def _take_fingers(self, message: JointState, info: dict[str, Any]) -> None:
        wanted = self._setup.adapter.fingers
        if wanted and set(wanted) <= set(message.name) and len(message.position) == len(message.name):
            at = [list(message.name).index(name) for name in wanted]
            self._fingers = convert.stamp_of(message), np.array([message.position[k] for k in at])

    def _take_objects(self, message: ObjectStatesMsg, info: dict[str, Any]) -> None:
        self.session.objects.add(convert.object_states(message), self._came_s(info))

    def _came_s(self, info: dict[str, Any]) -> float:
        """When a message came, by this node's clock; simulated time tells it no better than now."""
        return now_s(self) if self._simulated else convert.to_seconds(info["received_timestamp"])

    def _newest_s(self) -> float:
        """Until when steps may be due that there is something to know of."""
        return min(now_s(self), self.session.robot.newest_s) if self.session.under_way else now_s(self)

    # --- what is written --------------------------------------------------------------------------------------------

    def _pack(self, episode_id: str, number: int, step: TeleopStep) -> Sample:
        message = EpisodeStep(episode_id=episode_id, step=number, reward=float("nan"))
        message.header.stamp = convert.to_time(step.due_s)
        message.observation = step.observation_O.tolist()
        message.action_applied = [] if step.action_A is None else step.action_A.tolist()
        due_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        return Sample(topic=self._steps, data=serialize_message(message), log_ns=due_ns, publish_ns=due_ns)

    def _report(self, level: str, words: str) -> None:
        if level != "info":
            self._say(words)
