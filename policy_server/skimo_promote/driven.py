"""What a robot's recordings say of the bundles that drove it: what they got done, and what the gate made of it.

Promises
  - A recording is looked at when its recorder is done with it, and once; the same content under two names is one.
  - Of one that is damaged, what can be salvaged tells of the gate, but it never counts as a whole episode; of one that
    can't be read at all, `unread` says why. None is changed.
  - A person's actions are never laid at a bundle's door: what was done counts up to the first one, and the gate's
    verdicts on them do not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap.records import Message

from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.types import Verdict as GateVerdict
from skimo_core.episodes.episode import INTERVENE, Episode
from skimo_core.episodes.files import Stamp, stamp_of
from skimo_core.episodes.locks import being_written
from skimo_core.episodes.recording import read_episode
from skimo_core.episodes.stream import RecordStream

MIN_UNIX_S = 1e9
"""A stamp before 2001 counts from something else: a simulation's start, or a machine's."""
MAX_AHEAD_S = 60.0
"""A recording that begins later than it was written has no stamps to go by either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the gate made of a bundle's commands in one episode: how many there were, and its verdicts but PASS."""

    commands: int
    verdicts: Mapping[str, int]

    @property
    def meddled(self) -> int:
        """Commands with which it interfered."""
        return sum(self.verdicts.values())

    @property
    def stops(self) -> int:
        return self.verdicts.get(GateVerdict.STOP.name, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """One recording of a policy.

    Attributes:
        name: of its file.
        began_s: UNIX time of its first message, or, where that isn't wall time, of its file's last change.
        task: as its metadata has it.
        bundle_id: whose skills were in force throughout; empty where several were, or it isn't known.
        done: share of the task's sub-tasks that were done before a person intervened; None: not known.
        gates: by bundle.
        whole: undamaged, and from the episode's start on.
        explored: flown otherwise than was planned, to explore.
    """

    name: str
    began_s: float
    task: str
    bundle_id: str
    done: float | None
    gates: Mapping[str, Gate]
    whole: bool
    explored: bool = False

    @property
    def gate(self) -> Gate:
        """Of the bundle that drove throughout."""
        return self.gates.get(self.bundle_id, Gate(commands=0, verdicts={}))


class Recordings:
    """The recordings in some folders, as far as they were looked at."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.unread: dict[str, str] = {}
        self._folders = folders
        self._seen: dict[Path, Stamp] = {}
        self._driven: dict[Path, tuple[str, Driven]] = {}

    def look(self, since_s: float) -> list[Driven]:
        """All that began since then, in order; those of before are not even opened, if their files are of before."""
        for path, stamp in self._changed(since_s):
            if being_written(path):
                continue
            self._seen[path] = stamp
            self._take(path, stamp[0] / 1e9)
        once = dict(self._driven.values()).values()  # by content
        return sorted((d for d in once if d.began_s >= since_s), key=lambda d: (d.began_s, d.name))

    def _changed(self, since_s: float) -> Iterator[tuple[Path, Stamp]]:
        for path in sorted(path for folder in self._folders for path in folder.glob("*.mcap")):
            stamp = stamp_of(path)
            if stamp is not None and stamp[0] >= since_s * 1e9 and self._seen.get(path) != stamp:
                yield path, stamp

    def _take(self, path: Path, changed_s: float) -> None:
        try:
            digest, episode = hashlib.sha256(path.read_bytes()).hexdigest(), _read(path)
            self.unread.pop(path.name, None)
            if episode.meta.source == "policy":
                self._driven[path] = digest, driven(episode, path.name, _began_s(path, changed_s))
        except OSError:
            return
        except EpisodeError as error:
            self.unread[path.name] = str(error)


def driven(episode: Episode, name: str, began_s: float) -> Driven:
    """What an episode says."""
    ids, kinds = _whose(episode), episode.kinds
    at_work = set(ids.tolist()) - {""}
    gates: dict[str, Gate] = {}
    if kinds is not None and episode.verdicts is not None:
        gates = {bundle_id: _gate(ids == bundle_id, kinds, episode.verdicts) for bundle_id in at_work}
    return Driven(
        name=name,
        began_s=began_s,
        task=episode.meta.task,
        bundle_id=at_work.pop() if len(at_work) == 1 else "",
        done=_done(episode),
        gates=gates,
        whole=not episode.damage and not episode.lost and episode.meta.part == 1,
        explored=bool(episode.meta.explore),
    )


def _whose(episode: Episode) -> np.ndarray:
    """[T+1], whose skill was in force; where none was, that of the only bundle there was."""
    if episode.bundle_ids is None:
        return np.full(episode.steps + 1, episode.meta.bundle_id)
    ids = np.append(episode.bundle_ids, episode.bundle_ids[-1])
    only = set(ids.tolist()) - {""}
    return np.where(ids == "", only.pop(), ids) if len(only) == 1 else ids


def _gate(its_T: np.ndarray, kinds_T: np.ndarray, verdicts_T: np.ndarray) -> Gate:
    """Of its steps: interference with a command, and every STOP, but for what a person did."""
    stops_T = verdicts_T >= GateVerdict.STOP
    commands_T = its_T & (kinds_T == "act")
    counted_T = (commands_T | (its_T & stops_T & (kinds_T != INTERVENE))) & (verdicts_T != GateVerdict.PASS)
    found = Counter(GateVerdict(min(int(v), GateVerdict.STOP)).name for v in verdicts_T[counted_T])
    return Gate(commands=int(commands_T.sum()), verdicts=dict(found))


def _done(episode: Episode) -> float | None:
    subtasks = len(episode.meta.task.split(",")) if episode.meta.task else 0
    if episode.rewards is None or not subtasks:
        return None
    helped = np.flatnonzero(episode.kinds == INTERVENE) if episode.kinds is not None else []
    rewards = episode.rewards[: helped[0] + 1] if len(helped) else episode.rewards
    return min(1.0, max(0.0, float(np.nansum(rewards)) / subtasks))


def _read(path: Path) -> Episode:
    try:
        return read_episode(path)
    except EpisodeError:
        return read_episode(path, salvage=True)


def _began_s(path: Path, changed_s: float) -> float:
    first = next((record for record in RecordStream(path, salvage=True) if isinstance(record, Message)), None)
    stamp_s = first.log_time / 1e9 if first else 0.0
    return stamp_s if MIN_UNIX_S < stamp_s <= changed_s + MAX_AHEAD_S else changed_s
