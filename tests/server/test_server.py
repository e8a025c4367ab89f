"""A real server on a socket: what it answers, what it refuses, and that nothing sent to it ends it."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from support.policy_server import COMMAND, WAIT_S, Asking, GatedModel, finish, raw_peer, running, start

from skimo_core.contract.errors import DeadlineError, PolicyError, SetupError, UnreachableError
from skimo_core.contract.policy import FloatArray, Goals
from skimo_core.link import protocol, wire
from skimo_core.link.client import PolicyClient
from skimo_core.link.wire import Message
from skimo_server.door import DoorLimits
from skimo_server.inprocess import InProcessPolicy
from skimo_server.plan_queue import PlanJob
from skimo_server.planner import Planner
from skimo_server.served import Served
from skimo_server.server import PolicyServer
from skimo_server.session import MAX_PLAN_DEADLINE_S, Session

FUZZ = settings(derandomize=True, deadline=None, max_examples=150)
HELLO = wire.encode(Message(op="hello", request_id=1))


def plan_frames(observation_O: FloatArray, goals: Goals, request_id: int, deadline_s: float = 10.0) -> list[bytes]:
    query = protocol.PlanQuery(observation_O=observation_O, goals=goals, seed=0, warm_start_PZ=None)
    return wire.encode(protocol.plan_request(query, request_id, deadline_s))


def act_frames(observation_O: FloatArray, skill_Z: FloatArray, request_id: int = 1) -> list[bytes]:
    return wire.encode(protocol.act_request(observation_O, skill_Z, request_id, 1.0))


def test_the_server_plans_and_acts_as_the_process_itself_does(
    endpoint: str, policy: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    with PolicyClient(endpoint) as client:
        assert client.connect() == policy.spec
        here = policy.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0)
        there = client.plan(observation_O, goals, seed=4, warm_start_PZ=None, deadline_s=30.0)
        for name in ("skills_PZ", "warm_start_PZ", "predicted_PO"):
            np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
        assert (here.value, here.success_probability, here.bundle_id) == (
            there.value,
            there.success_probability,
            there.bundle_id,
        )
        assert {"encode", "rollout", "score", "queue", "total"} <= set(there.timings_ms)
        action_A = client.act(observation_O, here.skills_PZ[0], deadline_s=5.0)
        np.testing.assert_array_equal(action_A, policy.act(observation_O, here.skills_PZ[0], deadline_s=5.0))
        warm = client.plan(observation_O, goals, seed=4, warm_start_PZ=there.warm_start_PZ, deadline_s=30.0)
        assert warm.value >= 0 and client.health()["count_plan"] >= 2  # type: ignore[operator]


@FUZZ
@given(st.lists(st.binary(max_size=100), max_size=30))
def test_any_bytes_get_a_coded_answer(endpoint: str, frames: list[bytes]) -> None:
    with raw_peer(endpoint) as peer:
        reply = peer.ask([b"\x00", *frames])
        assert reply.code not in ("ok", "internal") and reply.text
        assert peer.ask(HELLO).code == "ok"


values = st.none() | st.booleans() | st.integers(-5, 70) | st.floats() | st.text(max_size=5) | st.binary(max_size=5)


@FUZZ
@given(op=st.sampled_from(["hello", "plan", "act", "health", "error"]), data=st.data())
def test_any_message_with_wrong_content_gets_a_coded_answer(
    endpoint: str, observation_O: FloatArray, goals: Goals, op: str, data: st.DataObject
) -> None:
    skill_Z = np.zeros(10, np.float32)
    frames = plan_frames(observation_O, goals, 2) if op == "plan" else act_frames(observation_O, skill_Z, 2)
    header = msgpack.unpackb(frames[0]) | {"op": op}
    place = data.draw(st.sampled_from(["header", "array", "fields", "frame"]))
    if place == "header":
        header[data.draw(st.sampled_from(sorted(header)))] = data.draw(values)
    elif place == "array":
        entry = data.draw(st.sampled_from(header["arrays"]))
        entry[data.draw(st.sampled_from(["name", "dtype", "shape", "other"]))] = data.draw(values)
    elif place == "fields":
        header["fields"] = {data.draw(st.text(max_size=5)): data.draw(values)}
    else:
        at = data.draw(st.integers(1, len(frames) - 1))
        frames[at] = data.draw(st.binary(max_size=200))
    with raw_peer(endpoint) as peer:
        reply = peer.ask([msgpack.packb(header), *frames[1:]])
        assert reply.code in wire.CODES and reply.code != "internal"
        assert reply.code == "ok" or reply.text
        assert peer.ask(HELLO).code == "ok"


def test_a_non_finite_observation_is_refused(endpoint: str, observation_O: FloatArray) -> None:
    bad_O = observation_O.copy()
    bad_O[3] = np.nan
    with raw_peer(endpoint) as peer:
        reply = peer.ask(act_frames(bad_O, np.zeros(10, np.float32), 9))
    assert (reply.code, reply.request_id) == ("finite", 9)


@pytest.mark.parametrize(
    ("observation_size", "skill", "word"),
    [(29, np.zeros(10, np.float32), "observation"), (30, np.zeros(11, np.float32), "skill"),
     (30, np.full(10, 1.5, np.float32), "above the bound 1"), (30, np.zeros(10), "float64")],
)  # fmt: skip
def test_an_array_that_does_not_fit_the_bundle_is_refused(
    endpoint: str, observation_size: int, skill: FloatArray, word: str
) -> None:
    with raw_peer(endpoint) as peer:
        reply = peer.ask(act_frames(np.zeros(observation_size, np.float32), skill))
    assert reply.code == "spec" and word in reply.text


def test_oversize_is_refused_with_a_code_and_its_connection(endpoint: str) -> None:
    with raw_peer(endpoint) as peer, raw_peer(endpoint) as other:
        reply = peer.ask([*HELLO, bytes(DoorLimits().message_bytes)])
        assert (reply.code, reply.request_id) == ("size", 0) and "at most 262144" in reply.text
        assert other.ask(HELLO).code == "ok"


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("broken", ["decode", "goal_value"])
def test_a_model_that_gives_no_number_is_told_as_the_model_s(
    policy: InProcessPolicy, goals: Goals, broken: str
) -> None:
    class Diverging:
        """The bundle's model, whose sums overflow where its input is huge."""

        def __getattr__(self, name: str) -> object:
            found = getattr(policy.engine, name)
            return (lambda *given: found(*given) * np.float32(np.nan)) if name in ("act", broken) else found

    model, huge_O = Diverging(), np.full(30, 3e38, np.float32)
    session = Session(Served(model, Planner(model, policy.config), policy.spec))  # type: ignore[arg-type]
    acted = session.answer(Asking(), act_frames(huge_O, np.zeros(10, np.float32)), waiting=0)
    assert isinstance(acted, Message) and acted.code == "model" and "must be finite" in acted.text
    job = session.answer(Asking(), plan_frames(huge_O, goals, 2), waiting=0)
    assert isinstance(job, PlanJob) and session.plan(job).code == "model"


def test_actions_are_answered_while_a_plan_is_being_made(
    policy: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    model = GatedModel(policy.engine)
    with running(policy, planner=Planner(model, policy.config)) as address, raw_peer(address) as peer:
        peer.send(plan_frames(observation_O, goals, 1))
        assert model.entered.wait(WAIT_S)
        for request_id in range(2, 30):  # each answered in order, none behind the plan
            reply = peer.ask(act_frames(observation_O, np.zeros(10, np.float32), request_id))
            assert (reply.op, reply.request_id, reply.code) == ("act", request_id, "ok")
        model.release.set()
        assert (peer.receive().op) == "plan"


def test_the_newest_plan_request_of_a_client_replaces_its_older_one(
    policy: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    model = GatedModel(policy.engine)
    with (
        running(policy, planner=Planner(model, policy.config)) as address,
        raw_peer(address) as peer,
        raw_peer(address) as other,
    ):
        peer.send(plan_frames(observation_O, goals, 1))
        assert model.entered.wait(WAIT_S)
        other.send(plan_frames(observation_O, goals, 1))
        peer.send(plan_frames(observation_O, goals, 2))
        reply = peer.ask(plan_frames(observation_O, goals, 3))
        assert (reply.request_id, reply.code) == (2, "superseded")
        model.release.set()
        assert [(r.request_id, r.code) for r in (peer.receive(), peer.receive())] == [(1, "ok"), (3, "ok")]
        assert other.receive().code == "ok"


def test_a_plan_that_waited_past_its_deadline_is_not_made(
    policy: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    now = [0.0]
    session = Session(Served(policy.engine, policy.planner, policy.spec), clock=lambda: now[0])
    job = session.answer(Asking(), plan_frames(observation_O, goals, 8, deadline_s=0.5), waiting=0)
    assert isinstance(job, PlanJob)
    now[0] = 0.6
    reply = session.plan(job)
    assert (reply.code, reply.request_id) == ("deadline", 8) and "waited 0.600 s" in reply.text


def test_a_plan_under_way_at_its_deadline_answers_with_the_best_so_far(
    policy: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.05
        return now[0]

    planner = Planner(policy.engine, policy.config, clock=clock)
    session = Session(Served(policy.engine, planner, policy.spec), clock=lambda: 0.0)
    job = session.answer(Asking(), plan_frames(observation_O, goals, 8, deadline_s=0.1), waiting=0)
    assert isinstance(job, PlanJob)
    reply = session.plan(job)
    assert reply.code == "ok" and reply.arrays["skills"].shape == (3, 10)


def test_a_fault_of_our_own_is_told_without_its_inside(
    policy: InProcessPolicy, observation_O: FloatArray, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def act(self, *_: object) -> None:
            raise ZeroDivisionError("secret")

    session = Session(Served(Broken(), policy.planner, policy.spec))  # type: ignore[arg-type]
    reply = session.answer(Asking(), act_frames(observation_O, np.zeros(10, np.float32), 3), waiting=0)
    assert isinstance(reply, Message) and (reply.code, reply.request_id) == ("internal", 3)
    assert "secret" not in reply.text and "secret" in caplog.text


def test_a_patient_client_s_deadline_is_capped(
    policy: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    session = Session(Served(policy.engine, policy.planner, policy.spec))
    job = session.answer(Asking(), plan_frames(observation_O, goals, 1, deadline_s=60.0), waiting=0)
    assert isinstance(job, PlanJob) and job.deadline_s == MAX_PLAN_DEADLINE_S


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.10", "*", "[::]", "somewhere.example"])
@pytest.mark.parametrize("is_open", [False, True])
def test_without_keys_no_other_machine_is_served(policy: InProcessPolicy, host: str, is_open: bool) -> None:
    session = Session(Served(policy.engine, policy.planner, policy.spec))
    server = PolicyServer(session, f"tcp://{host}:0", open_to_local_users=is_open)
    with pytest.raises(SetupError, match=r"not a loopback address.*skimo keys"):
        server.bind()


def test_a_loopback_port_without_keys_needs_its_user_s_word(policy: InProcessPolicy) -> None:
    session = Session(Served(policy.engine, policy.planner, policy.spec))
    with pytest.raises(SetupError, match=r"every user of this machine.*--open-to-local-users"):
        PolicyServer(session, "tcp://127.0.0.1:0").bind()
    with PolicyServer(session, "tcp://127.0.0.1:0", open_to_local_users=True) as server:
        assert server.endpoint.startswith("tcp://127.0.0.1:") and not server.endpoint.endswith(":0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_and_ends_clean(bundle_folder: Path, number: int) -> None:
    process, address = start(
        bundle_folder,
        "--port",
        "0",
        "--open-to-local-users",
        "--planner",
        "samples=16",
        "elites=4",
        "horizon=2",
        "--explore",
        "0.25",
    )
    with PolicyClient(address) as client:
        spec = client.connect(WAIT_S)
        assert (spec.skill.plan_length, spec.explore) == (2, 0.25)
    code, out, err = finish(process, number)
    assert code == 0 and out.strip() == "skimo serve: stopped" and "Traceback" not in err


@pytest.fixture
def own_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder and a ROS domain of the test's own; gives the socket that a server has there."""
    with tempfile.TemporaryDirectory(prefix="skimo-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("ROS_DOMAIN_ID", "77")
        yield Path(folder) / "skimo" / "policy-77.sock"


def refused(bundle: Path, *options: str) -> str:
    """What a server says that does not start."""
    command = [sys.executable, "-c", COMMAND, "--bundle", str(bundle), *options]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1 and not found.stdout and "Traceback" not in found.stderr
    return found.stderr


def test_by_default_a_server_listens_where_only_its_user_comes_in(bundle_folder: Path, own_domain: Path) -> None:
    process, address = start(bundle_folder)
    assert address == f"ipc://{own_domain}"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (own_domain.parent, own_domain)] == [0o700, 0o600]
    with PolicyClient() as client:
        assert client.connect(WAIT_S).bundle_id
    score, limit = (Path(f"/proc/{process.pid}/{name}").read_text() for name in ("oom_score_adj", "limits"))
    assert int(score) >= 500, "the kernel's killer must prefer the server over the gate"
    data = next(line for line in limit.splitlines() if line.startswith("Max data size"))
    assert int(data.split()[3]) < 2**31
    assert finish(process, signal.SIGTERM)[0] == 0 and not own_domain.exists()


def test_a_second_server_says_who_is_there_and_a_dead_one_s_socket_is_taken_over(
    bundle_folder: Path, own_domain: Path
) -> None:
    process, _ = start(bundle_folder)
    said = refused(bundle_folder)
    assert f"another server (process {process.pid}) listens on {own_domain}" in said
    finish(process, signal.SIGKILL)
    assert own_domain.is_socket()
    process, _ = start(bundle_folder)
    with PolicyClient() as client:
        client.connect(WAIT_S)
    assert finish(process, signal.SIGINT)[0] == 0


def test_a_stack_in_another_domain_never_meets_this_one_s_server(
    bundle_folder: Path, own_domain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _ = start(bundle_folder)
    monkeypatch.setenv("ROS_DOMAIN_ID", "78")
    with PolicyClient() as client, pytest.raises(UnreachableError, match="nobody listens"):
        client.connect(0.1)
    assert finish(process, signal.SIGTERM)[0] == 0


def test_a_folder_that_others_may_enter_is_refused(bundle_folder: Path, own_domain: Path) -> None:
    own_domain.parent.mkdir(mode=0o755)
    assert "mode 0755, so that others may enter it" in refused(bundle_folder)
    with PolicyClient() as client, pytest.raises(UnreachableError, match="others may enter it"):
        client.connect(0.1)


def test_a_taken_port_is_refused_with_the_remedy(bundle_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(bundle_folder, "--port", str(port), "--open-to-local-users")
    assert f"can't listen on port {port} of 127.0.0.1: Address already in use" in said


def test_a_client_recovers_when_a_killed_server_comes_back(
    bundle_folder: Path, observation_O: FloatArray, tmp_path: Path
) -> None:
    skill_Z = np.zeros(10, np.float32)
    address = f"ipc://{tmp_path}/socket"
    process, _ = start(bundle_folder, "--endpoint", address)
    with PolicyClient(address) as client:
        client.connect(WAIT_S)
        before_A = client.act(observation_O, skill_Z, deadline_s=WAIT_S)
        finish(process, signal.SIGKILL)
        began_s = time.monotonic()
        with pytest.raises((DeadlineError, UnreachableError)):
            client.act(observation_O, skill_Z, deadline_s=0.04)
        assert time.monotonic() - began_s < 1.0
        process, _ = start(bundle_folder, "--endpoint", address)
        np.testing.assert_array_equal(client.act(observation_O, skill_Z, deadline_s=WAIT_S), before_A)
    assert finish(process, signal.SIGTERM)[0] == 0


def test_stopping_while_a_client_floods_it_ends(
    policy: InProcessPolicy, observation_O: FloatArray, tmp_path: Path
) -> None:
    """The server ends first: a peer of libzmq 4.3.5 that is closed amid a message, and loses its server, aborts.

    That is zeromq/libzmq issue 3442.
    """
    address = f"ipc://{tmp_path}/socket"
    with raw_peer(address) as peer, running(policy, endpoint=address):
        frames = act_frames(observation_O, np.zeros(10, np.float32))
        for _ in range(500):  # never read: the server drops what the peer does not take
            peer.socket.send_multipart(frames, zmq.NOBLOCK)


def test_in_one_process_an_unusable_action_is_the_model_s_fault_too(
    policy: InProcessPolicy, observation_O: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy.engine, "act", lambda *_: np.full(9, np.nan, np.float32))
    with pytest.raises(PolicyError, match="no usable action"):
        policy.act(observation_O, np.zeros(10, np.float32), deadline_s=1.0)
