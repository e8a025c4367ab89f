"""Episodes as a learner wants them: two contiguous tensors and tables of row numbers.

Row r of `observations` and of `actions` belong together: the action was executed from that observation. The last row
of an episode holds its final observation and a zero action that no window uses. Windows are gathered by row number,
so that a batch costs one indexing operation.

Nothing mis-shaped is accepted, nor what was recorded in another domain or with another robot: the error names the
source, the episode and the field.

Dimensions: E episodes, R rows of all episodes, T steps of one, B batch, O observation, A action.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load, save
from torch import Tensor

from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.specs import UNKNOWN, ActionSpec, Named, ObservationSpec
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits, load_limits
from skimo_core.episodes.episode import EpisodeMeta
from skimo_core.episodes.fit import ACTION_SLACK, unnamed, why_unlike

from . import ranks

FloatArray = npt.NDArray[np.float32]
PARITY_INPUTS = 1000
PARITY_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSet:
    """Episodes end to end.

    Attributes:
        observations_RO: float32, T + 1 rows an episode.
        actions_RA: float32, as many rows; the last of each episode is zero.
        shown_R: whether an action shows how it is done; others, a policy's own, tell only what came of them.
        starts_E, steps_E: first row and T of each episode.
        digests: of the data sets it was made of, by name.
        robot: whose limits the data obeyed, as far as it says.
    """

    observations_RO: Tensor
    actions_RA: Tensor
    shown_R: Tensor
    starts_E: Tensor
    steps_E: Tensor
    digests: Mapping[str, str]
    robot: Named = UNKNOWN

    @classmethod
    def from_arrays(
        cls,
        observations: Sequence[npt.NDArray[np.generic]],
        actions: Sequence[npt.NDArray[np.generic]],
        *,
        shown: Sequence[npt.NDArray[np.bool_]] = (),
        source: str = "arrays",
        digests: Mapping[str, str] | None = None,
        robot: Named = UNKNOWN,
    ) -> EpisodeSet:
        """Build from one [T + 1, O] and one [T, A] array per episode; all is shown where no [T] array says what is.

        Raises:
            EpisodeError: an array of another rank, width, length or type, or a non-finite element.
        """
        if not observations or len(observations) != len(actions):
            raise EpisodeError(
                f"{source}: {len(observations)} observation arrays and {len(actions)} action arrays, "
                "must be as many of both and at least 1; collect or ingest the episodes again"
            )
        rows_o, rows_a = [], []
        widths = tuple(int(a.shape[-1]) if a.ndim else 0 for a in (observations[0], actions[0]))
        for i, (o, a) in enumerate(zip(observations, actions)):
            where = f"{source}: episode {i}"
            rows_o.append(_check(o, f"{where}: observations", widths[0]))
            rows_a += [_check(a, f"{where}: actions", widths[1]), np.zeros((1, widths[1]), np.float32)]
            if len(o) != len(a) + 1 or not len(a):
                raise EpisodeError(
                    f"{where}: observations has {len(o)} rows for {len(a)} actions, must be one more than the "
                    "actions and at least 2; drop the episode or ingest it again"
                )
        steps = np.array([len(a) for a in actions], np.int64)
        flat_o, flat_a = np.concatenate(rows_o), np.concatenate(rows_a)
        flat_s = np.concatenate([np.append(row, True) for row in shown or [np.ones(len(a), bool) for a in actions]])
        return cls(
            observations_RO=torch.from_numpy(flat_o),
            actions_RA=torch.from_numpy(flat_a),
            shown_R=torch.from_numpy(flat_s),
            starts_E=torch.from_numpy(np.concatenate([[0], np.cumsum(steps + 1)[:-1]])),
            steps_E=torch.from_numpy(steps),
            digests=digests or {source: hashlib.sha256(flat_o.tobytes() + flat_a.tobytes()).hexdigest()},
            robot=robot,
        )

    def __len__(self) -> int:
        return len(self.steps_E)

    def ranges(self) -> dict[str, list[float]]:
        """The lowest and the highest value of each channel, in its unit."""
        low, high = self.observations_RO.amin(0), self.observations_RO.amax(0)
        return {"low": low.tolist(), "high": high.tolist()}

    def windows(self, steps: int, *, shown: bool = False) -> Tensor:
        """First rows of all windows of `steps` actions (and `steps` + 1 observations) that fit in an episode.

        Args:
            shown: only those in which every action shows how it is done.

        Raises:
            EpisodeError: no episode is that long, or none shows that much.
        """
        fitting = [
            torch.arange(int(start), int(start) + int(length) - steps + 1)
            for start, length in zip(self.starts_E, self.steps_E)
            if length >= steps
        ]
        if not fitting:
            raise EpisodeError(
                f"the longest of {len(self)} episodes has {int(self.steps_E.max())} steps, a window needs {steps}; "
                "use fewer skills per window or longer episodes"
            )
        starts = torch.cat(fitting).to(self.observations_RO.device)
        if not shown:
            return starts
        unseen = torch.cumsum(~torch.cat([torch.ones_like(self.shown_R[:1]), self.shown_R]), 0)
        starts = starts[unseen[starts + steps] == unseen[starts]]
        if not len(starts):
            raise EpisodeError(f"nobody shows {steps} steps in a row in {len(self)} episodes; add play or corrections")
        return starts

    def to(self, device: torch.device) -> EpisodeSet:
        """The same with observations and actions there; the tables stay where they are."""
        rows = {name: getattr(self, name).to(device) for name in ("observations_RO", "actions_RA", "shown_R")}
        return replace(self, **rows)

    def select(self, episodes: Sequence[int]) -> EpisodeSet:
        """A copy with some of the episodes."""
        rows = [slice(int(self.starts_E[e]), int(self.starts_E[e] + self.steps_E[e]) + 1) for e in episodes]
        steps = self.steps_E[list(episodes)]
        return EpisodeSet(
            observations_RO=torch.cat([self.observations_RO[r] for r in rows]),
            actions_RA=torch.cat([self.actions_RA[r] for r in rows]),
            shown_R=torch.cat([self.shown_R[r] for r in rows]),
            starts_E=torch.cumsum(steps + 1, 0) - (steps + 1),
            steps_E=steps,
            digests=self.digests,
            robot=self.robot,
        )

    def joined(self, other: EpisodeSet) -> EpisodeSet:
        """These episodes and those after them."""
        rows = {
            name: torch.cat([getattr(self, name), getattr(other, name)])
            for name in ("observations_RO", "actions_RA", "shown_R", "steps_E")
        }
        starts = torch.cat([self.starts_E, other.starts_E + len(self.observations_RO)])
        digests = {**self.digests, **other.digests}
        return EpisodeSet(
            starts_E=starts, digests=digests, robot=other.robot if other.robot.digest else self.robot, **rows
        )

    def split(self, held_out: float) -> tuple[EpisodeSet, EpisodeSet]:
        """Training and held-out episodes: every k-th episode is held out, at least one (none twice)."""
        if len(self) < 2:
            raise EpisodeError(f"{len(self)} episode can't be split for holding out; at least 2 are needed")
        test = every_kth(range(len(self)), held_out)
        kept = sorted(set(range(len(self))) - set(test))
        return self.select(kept), self.select(test)


def every_kth(numbers: Sequence[int], share: float) -> list[int]:
    """Of numbers, every k-th, which makes about that share; the last where there are fewer than k."""
    every = max(2, round(1.0 / share))
    return list(numbers[every - 1 :: every] or numbers[-1:])


def parity_inputs(held_out: EpisodeSet, horizon: int) -> dict[str, Tensor]:
    """Random held-out segments that a checkpoint keeps, so that exporting needs no data."""
    starts = held_out.windows(horizon)
    generator = torch.Generator().manual_seed(PARITY_SEED)
    rows = starts[torch.randint(len(starts), (PARITY_INPUTS,), generator=generator)].unsqueeze(1)
    rows = rows + torch.arange(horizon)
    return {"observations": held_out.observations_RO[rows], "actions": held_out.actions_RA[rows]}


def load_episodes(
    *folders: Path, domain: Domain, robot: RobotLimits | None = None, skip_damaged: bool = False
) -> EpisodeSet:
    """Episodes of folders of recordings, through their digest-checked array caches.

    What a recording doesn't say of its domain, robot and channels is printed, once a folder, and let pass.

    Args:
        domain: that they were recorded in.
        robot: that they were recorded with; None is the domain's.
        skip_damaged: leave out what can't be read or was over before its first step, and print how many there were.

    Raises:
        EpisodeError: nothing there, or something damaged or mis-shaped, or of another domain, robot, rate or other
            channels; names file, episode and field.
    """
    from skimo_core.episodes.cache import load_folder  # reads recordings: training from arrays needs no MCAP

    robot = robot or load_limits(domain.robot)
    observations, actions, shown, digests = [], [], [], {}
    made_with = UNKNOWN
    for folder in folders:
        if not folder.is_dir():
            raise EpisodeError(f"{folder}: no such folder; make one with `skimo collect` or `skimo ingest`")
        cache, left_out = load_folder(folder, skip_damaged=skip_damaged)
        if left_out:
            total = len(cache) + len(left_out)
            print(f"{folder.name}: {len(left_out)} of {total} recordings left out; the first: {left_out[0]}")
        if _of_robot(cache.metas, folder.name, domain, robot):
            made_with = robot.named
        ends_o, ends_a = np.cumsum(cache.lengths + 1)[:-1], np.cumsum(cache.lengths)[:-1]
        observations += np.split(cache.observations, ends_o)
        actions += np.split(cache.actions, ends_a)
        shown += np.split(cache.shown, ends_a)
        digests[folder.name] = cache.digest
    source = ", ".join(digests)
    return EpisodeSet.from_arrays(observations, actions, shown=shown, source=source, digests=digests, robot=made_with)


def episodes_of_first(load_them: Callable[[], EpisodeSet]) -> EpisodeSet:
    """What rank 0 loads, on all ranks (ranks.py): the others need none of it."""
    if ranks.count() == 1:
        return load_them()
    names = "observations_RO", "actions_RA", "shown_R", "starts_E", "steps_E"
    tensors = words = b""
    if ranks.first():
        mine = load_them()
        tensors = save({name: getattr(mine, name) for name in names})
        words = json.dumps({"digests": dict(mine.digests), "robot": asdict(mine.robot)}).encode()
    told = json.loads(ranks.bytes_of_first(words))
    return EpisodeSet(digests=told["digests"], robot=Named(**told["robot"]), **load(ranks.bytes_of_first(tensors)))


def _of_robot(metas: Sequence[EpisodeMeta], name: str, domain: Domain, robot: RobotLimits) -> bool:
    """Whether the recordings say that they are of this robot.

    Raises:
        EpisodeError: one is of another domain, robot, rate or other channels.
    """
    for meta in metas:
        if why := why_unlike(meta, domain, robot):
            raise EpisodeError(f"{name}: episode {meta.episode_id}: {why}, or leave that recording out")
    taken = {"domain": domain.named, "robot": robot.named, "channels": "the domain's"}
    for what, count in sorted(Counter(what for meta in metas for what in unnamed(meta)).items()):
        print(f"{name}: {count} of {len(metas)} episodes don't name their {what}; taken as {taken[what]}")
    return any(meta.robot.digest for meta in metas)


def check_widths(episodes: EpisodeSet, observation: ObservationSpec, action: ActionSpec) -> None:
    """Refuse episodes of another robot or scene.

    Raises:
        EpisodeError: another number of channels or action dimensions, or an action out of [-1, 1].
    """
    names = ", ".join(episodes.digests)
    for field, rows, size in (
        ("observations", episodes.observations_RO, observation.size),
        ("actions", episodes.actions_RA, action.size),
    ):
        if rows.shape[1] != size:
            raise EpisodeError(f"{names}: {field} has width {rows.shape[1]}, this domain has {size}; use its own data")
    worst = int(episodes.actions_RA.abs().amax(1).argmax())
    value = float(episodes.actions_RA[worst].abs().max())
    if value > 1.0 + ACTION_SLACK:
        episode = int(torch.searchsorted(episodes.starts_E, worst, right=True)) - 1
        raise EpisodeError(
            f"{names}: episode {episode}: actions step {worst - int(episodes.starts_E[episode])} is {value:.3f} in "
            "size, at most 1; divide velocities by the action scale"
        )


def _check(array: npt.NDArray[np.generic], where: str, width: int) -> FloatArray:
    if array.ndim != 2 or array.shape[1] != width or array.dtype != np.float32:
        raise EpisodeError(
            f"{where} is {array.dtype} {list(array.shape)}, must be float32 [rows, {width}]; ingest it again"
        )
    if not np.isfinite(array).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise EpisodeError(f"{where} row {row} channel {column} is {array[row, column]}, must be finite; drop it")
    return array.astype(np.float32, copy=False)
