"""A person's part in the full stack, played by the scripted teleoperator, where the policy holds in doubt."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from skimo_core.domain.domain import load_domain
from skimo_core.episodes.episode import INTERVENE
from skimo_core.episodes.recording import read_episode
from skimo_eval.full_stack import stack_up, write_parameters
from skimo_eval.inprocess import World
from skimo_eval.stack_helper import StackHelper

pytestmark = [pytest.mark.ros, pytest.mark.alone]
TRIES = 3
"""On a machine that pauses, an episode may be held for that, as it should."""


@pytest.mark.timeout(400)
def test_where_it_doubts_it_holds_and_is_helped_as_by_a_person(tmp_path: Path) -> None:
    """With its arm mounted aside, the bundle that ships never opens the microwave, and knows it."""
    domain, asked = load_domain("kitchen"), {"bundle": "kitchen", "task": "microwave"}
    more = {"hold_in_doubt": True, "doubt_bound": 0.4}
    asked["params_file"] = str(write_parameters(tmp_path / "aside.yaml", "mount_aside", domain, **more))
    up = stack_up(asked, domain, recordings=tmp_path / "recordings", logs=tmp_path / "logs")
    with up as (stack, evaluator), closing(StackHelper(World().build("mount_aside"), evaluator)) as helper:
        alone = evaluator.run_episode("microwave", 0, stack.alive)
        said = evaluator.status
        assert alone.early and not alone.completed and said is not None and "microwave" in said.doubt
        evaluator.on_hold = helper
        for seed in range(TRIES):
            helped, helps = evaluator.run_episode("microwave", seed, stack.alive), helper.helps
            if [name for name, _ in helped.completed] == ["microwave"]:
                break
    assert helped.completed and not helped.early and helps >= 1, helped.troubles
    (recording,) = (tmp_path / "recordings").glob(f"*{helped.episode_id}*.mcap")
    seen = read_episode(recording)
    assert seen.kinds is not None and seen.skills is not None and seen.rewards is not None
    people = np.flatnonzero(seen.kinds == INTERVENE)
    assert len(people) >= 5 and people[0] > 20 and seen.rewards.sum() == 1.0 and seen.meta.success is True
    assert np.abs(seen.actions[people]).max() <= 1.0
