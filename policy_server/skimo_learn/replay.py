"""The replay: what a learner has taken from robots, on disk, each episode once.

    episodes/NAME      recordings, copied as they were
    taken.jsonl        a line for each recording looked at: its content's digest, and why it was refused if it was
    .lock              held by the one learner that uses it

Promises
  - A recording is taken when whoever writes it is done with it, whole or not at all; a learner that dies at any moment
    loses none and counts none twice.
  - What is damaged, or of another domain or robot, is refused once, with the reason; the file stays where it is.
  - Recordings may come from several robots' folders; the same content is one episode, whatever its name. What was
    labelled after it was taken is taken again, in the place of what it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from skimo_core.contract.errors import EpisodeError, StoreError
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits
from skimo_core.episodes.episode import Episode
from skimo_core.episodes.experience import transitions
from skimo_core.episodes.files import Stamp, stamp_of, write_atomic
from skimo_core.episodes.fit import why_unfit, why_unlike
from skimo_core.episodes.locks import being_written, held
from skimo_core.episodes.recording import read_episode

STEM_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A recording that was looked at.

    Attributes:
        digest: SHA-256 of its content.
        name: of the file that it came in.
        episode_id, steps: what it holds; empty and 0 where it can't be read.
        experience: digest of what was observed and done, whatever is said of it; empty where it can't be read.
        skills: how many skills of a policy it has, by what came of them (skimo_core.episodes.experience).
        refused: why it is not learned from; empty if it is.
    """

    digest: str
    name: str
    episode_id: str = ""
    steps: int = 0
    experience: str = ""
    skills: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""


class Replay:
    """The replay of a folder; use it within `open_replay`."""

    def __init__(self, folder: Path, domain: Domain, robot: RobotLimits) -> None:
        self.folder, self._domain, self._robot = folder, domain, robot
        self._episodes, self._log = folder / "episodes", folder / "taken.jsonl"
        self._taken = self._read()
        self._seen: dict[Path, Stamp] = {}

    @property
    def taken(self) -> list[Taken]:
        """What is learned from, in the order in which it came; of the same experience the last."""
        found = {entry.experience or entry.digest: entry for entry in self._all if not entry.refused}
        return list(found.values())

    @property
    def refused(self) -> list[Taken]:
        """What is not, and why."""
        return [entry for entry in self._all if entry.refused]

    @property
    def _all(self) -> Collection[Taken]:
        return self._taken.values()

    def digest_of(self, digests: Collection[str]) -> str:
        """Of some recordings together."""
        return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()

    def episodes(self, digests: Collection[str]) -> list[Episode]:
        """Some that were taken, in the order in which they came; raises EpisodeError where a copy was damaged since."""
        wanted = [entry for entry in self._all if entry.digest in digests and not entry.refused]
        return [read_episode(self._path(entry.digest)) for entry in wanted]

    def take_from(self, folders: Sequence[Path]) -> list[Taken]:
        """Looks at what is new in the folders; returns what it took and refused.

        Raises:
            StoreError: the disk does not take a copy; what was there is as it was.
        """
        new = []
        for path in sorted(path for folder in folders for path in folder.glob("*.mcap")):
            stamp = stamp_of(path)
            if stamp is None or self._seen.get(path) == stamp or being_written(path):
                continue
            entry = self._take(path)
            self._seen[path] = stamp
            if entry is not None:
                new.append(entry)
        return new

    def _take(self, path: Path) -> Taken | None:
        try:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest in self._taken:
                return None
            entry = self._judge(path, digest)
            if not entry.refused and path.read_bytes() != data:
                return None  # it was still being copied there; it comes with the next look
        except OSError:
            return None
        try:
            if not entry.refused:
                self._episodes.mkdir(parents=True, exist_ok=True)
                write_atomic(self._path(digest), data)
            self._note(entry)
        except OSError as error:
            raise StoreError(f"{self.folder}: {error.strerror}; make room, {path.name} was not taken") from error
        self._taken[digest] = entry
        return entry

    def _judge(self, path: Path, digest: str) -> Taken:
        try:
            episode = read_episode(path)
            why = why_unlike(episode.meta, self._domain, self._robot) or why_unfit(episode, self._domain, self._robot)
        except EpisodeError as error:
            return Taken(digest=digest, name=path.name, refused=str(error))
        known = episode.skills is not None and episode.kinds is not None
        kinds = [skill.kind for skill in transitions(episode, self._domain.horizon)] if known else []
        return Taken(
            digest=digest,
            name=path.name,
            episode_id=episode.meta.episode_id,
            steps=episode.steps,
            experience=hashlib.sha256(episode.observations.tobytes() + episode.actions.tobytes()).hexdigest(),
            skills=dict(Counter(kinds)),
            refused=why,
        )

    def _path(self, digest: str) -> Path:
        return self._episodes / f"{digest[:STEM_DIGITS]}.mcap"

    def _note(self, entry: Taken) -> None:
        whole = self._log.stat().st_size if self._log.exists() else 0
        try:
            with open(self._log, "ab") as file:
                file.write(json.dumps(asdict(entry), sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._log, whole)  # half a line would be the next one's beginning
            raise

    def _read(self) -> dict[str, Taken]:
        """The log; a line that its writer died over is cut off, and its recording taken again."""
        if not self._log.exists():
            return {}
        data = self._log.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self._log, len(whole))
        try:
            entries = [Taken(**json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{self._log} is damaged ({error}); remove it, and the recordings are taken again"
            ) from None
        return {entry.digest: entry for entry in entries}


@contextmanager
def open_replay(folder: Path, domain: Domain, robot: RobotLimits) -> Iterator[Replay]:
    """The replay of a folder, which is made if it is not there.

    Raises:
        StoreError: another learner uses it, or it can't be written or read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}; choose another --out") from None
    with held(folder / ".lock", 0.0, "another learner"):
        yield Replay(folder, domain, robot)
