"""`skimo compare A B`: whether B does better than A, condition by condition, on the same seeds.

A and B are bundles, flown now, or result files of `skimo eval` (`--json`, `--out`), which need no run. Episodes pair up
by condition, task and seed; results of other conditions, tasks or seeds are refused. A verdict is the 95 % bootstrap
interval of the mean difference (Efron 1979), and says nothing where fewer than six pairs differ: with five, chance
alone puts all of them on one side in 6 % of cases (sign test). Over all conditions together, a seed's differences are
averaged first, for they are not independent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from skimo_core.contract.errors import SkimoError, SpecError

from .evaluate import Args as EvalArgs
from .evaluate import evaluate
from .results import Results, read_results, write_results
from .statistics import bootstrap_interval

MIN_DIFFERING = 6
Pair = tuple[tuple[str, ...], int]
"""An episode's sub-tasks and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Args:
    """Say whether B does better than A on the same seeds.

    Attributes:
        a: a bundle (path, or name of one that ships), or a result file of skimo eval (*.json).
        b: the same, to hold against it.
        domain: of bundles: what the tasks share, a domain's name or a file; empty: the one that each carries or names.
        robot: whose limits hold; empty: the domain's.
        cell: what stands around the arm; empty: the domain's.
        task: of bundles, as in skimo eval.
        condition: of bundles: names or files joined by commas, or all.
        episodes: of bundles: under each condition.
        seed: of bundles: of the first episode.
        workers: processes; 0 means one per core.
        json: result file of the comparison.
    """

    a: Annotated[str, tyro.conf.Positional]
    b: Annotated[str, tyro.conf.Positional]
    domain: str = ""
    robot: str = ""
    cell: str = ""
    task: str = ""
    condition: str = "all"
    episodes: int = 20
    seed: int = 0
    workers: int = 0
    json: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean sub-tasks of A and B over pairs, and B less A with its 95 % interval.

    Attributes:
        differing: pairs (or seeds) in which the two are not alike.
    """

    condition: str
    pairs: int
    a: float
    b: float
    difference: float
    interval_95: tuple[float, float]
    differing: int

    @property
    def verdict(self) -> str:
        """In words, about B."""
        low, high = self.interval_95
        if self.differing >= MIN_DIFFERING and (low > 0 or high < 0):
            return "better" if low > 0 else "worse"
        return f"no difference seen with {self.pairs} pairs"


def main(argv: list[str]) -> int:
    """Say whether one bundle does better than another on the same seeds, by a run or by result files."""
    try:
        args = tyro.cli(Args, args=argv, prog="skimo compare")
        a, b = (_results(args, name) for name in (args.a, args.b))
        found = compare(a, b, (args.a, args.b))
    except SkimoError as error:
        print(f"skimo compare: {error}", file=sys.stderr)
        return 1
    names = [f"{r.get('bundle', 'bundle')} ({r['bundle_id'][:8]})" for r in (a, b)]
    print(f"compare: A {names[0]}, B {names[1]}, task {a['task']}, sub-tasks of {a['subtasks']}")
    for line in found:
        low, high = line.interval_95
        print(
            f"compare: {line.condition}: A {line.a:.2f} B {line.b:.2f}, difference {line.difference:+.2f} "
            f"(95 % {low:+.2f} .. {high:+.2f}): {line.verdict}"
        )
    if args.json is not None:
        write_results(args.json, _figures(a, b, found))
        print(f"compare: wrote {args.json}")
    return 0


def compare(a: Results, b: Results, names: tuple[str, str]) -> list[Difference]:
    """A difference for each condition, and, where there are several, for all together.

    Args:
        names: what the two are called in errors.

    Raises:
        SpecError: the conditions, tasks or seeds are not the same.
    """
    _same("conditions", sorted(a["conditions"]), sorted(b["conditions"]), names)
    done: dict[str, tuple[dict[Pair, int], dict[Pair, int]]] = {}
    for condition in a["conditions"]:
        one, other = (_episodes(r["conditions"][condition]) for r in (a, b))
        where = f" under {condition}"
        _same(f"seeds{where}", sorted(s for _, s in one), sorted(s for _, s in other), names)
        _same(f"tasks{where}", sorted({t for t, _ in one}), sorted({t for t, _ in other}), names)
        _same(f"tasks of the seeds{where}", sorted(one), sorted(other), names)
        done[condition] = one, other
    lines = [_difference(name, *_paired(*pair)) for name, pair in done.items()]
    if len(lines) > 1:
        lines.append(_together(done))
    return lines


def _episodes(figures: dict[str, Any]) -> dict[Pair, int]:
    return {(tuple(e["task"]), int(e["seed"])): int(e["subtasks_done"]) for e in figures["episodes_detail"]}


def _paired(one: dict[Pair, int], other: dict[Pair, int]) -> tuple[list[float], list[float]]:
    return [float(one[pair]) for pair in one], [float(other[pair]) for pair in one]


def _difference(condition: str, a: Sequence[float], b: Sequence[float], pairs: int | None = None) -> Difference:
    differences = np.subtract(b, a)
    return Difference(
        condition=condition,
        pairs=pairs or len(a),
        a=float(np.mean(a)),
        b=float(np.mean(b)),
        difference=float(differences.mean()),
        interval_95=bootstrap_interval([float(d) for d in differences]),
        differing=int(np.count_nonzero(differences)),
    )


def _together(done: dict[str, tuple[dict[Pair, int], dict[Pair, int]]]) -> Difference:
    """Every condition, the seeds being what is drawn."""
    seeds = sorted({seed for one, _ in done.values() for _, seed in one})

    def means(which: int) -> list[float]:
        return [
            float(np.mean([k for both in done.values() for (_, s), k in both[which].items() if s == seed]))
            for seed in seeds
        ]

    pairs = sum(len(one) for one, _ in done.values())
    return _difference(f"all {len(done)} conditions", means(0), means(1), pairs)


def _same(what: str, one: list[Any], other: list[Any], names: tuple[str, str]) -> None:
    if one != other:
        first, second = (", ".join(map(_word, some)) for some in (one, other))
        raise SpecError(
            f"{what} differ: {names[0]} has {first}; {names[1]} has {second}; run skimo eval on both with the same "
            "--condition, --task, --episodes and --seed"
        )


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " > ".join(map(_word, value))
    return str(value)


def _results(args: Args, name: str) -> Results:
    """A result file's, or a bundle's."""
    if name.endswith(".json") or Path(name).is_file():
        return read_results(Path(name))
    base = EvalArgs(domain=args.domain, robot=args.robot, cell=args.cell, task=args.task, condition=args.condition)
    print(f"compare: flying {name}", flush=True)
    return evaluate(replace(base, bundle=name, episodes=args.episodes, seed=args.seed, workers=args.workers))


def _figures(a: Results, b: Results, found: list[Difference]) -> Results:
    def figures(line: Difference) -> dict[str, Any]:
        return {
            "pairs": line.pairs,
            "a": line.a,
            "b": line.b,
            "difference": line.difference,
            "interval_95": list(line.interval_95),
            "verdict": line.verdict,
        }

    runs = {name: {k: r.get(k) for k in ("bundle", "bundle_id", "provenance")} for name, r in (("a", a), ("b", b))}
    return runs | {"task": a["task"], "conditions": {line.condition: figures(line) for line in found}}
