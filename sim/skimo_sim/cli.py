"""The `skimo` commands of this distribution; each loads what it needs only when it is called."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import tyro

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.process.provenance import provenance

GROUP = "skimo.twin"
"""Entry points of this group are subcommands too: what needs ROS comes from the package that has it."""


def twin(argv: list[str]) -> int:
    """Check a domain's twin, or the kitchen's tracking error per joint and speed; show it; draw it; put it back."""
    steps = {"check": twin_check, "show": twin_show, "picture": twin_picture}
    if not (argv and argv[0] in steps):  # so that `check` doesn't wait for what others bring
        steps |= {entry.name: entry.load() for entry in metadata.entry_points(group=GROUP)}
    return _run(steps, argv, "skimo twin")


def twin_check(
    *,
    domain: str = "",
    starts: int = 20,
    arm: str = "panda",
    episodes: int = 10,
    steps: int = 140,
    seed: int = 0,
    json_path: Path | None = None,
) -> None:
    """Look at a domain's twin; without one, follow a seeded sweep of trajectories in the kitchen.

    With a domain: its channels, drawn starts, whether the arm gets to its goals, and the speed. Without: the tracking
    error per joint and the speed.

    Args:
        domain: its name, or its file's path.
        starts: of a domain: how many are drawn.
        arm: of the sweep: "panda" or "kitchen".
        episodes: of the sweep: how many, from the initial state each.
        steps: of the sweep: control periods of 80 ms in each.
        seed: of the trajectories, or of the first start.
        json_path: of the sweep: also write the figures there, with their provenance.
    """
    if domain:
        _check_domain(domain, starts=starts, seed=seed)
        return
    from .check import report

    figures = report(arm, episodes=episodes, steps=steps, seed=seed)
    print(f"twin check: arm {arm}, {episodes} x {steps} steps, {figures['free_fraction']:.0%} of it free motion")
    for where in ("free_motion_mrad", "all_motion_mrad"):
        for name, row in figures[where].items():
            print(f"  {where.split('_')[0]:>4} {name:>3} mrad  " + " ".join(f"{x:8.3f}" for x in row))
    cpu, wall = figures["control_steps_per_cpu_second"], figures["control_steps_per_wall_second"]
    pace = figures["times_real_time"]
    print(f"  {cpu:.0f} control steps per processor second ({pace:.0f} x real time), {wall:.0f} per second of this run")
    if json_path is not None:
        options = f"--arm {arm} --episodes {episodes} --steps {steps} --seed {seed} --json-path {json_path.name}"
        content = {"provenance": provenance(command=f"skimo twin check {options}", seed=seed), **figures}
        json_path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        print(f"  written to {json_path}")


def _check_domain(domain: str, *, starts: int, seed: int) -> None:
    from skimo_core.domain.domain import load_domain

    from .checkup import FAULT, check_up

    if starts < 1 or seed < 0:
        raise SpecError(f"starts {starts} (>= 1) and seed {seed} (>= 0)")
    known = load_domain(domain)
    found = check_up(known, starts=starts, seed=seed)
    print(f"twin check: domain {known.name}, robot {known.robot}, twin {known.twin}")
    for finding in found:
        print(finding.line)
    if faults := sum(finding.level == FAULT for finding in found):
        raise SpecError(f"{faults} fault{'s' * (faults > 1)} in the twin of domain {known.name}; see above")


def twin_show(*, domain: str = "kitchen", seed: int = -1) -> None:
    """Open a window on the domain's scene: look round it, and pull at what is in it; the arm holds still.

    Args:
        domain: its name, or its file's path.
        seed: draws the start; below 0: the plain one.
    """
    from .show import show

    show(domain, None if seed < 0 else seed)


def twin_picture(
    out: tyro.conf.Positional[Path],
    *,
    domain: str = "",
    seed: int = -1,
    frames: bool = False,
    arm: str = "panda",
    camera: str = "",
    width: int = 640,
    height: int = 480,
) -> None:
    """Draw the initial state: of a domain's scene from each of its cameras, or of the kitchen.

    Args:
        out: the picture's path (png or jpg); of several cameras OUT_camera.png.
        domain: its name, or its file's path.
        seed: of a domain: draws the start; below 0: the plain one.
        frames: of a domain: draw and name the frames that its channels tell of.
        arm: of the kitchen without a domain: "panda" or "kitchen".
        camera: from which; of a domain each where none is named, else left.
    """
    from PIL import Image

    from .render import Painter
    from .scenes.kitchen import build_kitchen
    from .show import draw

    if domain:
        pictures = draw(domain, None if seed < 0 else seed, camera, width=width, height=height, frames=frames)
        for name, picture in pictures.items():
            path = out if camera else out.with_stem(f"{out.stem}_{name}")
            Image.fromarray(picture).save(path)
            print(path)
        return
    with Painter(arm, width=width, height=height) as painter:
        Image.fromarray(painter.paint(np.asarray(build_kitchen(arm).start_qpos), camera or "left")).save(out)
    print(out)


def collect(argv: list[str]) -> int:
    """Make play data with scripted teleoperation in the twin, or check the scripts."""
    return _run(collect_play, argv, "skimo collect")


def collect_play(
    domain: tyro.conf.Positional[str],
    /,
    *,
    out: Path | None = None,
    episodes: int = 1000,
    seed: int = 0,
    workers: int = 2,
    check: int = 0,
) -> None:
    """Play in a domain under noise, from drawn starts: its sub-tasks, and what undoes them.

    Args:
        domain: one that has scripted play, by name or file: kitchen, table, maze.
        out: a new folder for the recordings and their training cache.
        episodes: how many; episode i depends on seed + i alone.
        seed: of the first.
        workers: processes; the digest is the same for any number.
        check: instead of collecting, try each script so often and print its success.
    """
    from tqdm import tqdm

    from skimo_core.domain.domain import load_domain

    from .play.collect import collect as make
    from .play.collect import make_episode
    from .play.plays import need_play, plays_whole

    if episodes < 1 or workers < 1 or seed < 0 or check < 0:
        raise SpecError(f"episodes {episodes} (>= 1), workers {workers} (>= 1), seed {seed} and check {check} (>= 0)")
    known = load_domain(domain)
    if check or not plays_whole(known):
        need_play(known)
    if check:
        _check_scripts(domain, tries=check, seed=seed, workers=workers)
        return
    if out is None:
        raise SpecError("where to? give --out, a new folder for the recordings")
    made = make(
        out,
        episodes=episodes,
        seed=seed,
        workers=workers,
        make=partial(make_episode, domain),
        progress=partial(tqdm, desc="collecting", total=episodes, unit="episode", mininterval=1.0),
    )
    print(f"  {made.subtasks_mean:.2f} sub-tasks an episode; recordings in {out}")
    if pairs := list(itertools.permutations(known.subtasks, 2)):
        first, second = min(pairs, key=lambda pair: made.pairs[pair])
        print(f"  rarest pair of consecutive sub-tasks: {first}, {second} ({made.pairs[first, second]} times)")
    print(f"collected {made.episodes} episodes {made.steps} steps digest {made.digest}")


def _check_scripts(domain: str, *, tries: int, seed: int, workers: int) -> None:
    """Try each script of a domain, and print how often it succeeds and how long it takes."""
    from .play.collect import check_script, player_of

    config, scripts = player_of(domain).config, player_of(domain).teleoperator.scripts
    print(f"{'script':<22} {'done':>6} {'patient':>8}  steps: median  p95   (patience {config.patience_steps} steps)")
    for name in scripts:
        trials = check_script(domain, name, tries=tries, seed=seed, workers=workers)
        steps = np.array([trial.steps for trial in trials])
        done, soon = np.mean([trial.done for trial in trials]), np.mean(steps <= config.patience_steps)
        median, late = np.percentile(steps, [50, 95])
        print(f"{name:<22} {done:>6.0%} {soon:>8.0%}         {median:6.0f} {late:4.0f}", flush=True)


def render(argv: list[str]) -> int:
    """Make a video and a filmstrip from a recorded episode."""
    return _run(render_recording, argv, "skimo render")


def render_recording(
    recording: tyro.conf.Positional[Path],
    *,
    domain: str = "",
    condition: str = "",
    out: Path | None = None,
    camera: str = "left",
    pictures: int = 12,
) -> None:
    """Draw a recorded episode as OUT.mp4 and OUT.png.

    Args:
        recording: an episode's MCAP file; one that was cut short is drawn as far as it goes.
        domain: what it was recorded in: a name, or a file's path; empty: what the recording names.
        condition: of the twin in which it was recorded: the arm may have been mounted elsewhere.
        out: path without ending; beside the recording by default.
        camera: left, room or front.
        pictures: in the filmstrip.
    """
    from skimo_core.episodes.recording import read_episode

    from .film import domain_of, film

    episode = read_episode(recording, salvage=True)
    known = domain_of(episode.meta, domain)
    target = out or recording.with_suffix("")
    made = film(
        episode.observations,
        known.task(episode.meta.task),
        known,
        video=target.with_suffix(".mp4"),
        strip=target.with_suffix(".png"),
        rate_hz=episode.meta.rate_hz,
        success=episode.meta.success,
        condition=condition,
        camera=camera,
        pictures=pictures,
    )
    if episode.damage or episode.lost:
        spans = ", ".join(f"{first} to {last}" for first, last in episode.lost)
        print(
            "drawn as far as it goes: " + "; ".join(filter(None, (episode.damage, spans and f"steps {spans} missing")))
        )
    print(f"{made.video} ({made.frames} frames, {made.render_ms:.0f} ms each)\n{made.strip}")


def _run(commands: Callable[..., None] | dict[str, Callable[..., None]], argv: list[str], prog: str) -> int:
    try:
        if isinstance(commands, dict):
            tyro.extras.subcommand_cli_from_dict(commands, prog=prog, args=argv)
        else:
            tyro.cli(commands, prog=prog, args=argv)
    except SkimoError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    return 0
