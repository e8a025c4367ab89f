"""Play data: the seed decides, workers do not; held-out orders never occur; every script does its sub-task."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from skimo_core.episodes.cache import load_folder
from skimo_core.errors import EpisodeError
from skimo_core.tasks import kitchen
from skimo_sim import cli
from skimo_sim.collect import Player, draw_order
from skimo_sim.collection import collect_kitchen, holds_held_out, play_episode
from skimo_sim.play.scripts import SCRIPTS


@pytest.fixture(scope="module")
def player() -> Player:
    return Player()


def test_the_digest_is_the_same_for_one_and_two_workers(tmp_path: Path) -> None:
    alone = collect_kitchen(2, 5, tmp_path / "alone", workers=1)
    together = collect_kitchen(2, 5, tmp_path / "together", workers=2)
    assert alone == together
    assert alone.episodes == 2 and alone.steps == 560
    metas = load_folder(tmp_path / "alone")[0].metas
    assert all(m.source == "play" and len(m.start_q_rad) == 7 and m.seed in (5, 6) for m in metas)


def test_recordings_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(EpisodeError, match="not empty"):
        collect_kitchen(1, 0, tmp_path)


def test_held_out_orders_are_never_asked_for_and_all_pairs_are() -> None:
    domain = kitchen()
    orders = [draw_order(domain, seed, 4) for seed in range(600)]
    assert not any(holds_held_out(domain, order) for order in orders)
    pairs = [pair for order in orders for pair in itertools.pairwise(order)]
    assert min(pairs.count(pair) for pair in itertools.permutations(SCRIPTS, 2)) >= 10


def test_a_held_out_order_is_seen_anywhere_in_an_episode() -> None:
    domain = kitchen()
    assert holds_held_out(domain, ("slide cabinet", *domain.orders["kitchen"]))
    assert not holds_held_out(domain, domain.orders["kitchen"][:3])


def test_the_recorded_action_is_what_the_limits_let_through(player: Player) -> None:
    play = play_episode(player, 11)
    assert play.observations.shape == (281, 30) and play.actions.shape == (280, 9)
    assert np.abs(play.actions).max() <= 1.0
    moved = np.diff(play.observations[:, :7], axis=0)
    commanded = play.actions[:, :7] * player.domain.action.scale_rad_s * player.domain.action.period_s
    free = np.abs(moved - commanded).max(axis=1) < 0.08  # noise of 0.01 rad at both ends, and the ramp of a step
    assert free.mean() > 0.9


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_every_script_does_its_subtask(player: Player, name: str) -> None:
    play = player.episode((name,), 3, steps=90)
    assert name in play.done


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.collect(["kitchen"]) == 1
    assert "--out" in capsys.readouterr().err
