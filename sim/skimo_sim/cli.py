"""The `skimo` commands of this distribution; each loads what it needs only when it is called."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.process.provenance import provenance


def twin(argv: list[str]) -> int:
    """Check the twin: tracking error per joint and speed, or show it."""
    return _run({"check": twin_check, "picture": twin_picture}, argv, "skimo twin")


def twin_check(
    *, arm: str = "panda", episodes: int = 10, steps: int = 140, seed: int = 0, json_path: Path | None = None
) -> None:
    """Follow a seeded sweep of trajectories; print the tracking error per joint and the speed.

    Args:
        arm: "panda" or "kitchen".
        episodes: how many, from the initial state each.
        steps: control periods of 80 ms in each.
        seed: of the trajectories.
        json_path: also write the figures there, with their provenance.
    """
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


def twin_picture(
    out: tyro.conf.Positional[Path], *, arm: str = "panda", camera: str = "left", width: int = 640, height: int = 480
) -> None:
    """Draw the initial state.

    Args:
        out: the picture's path (png or jpg).
        arm: "panda" or "kitchen".
        camera: left, room or front.
    """
    from PIL import Image

    from .render import Painter
    from .scenes.kitchen import build_kitchen

    with Painter(arm, width=width, height=height) as painter:
        Image.fromarray(painter.paint(np.asarray(build_kitchen(arm).start_qpos), camera)).save(out)
    print(out)


def collect(argv: list[str]) -> int:
    """Make play data with scripted teleoperation in the twin, or check the scripts."""
    return _run({"kitchen": collect_kitchen}, argv, "skimo collect")


def collect_kitchen(
    *, out: Path | None = None, episodes: int = 1000, seed: int = 0, workers: int = 2, check: int = 0
) -> None:
    """Play in the kitchen under noise, from drawn starts: sub-tasks, what undoes them, the kettle to other burners.

    Args:
        out: a new folder for the recordings and their training cache.
        episodes: how many; episode i depends on seed + i alone.
        seed: of the first.
        workers: processes; the digest is the same for any number.
        check: instead of collecting, try each script so often and print its success.
    """
    from tqdm import tqdm

    from .play.collect import EVERY_PAIR, check_script
    from .play.collect import collect as make
    from .play.scripts import SCRIPTS

    if episodes < 1 or workers < 1 or seed < 0 or check < 0:
        raise SpecError(f"episodes {episodes} (>= 1), workers {workers} (>= 1), seed {seed} and check {check} (>= 0)")
    if check:
        print(f"{'script':<22} {'done':>6} {'in 60':>6}  steps: median  p95")
        for name in SCRIPTS:
            trials = check_script(name, tries=check, seed=seed, workers=workers)
            steps = np.array([trial.steps for trial in trials])
            done, soon = np.mean([trial.done for trial in trials]), np.mean(steps <= 60)
            median, late = np.percentile(steps, [50, 95])
            print(f"{name:<22} {done:>6.0%} {soon:>6.0%}         {median:6.0f} {late:4.0f}", flush=True)
        return
    if out is None:
        raise SpecError("where to? give --out, a new folder for the recordings")
    bar = partial(tqdm, desc="collecting", total=episodes, unit="episode", mininterval=1.0)
    made = make(out, episodes=episodes, seed=seed, workers=workers, progress=bar)
    first, second = min(EVERY_PAIR, key=lambda pair: made.pairs[pair])
    print(f"  {made.subtasks_mean:.2f} sub-tasks an episode; recordings in {out}")
    print(f"  rarest pair of consecutive sub-tasks: {first}, {second} ({made.pairs[first, second]} times)")
    print(f"collected {made.episodes} episodes {made.steps} steps digest {made.digest}")


def render(argv: list[str]) -> int:
    """Make a video and a filmstrip from a recorded episode."""
    return _run(render_recording, argv, "skimo render")


def render_recording(
    recording: tyro.conf.Positional[Path],
    *,
    domain: str = "",
    out: Path | None = None,
    camera: str = "left",
    pictures: int = 12,
) -> None:
    """Draw a recorded episode as OUT.mp4 and OUT.png.

    Args:
        recording: an episode's MCAP file; one that was cut short is drawn as far as it goes.
        domain: what it was recorded in: a name, or a file's path; empty: what the recording names.
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
