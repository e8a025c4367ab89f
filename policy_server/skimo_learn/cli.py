"""`skimo pretrain` and `skimo export`."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from skimo_core.contract.errors import SetupError, SkimoError, SpecError
from skimo_core.domain.domain import DEFAULT, load_domain
from skimo_core.domain.library import is_path

LEARNING_NEEDS = ("torch", "safetensors", "tqdm")
PARENT = "parent"
"""Beneath a run: the networks of the bundle that it began with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainArgs:
    """Pre-train skills, skill dynamics and goal value on play data; goes on where --out already holds a run.

    Started by torchrun (torchrun --nproc-per-node 2 --no-python skimo pretrain ...) its ranks train as one; only rank 0
    needs the data, and writes.

    Attributes:
        data: folders of recordings.
        out: the run's folder.
        start_from: another run's folder, a bundle's, or the name of a bundle that ships: its weights are begun with,
            e.g. to learn from corrections besides. What is made from a bundle is known as its descendant.
        domain: whose channels, actions, rate, horizon and sub-tasks the data has: a name, or a file.
        robot: whose limits the data obeyed: a name, or a file; where none is named, the domain's.
        recipe: compact, corrected, small, tabletop, maze, paper, released or smoke.
        updates: gradient steps instead of the recipe's.
        minutes: stop pre-training after so long (the run is then not repeatable bit for bit).
        skills: N, skills per training window (1 to 10).
        kl_weight: weight of the skill posterior's KL.
        batch: windows per update.
        seed: of initialisation, sampling and noise.
        threads: of torch on CPUs; a machine's ranks share them.
        device: auto (a GPU where there is one), cpu or cuda.
        capture: on a GPU, replay each update as one captured CUDA graph, which is several times as fast.
        skip_damaged: leave out recordings that can't be read or were over before their first step, and say how many.
        set: further settings as part.name=value, e.g. loss.rho=1.0 model.members=3 value.updates=2000.
    """

    data: tuple[Path, ...]
    out: Path
    start_from: str = ""
    domain: str = DEFAULT
    robot: str = ""
    recipe: str = "compact"
    updates: int | None = None
    minutes: float | None = None
    skills: int | None = None
    kl_weight: float | None = None
    batch: int | None = None
    seed: int | None = None
    threads: int | None = None
    device: str = "auto"
    capture: bool = True
    skip_damaged: bool = False
    set: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportArgs:
    """Export a finished run as a bundle, or an older bundle in today's format.

    Attributes:
        checkpoint: the run's folder.
        repack: instead, a bundle's folder: its graphs as they are, with recorded inputs and this robot's limits.
        data: folders of recordings, for other recorded inputs than the old bundle's with --repack.
        domain: that it is for: a name, or a file; where none is named, what the run was made with.
        robot: whose limits its data obeyed: a name, or a file; where none is named, what the data says, or else the
            domain's.
        out: the bundle's folder, or the folder to put it in under --name.
        name: of the bundle, e.g. kitchen.
        set: planner settings as name=value, e.g. samples=512 proposals=prior.
    """

    out: Path
    checkpoint: Path | None = None
    repack: Path | None = None
    data: tuple[Path, ...] = ()
    domain: str = ""
    robot: str = ""
    name: str | None = None
    set: tuple[str, ...] = ()


def pretrain(argv: list[str]) -> int:
    """Pre-train skills, skill dynamics and goal value on play data."""
    args = tyro.cli(PretrainArgs, args=argv, prog="skimo pretrain")
    try:
        check_installed()
        _pretrain(args)
    except SkimoError as error:
        print(f"skimo pretrain: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"skimo pretrain: {args.out}: {error.strerror or error}; choose another --out", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on from the last checkpoint in {args.out}", file=sys.stderr)
        return 130
    return 0


def export(argv: list[str]) -> int:
    """Export a pre-trained run as an ONNX bundle."""
    args = tyro.cli(ExportArgs, args=argv, prog="skimo export")
    try:
        check_installed()
        _export(args)
    except SkimoError as error:
        print(f"skimo export: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"skimo export: {args.out}: {error.strerror or error}; choose another --out", file=sys.stderr)
        return 1
    return 0


def check_installed() -> None:
    """Raises SetupError if what learning needs beyond serving isn't there."""
    for name in LEARNING_NEEDS:
        try:
            importlib.import_module(name)
        except ImportError:
            raise SetupError(f"this needs {name}: pip install 'skimo_policy_server[learn]'") from None


def _pretrain(args: PretrainArgs) -> None:
    from skimo_core.domain.robot import load_limits

    from . import ranks
    from .data import episodes_of_first, load_episodes
    from .device import pick_device
    from .overrides import with_settings
    from .readback import run_of
    from .recipes import for_domain, recipe
    from .run import train_run

    place = pick_device(args.device)
    domain = load_domain(args.domain)
    chosen = for_domain(recipe(args.recipe), domain)
    direct = {"updates": args.updates, "skills": args.skills, "batch": args.batch, "seed": args.seed}
    direct["threads"] = args.threads
    given: dict[str, Any] = {name: value for name, value in direct.items() if value is not None}
    chosen = replace(chosen, pretrain=replace(chosen.pretrain, **given))
    if args.kl_weight is not None:
        chosen = replace(chosen, loss=replace(chosen.loss, kl_weight=args.kl_weight))
    chosen = with_settings(chosen, args.set)
    robot = load_limits(args.robot or domain.robot)
    with ranks.together(place):
        parent = Path(args.start_from) if args.start_from else None
        if parent is not None and ranks.first():
            parent = run_of(args.start_from, domain, args.out / PARENT)
        train_run(
            chosen,
            domain,
            episodes_of_first(
                lambda: load_episodes(*args.data, domain=domain, robot=robot, skip_damaged=args.skip_damaged)
            ),
            args.out,
            start_from=parent,
            minutes=args.minutes,
            device=args.device,
            capture=args.capture,
        )


def _export(args: ExportArgs) -> None:
    from skimo_core.domain.robot import load_limits
    from skimo_server.planner_config import PlannerConfig

    from .export import export_bundle, load_run
    from .overrides import parsed

    folder = args.out / args.name if args.name else args.out
    if (args.checkpoint is None) == (args.repack is None):
        raise SpecError("give either --checkpoint, a run to export, or --repack, a bundle to write anew")
    if args.repack is not None:
        _repack(args.repack, folder, args)
        return
    assert args.checkpoint is not None
    run = load_run(args.checkpoint)
    planner = PlannerConfig.from_dict(parsed(args.set))
    source = args.domain or run.state["domain_source"]
    if not args.domain and is_path(source) and not Path(source).expanduser().is_file():
        raise SpecError(
            f"the run was made with domain {source}, which is not there now; name where it lies with --domain"
        )
    domain = load_domain(source)
    if not args.robot and not run.state.get("robot", {}).get("digest"):
        print(f"this run's data names no robot; taken as the domain's, {domain.robot}")
        args = replace(args, robot=domain.robot)
    robot = load_limits(args.robot) if args.robot else None
    manifest = export_bundle(run, folder, domain, planner=planner, robot=robot)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(json.dumps(manifest.parity["graphs"], indent=1, sort_keys=True))
    print(f"exported {folder} {size / 1e6:.2f} MB id {manifest.bundle_id}")


def _repack(old: Path, folder: Path, args: ExportArgs) -> None:
    from skimo_core.domain.robot import load_limits

    from .data import load_episodes
    from .repack import repack

    if args.set:
        raise SpecError(f"--set {' '.join(args.set)} goes with --checkpoint only: a repacked bundle keeps its settings")
    domain = load_domain(args.domain)
    robot = load_limits(args.robot or domain.robot)
    episodes = load_episodes(*args.data, domain=domain, robot=robot) if args.data else None
    manifest = repack(old, folder, episodes=episodes, domain=domain, robot=robot.named)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"repacked {folder} {size / 1e6:.2f} MB id {manifest.bundle_id} parent {manifest.parent_id}")
