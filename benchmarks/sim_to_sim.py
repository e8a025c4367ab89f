"""Sim to sim: FrankaKitchen-v1 of gymnasium-robotics, unmodified, plays the robot that our twin is not.

Its arm has position servos of 870 and 120 Nm/rad that nobody helps against damping and weight, moved 12.5 times a
second (skimo_sim.franka_kitchen). Each part writes its section of the results and leaves the others as they are:

    identify   log it through an exciting motion, and another one that is held out; identify it as `skimo calibrate
               sysid` does, and once more as servos that nobody helps; joint error of our twin on what was held out
    plan       fly a bundle there and count sub-tasks, its reference followed
                   velocity     as velocities, as the environment documents its actions
                   position     as positions: what a driver does that knows nothing
                   compensated  the lag and the weight that were identified made up for
               with --where twin in our twin with the identified arm instead, begun where the environment begins
    collect    scripted play in our twin with the identified arm (skimo_sim.servo), as data to train on
    begin      write a bundle's networks as a run for `skimo pretrain` to start from

    python benchmarks/sim_to_sim.py identify
    python benchmarks/sim_to_sim.py plan --seeds 24
    python benchmarks/sim_to_sim.py plan --seeds 12 --where twin --drivers position compensated
    python benchmarks/sim_to_sim.py collect --episodes 60 --play datasets/sagging
    python benchmarks/sim_to_sim.py begin --run runs/shipped
    skimo pretrain --data datasets/sagging/* --start-from runs/shipped --recipe corrected --threads 1 \\
        --out runs/sagging --set pretrain.batch=64 pretrain.learning_rate=3e-4 \\
        refine.learning_rate=5e-4 correct.learning_rate=5e-4 distil.learning_rate=5e-4 value.learning_rate=5e-4 \\
        pretrain.updates=400 refine.updates=300 correct.updates=600 distil.updates=200 value.updates=300
    skimo export --checkpoint runs/sagging --out bundles/sagging
    python benchmarks/sim_to_sim.py plan --bundle bundles/sagging --label "learned on 60 episodes" \\
        --drivers position compensated
of 100 episodes 600, 400, 800, 300 and 300 updates. "model learned on": skills and skill policy stay as they were, by
loss.policy_weight=0 loss.kl_weight=0 loss.joint=false refine.updates=0 correct.updates=0 distil.updates=300 besides.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before numpy is loaded, which looks once

import tyro  # noqa: E402
from sim_to_sim_arm import drivers, identified, read_arm, servo_twin  # noqa: E402
from sim_to_sim_report import report  # noqa: E402

from skimo_calibration.dynamics.sysid import Arm  # noqa: E402
from skimo_core.domain.cell import load_cell  # noqa: E402
from skimo_core.domain.domain import load_domain  # noqa: E402
from skimo_core.domain.robot import load_limits  # noqa: E402
from skimo_core.domain.starts import Starts  # noqa: E402
from skimo_core.episodes.episode import Episode  # noqa: E402
from skimo_core.process.provenance import provenance  # noqa: E402
from skimo_eval.inprocess import bundle_policy  # noqa: E402
from skimo_eval.trials import Lab, run_episode  # noqa: E402
from skimo_server.bundle import load_bundle, resolve_bundle  # noqa: E402
from skimo_sim.franka_kitchen import FrankaKitchen  # noqa: E402
from skimo_sim.play.collect import as_episode, collect, whole_play  # noqa: E402
from skimo_sim.play.player import Player  # noqa: E402
from skimo_sim.play.teleoperator import PlayConfig  # noqa: E402
from skimo_sim.servo import Driver, ServoTwin, by_position  # noqa: E402

OUT = Path(__file__).parent / "results" / "calibration"
TASK = "kitchen"
CHUNK = 20
"""Episodes of play in a folder."""
LIBRARIES = ("numpy", "scipy", "mujoco", "gymnasium-robotics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Which part to do.

    Attributes:
        part: see above.
        seeds: flights of each cell.
        first: seed of the first, and of motions, noise and the bootstrap.
        bundle: flown, by name or path.
        label: what the bundle is called in the results.
        drivers: how its reference is followed.
        where: in the environment, or in our twin with the arm that was identified.
        episodes, play: how many are collected, and into which folder.
        run: the new folder of what `begin` writes.
        logs: folder of the logs, as CSV.
        out: folder of sim_to_sim.json and sim_to_sim.md.
    """

    part: tyro.conf.Positional[Literal["identify", "plan", "collect", "begin"]]
    seeds: int = 12
    first: int = 0
    bundle: str = "kitchen"
    label: str = "shipped"
    drivers: tuple[str, ...] = ("velocity", "position", "compensated")
    where: Literal["there", "twin"] = "there"
    episodes: int = 300
    play: Path = Path("datasets/sagging")
    run: Path = Path("runs/shipped")
    logs: Path = Path("runs/sim_to_sim")
    out: Path = OUT


# --- flights ----------------------------------------------------------------------------------------------------------


def flown(args: Args, name: str, driver: Driver, arm: Arm | None) -> dict[str, Any]:
    """A cell: a bundle, its reference followed in one way."""
    domain, limits = load_domain(), load_limits()
    folder = resolve_bundle(args.bundle)
    policy, twin = bundle_policy(folder, {}), _place(args, driver, arm)
    lab = Lab(domain=domain, limits=limits, cell=load_cell(domain.cell), twin=twin)
    rows = []
    for seed in range(args.first, args.first + args.seeds):
        result = run_episode(lab, policy, domain.task(TASK), seed)
        own = sorted(set(twin.completed) & set(result.task)) if isinstance(twin, FrankaKitchen) else []
        rows.append({
            "seed": seed, "done": result.subtasks_done, "any_order": own,
            "completed_at": result.completed_at, "steps": result.steps, "stops": result.stops,
            "verdicts": result.verdicts, "error": result.error,
            "predicted": [round(p.success_probability, 3) for p in result.plans],
            "came_true": [int(p.achieved) for p in result.plans],
        })  # fmt: skip
        shown = {key: rows[-1][key] for key in ("seed", "done", "any_order", "verdicts", "error")}
        print(args.label, args.where, name, shown, flush=True)
    command = f"python benchmarks/sim_to_sim.py plan --bundle {Path(args.bundle).name} --label '{args.label}'"
    command += f" --seeds {args.seeds} --first {args.first} --drivers {name} --where {args.where}"
    made = provenance(command, args.first, LIBRARIES)
    return {"provenance": made, "bundle_id": load_bundle(folder).manifest.bundle_id, "rows": rows}


def _place(args: Args, driver: Driver, arm: Arm | None) -> FrankaKitchen | ServoTwin:
    """Where a bundle flies."""
    if args.where == "there":
        return FrankaKitchen(load_domain(), load_limits(), driver)
    if arm is None:
        raise SystemExit("no arm was identified yet; first run the part identify")
    twin = servo_twin(arm, driver)
    twin.starts = Starts()
    return twin


# --- play -------------------------------------------------------------------------------------------------------------


def patient(config: PlayConfig) -> PlayConfig:
    """An arm that lags needs longer, and does less in an episode."""
    return replace(config, patience_steps=160, least_scripts=2)


def gather(args: Args, arm: Arm) -> None:
    """Collect play in folders of a few episodes; one that is whole is not made again."""
    player = Player(load_domain(), adapt=patient, twin=servo_twin(arm, by_position))

    def make(seed: int) -> Episode:
        return as_episode(whole_play(player, seed), seed, player.domain)

    for begin in range(args.first, args.first + args.episodes, CHUNK):
        folder, part = args.play / f"{begin:06d}", args.play.with_name(f"{args.play.name}-part")
        if folder.exists():
            continue
        shutil.rmtree(part, ignore_errors=True)
        count = min(CHUNK, args.first + args.episodes - begin)
        found = collect(part, episodes=count, seed=begin, workers=1, make=make)
        args.play.mkdir(parents=True, exist_ok=True)
        part.rename(folder)
        print(
            f"{folder}: {found.episodes} episodes, {found.steps} steps, {found.subtasks_mean:.2f} goals each",
            flush=True,
        )


def begin(args: Args) -> None:
    """A bundle's networks as a run."""
    from skimo_learn.readback import model_of, write_run  # torch, which nothing else here needs

    model, recipe = model_of(load_bundle(resolve_bundle(args.bundle)), load_domain())
    write_run(model, recipe, args.run)


def main(args: Args) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "sim_to_sim.json"
    if args.part == "identify":
        made = provenance(f"python benchmarks/sim_to_sim.py identify --first {args.first}", args.first, LIBRARIES)
        found = {"provenance": made, **identified(args.first, args.logs)}
        change(path, lambda content: content.update(identified=found))
        return
    if args.part == "begin":
        begin(args)
        return
    known = read(path).get("identified")
    arm = None if known is None else read_arm(known["arm"])
    if args.part == "collect":
        if arm is None:
            raise SystemExit("no arm was identified yet; first run the part identify")
        gather(args, arm)
        return
    for name, driver in drivers(arm).items():
        if name in args.drivers:
            cell = f"{args.label}, {name}, {args.where}", flown(args, name, driver, arm)
            change(path, lambda content, cell=cell: content["flights"].update([cell]))


def read(path: Path) -> dict[str, Any]:
    """The results so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"flights": {}}


def change(path: Path, make: Callable[[dict[str, Any]], None]) -> None:
    """Change the results as they are now: another part may have written meanwhile."""
    content = read(path)
    make(content)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report(content), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args))
