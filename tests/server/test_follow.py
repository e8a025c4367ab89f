"""A link to a bundle is followed: what it comes to point to is served, what is unsound is not, and nothing is lost."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.following import point
from support.forged import nan_weights
from support.policy_server import WAIT_S, Asking, GatedModel

from skimo_core.contract.policy import FloatArray, Goals
from skimo_core.contract.specs import Named
from skimo_core.episodes.locks import held
from skimo_core.link import protocol, wire
from skimo_core.link.protocol import PlanQuery
from skimo_core.link.wire import Message
from skimo_server.follow import ORPHAN_S, PROMOTION_LOCK, Follower, Target
from skimo_server.follow import WAIT_S as FOLLOWER_WAIT_S
from skimo_server.inprocess import InProcessPolicy
from skimo_server.plan_queue import PlanJob
from skimo_server.planner import Planner
from skimo_server.served import Served
from skimo_server.session import Session
from skimo_server.testing import make_bundle

OTHER_DIM = 6


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that may take the toy's place: skills of another size, plans of another length."""
    folder = tmp_path_factory.mktemp("bundles") / "other"
    make_bundle(folder, seed=1, skill_dim=OTHER_DIM)
    return folder


@pytest.fixture(scope="session")
def other(other_folder: Path) -> InProcessPolicy:
    return InProcessPolicy.load(str(other_folder), settings=["horizon=2"])


def served(policy: InProcessPolicy) -> Served:
    return Served(policy.engine, policy.planner, policy.spec)


def act(session: Session, observation_O: FloatArray, dim: int, bundle_id: str) -> Message:
    request = protocol.act_request(observation_O, np.zeros(dim, np.float32), 1, 1.0, bundle_id)
    answer = session.answer(Asking(), wire.encode(request), waiting=0)
    assert isinstance(answer, Message)
    return answer


def ask_plan(
    session: Session, observation_O: FloatArray, goals: Goals, warm_PZ: FloatArray | None = None, of: str = ""
) -> PlanJob:
    query = PlanQuery(observation_O=observation_O, goals=goals, seed=0, warm_start_PZ=warm_PZ, warm_start_of=of)
    job = session.answer(Asking(), wire.encode(protocol.plan_request(query, 1, 5.0)), waiting=0)
    assert isinstance(job, PlanJob)
    return job


def test_after_a_swap_plans_are_the_new_bundle_s_and_skills_end_with_their_own(
    policy: InProcessPolicy, other: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    session, old, new = Session(served(policy)), policy.spec.bundle_id, other.spec.bundle_id
    queued = ask_plan(session, observation_O, goals)
    session.swap(served(other))
    assert session.plan(queued).fields["bundle"] == old, "a plan is made by the bundle that it was asked of"
    assert session.plan(ask_plan(session, observation_O, goals)).fields["bundle"] == new
    for bundle_id, dim, policy_ in ((old, 10, policy), (new, OTHER_DIM, other), ("", OTHER_DIM, other)):
        reply = act(session, observation_O, dim, bundle_id)
        wanted_A = policy_.act(observation_O, np.zeros(dim, np.float32), deadline_s=1.0)
        assert (reply.code, reply.fields["bundle"]) == ("ok", bundle_id or new)
        np.testing.assert_array_equal(reply.arrays["action"], wanted_A)


def test_a_bundle_that_is_no_longer_here_is_refused_with_its_code(
    policy: InProcessPolicy, other: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    session = Session(served(policy))
    queued = ask_plan(session, observation_O, goals)
    for _ in range(2):
        session.swap(served(other))
    for reply in (act(session, observation_O, 10, policy.spec.bundle_id), session.plan(queued)):
        assert reply.code == "bundle" and policy.spec.bundle_id[:12] in reply.text and "plan again" in reply.text
    assert act(session, observation_O, OTHER_DIM, other.spec.bundle_id).code == "ok"


def test_another_bundle_s_warm_start_is_left_unused_whatever_its_shape(
    policy: InProcessPolicy, other: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    session = Session(served(other))
    own_PZ, old_PZ = np.zeros((2, OTHER_DIM), np.float32), np.zeros((3, 10), np.float32)
    for of in ("", other.spec.bundle_id):
        assert ask_plan(session, observation_O, goals, own_PZ, of).query.warm_start_PZ is not None
    job = ask_plan(session, observation_O, goals, old_PZ, policy.spec.bundle_id)
    assert job.query.warm_start_PZ is None and session.plan(job).code == "ok"


@pytest.mark.parametrize("op", ["act", "plan"])
def test_a_bundle_that_is_no_text_is_refused(
    policy: InProcessPolicy, observation_O: FloatArray, goals: Goals, op: str
) -> None:
    query = PlanQuery(observation_O=observation_O, goals=goals, seed=0, warm_start_PZ=None)
    plan = protocol.plan_request(query, 1, 1.0)
    acting = protocol.act_request(observation_O, np.zeros(10, np.float32), 1, 1.0)
    right = plan if op == "plan" else acting
    wrong = Message(op=op, request_id=1, deadline_s=1.0, fields={**right.fields, "bundle": 3}, arrays=right.arrays)
    reply = Session(served(policy)).answer(Asking(), wire.encode(wrong), waiting=0)
    assert isinstance(reply, Message) and reply.code == "spec" and "bundle is a int" in reply.text


def test_a_bundle_is_closed_only_when_its_plan_under_way_is_made(
    policy: InProcessPolicy, other: InProcessPolicy, observation_O: FloatArray, goals: Goals
) -> None:
    model = GatedModel(policy.engine)
    session = Session(Served(policy.engine, Planner(model, policy.config), policy.spec))
    job, replies = ask_plan(session, observation_O, goals), []
    worker = threading.Thread(target=lambda: replies.append(session.plan(job)), daemon=True)
    worker.start()
    assert model.entered.wait(WAIT_S)
    session.swap(served(other))
    swap = threading.Thread(target=session.swap, args=(served(other),), daemon=True)
    swap.start()
    swap.join(0.1)
    assert swap.is_alive() and act(session, observation_O, OTHER_DIM, "").code == "ok"
    model.release.set()
    for thread in (worker, swap):
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert replies[0].code == "ok"


def test_a_session_is_settled_once_the_bundle_before_was_left_alone_for_a_skill(
    policy: InProcessPolicy, other: InProcessPolicy, observation_O: FloatArray
) -> None:
    now = [0.0]
    session = Session(served(policy), clock=lambda: now[0])
    act(session, observation_O, 10, "")
    assert session.settled(), "there is no bundle before the first"
    session.swap(served(other))
    assert not session.settled()
    now[0] = 0.7
    act(session, observation_O, 10, policy.spec.bundle_id)
    now[0] = 1.4
    act(session, observation_O, OTHER_DIM, other.spec.bundle_id)
    assert not session.settled()
    now[0] = 1.6
    assert session.settled()


class Following:
    """A link, a session that serves the toy, and a follower that looks when it is told to."""

    def __init__(self, folder: Path, first: Path) -> None:
        self.link, self.now_s, self.loads = folder / "incumbent", 0.0, 0
        self.link.symlink_to(first)
        self.canary = folder / "canary"
        self.session = Session(self.load(first), clock=self.clock)
        self.follower = Follower(self.link, Target.of(self.link), self.session, self.load, self.clock)
        self.first_id, self.loads = self.session.spec.bundle_id, 0

    def clock(self) -> float:
        """Time passes by being looked at."""
        self.now_s += 0.01
        return self.now_s

    def load(self, folder: Path) -> Served:
        self.loads += 1
        return served(InProcessPolicy.load(str(folder)))

    def point(self, folder: Path) -> None:
        """As a store does it."""
        point(self.link, folder)
        self.follower.look()

    def put_canary(self, folder: Path) -> None:
        point(self.canary, folder)
        self.follower.look()

    def take_canary_down(self) -> None:
        self.canary.unlink()
        self.follower.look()

    @property
    def health(self) -> dict[str, wire.Scalar]:
        reply = self.session.answer(Asking(), wire.encode(Message(op="health", request_id=1)), waiting=0)
        assert isinstance(reply, Message)
        return dict(reply.fields)


@pytest.fixture
def following(tmp_path: Path, bundle_folder: Path) -> Following:
    return Following(tmp_path, bundle_folder)


def test_a_link_that_points_elsewhere_swaps_and_says_so(
    following: Following, bundle_folder: Path, other_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    following.follower.look()
    assert following.loads == 0
    following.point(other_folder)
    now = following.session.spec.bundle_id
    assert now != following.first_id
    assert f"now serves bundle {now[:12]} instead of {following.first_id[:12]}" in caplog.messages
    following.point(bundle_folder)
    assert following.session.spec.bundle_id == following.first_id and following.health["swaps"] == 2


def test_the_same_bundle_elsewhere_is_no_swap(following: Following, bundle_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_folder, tmp_path / "copy")
    following.point(tmp_path / "copy")
    assert (following.health["swaps"], following.health["refused_bundle"], following.loads) == (0, "", 1)


def truncated_graph(folder: Path, sound: Path) -> None:
    shutil.copytree(sound, folder)
    graph = folder / "dynamics.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])


def another_domain(folder: Path, sound: Path) -> None:
    make_bundle(folder, domain=Named(name="workbench", digest="d" * 64))


def another_horizon(folder: Path, sound: Path) -> None:
    make_bundle(folder, skill_horizon=5)


def nothing(folder: Path, sound: Path) -> None:
    """The link dangles."""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nan_weights, "decode.onnx: weight"),
        (truncated_graph, "dynamics.onnx: SHA-256 is"),
        (another_domain, "its domain is 'workbench' (digest dddddddddddd), wanted ''"),
        (another_horizon, "its skills last 5 steps, wanted 10; start another server with it"),
        (nothing, "nothing is there; let it point to a bundle"),
    ],
)
def test_what_is_unsound_is_refused_once_with_its_reason_and_the_old_goes_on(
    following: Following,
    other_folder: Path,
    tmp_path: Path,
    observation_O: FloatArray,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path, Path], None],
    words: str,
) -> None:
    folder = tmp_path / "candidate"
    spoil(folder, other_folder)
    following.point(folder)
    loads = following.loads
    for _ in range(3):
        following.follower.look()
    assert following.loads == loads, "the same target is not tried again"
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1 and words in errors[0] and f"goes on with bundle {following.first_id[:12]}" in errors[0]
    assert words in str(following.health["refused_bundle"]) and following.health["swaps"] == 0
    assert act(following.session, observation_O, 10, following.first_id).code == "ok"
    following.point(other_folder)
    assert (following.health["swaps"], following.health["refused_bundle"]) == (1, "")


def test_a_refused_target_is_tried_again_when_its_manifest_changes(
    following: Following, other_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    following.point(folder)
    assert "nothing is there" in str(following.health["refused_bundle"])
    shutil.copytree(other_folder, folder)
    following.follower.look()
    assert (following.health["swaps"], following.health["refused_bundle"]) == (1, "")


def test_a_bundle_that_is_withdrawn_while_it_is_loaded_never_drives(
    following: Following, bundle_folder: Path, other_folder: Path
) -> None:
    def load(folder: Path) -> Served:
        following.link.unlink()
        following.link.symlink_to(bundle_folder)
        return following.load(folder)

    following.follower = Follower(following.link, Target.of(following.link), following.session, load)
    following.point(other_folder)
    following.follower.look()
    assert (following.health["swaps"], following.session.spec.bundle_id) == (0, following.first_id)


def test_a_link_to_itself_is_refused(following: Following) -> None:
    following.point(following.link)
    assert "nothing is there" in str(following.health["refused_bundle"])


def test_an_unforeseen_fault_of_loading_changes_nothing(following: Following, other_folder: Path) -> None:
    def load(folder: Path) -> Served:
        raise MemoryError("no room")

    following.follower = Follower(following.link, Target.of(following.link), following.session, load)
    following.point(other_folder)
    assert "MemoryError: no room" in str(following.health["refused_bundle"])
    assert following.session.spec.bundle_id == following.first_id


def test_a_client_that_clings_to_the_bundle_before_holds_up_the_next_one_only_for_a_while(
    following: Following, other_folder: Path, tmp_path: Path, observation_O: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skimo_server.follow.POLL_S", 0.0)
    make_bundle(tmp_path / "third", seed=2)
    following.point(other_folder)
    cling = lambda: act(following.session, observation_O, 10, following.first_id)  # noqa: E731
    monkeypatch.setattr(following.session, "settled", lambda: cling().code != "ok")
    began_s = following.now_s
    following.point(tmp_path / "third")
    assert following.health["swaps"] == 2 and cling().code == "bundle"
    assert FOLLOWER_WAIT_S < following.now_s - began_s < FOLLOWER_WAIT_S + 1.0


def test_a_canary_drives_slowly_and_what_drove_before_comes_back_without_being_loaded(
    following: Following, other_folder: Path, observation_O: FloatArray, goals: Goals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    following.put_canary(other_folder)
    now = following.session.spec.bundle_id
    queued = ask_plan(following.session, observation_O, goals)
    assert (following.health["canary"], following.health["bundle"]) == (now, now) and now != following.first_id
    following.take_canary_down()
    assert following.session.plan(queued).fields["speed"] == 0.5, "asked of the canary, carried out as a canary's"
    reply = following.session.plan(ask_plan(following.session, observation_O, goals))
    assert (reply.fields["bundle"], reply.fields["speed"]) == (following.first_id, 1.0)
    assert (following.health["canary"], following.loads) == ("", 1)
    assert f"now serves bundle {now[:12]} instead of {following.first_id[:12]}, at 0.5 of full speed" in caplog.messages


def test_a_canary_that_nobody_judges_any_more_stops_driving_until_its_promotion_goes_on(
    following: Following, other_folder: Path
) -> None:
    lock = following.link.with_name(PROMOTION_LOCK)
    with held(lock, 0.0, "another promotion"):
        following.put_canary(other_folder)
        now = following.session.spec.bundle_id
        following.now_s += 10.0 * ORPHAN_S
        following.follower.look()
        assert following.health["canary"] == now != following.first_id
    following.now_s += 0.9 * ORPHAN_S  # a promotion that was killed and is run again in time
    following.follower.look()
    assert following.health["canary"] == now
    following.now_s += 0.2 * ORPHAN_S
    following.follower.look()
    assert (following.health["canary"], following.session.spec.bundle_id) == ("", following.first_id)
    with held(lock, 0.2, "another promotion"):
        following.follower.look()
        assert following.health["canary"] == following.session.spec.bundle_id == now


def test_a_canary_that_becomes_the_incumbent_goes_on_at_full_speed_with_nothing_loaded_or_swapped(
    following: Following, other_folder: Path
) -> None:
    following.put_canary(other_folder)
    swaps, loads, canary = following.health["swaps"], following.loads, following.session.kept[0]
    for step, speed in ((lambda: following.point(other_folder), 0.5), (following.take_canary_down, 1.0)):
        step()
        assert following.session.kept[0] is canary and canary.speed == speed
    assert (following.health["swaps"], following.loads, following.health["canary"]) == (swaps, loads, "")


def test_a_refused_canary_leaves_the_incumbent_driving_and_is_forgotten_with_its_link(
    following: Following, other_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nan_weights(tmp_path / "broken", other_folder)
    following.put_canary(tmp_path / "broken")
    assert following.health["canary"] == "" and following.session.spec.bundle_id == following.first_id
    assert following.session.kept[0].speed == 1.0 and "decode.onnx: weight" in str(following.health["refused_bundle"])
    following.point(other_folder)
    assert following.health["swaps"] == 1 and "decode.onnx: weight" in str(following.health["refused_bundle"])
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    following.take_canary_down()
    assert following.health["refused_bundle"] == ""


def test_a_withdrawn_canary_is_gone_at_once_though_the_followed_link_points_elsewhere_by_now(
    following: Following, other_folder: Path, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "third", seed=2)
    following.put_canary(other_folder)
    driving: list[str] = []

    def load(folder: Path) -> Served:
        driving.append(following.session.spec.bundle_id)
        return served(InProcessPolicy.load(str(folder)))

    following.follower._load = load
    following.canary.unlink()
    following.point(tmp_path / "third")
    assert driving == [following.first_id]
    assert following.session.kept[0].speed == 1.0 and following.health["swaps"] == 3


def test_another_canary_takes_the_place_of_the_first_and_the_incumbent_stays_at_hand(
    following: Following, other_folder: Path, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "third", seed=2)
    for folder in (other_folder, tmp_path / "third"):
        following.put_canary(folder)
    assert following.health["canary"] == following.session.spec.bundle_id
    assert following.session.kept[1].spec.bundle_id == following.first_id
    following.take_canary_down()
    assert following.session.spec.bundle_id == following.first_id and following.loads == 2
