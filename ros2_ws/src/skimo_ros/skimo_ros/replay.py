"""`skimo replay --on robot`: a recorded episode led again through the running stack's gate, slowly.

The stack runs without a policy (`skimo up policy:=false`, on a robot with its own arguments besides). The arm goes to
the episode's first position, then along its path, the hand as the recording's intents say; a human says yes before
anything moves (`--yes`). Any driver of the stack will do, the twin's too.

Promises
  - Every command goes through the gate, at a share of the recorded speed and of the robot's limits; what the gate says
    meanwhile stands in the report. A stop ends the replay, with its reason.
  - Silence ends at rest: a replay that is killed leaves an arm that brakes within a second.
Joints are true angles, by the rig that is named. Units rad, s.
"""

from __future__ import annotations

import sys

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from skimo_msgs.msg import GateEvent

from skimo_core.contract.errors import BackendError, MissingError, SetupError
from skimo_core.contract.types import Array, Verdict
from skimo_core.control.retimed import Retimed, hand_goals, lead
from skimo_core.control.travel import Travel
from skimo_core.domain.domain import Domain
from skimo_core.episodes.episode import Episode
from skimo_core.episodes.replay_cli import ReplayArgs
from skimo_core.episodes.replayed import Objection, Replayed

from . import conversions as convert
from .led_arm import LedArm
from .nodes import Names
from .operator import end_ros, init_ros
from .reports import GateReport
from .robots import Setup, set_up

SPEED = 0.5
TRAVEL_SHARE = 0.15
VERDICTS_QOS = QoSProfile(
    depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def on_robot(args: ReplayArgs, episode: Episode, domain: Domain) -> Replayed:
    """Lead an episode again on the running stack.

    Raises:
        SetupError: the stack isn't up, or nobody said yes.
        SpecError: the domain has no arm, or its path leaves the joints' range.
        BackendError: the arm was stopped on its way to the start.
    """
    named = {key: getattr(args, key) for key in ("driver", "arm", "robot", "rig")}
    setup = set_up({**named, "domain": domain.source, "robot_serial": "", "rig_max_age_days": 0.0})
    if not domain.observation.joints:
        raise SetupError(f"domain {domain.name!r} has no arm that a gate could lead; replay it --on twin")
    q_rad = episode.observations[:, : domain.observation.joints].astype(np.float64)
    speed = SPEED if args.speed is None else args.speed
    path = Retimed(setup.limits, q_rad, domain.action.period_s, speed=speed)
    init_ros()
    try:
        leader = Leader(args, setup)
        try:
            _ask(args, leader.way_to(q_rad[0], TRAVEL_SHARE), path, episode)
            leader.go(q_rad[0], TRAVEL_SHARE, "the episode's start")
            return leader.follow(path, episode, domain)
        finally:
            leader.close()
    finally:
        end_ros()


def _ask(args: ReplayArgs, way: Travel, path: Retimed, episode: Episode) -> None:
    """Say what will move, and have it confirmed."""
    bound = f" (bound by {path.bound_by})" if path.bound_by else ""
    print(
        f"the arm goes to the episode's start in {way.end_s - way.start_s:.1f} s, then along {episode.steps} steps of "
        f"{episode.meta.episode_id} in {path.end_s - path.start_s:.1f} s, at {1 / path.slower:.2f} of the recorded "
        f"speed{bound}",
        flush=True,
    )
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise SetupError("nobody is there to confirm it: give --yes, with the enabling device in hand")
    if input("clear the way, take the enabling device; go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise SetupError("not confirmed; nothing moved")


class Leader(LedArm):
    """Leads an arm along a recorded path, and sees how it goes; in the graph from here to `close`.

    Raises:
        SetupError: the stack isn't up.
    """

    def __init__(self, args: ReplayArgs, setup: Setup) -> None:
        super().__init__("replay", setup, driver=args.driver, arm=args.arm, namespace=args.namespace)
        self._joints = setup.domain.observation.joints
        self._reports: list[tuple[float, GateReport]] = []
        self._seen: list[tuple[float, Array, Array]] = []
        self.node.create_subscription(GateEvent, Names.GATE, self._hear, VERDICTS_QOS)
        self.arm.wait_until_up()

    def follow(self, path: Retimed, episode: Episode, domain: Domain) -> Replayed:
        """Lead the arm along the path, and see how it goes."""
        self._seen.clear()
        before, ended = self._reports[-1][1] if self._reports else None, ""
        self._reports.clear()
        path = path.begun_at(self.arm.now_s())
        goals = hand_goals(episode.actions, self._joints, self._limits)
        try:
            timed = [(path.due_s(step), goal) for step, goal in goals]
            lead(path, self.arm, self._limits, self.let_pass, timed, lambda: self._why_held(before))
            self.let_pass(domain.action.period_s)
        except BackendError as error:
            ended = str(error)
        return Replayed(
            observations=self._at_steps(path, episode, domain).astype(np.float32),
            objections=self._objections(path, before),
            ended=ended,
            notes=(f"led at {1 / path.slower:.2f} of the recorded speed",),
        )

    def _why_held(self, before: GateReport | None) -> str:
        """Why the gate holds or stops the arm since the path began."""
        counts = (0, 0) if before is None else (before.held, before.stops)
        for _, report in self._reports:
            if report.decision.verdict >= Verdict.HOLD and (report.held, report.stops) != counts:
                return "; ".join(report.decision.reasons) or report.decision.verdict.name
        return ""

    def _at_steps(self, path: Retimed, episode: Episode, domain: Domain) -> Array:
        """What was seen when each control step was due [N + 1, O]; NaN where nobody looked."""
        if not self._seen:
            raise MissingError("no joint states came during the replay; is the driver running?")
        spec = domain.observation
        times_s = np.array([time_s for time_s, _, _ in self._seen])
        due_s = np.array([path.due_s(step) for step in range(episode.steps + 1)])
        known = max(int(np.searchsorted(due_s, times_s[-1], side="right")), 1)
        found = np.full((known, spec.size), np.nan)
        for joint in range(spec.joints):
            found[:, joint] = np.interp(due_s[:known], times_s, [q[joint] for _, q, _ in self._seen])
        for finger in range(spec.fingers):
            if all(len(fingers) > finger for _, _, fingers in self._seen):
                values = [fingers[finger] for _, _, fingers in self._seen]
                found[:, spec.joints + finger] = np.interp(due_s[:known], times_s, values)
        return found

    def _objections(self, path: Retimed, before: GateReport | None) -> tuple[Objection, ...]:
        """What the gate said that was no PASS, once each."""
        found: list[Objection] = []
        for time_s, report in self._reports:
            verdict, reasons = report.decision.verdict, report.decision.reasons
            counts = (report.limited, report.held, report.stops)
            if verdict is Verdict.PASS or (
                before is not None and counts == (before.limited, before.held, before.stops)
            ):
                continue
            before = report
            step = max(int((time_s - path.start_s) / (path.due_s(1) - path.start_s)), 0)
            grave = verdict >= Verdict.HOLD
            found.append(Objection(step=step, verdict=verdict.name, reasons=reasons, grave=grave))
        return tuple(found)

    def _hear(self, message: GateEvent) -> None:
        self._reports.append((self.arm.now_s(), convert.from_gate_event(message)))

    def look(self) -> None:
        state = self.arm.read()
        if not self._seen or state.stamp_s > self._seen[-1][0]:
            self._seen.append((state.stamp_s, state.q_rad, state.finger_m))
