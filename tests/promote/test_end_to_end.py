"""From a robot's recordings to a bundle that its server swaps in, and back: the real learner, promoter and server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from learn.robot import recorded as worked
from learn.robot import small_bundle
from promote.conftest import NO_CANARY, PASSED, TRIAL, decisions, flown, id_of, recorded
from support.following import DOMAIN, plan, serving, until
from support.policy_server import WAIT_S

from skimo_core.episodes.recording import write_episode
from skimo_core.link.client import PolicyClient
from skimo_promote.cli import promote
from skimo_promote.driven import Recordings
from skimo_promote.promotion import Promotion, PromotionConfig
from skimo_promote.shadow import ShadowConfig
from skimo_promote.store import Store
from skimo_promote.watchdog import Watchdog, WatchdogConfig


def learned(bundle: Path, recordings: Path, out: Path) -> Path:
    """The candidate of one round, whose learner takes the lowest of priorities."""
    asked = ["--bundle", str(bundle), "--recordings", str(recordings), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "skimo_core.cli", "finetune", *asked], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (candidate,) = (out / "candidates").iterdir()
    return candidate


@pytest.mark.timeout(400)
def test_what_a_robot_recorded_comes_to_drive_it_and_goes_when_it_drives_worse(tmp_path: Path) -> None:
    store, recordings, said = Store(tmp_path / "store"), tmp_path / "recordings", list[str]()
    store.folder.mkdir(mode=0o700)  # its server listens in it
    recordings.mkdir()
    parent = small_bundle(tmp_path)
    assert promote([str(parent), "--store", str(store.folder), "--yes"]) == 0
    reigned_s = time.time()
    for seed in range(3):
        write_episode(recordings / f"e{seed}.mcap", worked(DOMAIN, seed))
    candidate = learned(store.folder / "incumbent", recordings, tmp_path / "out")
    old, new = id_of(parent), id_of(candidate)
    store.add(candidate)
    flown(store, candidate, [4, 3], against=parent, before=[2, 1])

    with serving(store.folder / "incumbent") as (_, address), PolicyClient(address) as client:
        client.connect(WAIT_S)
        assert plan(client).bundle_id == old
        config = PromotionConfig(trial=TRIAL, shadow=ShadowConfig(plans=5), canary=NO_CANARY)
        promotion = Promotion(store, config, lambda words: True, said.append)
        drives: list[bool] = []
        promoter = threading.Thread(target=lambda: drives.append(promotion.run(new)))
        promoter.start()
        until(lambda: bool(plan(client).bundle_id) and not promoter.is_alive(), "the promotion")
        promoter.join()
        assert drives == [True] and decisions(store, candidate) == PASSED, said
        until(lambda: plan(client).bundle_id == new, "the swap")

        now_s = time.time()
        for number in range(12):
            recorded(recordings / f"before-{number}.mcap", old, at_s=reigned_s + 0.01 * number)
            recorded(recordings / f"since-{number}.mcap", new, done=0, at_s=now_s + 5 + number)
        Watchdog(store, Recordings([recordings]), WatchdogConfig(), said.append).look()
        assert store.incumbent() == old, said
        until(lambda: plan(client).bundle_id == old, "the swap back")
        assert client.health()["swaps"] == 2
    last = store.ledger.entries()[-1]
    assert (last.decision, last.bundle_id, last.evidence["instead_of"]) == ("rolled back", old, new)
    assert promote([new, "--store", str(store.folder), "--yes"]) == 1  # not tried again by itself
