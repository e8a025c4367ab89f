"""`skimo replay`: a recorded episode led again, in the domain's twin or by the robot, and where it departs.

Who leads it comes from other packages, so that each is needed only where it is asked for:

    [project.entry-points."skimo.replay"]
    twin = "skimo_eval.replay:on_twin"
The callable takes (`ReplayArgs`, the episode, its domain) and returns what was seen (`Replayed`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import tyro

from ..contract.errors import EpisodeError, SetupError, SkimoError, SpecError
from ..domain.domain import Domain, known_domains, load_domain
from ..domain.robot import RobotLimits, load_limits
from .episode import Episode
from .fit import why_unfit, why_unlike
from .recording import read_episode
from .replayed import TOLERANCE_RAD, Replayed, report

GROUP = "skimo.replay"
SLOWEST = 0.02
PACKAGES = {"twin": "sim (skimo_sim, skimo_eval)", "robot": "ros2_ws/src/skimo_ros"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayArgs:
    """Lead a recorded episode again and say where it departs; exit code 1 if it does.

    Attributes:
        recording: the episode's file.
        on: the domain's twin, in this process; or the robot (or whatever drives the running stack), through its gate.
        speed: share of the recorded speed. On the twin by default 1: the recorded actions are executed as a policy's;
            below 1, and on the robot (by default 0.5), the arm is led along the recorded path.
        tolerance: greatest departure of any joint, rad (without an arm: of any channel that is no rate, in its unit).
        domain: a name, or a file; empty: the name in the recording.
        robot, cell, rig: as the stack's; empty: the domain's own, and no rig.
        twin_rig: what is true of the twin's cell; empty: what rig says.
        driver, arm, namespace: of the running stack, on the robot.
        yes: move the robot without asking first.
    """

    recording: tyro.conf.Positional[Path]
    on: Literal["twin", "robot"] = "twin"
    speed: float | None = None
    tolerance: float = TOLERANCE_RAD
    domain: str = ""
    robot: str = ""
    cell: str = ""
    rig: str = ""
    twin_rig: str = ""
    driver: str = "twin"
    arm: str = ""
    namespace: str = ""
    yes: bool = False

    def __post_init__(self) -> None:
        if self.speed is not None and not SLOWEST <= self.speed <= 1.0:
            raise SpecError(f"speed is {self.speed:g}, must lie in {SLOWEST:g} to 1")
        if not 0.0 < self.tolerance < 10.0:
            raise SpecError(f"tolerance is {self.tolerance:g}, must lie above 0 and below 10")


Leads = Callable[[ReplayArgs, Episode, Domain], Replayed]


def replay(argv: list[str]) -> int:
    """Lead a recorded episode again, in the twin or by the robot, and say where it departs."""
    try:
        args = tyro.cli(ReplayArgs, args=argv, prog="skimo replay")
        episode, domain, limits = _opened(args)
        lines, good = report(episode, _leader(args.on)(args, episode, domain), domain, limits, args.tolerance)
    except (SkimoError, KeyboardInterrupt) as error:
        print(f"skimo replay: {error or 'no longer led; the arm comes to rest by itself'}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0 if good else 1


def _opened(args: ReplayArgs) -> tuple[Episode, Domain, RobotLimits]:
    """The episode, with the domain and robot that it is of.

    Raises:
        EpisodeError: it can't be read, or is of another domain or robot.
        SpecError: no such domain or robot, or one without an arm that is to be led as an arm is.
    """
    episode = read_episode(args.recording)
    name = args.domain or episode.meta.domain.name
    if not args.domain and name not in known_domains():
        raise EpisodeError(f"{args.recording.name} is of domain {episode.meta.domain}; give its file with --domain")
    domain = load_domain(name)
    if not domain.observation.joints and (args.on != "twin" or args.speed not in (None, 1.0)):
        raise SpecError(
            f"domain {domain.name} has no arm that could be led: its episodes are replayed in its twin, at their own "
            "speed; leave --on and --speed out"
        )
    limits = load_limits(args.robot or domain.robot)
    if why := why_unlike(episode.meta, domain, limits) or why_unfit(episode, domain, limits):
        raise EpisodeError(f"{args.recording.name} {why}")
    return episode, domain, limits


def _leader(on: str) -> Leads:
    for entry in metadata.entry_points(group=GROUP, name=on):
        try:
            return entry.load()
        except ImportError as error:
            raise SetupError(f"--on {on} ({entry.value}) can't be loaded: {error}") from error
    raise SetupError(f"--on {on} is not installed here; install {PACKAGES[on]}")
