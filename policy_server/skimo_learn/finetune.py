"""Learning on from what a robot did: a bundle, its own data and a robot's recordings become candidates.

A folder holds
    replay/              what was taken from the robot (replay.py)
    candidates/ID-NNN    bundles, of which bundle ID is the parent, and the round's number
    from-ID/             learning on from bundle ID:
        parent/          its networks, to begin with
        rounds/NNN/      a run of each round: all episodes taken by then
        state.json       settings, and the episodes of each round

A round begins with the bundle's own weights and learns from all episodes so far, so that it depends on them alone: one
that was killed is done again or goes on, and a bad round leaves nothing behind. A candidate drives nothing: promotion
decides. What is learned, in the words of recipes.py, goes for the skills behind what was done, not for those that were
asked for: an arm that was held back did something else.

Objectives
    successes     dynamics, decoder, goal value on all that was done; skill policy and prior also on what the policy did
                  before a sub-task was completed
    corrections   the same, but skill policy and prior learn from people alone
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from skimo_core.contract.errors import EpisodeError, SpecError, StoreError
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import RobotLimits
from skimo_core.episodes.episode import Episode
from skimo_core.episodes.experience import Shows, parts, shown
from skimo_core.episodes.files import write_atomic
from skimo_server.bundle import Bundle, Manifest

from .data import EpisodeSet
from .export import export_bundle, load_run
from .finetune_config import FinetuneConfig
from .overrides import with_settings
from .readback import model_of, write_run
from .recipes import Recipe, finetuned
from .replay import Replay
from .run import train_run

STATE = "state.json"
PLANS_BEFORE = 3
"""Skills before a completion that count as having brought it about: as many as a plan has."""
REPLAY = "replay"
ID_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a round gave: its number, its bundle's folder and manifest."""

    number: int
    folder: Path
    manifest: Manifest


class Learner:
    """Learns on from one bundle, in a folder.

    Args:
        offline: the bundle's own data; None: from the robot's recordings alone.
        old: digests of episodes that make no round by themselves: another learner has learned from them.
    """

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        replay: Replay,
        domain: Domain,
        robot: RobotLimits,
        offline: EpisodeSet | None,
        config: FinetuneConfig,
        *,
        old: Collection[str] = (),
    ) -> None:
        self.replay, self.config = replay, config
        self._id = bundle.manifest.bundle_id[:ID_DIGITS]
        self._candidates, self.folder, self._old = folder / "candidates", folder / f"from-{self._id}", frozenset(old)
        self._bundle, self._domain, self._robot, self._offline = bundle, domain, robot, offline
        model, recipe = model_of(bundle, domain)
        chosen = with_settings(finetuned(recipe), config.set)
        self.recipe: Recipe = replace(
            chosen, pretrain=replace(chosen.pretrain, seed=config.seed, threads=config.threads)
        )
        self._rounds = self._read_state()
        write_run(model, self.recipe, self.folder / "parent")
        self._candidates.mkdir(exist_ok=True)  # for who watches it

    @property
    def waiting(self) -> int:
        """Episodes that were taken since the last round was begun."""
        known = self._old.union(self._rounds[-1] if self._rounds else ())
        return sum(entry.digest not in known for entry in self.replay.taken)

    @property
    def unfinished(self) -> bool:
        """Whether the last round that was begun has given no candidate yet."""
        return bool(self._rounds) and not self._candidate(len(self._rounds)).exists()

    def learn(self) -> Candidate:
        """Does the next round, or goes on with one that was broken off.

        Raises:
            EpisodeError: there is nothing to learn from.
            SpecError, SetupError, BundleError: as in training and export.
        """
        if not self.unfinished:
            self._begin()
        number = len(self._rounds)
        run = self.folder / "rounds" / f"{number:03d}"
        train, held_out = self._data(number)
        train_run(
            self.recipe,
            self._domain,
            train,
            run,
            held_out=held_out,
            start_from=self.folder / "parent",
            device="cpu",
        )
        done = load_run(run)
        done.state["ranges"] = widened(self._bundle.manifest.ranges, done.state["ranges"])
        folder = self._candidate(number)
        manifest = export_bundle(
            done,
            folder,
            self._domain,
            planner=self._bundle.manifest.planner,
            parent_id=self._bundle.manifest.bundle_id,
            robot=self._robot,
        )
        return Candidate(number=number, folder=folder, manifest=manifest)

    def _begin(self) -> None:
        self._rounds.append([entry.digest for entry in self.replay.taken])
        self._write_state()

    def _data(self, number: int) -> tuple[EpisodeSet, EpisodeSet]:
        """What a round learns from, and what it doesn't see: the bundle's own data and the robot's, in their shares."""
        wanted = set(self._rounds[number - 1])
        online = as_set(
            self.replay.episodes(wanted),
            by=self.config.objective,
            steps=PLANS_BEFORE * self._domain.horizon,
            least=self.recipe.pretrain.skills * self._domain.horizon,
            robot=self._robot,
            digest=self.replay.digest_of(wanted),
        )
        if self._offline is None:
            return online.split(self.recipe.pretrain.held_out)
        generator = torch.Generator().manual_seed(self.config.seed + number)
        chosen = torch.randperm(len(self._offline), generator=generator)[: self.config.offline_episodes]
        offline, held_out = self._offline.select(chosen.tolist()).split(self.recipe.pretrain.held_out)
        share = self.config.share
        rows, more = len(offline.observations_RO), len(online.observations_RO)
        times = max(1, round(share / (1.0 - share) * rows / more))
        return offline.joined(online.select(list(range(len(online))) * times)), held_out

    def _candidate(self, number: int) -> Path:
        return self._candidates / f"{self._id}-{number:03d}"

    # --- what a learner that was killed finds -----------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        digests = {} if self._offline is None else dict(self._offline.digests)
        chosen = {**asdict(self.config), "set": list(self.config.set)}  # as JSON gives it back
        return {"bundle": self._bundle.manifest.bundle_id, "config": chosen, "data": digests}

    def _read_state(self) -> list[list[str]]:
        try:
            state = json.loads((self.folder / STATE).read_bytes())
            settings, rounds = state["settings"], [[str(d) for d in digests] for digests in state["rounds"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.folder / STATE} can't be read ({error}); choose another --out") from None
        if settings != self._settings():
            raise SpecError(
                f"{self.folder} was begun with another bundle, other data or settings; go on with those, or choose "
                "another --out"
            )
        return rounds

    def _write_state(self) -> None:
        state = {"settings": self._settings(), "rounds": self._rounds}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / STATE, json.dumps(state, sort_keys=True).encode() + b"\n")
        except OSError as error:
            raise StoreError(f"{self.folder / STATE} can't be written: {error.strerror}; make room") from error


def as_set(
    episodes: Sequence[Episode], *, by: Shows, steps: int, least: int, robot: RobotLimits, digest: str
) -> EpisodeSet:
    """A robot's episodes as a learner wants them; parts of less than `least` control steps are left out.

    Raises:
        EpisodeError: none is that long.
    """
    observations, actions, shows = [], [], []
    for episode in episodes:
        shown_T = shown(episode, by, steps)
        for part in parts(episode):
            if part.steps >= least:
                first = part.first_step - episode.first_step
                observations.append(part.observations)
                actions.append(part.actions)
                shows.append(shown_T[first : first + part.steps])
    if not observations:
        raise EpisodeError(f"none of {len(episodes)} episodes ran for {least} control steps on end; record more")
    digests = {REPLAY: digest}
    return EpisodeSet.from_arrays(observations, actions, shown=shows, source=REPLAY, digests=digests, robot=robot.named)


def widened(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Ranges that hold both; the other where one is not known."""
    if not one:
        return {name: list(values) for name, values in other.items()}
    low = [min(pair) for pair in zip(one["low"], other["low"])]
    high = [max(pair) for pair in zip(one["high"], other["high"])]
    return {"low": low, "high": high}


def be_polite() -> None:
    """Lets whoever controls an arm on this machine go first: this process runs while a core has nothing else to do."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
