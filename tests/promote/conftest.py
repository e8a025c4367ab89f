"""Bundles of random networks that could follow one another, trials that were flown already, and a robot that drove."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skimo_core.domain.domain import load_domain
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.recording import write_episode
from skimo_promote.canary import CanaryConfig
from skimo_promote.driven import Recordings
from skimo_promote.pace import Pace
from skimo_promote.promotion import Promotion, PromotionConfig
from skimo_promote.sanity import Bounds, SanityConfig, check_sanity
from skimo_promote.shadow import ShadowConfig
from skimo_promote.store import INCUMBENT, Store
from skimo_promote.trial import TrialConfig
from skimo_server.bundle import load_bundle, read_bundle, rewrite_bundle
from skimo_server.testing import make_bundle

TRIAL = TrialConfig(batch=20, max_pairs=60)
SUBTASKS = 4
STEPS = 20
NO_SHADOW, WITH_SHADOW = ShadowConfig(plans=0), ShadowConfig(plans=4)
NO_CANARY, WITH_CANARY = CanaryConfig(episodes=0), CanaryConfig(episodes=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Folders of bundles: the first, two made from it, one from the second, one of another mind, one of another
    family."""

    first: Path
    second: Path
    third: Path
    grandchild: Path
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
    rewrite_bundle(load_bundle(names.second), names.grandchild, recipe={"name": "grandchild"})
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
    """Promotes a bundle's folder in a store without a robot, saying yes unless told otherwise; returns whether it
    drives, and what was said."""

    def go(source: Path, *, yes: bool = True, **changes: Any) -> tuple[bool, list[str]]:
        said: list[str] = []
        config = PromotionConfig(**{"trial": TRIAL, "shadow": NO_SHADOW, "canary": NO_CANARY, **changes})
        drives = Promotion(store, config, lambda words: yes, said.append).run(store.add(source).bundle_id)
        return drives, said

    return go


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of half a megabyte, which `fill` fills up; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> Path:
    """Leaves no room on a disk; returns the file to remove for having it back."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: the kernel refuses the rest of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def id_of(folder: Path) -> str:
    return read_bundle(folder).manifest.bundle_id


def decisions(store: Store, folder: Path) -> list[str]:
    return [entry.decision for entry in store.history(id_of(folder))]


def unmoved(store: Store, first: Path) -> bool:
    """Whether the first incumbent drives, by the ledger and by its link."""
    return store.incumbent() == store.linked(INCUMBENT) == id_of(first)


PASSED = ["added", "fits", "sane", "simulated", "shadowed", "confirmed", "canaried", "incumbent"]


@pytest.fixture
def first(run: Run, family: Family) -> Path:
    """The first incumbent."""
    assert run(family.first)[0]
    return family.first


@dataclass(slots=True)
class Robot:
    """A store's robot, its server and its recorder, in a test's hand: at each pause of who waits, the next thing
    happens. Time passes in the pauses alone."""

    store: Store
    folder: Path
    acts: list[Callable[[], object]] = field(default_factory=list)
    now_s: float = 0.0
    said: list[str] = field(default_factory=list)
    between: Callable[[], object] = lambda: None

    @property
    def pace(self) -> Pace:
        return Pace(poll_s=2.0, clock=lambda: self.now_s, sleep=self.sleep, between=self.between)

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        if self.acts:
            self.acts.pop(0)()

    def promotion(
        self, *, yes: bool = True, shadow: ShadowConfig = WITH_SHADOW, canary: CanaryConfig = WITH_CANARY
    ) -> Promotion:
        config = PromotionConfig(trial=TRIAL, shadow=shadow, canary=canary)
        recordings = Recordings([self.folder])
        return Promotion(self.store, config, lambda words: yes, self.said.append, recordings=recordings, pace=self.pace)

    def plans(self, bundle_id: str, count: int = 1, **fields: Any) -> None:
        """The server has planned beside the incumbent."""
        line = {"at": "2100-01-01T00:00:00Z", "drift": 0.05, "own_dice": 0.04, "plan_ms": [9.0, 8.0]}
        line |= {"promised": [0.8, 0.7], "error": "", **fields}
        file = self.store.folder / "evidence" / bundle_id / "shadow.jsonl"
        with open(file, "a") as lines:
            lines.write(f"{json.dumps(line)}\n" * count)

    def drives(self, bundle_id: str, count: int = 1, **fields: Any) -> None:
        """The recorder has written episodes."""
        for _ in range(count):
            number = len(list(self.folder.glob("*.mcap")))
            recorded(self.folder / f"{number:04d}.mcap", bundle_id, **fields)


@pytest.fixture
def robot(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Robot:
    """Beside which a candidate's sanity is looked at from few states, since it is another test's matter."""
    few = partial(check_sanity, config=SanityConfig(states=6, bounds=Bounds(least_slower_ms=1e3)))
    monkeypatch.setattr("skimo_promote.promotion.check_sanity", few)
    folder = tmp_path / "recordings"
    folder.mkdir()
    return Robot(store, folder)


def recorded(
    path: Path,
    bundle_id: str,
    *,
    done: int = SUBTASKS,
    verdicts: Sequence[int] = (),
    ids: Sequence[str] | None = None,
    helped_from: int = STEPS,
    task: str = "a,b,c,d",
    source: str = "policy",
    at_s: float | None = None,
    explore: float | None = None,
) -> Path:
    """An episode's recording, its first verdicts as given, last changed at `at_s` where that is given."""
    kinds = ["act"] * helped_from + ["intervene"] * (STEPS - helped_from) + ["done"]
    episode = Episode(
        observations=np.zeros((STEPS + 1, 3), np.float32),
        actions=np.zeros((STEPS, 2), np.float32),
        meta=EpisodeMeta(episode_id=path.stem, source=source, task=task, bundle_id=bundle_id, explore=explore),
        rewards=np.array([0.0] + [1.0] * done + [0.0] * (STEPS - done), np.float32),
        kinds=np.array(kinds),
        verdicts=np.array([*verdicts, *[0] * (STEPS + 1 - len(verdicts))], np.uint8),
        bundle_ids=None if ids is None else np.array(ids),
    )
    write_episode(path, episode)
    if at_s is not None:
        os.utime(path, (at_s, at_s))
    return path


def flown(
    store: Store,
    candidate: Path,
    done: Sequence[int],
    *,
    against: Path,
    before: Sequence[int],
    meddled: int = 0,
    before_meddled: int = 1,
    stops: int = 0,
) -> None:
    """Leaves the result files of a whole trial: sub-tasks of each, again and again, the gate's verdicts in each episode
    and the candidate's STOPs."""
    new, old = id_of(candidate), id_of(against)
    folder = store.folder / "evidence" / new / TRIAL.folder
    folder.mkdir(parents=True, exist_ok=True)
    first = TRIAL.seed + int(new[:5], 16)
    for seed in range(first, first + TRIAL.max_pairs, TRIAL.batch):
        its = ((new, done, meddled, stops), (old, before, before_meddled, 0))
        for bundle_id, subtasks, verdicts, stopped in its:
            episodes = [
                {
                    "seed": seed + i,
                    "task": ["a"] * SUBTASKS,
                    "subtasks_done": subtasks[i % len(subtasks)],
                    "steps": 100,
                    "verdicts": {"LIMIT": verdicts},
                    "stops": stopped,
                }
                for i in range(TRIAL.batch)
            ]
            header = {"bundle_id": bundle_id, "task": "a", "subtasks": SUBTASKS, "condition": "drawn"}
            file = folder / f"{bundle_id[:12]}-{seed}.json"
            file.write_text(json.dumps({**header, "episodes_detail": episodes}))
