"""The training cache: a folder of recordings as a few contiguous .npy files, checked by a digest.

    observations.npy  float32 [sum(T+1), O]     actions.npy  float32 [sum(T), A]
    lengths.npy       int64 [E], T of each      meta.json    digest, channels, and each episode's metadata

The digest is SHA-256 over the arrays alone, so the same episodes give the same digest wherever and whenever they are
written. A cache whose arrays do not give its digest is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import EpisodeError
from .episode import Episode, EpisodeMeta, FloatArray, check_episode
from .recording import read_episode, recordings

NAMES = ("observations", "actions", "lengths")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeCache:
    """Episodes end to end.

    Attributes:
        observations: [sum(T+1), O].
        actions: [sum(T), A].
        lengths: [E], T of each episode.
        metas: of each episode.
        digest: over the three arrays.
    """

    observations: FloatArray
    actions: FloatArray
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


def digest(observations: FloatArray, actions: FloatArray, lengths: npt.NDArray[np.int64]) -> str:
    """SHA-256 over shapes and little-endian contents of the arrays."""
    sha = hashlib.sha256()
    for array, kind in ((observations, "<f4"), (actions, "<f4"), (lengths, "<i8")):
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
    return EpisodeCache(
        observations=observations,
        actions=actions,
        lengths=lengths,
        metas=tuple(e.meta for e in episodes),
        digest=digest(observations, actions, lengths),
    )


def write_cache(folder: Path, cache: EpisodeCache, sources: Sequence[Path] = ()) -> None:
    """Write the cache's files into `folder`; meta.json last, so that a cut write is noticed.

    Args:
        sources: the recordings it was made of; when they change it is made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        np.save(folder / f"{name}.npy", getattr(cache, name))
    metas = [json.loads(meta.to_json()) for meta in cache.metas]
    about = {"format": 1, "digest": cache.digest, "sources": _listing(sources), "episodes": metas}
    text = json.dumps(about)
    (folder / "meta.json").write_text(text + "\n", encoding="utf-8")


def read_cache(folder: Path) -> EpisodeCache:
    """Read and verify a cache.

    Raises:
        EpisodeError: a file is missing or damaged, or the arrays do not give the digest.
    """
    try:
        about = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in NAMES}
        metas = tuple(EpisodeMeta.from_json(json.dumps(entry)) for entry in about["episodes"])
        wanted = str(about["digest"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise EpisodeError(f"{folder.name}: cache can't be read ({error}); delete it and it is made again") from None
    found = digest(arrays["observations"], arrays["actions"], arrays["lengths"])
    if found != wanted:
        raise EpisodeError(
            f"{folder.name}: arrays have digest {found[:12]}, meta.json says {wanted[:12]}; delete the cache"
        )
    return EpisodeCache(metas=metas, digest=found, **arrays)


def load_folder(folder: Path, *, skip_damaged: bool = False) -> tuple[EpisodeCache, list[str]]:
    """Load a data set: its cache if it has one, else its recordings (and leave a cache behind in `folder/cache`).

    Args:
        skip_damaged: load what is whole and return the errors of the rest, instead of raising the first.

    Returns:
        The episodes and one message per recording left out.
    """
    index = folder / "cache" / "meta.json"
    sources = recordings(folder)
    if index.exists() and json.loads(index.read_text(encoding="utf-8")).get("sources") == _listing(sources):
        return read_cache(index.parent), []
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
        write_cache(folder / "cache", cache, sources)
    return cache, errors


def _listing(sources: Sequence[Path]) -> list[list[object]]:
    return [[path.name, path.stat().st_size] for path in sources]
