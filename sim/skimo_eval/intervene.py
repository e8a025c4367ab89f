"""`skimo intervene`: a bundle drives in the twin, and a scripted teleoperator takes over what it doesn't get done.

What a policy does wrong is nowhere in the play that it learned from, nor the way out. So it is let play like the
teleoperator, one thing after another from a drawn start; what it hasn't done after some skills, the teleoperator does
from where it was left (Kelly et al., "HG-DAgger: Interactive Imitation Learning with Human Experts", ICRA 2019). The
recordings say of each step who acted: from the policy's own steps a learner takes what the world did, from the
teleoperator's also how it is done. Units control steps.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.contract.policy import FloatArray, SkillPolicy
from skimo_core.control.loop import SkillLoop
from skimo_core.control.planning import ImmediatePlanning
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.episodes.episode import Episode
from skimo_sim.play.collect import as_episode, collect, whole_play
from skimo_sim.play.player import Player, careful
from skimo_sim.play.plays import need_play

from .domains import domain_to_fly
from .inprocess import bundle_policy
from .trials import PLAN_DEADLINE_S

LEAST_SCRIPTS = 2
"""Of an episode: a policy that is to be corrected takes longer over each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Let a bundle drive in the twin, a scripted teleoperator taking over what it doesn't get done.

    Attributes:
        bundle: path of a bundle, or the name of one that ships.
        domain: what the tasks share, one that has scripted play: a domain's name, or a file; empty: the one that the
            bundle carries or names.
        out: a new folder for the recordings and their training cache.
        episodes: how many; episode i depends on seed + i and the bundle alone.
        seed: of the first; choose others than play and evaluation have.
        workers: processes.
    """

    out: Path
    bundle: str = "kitchen"
    domain: str = ""
    episodes: int = 500
    seed: int = 200_000
    workers: int = 2

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.workers < 1 or self.seed < 0:
            raise SpecError(f"episodes {self.episodes} (>= 1), workers {self.workers} (>= 1), seed {self.seed} (>= 0)")


def main(argv: list[str]) -> int:
    """Record how a bundle drives, and how what it doesn't get done is done."""
    try:
        args = tyro.cli(Args, args=argv, prog="skimo intervene")
        domain = domain_to_fly(args.bundle, args.domain)
        opened(args.bundle, load_domain(domain))  # refused here, not in each worker
        made = collect(
            args.out,
            episodes=args.episodes,
            seed=args.seed,
            workers=args.workers,
            make=partial(corrected_episode, args.bundle, domain),
            progress=partial(tqdm, desc="driving", total=args.episodes, unit="episode", mininterval=1.0),
        )
    except SkimoError as error:
        print(f"skimo intervene: {error}", file=sys.stderr)
        return 1
    print(
        f"recorded {made.episodes} episodes {made.steps} steps, {made.shown_steps / made.steps:.0%} of them by the "
        f"teleoperator, digest {made.digest}"
    )
    return 0


def opened(bundle: str, domain: Domain) -> SkillPolicy:
    """The bundle's policy; raises SpecError where nobody is there to correct it."""
    need_play(domain)
    return bundle_policy(Path(bundle), {})


class PolicyDriver:
    """Drives one goal at a time with a policy's own skill loop, and gives up when the patience drawn for it is over."""

    def __init__(self, policy: SkillPolicy, domain: Domain) -> None:
        self._domain = domain
        self._loop = SkillLoop(
            domain.task(),
            policy.spec.skill,
            partial(policy.act, deadline_s=PLAN_DEADLINE_S),
            ImmediatePlanning(policy, PLAN_DEADLINE_S),
            period_s=domain.action.period_s,
            joints=domain.action.joints,
        )
        self._left = 0

    def begin(self, goal: str, steps: tuple[int, int], chance: np.random.Generator) -> None:
        self._left = int(chance.integers(*steps))
        self._loop.start(seed=int(chance.integers(1 << 31)), task=self._domain.task(goal))

    def reached(self, observation_O: FloatArray) -> bool:
        return bool(self._loop.task.subtasks[0].complete(observation_O))

    def act(self, observation_O: FloatArray) -> FloatArray | None:
        self._left -= 1
        return self._loop.step(observation_O).action_A if self._left >= 0 else None


def corrected_episode(bundle: str, domain: str, seed: int) -> Episode:
    """The episode of `seed`; raises EpisodeError if no attempt gave one."""
    player, bundle_id = _player(bundle, domain)
    played = whole_play(player, seed, choose=player.freely(corrected=True), least_scripts=LEAST_SCRIPTS)
    return as_episode(played, seed, player.domain, source="policy", bundle_id=bundle_id)


@cache
def _player(bundle: str, domain: str) -> tuple[Player, str]:
    """This process's player and whose bundle drives it: a twin takes a second to build."""
    known = load_domain(domain)
    policy = opened(bundle, known)
    return Player(known, PolicyDriver(policy, known), careful), policy.spec.bundle_id
