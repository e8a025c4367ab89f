"""A second bundle plans beside a server's own: what is noted of it, and that the server's clients notice nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.following import DOMAIN, OBSERVATION_O, TASK, id_of, point, serving, toys, until
from support.forged import nan_weights
from support.policy_server import WAIT_S, Asking

from skimo_core.contract.policy import FloatArray, Plan
from skimo_core.contract.specs import Named
from skimo_core.link import protocol, wire
from skimo_core.link.client import PolicyClient
from skimo_core.link.protocol import PlanQuery
from skimo_server.bundle import load_bundle, resolve_bundle
from skimo_server.inprocess import InProcessPolicy
from skimo_server.parity import unpack
from skimo_server.plan_queue import PlanJob
from skimo_server.served import Served
from skimo_server.session import Session
from skimo_server.shadow import Shadow, append_line
from skimo_server.testing import make_bundle

GOALS = TASK.goals(0, DOMAIN.observation.size)
PLANS, TIMED = 24, 60


def plan(client: PolicyClient, seed: int, observation_O: FloatArray = OBSERVATION_O) -> Plan:
    return client.plan(observation_O, GOALS, seed=seed, warm_start_PZ=None, deadline_s=WAIT_S)


def recorded(folder: Path) -> FloatArray:
    """Observations [N, O] that a bundle's data holds."""
    bundle = load_bundle(folder)
    return unpack(bundle.parity, bundle.manifest.sizes, bundle.manifest.graphs)["observations"][:, 0]


def lines(store: Path, bundle: Path | str) -> list[dict[str, Any]]:
    name = bundle if isinstance(bundle, str) else bundle.name
    path = store / "evidence" / name / "shadow.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def children(pid: int) -> list[int]:
    """Processes that a process has started and that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found += [int(path.parent.name)] if int(fields[1]) == pid and fields[0] != "Z" else []
    return found


def test_a_bundle_beside_itself_lies_as_far_off_as_its_own_dice_until_its_link_is_gone(tmp_path: Path) -> None:
    kitchen, link, shadow = resolve_bundle("kitchen"), tmp_path / "incumbent", tmp_path / "shadow"
    states_NO = recorded(kitchen)
    link.symlink_to(kitchen)
    with serving(link) as (pid, address), PolicyClient(address) as client:
        client.connect(WAIT_S)
        plan(client, 0)
        assert not (tmp_path / "evidence").exists() and not children(pid)
        shadow.symlink_to(kitchen)
        until(lambda: client.health()["shadow"] == id_of(kitchen), "a shadow")
        for seed in range(PLANS):
            plan(client, 10 * seed, states_NO[seed])
            until(lambda: client.health()["count_shadow_plans"] == seed + 1, f"line {seed + 1}")  # noqa: B023
        found = lines(tmp_path, id_of(kitchen))
        shadow.unlink()
        until(lambda: client.health()["shadow"] == "", "the shadow's end")
        until(lambda: not children(pid), "the end of its process")
        plan(client, 1)
        assert client.health()["count_shadow_plans"] == PLANS
    assert lines(tmp_path, id_of(kitchen)) == found and len(found) == PLANS
    drift, dice = (float(np.mean([line[name] for line in found])) for name in ("drift", "own_dice"))
    print(f"over {PLANS} plans: drift {drift:.4f}, own dice {dice:.4f}; the last line: {found[-1]}")
    assert 0.0 < 0.5 * dice < drift < 2.0 * dice
    for line in found:
        assert set(line) == {"at", "drift", "own_dice", "plan_ms", "promised", "error"} and line["error"] == ""
        assert min(line["plan_ms"]) > 0.0 and all(0.0 <= promise <= 1.0 for promise in line["promised"])
        assert line["at"].endswith("Z")


@pytest.mark.alone
def test_plans_and_actions_take_no_longer_beside_a_shadow(tmp_path: Path) -> None:
    kitchen, link = resolve_bundle("kitchen"), tmp_path / "incumbent"
    link.symlink_to(kitchen)
    took_ms: dict[str, list[float]] = {}

    def timed(what: str, call: Callable[[], Any]) -> Any:
        began_s = time.monotonic()
        answer = call()
        took_ms.setdefault(what, []).append(1e3 * (time.monotonic() - began_s))
        return answer

    with serving(link) as (_, address), PolicyClient(address) as client:
        client.connect(WAIT_S)
        for how in ("alone", "beside"):
            for seed in range(TIMED):
                skill_Z = timed(f"plan {how}", lambda: plan(client, seed)).skills_PZ[0]  # noqa: B023
                for _ in range(3):
                    threading.Event().wait(0.01)  # by then the shadow is at this plan
                    timed(f"act {how}", lambda: client.act(OBSERVATION_O, skill_Z, deadline_s=WAIT_S))  # noqa: B023
            if how == "alone":
                (tmp_path / "shadow").symlink_to(kitchen)
                until(lambda: client.health()["shadow"] != "", "a shadow")
        shadowed = client.health()["count_shadow_plans"]
    median = {what: float(np.median(values)) for what, values in took_ms.items()}
    for what, values in took_ms.items():
        low, high = np.percentile(values, [50, 90])
        print(f"{what}: median {low:.1f}, p90 {high:.1f}, longest {max(values):.1f} ms")
    print(f"{shadowed} of {TIMED} plans shadowed")
    assert isinstance(shadowed, int) and shadowed > 0
    assert median["plan beside"] < 1.5 * median["plan alone"] + 10.0
    assert median["act beside"] < 2.0 * median["act alone"] + 5.0


@contextmanager
def shadowed(store: Path, incumbent: Path) -> Iterator[Session]:
    """A session that serves a bundle, with its shadow's thread."""
    policy = InProcessPolicy.load(str(incumbent))
    session = Session(Served(policy.engine, policy.planner, policy.spec, incumbent))
    with Shadow(store / "incumbent", session):
        yield session


def ask(session: Session) -> None:
    query = PlanQuery(observation_O=OBSERVATION_O, goals=GOALS, seed=0, warm_start_PZ=None)
    job = session.answer(Asking(), wire.encode(protocol.plan_request(query, 1, 5.0)), waiting=0)
    assert isinstance(job, PlanJob) and session.plan(job).code == "ok"


def health(session: Session) -> dict[str, wire.Scalar]:
    reply = session.answer(Asking(), wire.encode(wire.Message(op="health", request_id=1)), waiting=0)
    assert isinstance(reply, wire.Message)
    return dict(reply.fields)


def another_domain(folder: Path, sound: Path) -> None:
    kitchen = {"observation": DOMAIN.observation, "action": DOMAIN.action}
    make_bundle(folder, **kitchen, domain=Named(name="workbench", digest="d" * 64))


def nothing(folder: Path, sound: Path) -> None:
    """The link dangles."""


@pytest.mark.parametrize(
    ("spoil", "words"), [(nan_weights, "decode.onnx: weight"), (another_domain, "domain is"), (nothing, "neither a")]
)
def test_a_shadow_that_cannot_be_loaded_is_one_line_and_one_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path, Path], None], words: str
) -> None:
    one, two = toys(tmp_path)
    spoil(tmp_path / "candidate", two)
    (tmp_path / "shadow").symlink_to(tmp_path / "candidate")
    with shadowed(tmp_path, one) as session:
        until(lambda: health(session)["count_shadow_errors"] == 1, "a refusal")
        for _ in range(3):
            ask(session)
        point(tmp_path / "shadow", two)
        until(lambda: health(session)["shadow"] == id_of(two), "a sound one")
        ask(session)
        until(lambda: health(session)["count_shadow_plans"] == 1, "its line")
    (line,) = lines(tmp_path, "candidate")
    assert words in line["error"] and line["drift"] == 0.0
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 1 and words in errors[0]
    assert [line["error"] for line in lines(tmp_path, id_of(two))] == [""]


def unwritable_folder(store: Path, bundle_id: str) -> None:
    (store / "evidence").write_text("a file is in its place")


def full_disk(store: Path, bundle_id: str) -> None:
    folder = store / "evidence" / bundle_id
    folder.mkdir(parents=True)
    (folder / "shadow.jsonl").symlink_to("/dev/full")


@pytest.mark.parametrize("spoil", [unwritable_folder, full_disk])
def test_evidence_that_cannot_be_written_is_said_once_and_planning_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path, str], None]
) -> None:
    one, two = toys(tmp_path)
    spoil(tmp_path, id_of(two))
    (tmp_path / "shadow").symlink_to(two)
    with shadowed(tmp_path, one) as session:
        until(lambda: health(session)["shadow"] != "", "a shadow")
        for count in (1, 2):
            ask(session)
            until(lambda: health(session)["count_shadow_plans"] == count, "its answer")  # noqa: B023
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 1 and "planning goes on without this evidence" in errors[0]


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGSEGV, ["its process ended with SIGSEGV"]), (signal.SIGKILL, [])]
)
def test_a_shadow_that_crashes_is_one_line_and_one_that_is_killed_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: int, told: list[str]
) -> None:
    one, two = toys(tmp_path)
    (tmp_path / "shadow").symlink_to(two)
    others = set(children(os.getpid()))  # of tests before this one
    with shadowed(tmp_path, one) as session:
        until(lambda: health(session)["shadow"] != "", "a shadow")
        (child,) = set(children(os.getpid())) - others
        os.kill(child, number)
        until(lambda: ask(session) or health(session)["shadow"] == "", "its end")
        for _ in range(3):
            ask(session)
        assert set(children(os.getpid())) <= others
    assert [line["error"] for line in lines(tmp_path, id_of(two))] == told
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 1 and "its process ended with" in errors[0]


def test_while_a_canary_drives_nothing_is_shadowed(tmp_path: Path) -> None:
    one, two = toys(tmp_path)
    (tmp_path / "shadow").symlink_to(two)
    with shadowed(tmp_path, one) as session:
        until(lambda: health(session)["shadow"] != "", "a shadow")
        session.canary = session.spec.bundle_id
        until(lambda: health(session)["shadow"] == "", "its end")
        ask(session)
        assert health(session)["count_canary_plans"] == 1
    assert lines(tmp_path, id_of(two)) == []


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "made" / "lines"
    for word in ("one", "two"):
        append_line(path, word)
    assert path.read_text() == "one\ntwo\n"
