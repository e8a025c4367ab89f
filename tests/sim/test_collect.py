"""Play data: the seed decides, workers do not; held-out orders never occur; every script does its sub-task."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.types import Verdict
from skimo_core.domain.domain import load_domain
from skimo_core.episodes.cache import load_folder
from skimo_sim import cli
from skimo_sim.play.collect import collect, held_out, make_episode, try_script
from skimo_sim.play.kitchen.scripts import SCRIPTS
from skimo_sim.play.player import Player, in_order

WORKBENCH = str(Path(__file__).parents[1] / "eval" / "workbench.yaml")
make_kitchen = partial(make_episode, "kitchen")


@pytest.fixture(scope="module")
def player() -> Player:
    return Player(load_domain())


def test_the_digest_is_the_same_for_one_and_two_workers(tmp_path: Path) -> None:
    alone = collect(tmp_path / "alone", episodes=2, seed=5, workers=1, make=make_kitchen)
    together = collect(tmp_path / "together", episodes=2, seed=5, workers=2, make=make_kitchen)
    assert alone == together
    cache, _ = load_folder(tmp_path / "alone")
    assert alone.episodes == 2 and alone.steps == cache.lengths.sum() and alone.digest == cache.digest
    assert [m.seed for m in cache.metas] == [5, 6]
    assert all(m.source == "play" and len(m.start_q_rad) == 7 for m in cache.metas)


def test_recordings_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(EpisodeError, match="not empty"):
        collect(tmp_path, episodes=1, seed=0, workers=1, make=make_kitchen)


def test_a_held_out_order_is_seen_even_with_others_in_between() -> None:
    domain = load_domain()
    for order in domain.orders.values():
        assert held_out(order, domain)
        assert held_out((order[0], "top burner", *order[1:]), domain)
        assert not held_out(order[::-1], domain)
        assert not held_out(order[:3], domain)


def test_an_episode_says_what_it_did_and_holds_no_held_out_order() -> None:
    episode, domain = make_kitchen(11), load_domain()
    named = [name for name in episode.meta.task.split(",") if name]
    for name in named:
        holds = domain.subtasks[name].complete(episode.observations)
        assert (~holds[:-1] & holds[1:]).any(), name
    assert not held_out(tuple(named), domain)
    assert episode.steps <= 280 and episode.observations.shape == (episode.steps + 1, 30)
    assert np.abs(episode.actions).max() <= 1.0


def test_the_recorded_actions_make_the_recorded_path_again(player: Player) -> None:
    held = player.arm.gate.counts.by_verdict[Verdict.HOLD]
    played = player.play(in_order(("microwave", "slide cabinet")), 3)
    assert player.arm.gate.counts.by_verdict[Verdict.HOLD] == held, "what the gate holds back is not executed"
    player.start(3)
    assert player.twin.read().q_rad.tolist() == list(played.start_q_rad)
    path = [player.twin.read().q_rad]
    for action in played.actions:
        player.execute(action)
        path.append(player.twin.read().q_rad)
    noise = player.domain.noise[:7] + 1e-6
    assert len(path) > 40 and (np.abs(np.stack(path) - played.observations[:, :7]) <= noise).all()


def test_the_same_seed_plays_the_same_episode_and_another_attempt_another(player: Player) -> None:
    first, again = (player.play(in_order(("light switch",)), 4) for _ in range(2))
    other = player.play(in_order(("light switch",)), 4, attempt=1)
    assert np.array_equal(first.observations, again.observations) and np.array_equal(first.actions, again.actions)
    assert not np.array_equal(first.observations[0], other.observations[0])


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_every_script_does_what_it_says_from_drawn_starts(name: str) -> None:
    """At least three times in four; how often of a hundred says `skimo collect kitchen --check 100`."""
    done = 0
    for seed in range(4):
        done += try_script("kitchen", name, seed).done
        if done == 3:
            return
    pytest.fail(f"{name}: done {done} times in four")


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.collect(["kitchen"]) == 1
    assert "--out" in capsys.readouterr().err
    assert cli.collect(["kitchn"]) == 1
    assert "no domain 'kitchn'" in capsys.readouterr().err


def test_a_domain_without_scripted_play_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.collect([WORKBENCH, "--out", str(tmp_path / "play")]) == 1
    told = capsys.readouterr().err
    assert "domain workbench has no scripted play" in told and "skimo record" in told and "skimo ingest" in told
    assert not (tmp_path / "play").exists()
