"""The training cache: a folder of recordings as a few contiguous .npy files, checked by a digest.

    observations.npy  float32 [sum(T+1), O]     actions.npy  float32 [sum(T), A]
    lengths.npy       int64 [E], T of each      shown.npy    bool [sum(T)], whether the action shows how it is done
    meta.json         digest, channels, and each episode's metadata

The digest is SHA-256 over the arrays alone, so the same episodes give the same digest wherever and whenever they are
written. A cache whose arrays do not give its digest, or whose metadata does not give its checksum, is refused. Files
are replaced whole, meta.json last, so a writer that is killed leaves the old cache or none. It is of the recordings it
was made of by their content: rewritten ones are read anew, whatever their name, size and time say.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.errors import EpisodeError
from .episode import Episode, EpisodeMeta, FloatArray, check_episode
from .files import make_folder, write_atomic
from .recording import read_episode, recordings
from .seal import check_seal, sealed

Listing = Sequence[tuple[str, str]]
"""Name and SHA-256 of recordings."""
NAMES = ("observations", "actions", "shown", "lengths")
FORMAT = 3
META = "meta.json"
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeCache:
    """Episodes end to end.

    Attributes:
        observations: [sum(T+1), O].
        actions: [sum(T), A].
        shown: [sum(T)], of each action whether it shows how it is done (`Episode.shown_T`).
        lengths: [E], T of each episode.
        metas: of each episode.
        digest: over the arrays.
    """

    observations: FloatArray
    actions: FloatArray
    shown: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]
    metas: tuple[EpisodeMeta, ...]
    digest: str

    def episode(self, index: int) -> Episode:
        """Episode `index` as views of the arrays."""
        first = int(self.lengths[:index].sum())
        steps = int(self.lengths[index])
        return Episode(
            observations=self.observations[first + index : first + index + steps + 1],
            actions=self.actions[first : first + steps],
            meta=self.metas[index],
        )

    def __len__(self) -> int:
        return len(self.lengths)


def digest(
    observations: FloatArray, actions: FloatArray, shown: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]
) -> str:
    """SHA-256 over shapes and little-endian contents of the arrays; of `shown` only where not all is shown."""
    sha = hashlib.sha256()
    arrays = [(observations, "<f4"), (actions, "<f4"), (lengths, "<i8")] + ([] if shown.all() else [(shown, "|b1")])
    for array, kind in arrays:
        sha.update(str(array.shape).encode())
        sha.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return sha.hexdigest()


def from_episodes(episodes: Sequence[Episode], where: str = "episodes") -> EpisodeCache:
    """Join episodes, in order.

    Raises:
        EpisodeError: none, or one that differs in width from the first.
    """
    if not episodes:
        raise EpisodeError(f"{where}: no episodes")
    first = check_episode(episodes[0], where)
    for episode in episodes:
        check_episode(episode, where)
        for field in ("observations", "actions"):
            width, wanted = getattr(episode, field).shape[1], getattr(first, field).shape[1]
            if width != wanted:
                raise EpisodeError(
                    f"{where}: episode {episode.meta.episode_id}: {field} has width {width}, the first episode {wanted}"
                )
    observations = np.concatenate([e.observations for e in episodes])
    actions = np.concatenate([e.actions for e in episodes])
    lengths = np.array([e.steps for e in episodes], np.int64)
    shown = np.concatenate([e.shown_T for e in episodes])
    return EpisodeCache(
        observations=observations,
        actions=actions,
        shown=shown,
        lengths=lengths,
        metas=tuple(e.meta for e in episodes),
        digest=digest(observations, actions, shown, lengths),
    )


def write_cache(folder: Path, cache: EpisodeCache, sources: Listing = ()) -> None:
    """Write the cache's files into `folder`; meta.json last, so that a cut write is noticed.

    Args:
        sources: `listing` of the recordings it was made of, taken before they were read; when they change it is made
            again.

    Raises:
        EpisodeError: the folder can't be written.
    """
    metas = [json.loads(meta.to_json()) for meta in cache.metas]
    about = {"digest": cache.digest, "sources": [list(entry) for entry in sources], "episodes": metas}
    try:
        make_folder(folder)
        (folder / META).unlink(missing_ok=True)
        for name in NAMES:
            array = io.BytesIO()
            np.save(array, getattr(cache, name))
            write_atomic(folder / f"{name}.npy", array.getvalue())
        entries = {"format": FORMAT, **sealed({"about": json.dumps(about)})}
        write_atomic(folder / META, json.dumps(entries).encode() + b"\n")
    except OSError as error:
        raise EpisodeError(f"the cache can't be written to {folder}: {error.strerror or error}; make room") from None


def read_cache(folder: Path) -> EpisodeCache:
    """Read and verify a cache.

    Raises:
        EpisodeError: a file is missing or damaged, or its contents do not give their checksums.
    """
    about = _about(folder)
    try:
        arrays = {name: _array(folder / f"{name}.npy") for name in NAMES}
        metas = tuple(EpisodeMeta.from_json(json.dumps(entry)) for entry in about["episodes"])
        wanted = str(about["digest"])
        found = digest(**arrays)
    except (*_DAMAGE, EpisodeError) as error:
        raise EpisodeError(f"{folder}: cache can't be read ({error}); {_REMEDY}") from None
    if found != wanted:
        raise EpisodeError(f"{folder}: arrays have digest {found[:12]}, {META} says {wanted[:12]}; {_REMEDY}")
    if len(metas) != len(arrays["lengths"]):
        raise EpisodeError(f"{folder}: {len(metas)} episodes in {META}, {len(arrays['lengths'])} lengths; {_REMEDY}")
    return EpisodeCache(metas=metas, digest=found, **arrays)


_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, MemoryError, RecursionError)
"""What reading a damaged file of a cache may raise."""
_REMEDY = "delete that folder and it is made again"


def _array(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _about(folder: Path) -> dict[str, Any]:
    """What meta.json says, its checksum checked."""
    try:
        entries = json.loads((folder / META).read_text(encoding="utf-8"))
        if entries.pop("format") != FORMAT:
            raise EpisodeError(f"is of another format than {FORMAT}")
        about = json.loads(check_seal(META, entries)["about"])
        return {**about}
    except (*_DAMAGE, EpisodeError) as error:
        raise EpisodeError(f"{folder}: {META} is cut short or altered ({error}); {_REMEDY}") from None


def load_folder(folder: Path, *, skip_damaged: bool = False) -> tuple[EpisodeCache, list[str]]:
    """Load a data set: its cache if it has one, else its recordings (and leave a cache behind in `folder/cache`).

    Args:
        skip_damaged: load what is whole and return the errors of the rest, instead of raising the first.

    Returns:
        The episodes and one message per recording left out.
    """
    cached = folder / "cache"
    sources = recordings(folder)
    found = listing(sources)
    if (cached / META).exists() and _about(cached).get("sources") == [list(entry) for entry in found]:
        return read_cache(cached), []
    episodes, errors = [], []
    for path in sources:
        try:
            episodes.append(read_episode(path))
        except EpisodeError as error:
            if not skip_damaged:
                raise
            errors.append(str(error))
    cache = from_episodes(episodes, folder.name)
    if not errors:
        write_cache(cached, cache, found)
    return cache, errors


def listing(sources: Sequence[Path]) -> Listing:
    """Name and SHA-256 of every recording: 600 of 0.3 MB take about 0.2 s."""
    return tuple((path.name, _sha256(path)) for path in sources)


def _sha256(path: Path) -> str:
    """Of a file's content; empty if it can't be read, which whoever reads it next will say."""
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                sha.update(block)
    except OSError:
        return ""
    return sha.hexdigest()
