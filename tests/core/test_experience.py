"""What an episode tells a learner: skills and what became of them, what is left out, whose actions are an example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from skimo_core.contract.errors import EpisodeError
from skimo_core.contract.types import Verdict
from skimo_core.episodes.episode import Episode, EpisodeMeta
from skimo_core.episodes.experience import around_people, parts, shown, transitions

H = 4


def episode(
    kinds: Sequence[str],
    skills: Sequence[int],
    *,
    rewards: Sequence[int] = (),
    verdicts: dict[int, Verdict] | None = None,
) -> Episode:
    """One whose step t is of `kinds[t]`, under the skill whose number is `skills[t]` (0: none)."""
    steps = len(kinds)
    skills_TZ = np.array([[np.nan, np.nan] if not s else [s / 10, -s / 10] for s in skills], np.float32)
    verdicts_T = np.zeros(steps + 1, np.uint8)
    for step, verdict in (verdicts or {}).items():
        verdicts_T[step] = verdict
    rewards_T = np.zeros(steps + 1, np.float32)
    rewards_T[list(rewards)] = 1.0
    return Episode(
        observations=np.arange(steps + 1, dtype=np.float32)[:, None],
        actions=np.full((steps, 1), 0.5, np.float32),
        meta=EpisodeMeta(episode_id="e", source="policy", bundle_id="abc"),
        skills=skills_TZ,
        kinds=np.array([*kinds, "done"]),
        rewards=rewards_T,
        verdicts=verdicts_T,
    )


def kinds_of(found: Episode) -> list[str]:
    return [transition.kind for transition in transitions(found, H)]


def test_a_skill_that_ran_to_its_end_is_whole_and_says_what_came_of_it() -> None:
    first, second = transitions(episode(["act"] * 9, [1] * 4 + [2] * 5, rewards=[3, 4, 9]), H)
    assert (first.first, first.steps, first.kind, first.reward) == (0, 4, "whole", 2.0)
    assert (first.observation_O[0], first.next_O[0], first.bundle_id) == (0.0, 4.0, "abc")
    np.testing.assert_allclose(first.skill_Z, [0.1, -0.1])
    assert (second.first, second.steps, second.kind, second.reward) == (4, 5, "whole", 1.0)  # its plan was late


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (episode(["act"] * 2, [1] * 2), "cut"),
        (episode(["act"] * 4, [1] * 4, verdicts={2: Verdict.HOLD}), "held"),
        (episode(["act"] * 4, [1] * 4, verdicts={2: Verdict.LIMIT}), "held"),
        (episode(["act", "missed", "act", "act"], [1] * 4), "held"),
        (episode(["act"] * 3 + ["hold"], [1] * 4, verdicts={2: Verdict.STOP}), "stopped"),
        (episode(["act"] * 2 + ["hold", "intervene"], [1, 1, 1, 0]), "intervened"),
        (episode(["act"] * 2 + ["hold", "act"], [1, 1, 1, 2]), "cut"),
        (episode(["act"] * 3 + ["retrace"] * 2, [1, 1, 1, 0, 0], verdicts={2: Verdict.HOLD}), "held"),
    ],
)
def test_a_skill_that_was_cut_short_says_why(found: Episode, kind: str) -> None:
    assert kinds_of(found)[0] == kind


def test_the_gates_word_counts_for_the_skill_that_it_was_about() -> None:
    assert kinds_of(episode(["act"] * 8, [1] * 4 + [2] * 4, verdicts={4: Verdict.HOLD})) == ["whole", "held"]


def test_a_way_back_is_no_skill_and_no_example_but_a_motion_that_is_known() -> None:
    found = episode(["act"] * 6 + ["retrace"] * 3 + ["act"] * 4, [1] * 6 + [0] * 3 + [2] * 4, rewards=[13])
    assert [(t.first, t.steps) for t in transitions(found, H)] == [(0, 6), (9, 4)]
    assert [part.steps for part in parts(found)] == [13]
    assert not shown(found, "corrections", 4).any()
    assert np.flatnonzero(shown(found, "successes", 8)).tolist() == [5, 9, 10, 11, 12]


def test_only_a_policys_recording_names_skills() -> None:
    plain = Episode(
        observations=np.zeros((3, 1), np.float32),
        actions=np.zeros((2, 1), np.float32),
        meta=EpisodeMeta(episode_id="e", source="play"),
    )
    with pytest.raises(EpisodeError, match="names no skills"):
        transitions(plain, H)
    assert [part.steps for part in parts(plain)] == [2]


def test_time_that_was_held_is_left_out_and_all_else_is_kept() -> None:
    kinds = ["act", "act", "hold", "hold", "hold", "intervene", "intervene", "missed", "act"]
    found = list(parts(episode(kinds, [1, 1, 1, 1, 1, 0, 0, 2, 2])))
    assert [(part.first_step, part.steps) for part in found] == [(0, 2), (5, 4)]
    np.testing.assert_array_equal(found[1].observations[:, 0], [5, 6, 7, 8, 9])
    assert found[1].kinds is not None and found[1].kinds.tolist() == ["intervene", "intervene", "missed", "act", "done"]
    assert all(len(part.observations) == part.steps + 1 and part.skills is not None for part in found)


def test_what_people_do_is_cut_out_with_what_was_before_and_after() -> None:
    kinds = ["act"] * 5 + ["intervene"] * 3 + ["act"] * 9 + ["intervene"] * 2
    first, second = around_people(episode(kinds, [1] * 5 + [0] * 3 + [2] * 9 + [0] * 2), 4)
    assert (first.first_step, first.steps, second.first_step, second.steps) == (1, 11, 13, 6)
    assert (
        first.observations[:, 0].tolist() == list(range(1, 13))
        and first.shown_T.tolist() == [False] * 4 + [True] * 3 + [False] * 4
    )
    assert list(around_people(episode(["act"] * 5, [1] * 5), 4)) == []


def test_people_show_how_it_is_done_and_successes_only_where_asked() -> None:
    kinds = ["act"] * 6 + ["intervene"] * 2 + ["act"] * 4
    found = episode(kinds, [1] * 6 + [0, 0] + [2] * 4, rewards=[3, 8, 11])
    by_hand = np.isin(kinds, ["intervene"])
    np.testing.assert_array_equal(shown(found, "corrections", 2), by_hand)
    before_completion = np.zeros(12, bool)
    before_completion[[1, 2, 9, 10]] = True
    np.testing.assert_array_equal(shown(found, "successes", 2), by_hand | before_completion)
    np.testing.assert_array_equal(shown(found, "successes", 100)[:6], [True, True, True, True, True, True])
