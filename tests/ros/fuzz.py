"""Messages and requests that nobody should send, made from the types alone, and a sender of them to a running node.

    Fuzzer     seeded values of any rosidl type: extreme, non-finite, empty, huge, of unequal lengths; and mutations of
               a valid message, which come further into a node than noise does
    Attack     finds every subscription and service of some nodes in the graph (actions' too) and sends to all of them
Nothing here knows a node of ours: what is attacked is what the graph shows.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosidl_parser import definition as rosidl

WORDS = (
    "",
    "panda_joint1",
    "panda_finger_joint1",
    "kitchen",
    "microwave,kettle",
    "kettle.x",
    "use_sim_time",
    "../../etc/passwd",
    "%s%n{0}{x}",
    "\u0000\u0007\u202e",
    "\U0001f9be" * 20,
    "[" * 500,
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-9, 5e-324, 1e9, -1e9, 3e38, 1e300, -1e308, np.nan, np.inf, -np.inf)
LENGTHS = (0, 1, 2, 3, 6, 7, 7, 7, 8, 9, 30, 31)
HUGE, HUGE_MESSAGES, HUGE_TEXT = 100_000, 2_000, 200_000
SEQUENCES = (rosidl.UnboundedSequence, rosidl.BoundedSequence)
SERVICE_S = 0.1
TO_ALL_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Matches every subscription."""


class Fuzzer:
    """Makes values from types.

    Args:
        huge: how often a sequence or string is of a size that nobody needs.
    """

    def __init__(self, seed: int, *, huge: float = 0.01) -> None:
        self._rng = np.random.default_rng(seed)
        self._huge = huge

    def message(self, kind: Any) -> Any:
        """A message of any type, every field of it drawn."""
        return self._filled(kind(), depth=0)

    def mutated(self, message: Any) -> Any:
        """A copy in which one field, at any depth, was drawn anew, cut, repeated or put into another order."""
        changed = copy.deepcopy(message)
        self._mutate(changed)
        return changed

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self._rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    def _filled(self, message: Any, depth: int) -> Any:
        for name, slot in _slots(message):
            setattr(message, name, self._value(slot, depth))
        return message

    def _value(self, slot: Any, depth: int) -> Any:
        if isinstance(slot, rosidl.BasicType):
            return self._number(slot.typename)
        if isinstance(slot, rosidl.AbstractGenericString):
            bound = getattr(slot, "maximum_size", None)
            return self._text()[:bound] if bound else self._text()
        if isinstance(slot, rosidl.Array):
            return [self._value(slot.value_type, depth + 1) for _ in range(slot.size)]
        if isinstance(slot, SEQUENCES):
            return self._sequence(slot, depth)
        return self._filled(_class_of(slot)(), depth + 1)

    def _sequence(self, slot: Any, depth: int) -> list[Any]:
        count = self.pick(LENGTHS) if depth < 3 else self.pick((0, 1, 2))
        if self.chance(self._huge) and depth < 2:
            count = HUGE if isinstance(slot.value_type, rosidl.BasicType) else HUGE_MESSAGES
        count = min(count, getattr(slot, "maximum_size", count))
        if count > 64:
            return [self._value(slot.value_type, 3)] * count
        if self.chance(0.3) and count:  # as a sound sender does: all alike
            return [self._value(slot.value_type, depth + 1)] * count
        return [self._value(slot.value_type, depth + 1) for _ in range(count)]

    def _number(self, kind: str) -> Any:
        if kind == "boolean":
            return self.chance(0.5)
        if kind == "octet":
            return bytes([int(self._rng.integers(256))])
        if kind in ("float", "double"):
            value = self.pick(FLOATS) if self.chance(0.6) else float(self._rng.normal())
            beyond = kind == "float" and np.isfinite(value) and abs(value) > 3.4e38
            return float("inf") if beyond else float(value)
        bits, signed = _INTEGERS[kind]
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        edges = (low, high, 0, 1, high - 1, low + 1, high // 2)
        return int(self.pick(edges)) if self.chance(0.6) else min(high, int(self._rng.integers(0, 10)))

    def _text(self) -> str:
        if self.chance(self._huge):
            return "x" * HUGE_TEXT
        return "".join(self.pick(WORDS) for _ in range(int(self._rng.integers(1, 3))))

    def _mutate(self, message: Any) -> None:
        slots = _slots(message)
        if not slots:
            return
        name, slot = self.pick(slots)
        value = getattr(message, name)
        if isinstance(slot, rosidl.NamespacedType) and self.chance(0.8):
            self._mutate(value)
        elif isinstance(slot, SEQUENCES) and len(value) and self.chance(0.8):
            setattr(message, name, self._mutated_sequence(list(value), slot))
        else:
            setattr(message, name, self._value(slot, 0))

    def _mutated_sequence(self, items: list[Any], slot: Any) -> list[Any]:
        at = int(self._rng.integers(len(items)))
        how = self.pick(("cut", "repeat", "swap", "item", "item", "item"))
        if how == "cut":
            return items[:at]
        if how == "repeat":
            return items + items[at : at + 1]
        if how == "swap":
            return [items[i] for i in self._rng.permutation(len(items))]
        if isinstance(slot.value_type, rosidl.NamespacedType):
            items[at] = copy.deepcopy(items[at])
            self._mutate(items[at])
        else:
            items[at] = self._value(slot.value_type, 3)
        return items


_INTEGERS = {
    f"{'' if signed else 'u'}int{bits}": (bits, signed) for bits in (8, 16, 32, 64) for signed in (True, False)
}
_INTEGERS["char"] = (8, False)


def _slots(message: Any) -> list[tuple[str, Any]]:
    return list(zip(message.get_fields_and_field_types(), message.SLOT_TYPES))


def _class_of(slot: Any) -> Any:
    return class_named("/".join((*slot.namespaces, slot.name)))


def class_named(name: str) -> Any:
    """The class of "package/msg/Name", "package/srv/Name" or of one of an action's messages and services."""
    package, kind, base = name.split("/")
    module = import_module(f"{package}.{kind}")
    if hasattr(module, base):
        return getattr(module, base)
    action, _, part = base.rpartition("_")
    whole = getattr(module, action)
    places = ((whole.Impl, f"{part}Service"), (whole.Impl, part), (whole, part))
    return next(getattr(place, name) for place, name in places if hasattr(place, name))


class Attack:
    """Sends to everything that some nodes listen to.

    Args:
        node: to send from; somebody else spins it.
        targets: the attacked nodes' names, in `namespace`; what several listen to is sent once, to all.
        valid: by topic (absolute), makes a sound message for the mutations to begin with.
        spared: parts of names that are left alone.
    """

    def __init__(
        self,
        node: Node,
        targets: Sequence[str],
        fuzzer: Fuzzer,
        *,
        namespace: str = "/",
        valid: dict[str, Callable[[], Any]] | None = None,
        spared: tuple[str, ...] = (),
    ) -> None:
        self._node, self._fuzzer, self._valid = node, fuzzer, valid or {}
        self.sent: dict[str, int] = {}
        topics = dict(t for name in targets for t in node.get_subscriber_names_and_types_by_node(name, namespace))
        services = dict(s for name in targets for s in node.get_service_names_and_types_by_node(name, namespace))
        self._publishers = {
            topic: node.create_publisher(class_named(kinds[0]), topic, TO_ALL_QOS)
            for topic, kinds in topics.items()
            if not any(part in topic for part in spared)
        }
        self._clients = {
            name: node.create_client(class_named(kinds[0]), name)
            for name, kinds in services.items()
            if not any(part in name for part in spared)
        }

    @property
    def names(self) -> list[str]:
        """Everything that is attacked."""
        return sorted((*self._publishers, *self._clients))

    def run(self, messages: int, requests: int, go_on: Callable[[], bool] = lambda: True) -> None:
        """Send so many to each topic and each service in turn, while `go_on` says so."""
        for topic, publisher in self._publishers.items():
            for count in range(messages):
                if not go_on():
                    return
                publisher.publish(self._make(topic, publisher.msg_type))
                self.sent[topic] = self.sent.get(topic, 0) + 1
                if count % 4 == 3:  # no faster than it is heard
                    _acknowledged(publisher)
        for name, client in self._clients.items():
            for _ in range(requests):
                if not go_on():
                    return
                self._ask(client)
                self.sent[name] = self.sent.get(name, 0) + 1

    def close(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        for client in self._clients.values():
            self._node.destroy_client(client)

    def _make(self, topic: str, kind: Any) -> Any:
        if topic in self._valid and self._fuzzer.chance(0.6):
            return self._fuzzer.mutated(self._valid[topic]())
        return self._fuzzer.message(kind)

    def _ask(self, client: Any) -> None:
        """Send a request and wait a little for the answer, which a refused one may lack."""
        future = client.call_async(self._fuzzer.message(client.srv_type.Request))
        end_s = time.monotonic() + SERVICE_S
        while not future.done() and time.monotonic() < end_s:
            time.sleep(0.0005)
        client.remove_pending_request(future)


def _acknowledged(publisher: Any) -> None:
    from rclpy.duration import Duration

    publisher.wait_for_all_acked(Duration(seconds=1))
