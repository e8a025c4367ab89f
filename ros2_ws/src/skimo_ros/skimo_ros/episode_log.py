"""One episode on disk, whatever happens to the disk: begun, gone on with in a next file after a failure, ended.

Promises
  - Nothing here raises for the disk's sake. What can't be recorded is said at once (`say`), and stands in `report`
    until the next episode begins.
  - When the file fails (disk full, folder removed), a next part is begun as soon as the folder takes one: at once, then
    every RETRY_S. Its metadata says which part it is; what had not got into the last file comes first in it.
  - Control steps are counted by their numbers: a step that never came, for whatever reason, is a lost step.
No ROS here: messages are samples, and time is an argument.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from skimo_core.contract.errors import EpisodeError
from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.files import MEBIBYTE, file_stem, why_unusable
from skimo_core.episodes.recording import read_meta

from .recording import Channel, Recording, Sample
from .reports import RecorderReport

RETRY_S = 2.0
LOOK_AGAIN_S = 5.0
"""How often the folder is looked at between episodes."""
Say = Callable[[str, str], None]
"""Tells the operator: level ("info", "warn" or "error") and words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """Where recordings go, and on what terms."""

    path: Path
    min_free_mib: float = 200.0
    group: bool = False
    capacity: int = 2000

    def why_unusable(self) -> str:
        return why_unusable(self.path, min_free_mib=self.min_free_mib, group=self.group)


@dataclass(slots=True)
class _Tally:
    """What became of one episode: messages, control steps, and in words what went wrong, by kind."""

    saved: int = 0
    dropped: int = 0
    lost_steps: int = 0
    extra_bytes: int = 0
    extra_left_out: int = 0
    missed: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


class EpisodeLog:
    """Records one episode at a time."""

    def __init__(self, folder: Folder, channels: tuple[Channel, ...], say: Say) -> None:
        self._folder, self._channels, self._say = folder, channels, say
        self._meta: EpisodeMeta | None = None
        self._recording: Recording | None = None
        self._ending: list[tuple[Recording, EpisodeMeta, _Tally]] = []
        self._tally = _Tally()
        self._due: int | None = 0
        self._look_again_s = 0.0
        self._unusable = ""
        self._file = ""

    @property
    def episode_id(self) -> str | None:
        """The episode that is recorded, or should be."""
        return None if self._meta is None else self._meta.episode_id

    def begin(self, meta: EpisodeMeta, now_s: float) -> None:
        """Begin an episode's file; the one before is ended as it is."""
        self.end({"complete": "false"}, None)
        self._meta, self._tally = meta, _Tally()
        self._due = 0 if meta.part == 1 else None
        self._open(now_s)

    def note_step(self, number: int) -> bool:
        """Count a control step by its number; whether it belongs into the file (not if one of it is there already)."""
        if self._due is not None and number < self._due:
            return False
        if self._due is not None and number > self._due:
            self._lose(self._due, number - 1)
        self._due = number + 1
        return True

    def note_missed(self, topic: str, count: int) -> None:
        """Count messages of a topic that were sent and never came."""
        missed = self._tally.missed
        missed[topic] = missed.get(topic, 0) + count
        self._tally.reasons["missed"] = "never came: " + ", ".join(f"{n} of {t}" for t, n in missed.items())

    def put(self, sample: Sample) -> None:
        """Record a message of the running episode; ignored between episodes."""
        if self._recording is not None:
            self._recording.put(sample)
        elif self._meta is not None:
            self._tally.dropped += 1

    def put_extra(self, sample: Sample, most_bytes: int) -> None:
        """Record a message that others go before: only while the disk keeps up, and so many bytes of an episode."""
        if self._recording is None:
            return
        tally, full = self._tally, self._tally.extra_bytes + len(sample.data) > most_bytes
        if full or self._recording.pending > self._folder.capacity // 2:
            tally.extra_left_out += 1
            why = f"beyond {most_bytes / MEBIBYTE:.0f} MiB of them" if full else "the disk is slow"
            tally.reasons["extra"] = f"{tally.extra_left_out} messages of {sample.topic} are left out ({why})"
            return
        tally.extra_bytes += len(sample.data)
        self._recording.put(sample)

    def poll(self, now_s: float) -> None:
        """Look after the files: failures, next parts, files that have ended, the folder between episodes."""
        recording, meta = self._recording, self._meta
        if recording is not None and meta is not None and not recording.running:
            self._recording = None
            self._count(recording, self._tally)
            self._fail(recording.failure)
            self._meta = replace(meta, part=meta.part + 1)
            self._open(now_s, recording.leftover())
        elif recording is None and now_s >= self._look_again_s:
            if meta is not None:
                self._open(now_s)
            else:
                self._look_again_s = now_s + LOOK_AGAIN_S
                self._unusable = self._folder.why_unusable()
        for item in [item for item in self._ending if not item[0].running]:
            self._ending.remove(item)
            self._tell_end(*item)

    def end(self, outcome: dict[str, str], steps: int | None) -> None:
        """End the episode; `steps` says how many control steps it had, where that is known."""
        meta, recording, tally = self._meta, self._recording, self._tally
        if meta is None:
            return
        if steps is not None and self._due is not None and steps > self._due:
            self._lose(self._due, steps - 1)
        if recording is None:
            self._say("error", f"the end of episode {_short(meta)} is not recorded: {tally.reasons.get('failure', '')}")
        else:
            counts = {"lost_steps": str(tally.lost_steps), "not_recorded": str(tally.dropped)}
            if tally.extra_left_out:
                counts["extra_left_out"] = str(tally.extra_left_out)
            recording.finish({**outcome, **counts, "never_came": json.dumps(tally.missed)})
            self._ending.append((recording, meta, tally))
        self._meta = self._recording = None
        self._look_again_s = 0.0

    def close(self, timeout_s: float = 5.0) -> None:
        """End what runs and wait for the disk."""
        self.end({"complete": "false"}, None)
        for recording, _, _ in self._ending:
            if not recording.join(timeout_s):
                self._say("error", f"{recording.path}: the disk took no end within {timeout_s:g} s; run `skimo repair`")
        self.poll(0.0)

    def report(self) -> RecorderReport:
        """Where it stands; between episodes with what became of the last one."""
        recording, meta, tally = self._recording, self._meta, self._tally
        writing = [recording] if recording is not None else [r for r, _, t in self._ending if t is tally]
        failed = (meta is not None and recording is None) or (meta is None and self._unusable)
        unusable = [f"{self._folder.path}: {self._unusable}"] if meta is None and self._unusable else []
        return RecorderReport(
            state="failed" if failed else "ready" if meta is None else "recording",
            reason="; ".join([*unusable, *tally.reasons.values()]),
            episode_id=meta.episode_id if meta else "",
            file=self._file,
            part=meta.part if meta else 0,
            written=tally.saved + sum(r.saved for r in writing),
            dropped=tally.dropped + sum(r.dropped for r in writing),
            lost_steps=tally.lost_steps,
        )

    def _open(self, now_s: float, first: Sequence[Sample] = ()) -> None:
        meta, folder = self._meta, self._folder
        assert meta is not None
        stem = file_stem(meta.episode_id) + (f".part{meta.part}" if meta.part > 1 else "")
        try:
            if why := folder.why_unusable():
                raise EpisodeError(why)
            recording = Recording(folder.path, stem, meta, self._channels, folder.capacity, group=folder.group)
        except (OSError, EpisodeError) as error:
            self._look_again_s = now_s + RETRY_S
            self._tally.dropped += len(first)
            self._fail(f"{folder.path}: {getattr(error, 'strerror', None) or error}")
            return
        self._recording, self._file = recording, recording.path.name
        for sample in first:
            recording.put(sample)
        failure = self._tally.reasons.pop("failure", "")
        if meta.part > 1:
            words = f"is recorded from here on in {recording.path.name}, its part {meta.part}"
            self._tally.reasons["part"] = f"{words}{f' ({failure})' if failure else ''}"
            self._say("warn", f"episode {_short(meta)} {self._tally.reasons['part']}")
        self._say("info", f"recording {recording.path}")

    def _fail(self, why: str) -> None:
        if self._tally.reasons.get("failure") != why and self._meta is not None:
            self._say("error", f"{why}; episode {_short(self._meta)} is not recorded from here on")
        self._tally.reasons["failure"] = why

    def _lose(self, first: int, last: int) -> None:
        tally, meta = self._tally, self._meta
        assert meta is not None
        tally.lost_steps += last - first + 1
        tally.reasons["steps"] = f"{tally.lost_steps} control steps never came, the last of them {first} to {last}"
        self._say("error", f"episode {_short(meta)}: control steps {first} to {last} never came; they are not recorded")

    def _count(self, recording: Recording, tally: _Tally) -> None:
        tally.saved += recording.saved
        tally.dropped += recording.dropped

    def _tell_end(self, recording: Recording, meta: EpisodeMeta, tally: _Tally) -> None:
        self._count(recording, tally)
        if recording.failure:
            tally.dropped += len(recording.leftover())
            tally.reasons["failure"] = recording.failure
            self._say("error", f"{recording.failure}; the end of episode {_short(meta)} is not recorded")
            return
        words = f"wrote {recording.path}: {recording.saved} messages, {tally.dropped} dropped"
        lost = f", {tally.lost_steps} control steps lost" if tally.lost_steps else ""
        self._say("info", words + lost + (f"; {tally.reasons['missed']}" if tally.missed else ""))


def earlier_part(folder: Path, episode_id: str) -> EpisodeMeta | None:
    """What the newest recording of this episode in the folder says of it; None if there is none that can be read."""
    with contextlib.suppress(OSError):
        stem = file_stem(episode_id)
        paths = [p for p in folder.iterdir() if p.name.startswith(stem) and p.suffix == ".mcap"]
        for path in sorted(paths, key=lambda p: p.stat().st_mtime, reverse=True):
            with contextlib.suppress(EpisodeError):
                meta = read_meta(path)
                if meta.episode_id == episode_id:
                    return meta
    return None


def _short(meta: EpisodeMeta) -> str:
    return meta.episode_id if len(meta.episode_id) <= 60 else f"{meta.episode_id[:57]}..."
