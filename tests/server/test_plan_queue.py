"""Whose plan is made first: clients in mid-use before newcomers, nobody beyond a share, nobody more than a few."""

from __future__ import annotations

import numpy as np
import pytest
from support.policy_server import Asking

from skimo_core.contract.errors import WireError
from skimo_core.contract.policy import Goals
from skimo_core.link.protocol import PlanQuery
from skimo_server.clients import ACTIVE_S, FAIR_SHARE, SENIORS, USAGE_WINDOW_S, Client, Clients
from skimo_server.plan_queue import MAX_PER_CLIENT, MAX_WAITING, PlanJob, PlanQueue

NOBODY = Goals(
    values_KO=np.zeros((1, 3), np.float32),
    weights_KO=np.zeros((1, 3), np.float32),
    thresholds_K=np.zeros(1, np.float32),
)
QUERY = PlanQuery(observation_O=np.zeros(3, np.float32), goals=NOBODY, seed=0, warm_start_PZ=None)


def job(asker: Asking, request_id: int = 1) -> PlanJob:
    return PlanJob(
        asker=asker,
        request_id=request_id,
        served=None,  # type: ignore[arg-type]
        query=QUERY,
        deadline_s=1.0,
        arrived_s=0.0,
    )


def full(standing: tuple[int, float]) -> tuple[PlanQueue, list[Asking]]:
    queue = PlanQueue()
    askers = [Asking(f"client {n}", standing) for n in range(MAX_WAITING)]
    assert [queue.put(job(asker)) for asker in askers] == [None] * MAX_WAITING
    return queue, askers


def test_of_a_connection_only_the_newest_request_waits_and_keeps_its_place() -> None:
    queue, askers = full((0, 0.0))
    given_up = queue.put(job(askers[0], 2))
    assert given_up is not None and given_up[0].request_id == 1 and given_up[1].code == "superseded"
    first = queue.take()
    assert first is not None and (first.asker, first.request_id) == (askers[0], 2) and len(queue) == MAX_WAITING - 1


def test_of_a_client_a_few_connections_wait_at_most() -> None:
    queue = PlanQueue()
    askers = [Asking("process 1") for _ in range(MAX_PER_CLIENT + 1)]
    *before, last = [queue.put(job(asker)) for asker in askers]
    assert before == [None] * MAX_PER_CLIENT
    assert last is not None and last[0].asker is askers[0] and last[1].code == "superseded"
    assert len(queue) == MAX_PER_CLIENT


def test_the_best_rank_is_served_first_and_makes_room_for_itself() -> None:
    queue, askers = full((0, 5.0))
    with pytest.raises(WireError, match="plans wait") as caught:
        queue.put(job(Asking("newcomer", (0, 6.0))))
    assert caught.value.code == "busy"
    senior = Asking("senior", (0, 1.0))
    given_up = queue.put(job(senior))
    assert given_up is not None and given_up[0].asker in askers and given_up[1].code == "busy"
    first = queue.take()
    assert first is not None and first.asker is senior


def test_a_connection_that_is_gone_waits_no_more() -> None:
    queue, askers = full((0, 0.0))
    queue.drop(askers[0])
    assert len(queue) == MAX_WAITING - 1
    queue.close()
    assert queue.take() is None


def test_seniority_begins_with_use_and_ends_with_silence() -> None:
    client = Client("process 1")
    assert not client.active(0.0)
    client.used(1.0)
    client.used(1.0 + ACTIVE_S)
    assert client.since_s == 1.0 and client.active(1.0 + 2 * ACTIVE_S)
    client.used(2.0 + 3 * ACTIVE_S)
    assert client.since_s == 2.0 + 3 * ACTIVE_S


def test_who_takes_more_than_a_share_of_the_planner_comes_after_all_others_and_is_forgiven() -> None:
    greedy, newcomer = Client("first"), Client("second")
    for second in range(10):
        greedy.used(float(second))
        greedy.spent(0.9, float(second))
    newcomer.used(9.5)
    assert greedy.share(9.5) > FAIR_SHARE and newcomer.rank(9.5) < greedy.rank(9.5)
    later_s = 9.5 + 3 * USAGE_WINDOW_S
    greedy.used(later_s)
    assert greedy.share(later_s) < FAIR_SHARE


def test_a_robot_in_mid_episode_comes_before_twenty_that_plan_without_end() -> None:
    clients = Clients()
    robot = clients.of("process 1")
    for second in range(20):
        robot.used(float(second))
        robot.spent(0.1, float(second))
        if second > 2:
            for number in range(20):
                clients.of(f"process {100 + number}").used(float(second))
    others = [clients.of(f"process {100 + number}") for number in range(20)]
    assert all(robot.rank(20.0) < other.rank(20.0) for other in others)
    assert robot in clients.seniors(20.0) and len(clients.seniors(20.0)) == SENIORS


def test_clients_that_are_gone_are_forgotten() -> None:
    clients = Clients()
    clients.of("process 1").used(0.0)
    clients.of("process 2").connections = 1
    clients.forget(1000.0)
    assert clients.of("process 1").last_s < 0 and clients.of("process 2").connections == 1
