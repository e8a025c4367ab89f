"""The process that plans beside a server: two bundles answer what its clients asked, a JSON line each.

    arguments:  the candidate's folder, the incumbent's, settings of both planners
    out:        {"ready": [candidate id, incumbent id]}, or {"refused": why the candidate can't be asked}
    in:         {observation, values, weights, thresholds, seed, skill}; skill is the first of the incumbent's plan
    out:        {"answer": {drift, own_dice, plan_ms, promised, error}}, as in `shadow.py`
                {"failed": why the incumbent gave no answer}; at the start: {"ended": ...}

It lets all others go first, for an arm is moving; it ends with its standard input, whatever signals its server gets.
Run by `shadow.py`, never by hand.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.contract.policy import FloatArray, Goals, Plan
from skimo_core.link import protocol

from .inprocess import InProcessPolicy
from .session import MAX_PLAN_DEADLINE_S, usable

LOADING_NICENESS, NICENESS = 10, 19
"""The least there is, so that it takes nothing of a plan; but a vetting has to come to its end on a busy machine."""
MEMORY_BYTES = 1_500_000_000
OOM_SCORE = 1000
"""Where memory runs out, the kernel takes this process first."""
ACT_DEADLINE_S = 1.0
NOTHING = {"drift": 0.0, "own_dice": 0.0, "plan_ms": [0.0, 0.0], "promised": [0.0, 0.0]}
"""The numbers of an answer that is an error."""


def main(argv: list[str]) -> int:
    """Answers until standard input ends."""
    hold_back()
    candidate_folder, incumbent_folder, *settings = argv
    try:
        incumbent = InProcessPolicy.load(incumbent_folder, settings=settings)
    except Exception as error:  # this process's border, as below: whatever a bundle sets off is told in words
        say({"ended": f"the incumbent could not be loaded beside itself: {words(error)}"})
        return 0
    try:
        candidate = InProcessPolicy.load(candidate_folder, settings=settings)
        if unfit := candidate.spec.unfit_instead_of(incumbent.spec):
            raise SpecError(f"its {unfit}")
    except Exception as error:
        say({"refused": words(error)})
        return 0
    say({"ready": [candidate.spec.bundle_id, incumbent.spec.bundle_id]})
    os.nice(NICENESS - LOADING_NICENESS)
    for line in sys.stdin.buffer:
        say(answer(candidate, incumbent, json.loads(line)))
    return 0


def hold_back() -> None:
    """Others first; bounded memory, no files, no signals of its server's."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(LOADING_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    data = resource.getrlimit(resource.RLIMIT_DATA)[1]  # a server's own ceiling is not its shadow's
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def answer(candidate: InProcessPolicy, incumbent: InProcessPolicy, asked: dict[str, Any]) -> dict[str, Any]:
    """What both do, for the same observation and goals; dice that were not the served plan's, and not each other's."""
    observation_O = np.array(asked["observation"], np.float32)
    goals = Goals(
        values_KO=np.array(asked["values"], np.float32),
        weights_KO=np.array(asked["weights"], np.float32),
        thresholds_K=np.array(asked["thresholds"], np.float32),
    )
    try:
        skill_Z = np.array(asked["skill"], np.float32)
        served_A = incumbent.act(observation_O, skill_Z, deadline_s=ACT_DEADLINE_S)
        again, again_A = plan_and_act(incumbent, observation_O, goals, asked["seed"] + 1)
    except Exception as error:
        return {"failed": words(error)}
    try:
        new, new_A = plan_and_act(candidate, observation_O, goals, asked["seed"] + 2)
    except Exception as error:
        return {"answer": {**NOTHING, "error": words(error)}}
    return {
        "answer": {
            "drift": apart(new_A, served_A),
            "own_dice": apart(again_A, served_A),
            "plan_ms": [plan.timings_ms["total"] for plan in (new, again)],
            "promised": [round(plan.success_probability, 4) for plan in (new, again)],
            "error": "",
        }
    }


def plan_and_act(
    policy: InProcessPolicy, observation_O: FloatArray, goals: Goals, seed: int
) -> tuple[Plan, FloatArray]:
    """A plan, held to what a server's client asks of it, and its first action.

    Raises:
        PolicyError: either is unusable.
    """
    plan = policy.plan(observation_O, goals, seed=seed, warm_start_PZ=None, deadline_s=MAX_PLAN_DEADLINE_S)
    usable(protocol.plan_reply(plan, 0), protocol.read_plan_reply, policy.spec)
    return plan, policy.act(observation_O, plan.skills_PZ[0], deadline_s=ACT_DEADLINE_S)


def apart(one_A: FloatArray, other_A: FloatArray) -> float:
    return round(float(np.abs(one_A - other_A).mean()), 5)


def words(error: Exception) -> str:
    return str(error) if isinstance(error, SkimoError) else f"{type(error).__name__}: {str(error)[:200]}"


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
