"""Teleoperation as episodes on disk: begun and ended when asked, set aside in words when they are no use, counted.

Promises
  - What is written trains as it is: control steps on one grid, source "teleop", with domain, robot, cell and rig.
  - An episode that ends itself (a channel that is stale or missing, a joint that jumps, stamps that go back) says why,
    and keeps what came before. One that holds too few steps, or that is discarded, goes to `discarded/`: nothing is
    deleted.
  - A process that is killed loses a fraction of a second and the pause under way; `skimo repair` mends the rest.
No ROS here but the bytes of messages; time is an argument. Units s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import EpisodeError, ObservationError
from skimo_core.contract.types import ObjectStates, RobotState
from skimo_core.control.executed import Excess
from skimo_core.control.teleop import ASKED, Feed, Teleop, TeleopStep, Trim
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits
from skimo_core.episodes.episode import EpisodeMeta, FloatArray
from skimo_core.episodes.files import file_stem, make_folder
from skimo_core.episodes.fit import why_jumping
from skimo_core.episodes.locks import being_written

from .episode_log import EpisodeLog
from .recording import Sample

ASIDE = "discarded"
CUT_SHARE_MAX = 0.05
"""An episode that was faster than actions can say at more of its steps does not train as it is."""
PackStep = Callable[[str, int, TeleopStep], Sample]
"""A control step as a message: episode, number, step."""


@dataclass(slots=True, kw_only=True)
class Taken:
    """What became of an episode.

    Attributes:
        dropped: why it was set aside; empty: it is kept.
        notes: what else to know of it.
    """

    episode_id: str
    steps: int = 0
    seconds: float = 0.0
    dropped: str = ""
    notes: list[str] = field(default_factory=list)


class TeleopSession:
    """Records one episode after another.

    Args:
        about: what all have in common.
        log: writes them; its `begin` and `put` are called here.
        pack: makes a message of a step.
        least_steps: an episode with fewer is set aside.
        trim: leave out pauses at its ends.
    """

    def __init__(
        self,
        domain: Domain,
        limits: RobotLimits,
        about: EpisodeMeta,
        log: EpisodeLog,
        folder: Path,
        pack: PackStep,
        *,
        least_steps: int,
        trim: bool,
        group: bool = False,
    ) -> None:
        self.robot: Feed[RobotState] = Feed()
        self.objects: Feed[ObjectStates] = Feed()
        self.taken: list[Taken] = []
        self._domain, self._limits, self._about, self._log, self._pack = domain, limits, about, log, pack
        self._folder, self._group, self._least_steps, self._trims = folder, group, least_steps, trim
        self._now: Taken | None = None
        self._teleop: Teleop | None = None
        self._trim: Trim | None = None
        self._to_move: list[Taken] = []

    @property
    def under_way(self) -> Taken | None:
        """The episode that is recorded."""
        return self._now

    @property
    def kept(self) -> int:
        """How many episodes are kept so far."""
        return sum(1 for taken in self.taken if not taken.dropped and taken is not self._now)

    @property
    def lasts_s(self) -> float:
        """How long the episode that is recorded has lasted, pauses included."""
        return 0.0 if self._teleop is None else self._teleop.lasts_s

    def look(self, now_s: float) -> str:
        """Why no episode can begin now; empty if one can."""
        try:
            Teleop(self._domain, self._limits, self.robot, self.objects, now_s).look(now_s)
        except ObservationError as error:
            return str(error)
        return ""

    def start(self, now_s: float) -> tuple[bool, str]:
        """Begin an episode; whether it did, and its name or why not."""
        if self._now is not None:
            return False, f"episode {self._now.episode_id} is being recorded; end it first"
        self.robot.went_back_s = self.objects.went_back_s = 0.0
        if why := self.look(now_s):
            return False, f"no episode begins: {why}"
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
        self._now = Taken(episode_id=f"teleop-{stamp}-{len(self.taken) + 1:03d}")
        self._teleop = Teleop(self._domain, self._limits, self.robot, self.objects, now_s, self._why_jumping)
        self._trim = Trim() if self._trims else None
        self.taken.append(self._now)
        return True, f"episode {self._now.episode_id} begins"

    def put(self, sample: Sample) -> None:
        """Record a message as it came; ignored between episodes, and before the first step that is written."""
        self._log.put(sample)

    def advance(self, now_s: float, steady_s: float) -> str:
        """Write the steps that are known by now; returns why the episode ended by itself, or ""."""
        self._log.poll(steady_s)
        self._move_aside()
        if self._teleop is None or self._now is None:
            return ""
        for step in self._teleop.advance(now_s):
            self._write(self._trim.add(step) if self._trim is not None else [step], steady_s)
        if self._teleop.ended:
            return self._end(self._teleop.ended, steady_s)
        return ""

    def end(self, now_s: float, steady_s: float, why: str = "") -> tuple[bool, str]:
        """End the episode at `now_s`; whether there was one, and what became of it."""
        if self._teleop is None or self._now is None:
            return False, "no episode is being recorded"
        teleop = self._teleop
        rest = list(teleop.finish(now_s))
        return True, self._end(why or (teleop.ended if teleop.ended != ASKED else ""), steady_s, rest)

    def discard(self, now_s: float, steady_s: float) -> tuple[bool, str]:
        """Set aside the episode that is recorded, or else the last one that is kept."""
        if self._now is not None:
            self.end(now_s, steady_s)
            if self.taken[-1].dropped:
                return True, describe(self.taken[-1])
        kept = [taken for taken in self.taken if not taken.dropped]
        return (True, self._drop(kept[-1], "discarded")) if kept else (False, "there is no episode to discard")

    def close(self, now_s: float, steady_s: float) -> None:
        """End what is recorded, and wait for the disk."""
        if self._now is not None:
            self.end(now_s, steady_s, "the recorder ended")
        self._log.close()
        self._move_aside()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _why_jumping(self, rows_2O: FloatArray) -> str:
        """Why an observation can't follow the one before it."""
        return why_jumping(rows_2O, self._domain, self._limits).partition(":")[2].partition(";")[0].strip()

    def _write(self, steps: list[TeleopStep], steady_s: float) -> None:
        taken = self._now
        assert taken is not None
        for step in steps:
            if taken.steps == 0 and self._log.episode_id != taken.episode_id:
                self._log.begin(replace(self._about, episode_id=taken.episode_id), steady_s)
            self._log.note_step(taken.steps)
            self._log.put(self._pack(taken.episode_id, taken.steps, step))
            taken.steps += 1
            taken.seconds = taken.steps * self._domain.action.period_s

    def _end(self, why: str, steady_s: float, rest: list[TeleopStep] | None = None) -> str:
        """Write what is left, end the file, and judge what is in it."""
        taken, teleop = self._now, self._teleop
        assert taken is not None and teleop is not None
        rest = list(teleop.finish(-np.inf)) if rest is None else rest
        for step in rest:
            self._write(self._trim.add(step) if self._trim is not None else [step], steady_s)
        if self._trim is not None:
            self._write(self._trim.end(), steady_s)
            if self._trim.left_out:
                period_s = self._domain.action.period_s
                taken.notes.append(f"{self._trim.left_out * period_s:.1f} s of pauses left out")
        rows, taken.steps = taken.steps, max(taken.steps - 1, 0)
        taken.seconds = taken.steps * self._domain.action.period_s
        if why:
            taken.notes.append(f"ended by itself: {why}")
        report = self._log.report()
        if self._log.episode_id == taken.episode_id:
            self._log.end({"complete": "true", "success": "", "detail": why}, rows)
            if report.reason:
                taken.notes.append(report.reason)
            if report.state == "failed":
                self._drop(taken, "its file could not be written to the end")
        self._now = self._teleop = self._trim = None
        if not taken.dropped:
            self._judge(taken, teleop.excess)
        return describe(taken)

    def _judge(self, taken: Taken, excess: Excess | None) -> None:
        """Set aside what doesn't train, and say what is odd."""
        if excess is not None:
            name = self._domain.observation.names[excess.joint]
            cut = (
                f"{excess.steps} steps are cut, {name} went {excess.velocity_rad_s:.2f} rad/s, bound "
                f"{excess.bound_rad_s:.2f} rad/s"
            )
            if excess.steps > CUT_SHARE_MAX * taken.steps:
                self._drop(taken, f"{cut}; move slower, or raise the domain's velocity_scale_rad_s")
                return
            taken.notes.append(cut)
        if taken.steps < self._least_steps:
            self._drop(taken, f"{taken.steps} steps, needs {self._least_steps}")

    def _drop(self, taken: Taken, why: str) -> str:
        taken.dropped = why
        self._to_move.append(taken)
        return describe(taken)

    def _move_aside(self) -> None:
        """Move what was dropped, as soon as it is no longer written."""
        for taken in list(self._to_move):
            stem = file_stem(taken.episode_id)
            paths = [p for p in self._folder.glob("*.mcap") if p.stem == stem or p.stem.startswith(f"{stem}.part")]
            if any(being_written(path) for path in paths):
                continue
            self._to_move.remove(taken)
            try:
                for path in paths:
                    make_folder(self._folder / ASIDE, group=self._group)
                    path.rename(self._folder / ASIDE / path.name)
            except OSError as error:
                taken.notes.append(f"can't be moved to {ASIDE}/: {error.strerror}; move it yourself")


def describe(taken: Taken) -> str:
    """What became of an episode, in a line."""
    notes = f" ({'; '.join(taken.notes)})" if taken.notes else ""
    what = f"dropped: {taken.dropped}" if taken.dropped else "kept"
    return f"episode {taken.episode_id}: {taken.seconds:.1f} s, {taken.steps} steps, {what}{notes}"


def table(taken: list[Taken], folder: Path) -> str:
    """What became of all episodes, as a table."""
    if not taken:
        return "no episode was recorded"
    width = max(len(t.episode_id) for t in taken)
    lines = [f"{'episode':<{width}}  seconds  steps  what"]
    for t in taken:
        what = "; ".join([f"dropped: {t.dropped}" if t.dropped else "kept", *t.notes])
        lines.append(f"{t.episode_id:<{width}}  {t.seconds:7.1f}  {t.steps:5d}  {what}")
    kept = [t for t in taken if not t.dropped]
    lines.append(f"{len(kept)} of {len(taken)} episodes kept, {sum(t.seconds for t in kept):.1f} s, in {folder}")
    if len(kept) < len(taken):
        lines[-1] += f"; what was dropped is in {folder / ASIDE}"
    return "\n".join(lines)


def check_about(domain: Domain) -> None:
    """Raises EpisodeError where there is no arm that anybody could lead."""
    if domain.observation.joints == 0:
        raise EpisodeError(
            f"domain {domain.name!r} has no arm: its actions can't be read off joints; collect or ingest"
        )
