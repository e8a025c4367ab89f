"""The policy client against handwritten servers that do each wrong thing a real one might."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgpack
import numpy as np
import pytest
import zmq

from skimo_core.contract.errors import DeadlineError, PolicyError, SpecError, UnreachableError, WireError
from skimo_core.contract.policy import Calibration, Goals, Plan, PolicySpec
from skimo_core.contract.specs import Named, SkillSpec
from skimo_core.domain.domain import load_domain
from skimo_core.link import protocol, wire
from skimo_core.link.client import PolicyClient
from skimo_core.link.wire import Message

DOMAIN = load_domain()
SPEC = PolicySpec(
    observation=DOMAIN.observation,
    action=DOMAIN.action,
    skill=SkillSpec(horizon=10, dim=10, plan_length=3),
    bundle_id="a" * 64,
    domain=DOMAIN.named,
    robot=Named(name="panda", digest="b" * 64),
    served_as="other",
    low_O=tuple(-0.1 * i for i in range(30)),
    high_O=tuple(0.1 * i for i in range(30)),
)
OBSERVATION_O = np.zeros(30, np.float32)
SKILL_Z = np.zeros(10, np.float32)
WAIT_S = 20.0

Answer = Callable[[Message], list[Message]]


def honest(request: Message) -> list[Message]:
    """The least that a right server answers."""
    if request.op == "hello":
        return [protocol.hello_reply(SPEC, request.request_id)]
    if request.op == "act":
        observation_O, _ = protocol.read_act_request(request, SPEC)
        return [protocol.act_reply(observation_O[:9], SPEC.bundle_id, {"total": 0.1}, request.request_id)]
    query = protocol.read_plan_request(request, SPEC)
    plan = Plan(
        skills_PZ=np.full((3, 10), 0.5, np.float32),
        warm_start_PZ=np.zeros((3, 10), np.float32) if query.warm_start_PZ is None else query.warm_start_PZ,
        value=float(query.seed),
        predicted_PO=np.zeros((3, 30), np.float32),
        success_probability=0.5,
        bundle_id=SPEC.bundle_id,
        timings_ms={"total": 1.0},
    )
    return [protocol.plan_reply(plan, request.request_id)]


@contextmanager
def serving(answer: Answer, port: int = 0) -> Iterator[str]:
    """A ROUTER in a thread that answers by a function."""
    context = zmq.Context.instance()
    router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.bind(f"tcp://127.0.0.1:{port or '*'}")
    stop: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    name = f"inproc://stop-{uuid.uuid4()}"  # a name stays taken for a moment after its socket was closed
    stop.bind(name)
    caller: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    caller.connect(name)

    def run() -> None:
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(stop, zmq.POLLIN)
        while stop not in (ready := dict(poller.poll())):
            if router in ready:
                identity, *frames = router.recv_multipart()
                for reply in answer(wire.decode(frames)):
                    router.send_multipart([identity, *wire.encode(reply)])
        router.close()
        stop.close()

    endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        caller.send(b"")
        thread.join(WAIT_S)
        caller.close()


def act(client: PolicyClient, deadline_s: float = WAIT_S) -> np.ndarray:
    return client.act(OBSERVATION_O, SKILL_Z, deadline_s=deadline_s)


def goals() -> Goals:
    return DOMAIN.task("kitchen").goals(0, 30)


def test_what_is_asked_arrives_and_what_is_answered_comes_back() -> None:
    with serving(honest) as endpoint, PolicyClient(endpoint, observation=DOMAIN.observation) as client:
        assert client.connect(WAIT_S) == SPEC == client.spec
        assert act(client).shape == (9,)
        warm_PZ = np.full((3, 10), 0.25, np.float32)
        plan = client.plan(OBSERVATION_O, goals(), seed=6, warm_start_PZ=warm_PZ, deadline_s=WAIT_S)
        assert plan.value == 6.0 and plan.timings_ms == {"total": 1.0}
        np.testing.assert_array_equal(plan.warm_start_PZ, warm_PZ)


def test_constructing_opens_nothing_and_calls_need_a_connection() -> None:
    client = PolicyClient("tcp://127.0.0.1:1")
    with pytest.raises(PolicyError, match="not connected"):
        act(client)
    client.close()


def test_nobody_there_is_unreachable_within_the_deadline() -> None:
    with PolicyClient("tcp://127.0.0.1:1") as client:
        began_s = time.monotonic()
        with pytest.raises(UnreachableError, match="nobody listens"):
            client.connect(0.05)
        assert time.monotonic() - began_s < 1.0
    with PolicyClient("nonsense://x") as client, pytest.raises(UnreachableError):
        client.connect(0.05)


def test_silence_is_a_missed_deadline() -> None:
    silent = serving(lambda request: [])
    with silent as endpoint, PolicyClient(endpoint) as client, pytest.raises(DeadlineError, match="no answer to hello"):
        client.connect(0.2)


def test_an_answer_to_an_older_request_is_not_taken_for_a_newer_one() -> None:
    late: list[Message] = []

    def answer(request: Message) -> list[Message]:
        if request.op != "act":
            return honest(request)
        right = honest(request)[0]
        wrong = protocol.act_reply(np.ones(9, np.float32), SPEC.bundle_id, {}, request.request_id - 1)
        late.append(wrong)
        return [wrong, right]

    with serving(answer) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        assert not act(client).any() and late


def test_after_a_silence_the_next_call_is_answered() -> None:
    silent = threading.Event()

    def answer(request: Message) -> list[Message]:
        return [] if silent.is_set() else honest(request)

    with serving(answer) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        silent.set()
        with pytest.raises(DeadlineError):
            act(client, 0.05)
        silent.clear()
        assert act(client).shape == (9,)


def test_a_server_that_was_away_is_found_again() -> None:
    with serving(honest) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        port = int(endpoint.rpartition(":")[2])
        away = client
    with pytest.raises((UnreachableError, DeadlineError)):
        act(away, 0.05)
    with serving(honest, port):
        assert act(away).shape == (9,)
    away.close()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"names": ("other", *DOMAIN.observation.names[1:])}, r"observation is not.*names\[0\] is"),
        ({"units": (*DOMAIN.observation.units[:-1], "ft")}, r"observation is not.*units\[29\] is"),
    ],
)
def test_a_bundle_for_other_channels_is_refused_at_connect(changed: dict, words: str) -> None:
    wanted = replace(DOMAIN.observation, **changed)
    with serving(honest) as endpoint, PolicyClient(endpoint, observation=wanted) as client:
        with pytest.raises(SpecError, match=words):
            client.connect(WAIT_S)
        with pytest.raises(PolicyError, match="not connected"):
            act(client)


def test_another_scale_rate_or_bundle_is_refused_at_connect() -> None:
    with serving(honest) as endpoint:
        for wanted, word in (
            ({"action": replace(DOMAIN.action, scale_rad_s=9.0)}, "scale_rad_s"),
            ({"action": replace(DOMAIN.action, rate_hz=50.0)}, "rate_hz"),
            ({"bundle_id": "b" * 64}, "serves bundle id a{64}, wanted b{64}"),
            ({"bundle_id": "a" * 7}, "at least 8"),
            ({"served_as": "kitchen"}, "serves 'other', wanted 'kitchen'"),
        ):
            with PolicyClient(endpoint, **wanted) as client, pytest.raises(SpecError, match=word):
                client.connect(WAIT_S)


def test_a_bundle_is_known_by_the_first_digits_of_its_id() -> None:
    with serving(honest) as endpoint, PolicyClient(endpoint, bundle_id="a" * 8) as client:
        assert client.connect(WAIT_S).bundle_id == SPEC.bundle_id


CALIBRATED = Calibration(bias=0.5, predicted=0.1, value=0.2, spent=-1.0, first=0.0, second=0.3)
NEXT = replace(
    SPEC,
    bundle_id="b" * 64,
    skill=SkillSpec(horizon=10, dim=4, plan_length=2),
    calibration=CALIBRATED,
    low_O=(),
    high_O=(),
)


class Swapping:
    """A server that serves one spec until it is given another; acts in any bundle's skills."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.asked: list[str] = []

    def __call__(self, request: Message) -> list[Message]:
        self.asked.append(request.op)
        if request.op == "hello":
            return [protocol.hello_reply(self.spec, request.request_id)]
        if request.op == "act":
            named = protocol.bundle_of(request)
            return [protocol.act_reply(np.zeros(9, np.float32), named, {}, request.request_id)]
        query, skill = protocol.read_plan_request(request, self.spec), self.spec.skill
        skills_PZ = np.zeros((skill.plan_length, skill.dim), np.float32)
        plan = Plan(
            skills_PZ=skills_PZ,
            warm_start_PZ=skills_PZ,
            value=0.0 if query.warm_start_PZ is None else 1.0,
            predicted_PO=np.zeros((skill.plan_length, 30), np.float32),
            success_probability=0.5,
            bundle_id=self.spec.bundle_id,
        )
        return [protocol.plan_reply(plan, request.request_id)]


def plan_of(client: PolicyClient, last: Plan | None = None) -> Plan:
    warm_PZ, of = (last.warm_start_PZ, last.bundle_id) if last else (None, "")
    return client.plan(OBSERVATION_O, goals(), seed=0, warm_start_PZ=warm_PZ, deadline_s=WAIT_S, warm_start_of=of)


def test_a_swap_is_followed_by_one_more_question_at_the_first_plan_of_the_new_bundle() -> None:
    server = Swapping()
    with serving(server) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        old = plan_of(client)
        assert (old.bundle_id, old.calibration) == (SPEC.bundle_id, None)
        server.spec = NEXT
        server.asked.clear()
        new = plan_of(client, old)
        assert server.asked == ["plan", "hello"] and client.spec == NEXT
        assert (new.bundle_id, new.skills_PZ.shape, new.calibration) == (NEXT.bundle_id, (2, 4), CALIBRATED)
        assert new.value == 0.0, "the other bundle's warm start was used"
        assert plan_of(client, new).value == 1.0 and server.asked == ["plan", "hello", "plan"]


def test_an_action_is_asked_of_the_bundle_whose_skill_it_is_by_one_question_alone() -> None:
    server = Swapping()
    with serving(server) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        server.spec = NEXT
        server.asked.clear()
        for bundle_id, dim in ((SPEC.bundle_id, 10), (NEXT.bundle_id, 4), ("", 10)):
            assert client.act(OBSERVATION_O, np.zeros(dim, np.float32), bundle_id, deadline_s=WAIT_S).shape == (9,)
        assert server.asked == ["act"] * 3


def test_an_action_of_another_bundle_than_the_skill_s_is_refused() -> None:
    def answer(request: Message) -> list[Message]:
        if request.op == "hello":
            return honest(request)
        return [protocol.act_reply(OBSERVATION_O[:9], NEXT.bundle_id, {}, request.request_id)]

    with serving(answer) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        with pytest.raises(PolicyError, match=r"act was answered by bundle bbbb.*wanted aaaa"):
            act(client)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (replace(NEXT, domain=Named(name="other", digest="c" * 64)), "its domain is 'other'"),
        (replace(NEXT, robot=Named(name="other", digest="c" * 64)), "its robot is 'other'"),
        (replace(NEXT, skill=SkillSpec(horizon=5, dim=10, plan_length=3)), "its skills last 5 steps, wanted 10"),
        (replace(NEXT, action=replace(SPEC.action, scale_rad_s=9.0)), "scale_rad_s"),
        (replace(NEXT, observation=replace(SPEC.observation, names=("x", *SPEC.observation.names[1:]))), r"names\[0\]"),
    ],
    ids=["domain", "robot", "horizon", "action", "observation"],
)
def test_a_swap_to_what_does_not_fit_is_refused_at_every_plan(spec: PolicySpec, words: str) -> None:
    server = Swapping()
    with serving(server) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        server.spec = spec
        for _ in range(2):
            with pytest.raises(SpecError, match=words):
                plan_of(client)
        server.spec = SPEC
        assert plan_of(client).bundle_id == SPEC.bundle_id


def test_a_client_of_one_bundle_alone_refuses_every_other() -> None:
    server = Swapping()
    with serving(server) as endpoint, PolicyClient(endpoint, bundle_id=SPEC.bundle_id[:8]) as client:
        client.connect(WAIT_S)
        server.spec = NEXT
        for _ in range(2):
            with pytest.raises(SpecError, match=r"serves bundle id b{64}, wanted a{8}"):
                plan_of(client)
        assert client.spec == SPEC and act(client).shape == (9,)


def test_a_second_swap_during_the_first_one_s_question_costs_that_plan_alone() -> None:
    server = Swapping()

    def answer(request: Message) -> list[Message]:
        replies = server(request)
        if request.op == "plan":
            server.spec = replace(NEXT, bundle_id="c" * 64)
        return replies

    with serving(answer) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        server.spec = NEXT
        with pytest.raises(PolicyError, match=r"plan was answered by bundle bbbb.*wanted cccc"):
            plan_of(client)
        assert plan_of(client).bundle_id == "c" * 64


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("deadline", DeadlineError),
        ("superseded", DeadlineError),
        ("busy", DeadlineError),
        ("spec", SpecError),
        ("model", PolicyError),
        ("bundle", PolicyError),
        ("internal", PolicyError),
        ("version", WireError),
    ],
)
def test_each_code_is_its_own_error(code: str, kind: type[Exception]) -> None:
    def answer(request: Message) -> list[Message]:
        if request.op == "hello":
            return honest(request)
        return [Message(op="act", request_id=request.request_id, code=code, text="because")]

    with serving(answer) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        with pytest.raises(kind, match="because") as caught:
            act(client)
        assert type(caught.value) is kind


def reply_with(**arrays: np.ndarray) -> Answer:
    def answer(request: Message) -> list[Message]:
        if request.op == "hello":
            return honest(request)
        fields = {"bundle": SPEC.bundle_id}
        return [Message(op="act", request_id=request.request_id, fields=fields, arrays=arrays)]

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        reply_with(),
        reply_with(action=np.zeros(8, np.float32)),
        reply_with(action=np.full(9, 3.0, np.float32)),
        reply_with(action=np.zeros(9, np.float64)),
        reply_with(action=np.full(9, np.nan, np.float32)),
    ],
)
def test_an_unusable_action_never_gets_through(answer: Answer) -> None:
    with serving(answer) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        with pytest.raises((SpecError, WireError)):
            act(client)


def test_a_hello_brings_calibration_and_exploration() -> None:
    told = replace(
        SPEC, calibration=Calibration(bias=0.5, predicted=0.1, value=0.2, spent=-1.0, first=0.0), explore=0.3
    )
    for spec in (SPEC, told):
        assert protocol.read_hello_reply(protocol.hello_reply(spec, 1)) == spec


HELLO_SPEC = str(protocol.hello_reply(SPEC, 1).fields["spec"])


@pytest.mark.parametrize(
    "spec",
    [
        "{}",
        "[" * 20_000,
        "9" * 5_000,
        HELLO_SPEC.replace('"joints": 7', '"joints": 1e999'),
        HELLO_SPEC.replace('"horizon": 10', '"horizon": 3.5'),
        HELLO_SPEC.replace('"dim": 10', '"dim": true'),
        HELLO_SPEC.replace('"rate_hz": 12.5', '"rate_hz": Infinity'),
        HELLO_SPEC.replace('"ranges": [[', '"ranges": [[1.0, '),
        HELLO_SPEC.replace('"ranges": [[-0.0', '"ranges": [[5.0'),
        HELLO_SPEC.replace('"ranges": [[-0.0', '"ranges": [[NaN'),
        HELLO_SPEC.replace('"ranges": ', '"ranges": 3, "r": '),
        HELLO_SPEC.replace('"explore": 0.0', '"explore": NaN'),
        HELLO_SPEC.replace('"calibration": null', '"calibration": [1.0]'),
        HELLO_SPEC.replace('"calibration": null', '"calibration": {"bias": 1.0}'),
        HELLO_SPEC.replace('"limits": "', '"limits": ["').replace('b"', 'b"]'),
    ],
    ids=range(15),
)
def test_a_hello_without_a_usable_spec_is_refused(spec: str) -> None:
    assert spec != HELLO_SPEC

    def answer(request: Message) -> list[Message]:
        return [Message(op="hello", request_id=request.request_id, fields={"spec": spec, "bundle": "x"})]

    with serving(answer) as endpoint, PolicyClient(endpoint) as client, pytest.raises(WireError, match="no spec"):
        client.connect(WAIT_S)


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("inf"), float("nan"), 1e6])
def test_a_deadline_out_of_bounds_is_refused(deadline_s: float) -> None:
    with PolicyClient("tcp://127.0.0.1:1") as client, pytest.raises(SpecError, match="deadline"):
        client.connect(deadline_s)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b""] * 100, "more than 17 frames"),
        ([msgpack.packb(0)], "must be a map"),
        ([b"\x81\xa1a" * 300 + b"\x01"], "protocol version"),
        ([b"\xc1"], "not msgpack"),
    ],
    ids=["parts", "no map", "nested", "no msgpack"],
)
def test_frames_that_make_no_reply_are_a_wire_error(frames: list[bytes], words: str) -> None:
    context = zmq.Context.instance()
    with tempfile.TemporaryDirectory(prefix="skimo-") as folder, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind(f"ipc://{folder}/socket")

        def answer() -> None:
            identity, *_ = router.recv_multipart()
            router.send_multipart([identity, *frames])

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with PolicyClient(f"ipc://{folder}/socket") as client, pytest.raises(WireError, match=words):
            client.connect(WAIT_S)
        thread.join(WAIT_S)


def at_speed(fields: dict[str, float]) -> Answer:
    """An honest server whose plans bring these fields, and no other speed."""

    def answer(request: Message) -> list[Message]:
        (reply,) = honest(request)
        if request.op != "plan":
            return [reply]
        kept = {name: value for name, value in reply.fields.items() if name != "speed"}
        return [replace(reply, fields={**kept, **fields})]

    return answer


@pytest.mark.parametrize(("fields", "speed"), [({}, 1.0), ({"speed": 1}, 1.0), ({"speed": 0.25}, 0.25)])
def test_a_plan_brings_its_speed_which_is_full_where_none_is_told(fields: dict[str, float], speed: float) -> None:
    with serving(at_speed(fields)) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        assert plan_of(client).speed == speed


@pytest.mark.parametrize("speed", [0.0, -0.5, 1.01])
def test_a_plan_at_a_speed_that_is_none_is_refused(speed: float) -> None:
    with serving(at_speed({"speed": speed})) as endpoint, PolicyClient(endpoint) as client:
        client.connect(WAIT_S)
        with pytest.raises(WireError, match="speed is"):
            plan_of(client)
