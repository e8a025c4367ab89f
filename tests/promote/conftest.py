"""Bundles of random networks that could follow one another, and trials that were flown already."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from skimo_core.domain.domain import load_domain
from skimo_promote.promotion import Promotion, PromotionConfig
from skimo_promote.store import Store
from skimo_promote.trial import TrialConfig
from skimo_server.bundle import load_bundle, rewrite_bundle
from skimo_server.testing import make_bundle

TRIAL = TrialConfig(batch=20, max_pairs=60)
SUBTASKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Folders of bundles: the first, two made from it, one of another mind, one of another family."""

    first: Path
    second: Path
    third: Path
    wild: Path
    stranger: Path


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("family")
    names = Family(**{name: folder / name for name in Family.__slots__})
    domain = load_domain()
    kitchen = {"observation": domain.observation, "action": domain.action, "domain": domain.named}
    first = make_bundle(names.first, **kitchen)
    parent = load_bundle(names.first)
    rewrite_bundle(parent, names.second, recipe={"name": "second"})
    rewrite_bundle(parent, names.third, recipe={"name": "third"})
    make_bundle(names.stranger, seed=1, **kitchen)
    rewrite_bundle(load_bundle(names.stranger), names.wild, parent_id=first.bundle_id)
    return names


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = tmp_path / "store"
    folder.mkdir()
    return Store(folder)


Run = Callable[..., tuple[bool, list[str]]]


@pytest.fixture
def run(store: Store) -> Run:
    """Promotes a bundle's folder, saying yes unless told otherwise; returns whether it drives, and what was said."""

    def go(source: Path, *, yes: bool = True, **changes: object) -> tuple[bool, list[str]]:
        said: list[str] = []
        config = PromotionConfig(trial=TRIAL, **changes)  # type: ignore[arg-type]
        drives = Promotion(store, config, lambda words: yes, said.append).run(store.add(source).bundle_id)
        return drives, said

    return go


def flown(
    store: Store, candidate: Path, done: Sequence[int], *, against: Path, before: Sequence[int], meddled: int = 0
) -> None:
    """Leaves the result files of a whole trial: sub-tasks of each, again and again, and the gate's verdicts."""
    new, old = (load_bundle(folder).manifest.bundle_id for folder in (candidate, against))
    folder = store.folder / "evidence" / new / TRIAL.folder
    folder.mkdir(parents=True, exist_ok=True)
    first = TRIAL.seed + int(new[:5], 16)
    for seed in range(first, first + TRIAL.max_pairs, TRIAL.batch):
        for bundle_id, subtasks, verdicts in ((new, done, meddled), (old, before, 1)):
            episodes = [
                {
                    "seed": seed + i,
                    "task": ["a"] * SUBTASKS,
                    "subtasks_done": subtasks[i % len(subtasks)],
                    "steps": 100,
                    "verdicts": {"LIMIT": verdicts},
                    "stops": 0,
                }
                for i in range(TRIAL.batch)
            ]
            header = {"bundle_id": bundle_id, "task": "a", "subtasks": SUBTASKS, "condition": "drawn"}
            file = folder / f"{bundle_id[:12]}-{seed}.json"
            file.write_text(json.dumps({**header, "episodes_detail": episodes}))
