"""Hours of commands against the gate, and what left it held against the limits: `skimo soak gate`.

A stream is one gate, one arm, some dozens of commands with gaps, pauses, stops, resets and jumps of the clock between
them. What leaves the gate goes to a driver as `TrajectoryFollower` models it, some of the transit time later, and the
driver's motion is sampled four times a millisecond. Velocity, acceleration and jerk are backward differences over 1 ms,
as Franka's controller forms them (Franka Control Interface documentation, "Robot and interface specifications").
Units rad, s; ratios are of the robot's limits.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..contract.types import Array, JointCommand, JointTrajectory, RobotMode, RobotState, Verdict
from ..control.trajectory import TrajectoryFollower
from ..domain.cell import Cell
from ..domain.robot import RobotLimits
from .adversary import MAKERS, PERIOD_S, State, sharpened
from .collision import Collision
from .gate import Decision, Gate
from .path import ARRIVAL_S

SAMPLE_S = 0.00025
STRIDE = 4
"""Samples in the millisecond over which differences are formed."""
RESTING = 4 * STRIDE
"""Samples of a rest: as many as three differences take."""
LOOK_STRIDE = 32
"""Collisions are looked for every 8 ms."""
OVERLAP_M = 3e-3
"""The 2 mm that an arm which is too near may come nearer on its way out (`retreat_m`), and what 8 ms of motion hide.
Capsules lie 9 to 16 mm outside the arm (`robots/`), so this is no contact."""
TRIES = 20
REST_S = 2.5
"""Longer than any trajectory may last: after this much silence the arm must rest."""


@dataclass(slots=True)
class Worst:
    """The worst of what a driver was led to do.

    Attributes:
        position_rad: beyond a joint's range, or beyond where a stream began if that lay outside.
        velocity, acceleration, jerk: of the limits.
        overlap_m: of two of the arm's links, or of the arm and something in its cell, beyond what there was at the
            stream's start; measured between capsules, which lie outside the arm.
        rest_rad_s: speed left when every stream had fallen silent.
    """

    position_rad: float = 0.0
    velocity: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0
    overlap_m: float = 0.0
    rest_rad_s: float = 0.0

    def note(self, other: Worst) -> None:
        for name in self.__slots__:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))

    def within(self, tolerance: float) -> bool:
        """Whether no limit is exceeded by more than `tolerance`, and everything came to rest."""
        largest = max(self.velocity, self.acceleration, self.jerk)
        still = self.rest_rad_s <= 1e-9 and self.position_rad <= 1e-4
        return still and largest <= 1 + tolerance and self.overlap_m <= OVERLAP_M


class Driver:
    """An arm that follows its commands exactly, and remembers its motion."""

    def __init__(self, q_rad: Array, now_s: float) -> None:
        self._follower = TrajectoryFollower(q_rad, now_s)
        self._sampled_s = now_s
        self._coming: list[tuple[float, JointTrajectory]] = []
        self._samples: list[Array] = [np.repeat(q_rad[None], RESTING, axis=0)]

    def take(self, trajectory: JointTrajectory, arrives_s: float) -> None:
        """Messages arrive in the order in which they were sent."""
        self._coming.append((max([arrives_s, *(at_s for at_s, _ in self._coming)]), trajectory))

    def advance(self, to_s: float) -> None:
        while self._coming and self._coming[0][0] <= to_s:
            arrives_s, trajectory = self._coming.pop(0)
            self._sample_until(arrives_s)
            self._follower.set(trajectory, arrives_s)
        self._sample_until(to_s)

    def led(self, now_s: float) -> State:
        """Where it is led now: q, dq, ddq, each [7]."""
        return self._follower.at(now_s)

    def state(self, now_s: float) -> RobotState:
        q, dq, _ = self._follower.at(now_s)
        still = np.zeros_like(q)
        return RobotState(
            stamp_s=now_s,
            q_rad=q,
            dq_rad_s=dq,
            tau_nm=still,
            finger_m=np.zeros(2),
            mode=RobotMode.IDLE,
            desired_q_rad=q,
        )

    def jump(self, by_s: float) -> None:
        """The clock that it shares with the gate now reads `by_s` more."""
        self._follower = self._follower.shifted(by_s)
        self._sampled_s += by_s
        self._coming = [(at_s + by_s, _shifted(trajectory, by_s)) for at_s, trajectory in self._coming]

    def _sample_until(self, to_s: float) -> None:
        """Of a rest a few samples are kept: the others are the same."""
        count = int((to_s - self._sampled_s) / SAMPLE_S)
        if count > 0:
            moving = max(0, int(np.ceil((self._follower.end_s - self._sampled_s) / SAMPLE_S)))
            kept = min(count, moving + RESTING)
            self._samples.append(self._follower.positions(self._sampled_s + SAMPLE_S * np.arange(1.0, kept + 1.0)))
            self._sampled_s += SAMPLE_S * count

    def worst(self, limits: RobotLimits, collision: Collision) -> Worst:
        q = np.concatenate(self._samples)
        low_rad_s, high_rad_s = limits.velocity_bounds(q[STRIDE:])
        start = q[0]
        low, high = np.minimum(limits.q_min_rad, start), np.maximum(limits.q_max_rad, start)
        dt_s = SAMPLE_S * STRIDE
        dq = (q[STRIDE:] - q[:-STRIDE]) / dt_s
        ddq = (dq[STRIDE:] - dq[:-STRIDE]) / dt_s
        dddq = (ddq[STRIDE:] - ddq[:-STRIDE]) / dt_s
        return Worst(
            position_rad=float(np.maximum(q - high, low - q).max(initial=0.0)),
            velocity=float(1 + (np.maximum(dq - high_rad_s, low_rad_s - dq) / limits.dq_max_rad_s).max()),
            acceleration=float((np.abs(ddq) / limits.ddq_max_rad_s2).max()),
            jerk=float((np.abs(dddq) / limits.dddq_max_rad_s3).max()),
            overlap_m=_overlap(collision, q[::LOOK_STRIDE]),
            rest_rad_s=float(np.abs(dq[-1]).max()),
        )


def _overlap(collision: Collision, q_rad: Array) -> float:
    moved = np.append(True, (np.diff(q_rad, axis=0) != 0).any(axis=1))  # most of a stream's time the arm rests
    room = collision.room(q_rad[moved])
    own, other = room.self_m + collision.self_margin_m, room.obstacle_m
    if collision.obstacles:
        other = other + collision.margins_m[room.obstacle]
    return float(max((min(0.0, gaps[0]) - gaps).max() for gaps in (own, other)))


@dataclass(slots=True)
class Tally:
    """What a number of streams came to."""

    commands: int = 0
    streams: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    worst: Worst = field(default_factory=Worst)
    worst_stream: dict[str, int] = field(default_factory=dict)

    def note(self, other: Tally) -> None:
        self.commands += other.commands
        self.streams += other.streams
        self.verdicts += other.verdicts
        self._note_streams(other)
        self.worst.note(other.worst)

    def _note_streams(self, other: Tally) -> None:
        for name, stream in other.worst_stream.items():
            if getattr(other.worst, name) > getattr(self.worst, name):
                self.worst_stream[name] = stream


def run_stream(seed: int, stream: int, limits: RobotLimits, cell: Cell, commands: int = 24) -> Tally:
    """One stream; the same seed and number give the same."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, stream]))
    collision = Collision(limits, cell)
    gate, driver, now_s = _begin(rng, limits, cell, collision)
    tally = Tally(streams=1)
    for _ in range(commands):
        now_s = _between(rng, gate, driver, now_s)
        state = driver.state(now_s)
        trajectory = MAKERS[int(rng.integers(len(MAKERS)))](rng, limits, driver.led(now_s), now_s)
        if rng.random() < 0.1 and not gate.stopped:
            trajectory, tries = sharpened(gate, trajectory, state, now_s)
            tally.commands += tries
        decision = gate.consider(JointCommand(trajectory=trajectory), state, now_s)
        tally.commands += 1
        tally.verdicts[decision.verdict.name] += 1
        _send(rng, driver, decision, now_s)
    driver.advance(now_s + REST_S)
    tally.worst = driver.worst(limits, collision)
    tally.worst_stream = dict.fromkeys(Worst.__slots__, stream)
    return tally


def _begin(
    rng: np.random.Generator, limits: RobotLimits, cell: Cell, collision: Collision
) -> tuple[Gate, Driver, float]:
    """A gate and an arm at home, or somewhere in its range, at its edge at times, where it touches nothing."""
    middle, half = (limits.q_max_rad + limits.q_min_rad) / 2, (limits.q_max_rad - limits.q_min_rad) / 2
    q = limits.home_q_rad
    if rng.random() < 0.5:
        for _ in range(TRIES):
            tried = middle + half * np.where(
                rng.random(limits.joints) < 0.3, rng.choice([-1, 1]), rng.uniform(-1, 1, limits.joints)
            )
            room = collision.room(tried[None])
            if min(room.self_m[0], room.obstacle_m[0]) > 0:
                q = tried
                break
    now_s = float(rng.choice([0.0, 1000.0]))
    return Gate(limits, cell=cell), Driver(q, now_s), now_s


def _shifted(trajectory: JointTrajectory, by_s: float) -> JointTrajectory:
    return dataclasses.replace(trajectory, start_s=trajectory.start_s + by_s)


def _between(rng: np.random.Generator, gate: Gate, driver: Driver, now_s: float) -> float:
    """What happens between two commands: time passes, and sometimes more; returns the time."""
    pause_s = rng.choice([0.001, 0.02, PERIOD_S, PERIOD_S, PERIOD_S, 0.3, 1.0]) * rng.uniform(0.8, 1.2)
    now_s += pause_s
    driver.advance(now_s)
    event = rng.random()
    if event < 0.04:
        _send(rng, driver, gate.stop("soak", now_s), now_s)
    elif event < 0.08:
        _send(rng, driver, gate.hold(driver.state(now_s), now_s), now_s)
    elif event < 0.10:  # the gate is looked after at 25 Hz, so it has just known the time
        _send(rng, driver, gate.watch(driver.state(now_s), now_s), now_s)
        back_s = -float(rng.uniform(0.1, 5.0))
        driver.jump(back_s)
        now_s += back_s
        _send(rng, driver, gate.watch(driver.state(now_s), now_s), now_s)
    else:
        _send(rng, driver, gate.watch(driver.state(now_s), now_s), now_s)
    if gate.stopped and rng.random() < 0.5:
        now_s += REST_S
        driver.advance(now_s)
        gate.reset(gate.generation, driver.state(now_s), now_s)
    return now_s


def _send(rng: np.random.Generator, driver: Driver, decision: Decision, now_s: float) -> None:
    assert decision.command is None or decision.verdict is not Verdict.HOLD or "asked" in decision.reasons[0]
    if decision.command is not None:
        driver.take(decision.command.trajectory, now_s + float(rng.uniform(0.0, ARRIVAL_S)))
