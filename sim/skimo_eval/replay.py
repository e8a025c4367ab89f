"""`skimo replay --on twin`: a recorded episode in its domain's twin, behind the gate, in simulated time.

At the recorded speed the recorded actions are executed as a policy's are, so that what departs is what the actions
don't say: a teleoperation's were read off its path (`skimo_core.control.executed`). Slower, the arm is led along the
recorded path, as on the robot. Arm, fingers and objects start where the recording has them; a twin that can't be put
there (`start_at`) starts as it does, the arm is led to the recorded start, and the report says so. Units rad, s.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from skimo_core.contract.errors import BackendError
from skimo_core.contract.types import Verdict
from skimo_core.control.actuate import ActuatorConfig
from skimo_core.control.commander import Arm, Commander
from skimo_core.control.retimed import Retimed, hand_goals, lead
from skimo_core.control.rigged import in_time
from skimo_core.control.travel import Travel
from skimo_core.domain.domain import Domain
from skimo_core.episodes.episode import Episode, FloatArray
from skimo_core.episodes.replay_cli import ReplayArgs
from skimo_core.episodes.replayed import Objection, Replayed
from skimo_core.safety.gate import Decision
from skimo_core.safety.gated import GatedBackend
from skimo_sim.impaired import actual

from .inprocess import World
from .trials import Lab, truth

TRAVEL_SHARE = 0.3
WHOLE = 1.0


def on_twin(args: ReplayArgs, episode: Episode, domain: Domain) -> Replayed:
    """Lead an episode again in the domain's twin."""
    world = World(domain=domain.source, robot=args.robot, cell=args.cell, rig=args.rig, twin_rig=args.twin_rig)
    replay = TwinReplay(world.build(), episode)
    speed = WHOLE if args.speed is None else args.speed
    return replay.act() if speed == WHOLE or not domain.observation.joints else replay.follow(speed)


class TwinReplay:
    """One episode in one lab's twin.

    Raises:
        BackendError: the arm can't be brought to the episode's start.
    """

    def __init__(self, lab: Lab, episode: Episode) -> None:
        self._lab, self._episode, self._step = lab, episode, 0
        self._objections: list[Objection] = []
        self._notes: list[str] = []
        self._seen: list[FloatArray] = []
        self._commander: Commander | None = None
        self._arm = GatedBackend(lab.twin, lab.gate(), self._hear)
        self._start()

    def act(self) -> Replayed:
        """Execute the recorded actions, one in each control period."""
        lab, arm = self._lab, self._arm
        config = in_time(ActuatorConfig(), lab.rig)
        commander = Commander(lab.limits, lab.domain.action, Arm.of(arm), config, contact=lab.cell.contact)
        commander.reset(arm.read().reference_q_rad, arm.now_s())
        self._commander, ended = commander, ""
        self._see()
        for action_A in self._episode.actions:
            try:
                commander.send(np.clip(action_A, -1.0, 1.0), arm.now_s())
                arm.advance(lab.domain.action.period_s)
            except BackendError as error:
                ended = str(error)
                break
            commander.settle()
            commander.fate()
            self._step += 1
            self._see()
        return self._found(ended)

    def follow(self, speed: float) -> Replayed:
        """Lead the arm along the recorded path."""
        lab, arm, episode = self._lab, self._arm, self._episode
        joints, ended = lab.domain.observation.joints, ""
        q_rad = episode.observations[:, :joints].astype(np.float64)
        q_rad[0] = arm.read().reference_q_rad  # where it is, and not where noise has it
        path = Retimed(lab.limits, q_rad, lab.domain.action.period_s, start_s=arm.now_s(), speed=speed)
        self._notes.append(f"led at {1 / path.slower:.2f} of the recorded speed{_because(path)}")
        goals = [(path.due_s(step), goal) for step, goal in hand_goals(episode.actions, joints, lab.limits)]
        self._see()

        def wait(time_s: float) -> None:
            """Look at each control step on the way."""
            until_s = arm.now_s() + time_s
            while self._step < episode.steps and path.due_s(self._step + 1) <= until_s + 1e-9:
                arm.advance(max(path.due_s(self._step + 1) - arm.now_s(), 0.0))
                self._step += 1
                self._see()
            arm.advance(max(until_s - arm.now_s(), 0.0))

        try:
            lead(path, arm, lab.limits, wait, goals, self._why_held)
        except BackendError as error:
            ended = str(error)
        return self._found(ended)

    def _start(self) -> None:
        lab, episode = self._lab, self._episode
        first_O = episode.observations[0].astype(np.float64)
        joints = lab.domain.observation.joints
        if len(episode.meta.start_q_rad) == joints:
            first_O[:joints] = episode.meta.start_q_rad
        self._arm.reset(_task(episode, lab.domain), episode.meta.seed or 0)
        start_at = getattr(actual(lab.twin), "start_at", None)
        if start_at is not None:
            start_at(first_O)
            self._arm.gate.resync(self._arm.read(), self._arm.now_s())
            return
        self._notes.append("this twin can't be put at a recording's start: objects stand where its own start has them")
        if joints:
            here_rad = self._arm.read().reference_q_rad
            way = Travel(lab.limits, here_rad, first_O[:joints], start_s=self._arm.now_s(), share=TRAVEL_SHARE)
            lead(way, self._arm, lab.limits, self._arm.advance)

    def _why_held(self) -> str:
        grave = [objection for objection in self._objections if objection.grave]
        return "; ".join(grave[0].reasons) if grave else ""

    def _see(self) -> None:
        self._seen.append(truth(self._lab.domain, self._lab.twin))

    def _hear(self, decision: Decision) -> None:
        if decision.verdict is not Verdict.PASS:
            grave = decision.verdict >= Verdict.HOLD
            self._objections.append(
                Objection(step=self._step, verdict=decision.verdict.name, reasons=decision.reasons, grave=grave)
            )
        if decision.command is not None and self._commander is not None:
            self._commander.confirm(decision.command.trajectory)
        if self._commander is not None:
            self._commander.note(decision.verdict)

    def _found(self, ended: str) -> Replayed:
        return Replayed(
            observations=np.stack(self._seen),
            objections=tuple(self._objections),
            ended=ended,
            notes=tuple(self._notes),
        )


def _task(episode: Episode, domain: Domain) -> str:
    """The recording's task where the domain knows it."""
    with suppress(Exception):
        return domain.task(episode.meta.task).name
    return ""


def _because(path: Retimed) -> str:
    return f", slower than asked for because of {path.bound_by}" if path.bound_by else ""
