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
    returns       SkiMo's downstream phase: reward, critics and a policy over skills of one task (returns.py), dynamics
                  and goal value; skills stay. What comes of it serves that task alone
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
from skimo_core.episodes.experience import Shows, around_people, parts, shown
from skimo_core.episodes.files import write_atomic
from skimo_server.bundle import Bundle, Manifest
from skimo_server.planner_config import PlannerConfig

from . import ranks
from .data import EpisodeSet, episodes_of_first, every_kth
from .export import export_bundle, load_run
from .finetune_config import FinetuneConfig
from .overrides import with_settings
from .readback import model_of, write_run
from .recipes import Recipe, finetuned, returned
from .replay import Replay
from .returns import with_heads
from .run import train_run

STATE = "state.json"
PLANS_BEFORE = 3
"""Skills before a completion that count as having brought it about: as many as a plan has."""
REPLAY = "replay"
RETURNS_SCORE = "learned_reward+learned_value"
"""SkiMo's algorithm 2."""
ID_DIGITS = 12
LEAST_NICE = 19


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
        made = finetuned(recipe)
        if config.objective == "returns":
            made = returned(recipe, task_named(config.task, bundle, domain))
            model = model if model.heads is not None else with_heads(model, config.seed)
        elif model.heads is not None:
            raise SpecError(
                f"bundle {self._id} has learned the returns of {recipe.returns.task!r}, which objective "
                f"{config.objective} would leave as they are; go on with --learn.objective returns, or from its parent"
            )
        chosen = with_settings(made, config.set)
        self.recipe: Recipe = replace(
            chosen, pretrain=replace(chosen.pretrain, seed=config.seed, threads=config.threads)
        )
        self._rounds = self._read_state()
        write_run(model, self.recipe, self.folder / "parent", bundle_id=bundle.manifest.bundle_id)
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
        ranks.bytes_of_first(json.dumps(self.recipe.to_dict()).encode())
        train, held_out = (episodes_of_first(lambda mine=mine: mine) for mine in self._data(number))
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
            planner=planner_for(self._bundle.manifest.planner, self.config.objective),
            robot=self._robot,
        )
        return Candidate(number=number, folder=folder, manifest=manifest)

    def _begin(self) -> None:
        self._rounds.append([entry.digest for entry in self.replay.taken])
        self._write_state()

    def _data(self, number: int) -> tuple[EpisodeSet, EpisodeSet]:
        """What a round learns from, and what it doesn't see: the bundle's own data and the robot's, in their shares."""
        wanted = set(self._rounds[number - 1])
        episodes = self.replay.episodes(wanted)
        if self._offline is None:
            train, held_out = parted(episodes, self.recipe.pretrain.held_out, self._longest)
            return self._online(train, wanted, self.config.emphasis), self._online(held_out, wanted, 1)
        online = self._online(episodes, wanted, self.config.emphasis)
        generator = torch.Generator().manual_seed(self.config.seed + number)
        chosen = torch.randperm(len(self._offline), generator=generator)[: self.config.offline_episodes]
        offline, held_out = self._offline.select(chosen.tolist()).split(self.recipe.pretrain.held_out)
        share = self.config.share
        rows, more = len(offline.observations_RO), len(online.observations_RO)
        times = max(1, round(share / (1.0 - share) * rows / more))
        return offline.joined(online.select(list(range(len(online))) * times)), held_out

    def _online(self, episodes: Sequence[Episode], wanted: Collection[str], emphasis: int) -> EpisodeSet:
        """The robot's episodes, what is seen around people counted so often."""
        window = self.recipe.pretrain.skills * self._domain.horizon
        around = [part for episode in episodes for part in around_people(episode, window // 2)]
        return as_set(
            [*episodes, *around * (emphasis - 1)],
            by="successes" if self.config.objective == "successes" else "corrections",
            steps=PLANS_BEFORE * self._domain.horizon,
            least=window,
            robot=self._robot,
            digest=self.replay.digest_of(wanted),
        )

    @property
    def _longest(self) -> int:
        """Control steps of the longest window that some part of the training looks at."""
        return max(self.recipe.pretrain.skills, self.recipe.value.skills) * self._domain.horizon

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


LEARN, WAIT, END = 1.0, 2.0, 0.0
"""What rank 0 of torchrun is about to do."""


def follow_first(domain: Domain) -> None:
    """What the other ranks do: train whenever rank 0 does, until it ends. They need no file of its."""
    while what := ranks.number_of_first(END):
        if what == LEARN:
            recipe = Recipe.from_dict(json.loads(ranks.bytes_of_first(b"")))
            train, held_out = (episodes_of_first(_nothing) for _ in range(2))
            train_run(recipe, domain, train, Path("round"), held_out=held_out, start_from=Path("parent"), device="cpu")


def _nothing() -> EpisodeSet:
    raise AssertionError("rank 0 loads")


def task_named(task: str, bundle: Bundle, domain: Domain) -> str:
    """The task's sub-tasks, joined by commas.

    Raises:
        SpecError: no such task, or the bundle has learned another one's returns.
    """
    asked = ",".join(subtask.name for subtask in domain.task(task).subtasks)
    learned = bundle.manifest.task_of(bundle.manifest.planner)
    if learned not in ("", asked):
        raise SpecError(
            f"task is {asked!r}, but the bundle has learned the returns of {learned!r}; go on with that one"
        )
    return asked


def planner_for(planner: PlannerConfig, objective: str) -> PlannerConfig:
    """How plans are made by what an objective taught: by the task's returns and policy, or as before."""
    if objective != "returns":
        return planner
    return replace(planner, proposer="task_policy", surprise_weight=0.0, score=RETURNS_SCORE)


def parted(episodes: Sequence[Episode], share: float, least: int) -> tuple[list[Episode], list[Episode]]:
    """Episodes to learn from and whole ones to hold out, in which something runs for `least` control steps on end.

    Raises:
        EpisodeError: there are not two, or none is that long.
    """
    whole = [k for k, episode in enumerate(episodes) if any(part.steps >= least for part in parts(episode))]
    held_out = every_kth(whole, share)
    if len(episodes) < 2 or not held_out:
        raise EpisodeError(
            f"{len(episodes)} episodes, {len(whole)} of them with {least} control steps on end: two are needed, one to "
            "hold out; record more, or give the bundle's own --data"
        )
    return [e for k, e in enumerate(episodes) if k not in held_out], [episodes[k] for k in held_out]


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
    """Lets whoever controls an arm on this machine go first: this process runs while a core has nothing else to do.

    Where Linux groups processes by sessions (sched_autogroup_enabled), that holds within a session alone; so one that
    leads a session, as started by `setsid --wait skimo finetune ...`, lowers that too. In a session that it shares, a
    shell's say, it doesn't: that stays lowered when it has ended.
    """
    for thread in os.listdir("/proc/self/task"):  # libraries have started some
        os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))
    group = Path("/proc/self/autogroup")
    if os.getsid(0) == os.getpid() and group.exists():
        group.write_text(f"{LEAST_NICE}\n")
