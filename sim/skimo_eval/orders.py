"""Random orders of sub-tasks: tasks that nobody chose, drawn from a seed. `--task random`."""

from __future__ import annotations

import math

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import Domain

RANDOM = "random"
LENGTH = 4
"""Sub-tasks of an order, as in the papers' kitchen; a domain with fewer has them all."""


def random_orders(domain: Domain, count: int, seed: int) -> list[str]:
    """Distinct orders of four of the domain's sub-tasks, other than its named tasks, as names of tasks.

    Raises:
        SpecError: there are not so many.
    """
    length = min(LENGTH, len(domain.subtasks))
    named = {order for order in domain.orders.values() if len(order) == length}
    there = math.perm(len(domain.subtasks), length) - len(named)
    if count > there:
        raise SpecError(f"{count} random orders were asked for; domain {domain.name} has {there} besides its tasks")
    rng = np.random.default_rng(seed)
    orders: list[tuple[str, ...]] = []
    while len(orders) < count:
        order = tuple(str(s) for s in rng.permutation(list(domain.subtasks))[:length])
        if order not in named and order not in orders:
            orders.append(order)
    return [",".join(order) for order in orders]


def mixed_orders(domain: Domain, count: int, seed: int) -> list[str]:
    """Random orders and the domain's named tasks, turn and turn about: what nobody chose, and what is asked for often.

    Raises:
        SpecError: there are not so many.
    """
    named = list(domain.orders)
    drawn = random_orders(domain, count - count // 2 if named else count, seed)
    return [named[k // 2 % len(named)] if named and k % 2 else drawn.pop() for k in range(count)]


def tasks_of(domain: Domain, task: str, episodes: int, seed: int) -> tuple[str, list[str]]:
    """A task's name, and each episode's: the same, or an order of its own where the task is `random`.

    Raises:
        SpecError: an unknown task, or more random orders than there are.
    """
    if task == RANDOM and task not in {*domain.orders, *domain.subtasks}:
        return RANDOM, random_orders(domain, episodes, seed)
    name = domain.task(task).name
    return name, [name] * episodes
