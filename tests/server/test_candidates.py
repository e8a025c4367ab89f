"""What was thought of beside a plan: told when asked for, without a change of the plan, and never a reason for none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.policy_server import raw_peer

from skimo_core.contract.errors import SpecError
from skimo_core.contract.policy import Foreseen, Goals
from skimo_core.link import protocol, wire
from skimo_core.link.client import PolicyClient
from skimo_server.inprocess import InProcessPolicy
from skimo_server.planner import Planner, _told


def query(observation_O, goals: Goals, candidates: int) -> protocol.PlanQuery:
    return protocol.PlanQuery(
        observation_O=observation_O, goals=goals, seed=4, warm_start_PZ=None, candidates=candidates
    )


def test_they_come_when_asked_for_and_leave_the_plan_as_it_is(
    endpoint: str, policy: InProcessPolicy, observation_O, goals: Goals
) -> None:
    with PolicyClient(endpoint) as client:
        client.connect()
        without = client.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0)
        client.candidates = 5
        plan = client.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0)
    assert without.candidates is None and plan.candidates is not None
    np.testing.assert_array_equal(plan.skills_PZ, without.skills_PZ)
    np.testing.assert_array_equal(plan.predicted_PO, without.predicted_PO)
    assert plan.success_probability == without.success_probability
    told, spec = plan.candidates, policy.spec
    shape = (len(told.weights_E), spec.skill.plan_length, spec.observation.size)
    assert 1 <= shape[0] <= 5 and told.predicted_EPO.shape == shape
    assert (np.diff(told.weights_E) <= 0).all() and told.weights_E.sum() <= 1.0 + 1e-6


def test_the_best_elite_is_the_first(policy: InProcessPolicy, observation_O, goals: Goals) -> None:
    planner = Planner(policy.engine, replace(policy.config, execute="best"))
    found = planner.search(observation_O, goals, seed=4)
    plan = planner.plan(observation_O, goals, seed=4, candidates=3)
    assert plan.candidates is not None
    best_PO = planner.model.decode(found.elites.latents_NPD[0])
    np.testing.assert_allclose(plan.candidates.predicted_EPO[0], best_PO, atol=1e-5)


def test_one_that_is_not_finite_is_left_out() -> None:
    seen_EPO = np.zeros((3, 2, 4), np.float32)
    seen_EPO[1, 0, 2] = np.nan
    told = _told(np.array([0.5, 0.3, 0.2]), seen_EPO, 3)
    np.testing.assert_allclose(told.weights_E, [0.5, 0.2])
    assert len(_told(np.array([1.0]), np.full((1, 2, 4), np.inf, np.float32), 3).weights_E) == 0


@pytest.mark.parametrize(("name", "most"), protocol.COUNTS.items())
@pytest.mark.parametrize("count", [-1, None, 2.0, "many", True])
def test_another_number_of_them_is_refused_in_words(
    endpoint: str, observation_O, goals: Goals, name: str, most: int, count: object
) -> None:
    message = protocol.plan_request(query(observation_O, goals, 1), 1, 5.0)
    message = replace(message, fields={**message.fields, name: most + 1 if count is None else count})
    with raw_peer(endpoint) as peer:
        reply = peer.ask(wire.encode(message))
    assert reply.code == "spec" and f"{name} must be a whole number of 0 to {most}" in reply.text


def test_how_many_plans_were_spent_travels_with_the_question(
    policy: InProcessPolicy, observation_O, goals: Goals
) -> None:
    asked = replace(query(observation_O, goals, 0), spent=7)
    assert protocol.read_plan_request(protocol.plan_request(asked, 1, 5.0), policy.spec).spent == 7
    patient = InProcessPolicy(policy.engine, replace(policy.config, patience=5))
    first, again = (
        p.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0, spent=7) for p in (policy, patient)
    )
    assert not np.array_equal(first.skills_PZ, again.skills_PZ)


def test_a_reply_that_tells_of_nonsense_is_refused(policy: InProcessPolicy, observation_O, goals: Goals) -> None:
    spec = policy.spec
    P, O = spec.skill.plan_length, spec.observation.size  # noqa: E741
    plan = policy.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0)

    def read(weights: list[float], shape: tuple[int, ...]) -> None:
        told = Foreseen(weights_E=np.array(weights, np.float32), predicted_EPO=np.zeros(shape, np.float32))
        protocol.read_plan_reply(protocol.plan_reply(replace(plan, candidates=told), 1), spec)

    read([0.5, 0.5], (2, P, O))
    for weights, shape in (([0.5], (2, P, O)), ([2.0], (1, P, O)), ([1.0], (1, P, O + 1)), ([0.0] * 17, (17, P, O))):
        with pytest.raises(SpecError):
            read(weights, shape)
