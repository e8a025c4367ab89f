"""One episode: what was seen, what was done, and where it comes from.

The same form for teleoperation, scripted play and policy runs. Observation t was seen before action t; the last
observation follows the last action. Actions are those *executed*. Units are in the specs (rad, m; actions in [-1, 1]).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EpisodeError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeMeta:
    """Where an episode comes from.

    Attributes:
        episode_id: unique in its data set.
        source: "play" (scripted), "teleop", "policy" or "import".
        task: what was done or attempted; sub-task names joined by commas.
        arm: whose joint convention and dynamics: "panda" or "kitchen".
        rate_hz: control steps per second.
        seed: of the run, where it had one.
        bundle_id: of the policy, where one acted.
        success: whether the task was completed, where known.
        channels: names of the observation's channels.
        start_q_rad: [7] commanded joint positions at the start, where known.
    """

    episode_id: str
    source: str
    task: str = ""
    arm: str = "panda"
    rate_hz: float = 12.5
    seed: int | None = None
    bundle_id: str = ""
    success: bool | None = None
    channels: tuple[str, ...] = ()
    start_q_rad: tuple[float, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EpisodeMeta:
        """Raises EpisodeError on anything but what `to_json` writes."""
        try:
            data: dict[str, Any] = json.loads(text)
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
            return cls(**plain)
        except (TypeError, ValueError) as error:
            raise EpisodeError(f"episode metadata can't be read: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Attributes: observations [T+1, O]; actions [T, A], executed; meta."""

    observations: FloatArray
    actions: FloatArray
    meta: EpisodeMeta

    @property
    def steps(self) -> int:
        return len(self.actions)


def check_episode(episode: Episode, where: str) -> Episode:
    """Return the episode if its arrays are finite float32 matrices that fit together.

    Raises:
        EpisodeError: naming `where`, the episode and the field.
    """
    name = f"{where}: episode {episode.meta.episode_id}"
    for field, array in (("observations", episode.observations), ("actions", episode.actions)):
        if array.ndim != 2 or array.dtype != np.float32:
            raise EpisodeError(f"{name}: {field} is {array.dtype} {array.shape}, must be a float32 matrix")
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise EpisodeError(f"{name}: {field} holds a non-finite number at step {row}; drop the episode")
    if len(episode.observations) != len(episode.actions) + 1 or not len(episode.actions):
        raise EpisodeError(
            f"{name}: observations has {len(episode.observations)} rows for {len(episode.actions)} actions, "
            "must be one more than the actions, and those at least 1"
        )
    if episode.meta.channels and len(episode.meta.channels) != episode.observations.shape[1]:
        raise EpisodeError(
            f"{name}: observations have {episode.observations.shape[1]} channels, "
            f"its metadata names {len(episode.meta.channels)}"
        )
    return episode
