"""The whole stack as processes, with a bundle of random weights: it runs, survives its server's death, and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rclpy.context import Context
from ros.ros_harness import ANSWER_S, Processes, Watcher, clear_gate
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from support.waiting import START_S, wait_until

from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.episodes.episode import RETRACE
from skimo_core.episodes.recording import read_episode
from skimo_ros.backend import RosBackend
from skimo_ros.nodes import EVENT_QOS, Names
from skimo_server.bundle import load_bundle
from skimo_server.testing import make_bundle

pytestmark = [pytest.mark.ros, pytest.mark.alone]

REST_RAD_S = 0.02
SKILL_STEPS = 10
AT_REST_WITHIN_S = 0.5
LOADED_S = 0.3
"""Allowed on top on a machine that is busy: until the kill is done and the last command has come through."""


@dataclass
class Stack:
    """The stack's processes, and what they are asked and seen to do."""

    processes: Processes
    watcher: Watcher
    arm: RosBackend
    serve: Callable[[], object]
    link: Path
    recordings: Path


@pytest.fixture(scope="module")
def stack(
    processes: Processes,
    watcher: Watcher,
    arm: RosBackend,
    context: Context,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("loop")
    domain, endpoint = load_domain(), f"ipc://{folder}/socket"
    for seed, skill_dim in ((0, 10), (1, 6)):
        make = {"observation": domain.observation, "action": domain.action, "skill_dim": skill_dim}
        make_bundle(folder / f"bundle{seed}", seed=seed, **make)
    link = folder / "incumbent"
    link.symlink_to("bundle0")
    command = [sys.executable, "-m", "skimo_core.cli", "serve", "--bundle", str(link), "--endpoint", endpoint]

    def serve() -> object:
        return processes.command("server", command)

    serve()
    arm.let_go()  # from here on the policy proposes
    processes.node("recorder_node", directory=folder / "recordings")
    processes.node("policy_node", endpoint=endpoint, bundle=link, noise=True)
    wait_until(lambda: watcher.state == "idle", "the policy node to be ready", 2 * START_S)
    assert "does not say which robot it was made for; panda's limits hold" in processes.log("policy_node")
    yield Stack(processes, watcher, arm, serve, link, folder / "recordings")
    for name in ("policy_node", "recorder_node", "server"):
        if name in processes.running:
            assert processes.end(name) == 0, processes.log(name)


def start(stack: Stack, episode_id: str, steps: int = 15) -> None:
    """Start an episode and wait for some of its steps."""
    watcher = stack.watcher
    if "server" not in stack.processes.running:
        stack.serve()
    watcher.trigger(Names.CANCEL)  # an arm that is put elsewhere while it is led looks like one that won't follow
    why = ""

    def started() -> bool:
        """As an operator: clear the gate, put the scene back, start; again where the gate stopped in between."""
        nonlocal why
        clear_gate(stack.arm)
        stack.arm.reset_twin("kitchen", 1)
        clear_gate(stack.arm)
        begun, why, _ = watcher.start_episode("kitchen", 1, episode_id)
        return begun

    wait_until(started, "the episode to start", shows=lambda: why, poll_s=0.5)
    acts(stack, episode_id, steps)


def acts(stack: Stack, episode_id: str, count: int) -> None:
    """Wait for so many steps of an episode; where a busy machine's pause holds it, do as an operator does."""
    watcher, known = stack.watcher, len(stack.watcher.steps)

    def acted() -> bool:
        if watcher.state == "held" and watcher.status[-1].episode_id == episode_id:
            watcher.trigger("gate/reset")
            watcher.trigger("policy/resume")
        return sum(s.kind == "act" and s.episode_id == episode_id for s in watcher.steps[known:]) >= count

    wait_until(acted, f"{count} steps of the episode", START_S, lambda: watcher.status[-1])


def speed(stack: Stack) -> float:
    return float(np.abs(stack.arm.read().dq_rad_s).max())


def time_to_rest(stack: Stack, since_s: float) -> float:
    """Seconds of the twin's clock from `since_s` until the arm was last seen moving."""
    last_moving_s, seen_s = since_s, since_s

    def settled() -> bool:
        nonlocal last_moving_s, seen_s
        state = stack.arm.read()
        seen_s = state.stamp_s
        if np.abs(state.dq_rad_s).max() > REST_RAD_S:
            last_moving_s = seen_s
        return seen_s - max(last_moving_s, since_s) > 0.5

    wait_until(settled, "the arm to come to rest", 10.0)
    return last_moving_s - since_s


def skimo_reset(stack: Stack) -> subprocess.CompletedProcess[str]:
    """What an operator types after a stop or a hold."""
    return subprocess.run(
        [sys.executable, "-m", "skimo_core.cli", "reset"],
        env=stack.processes.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def reset_by_skimo(stack: Stack) -> str:
    """What `skimo reset` says; typed again where the machine's pause, which stopped the arm, has made states old."""

    said: list[str] = []

    def done() -> bool:
        asked = skimo_reset(stack)
        said.append(asked.stdout + asked.stderr)
        return asked.returncode == 0

    wait_until(done, "skimo reset", 10.0, lambda: said)
    return said[-1]


def test_the_scene_is_looked_at_before_an_episode(stack: Stack) -> None:
    stack.watcher.trigger(Names.CANCEL)
    clear_gate(stack.arm)
    stack.arm.reset_twin("kitchen", 2)  # where things stand as drawn, and not at the one start

    def scene(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "skimo_core.cli", "scene", "kitchen", *options]
        environment = stack.processes.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)

    drawn = scene("--drawn")
    assert drawn.returncode == 0 and "scene: all is in place for kitchen" in drawn.stdout, drawn.stdout + drawn.stderr
    plain = scene()
    assert plain.returncode == 1 and ", wanted 0 +- 0.1: move it by " in plain.stdout, plain.stdout + plain.stderr


def test_a_killed_server_leaves_the_arm_at_rest_and_the_run_goes_on_after_a_reset(stack: Stack) -> None:
    watcher = stack.watcher
    start(stack, "loop-killed")
    killed_s = stack.arm.now_s()
    stack.processes.kill("server")
    rest_s = time_to_rest(stack, killed_s)
    print(f"server killed in mid-skill: arm at rest after {rest_s:.3f} s")
    assert rest_s < AT_REST_WITHIN_S + LOADED_S
    held = wait_until(
        lambda: watcher.state == "held" and watcher.status[-1], "the policy to hold", 10.0, lambda: watcher.status[-1]
    )
    assert "missed in a row" in held.reason and "policy server" in held.reason
    assert "held: " in stack.processes.log("policy_node")
    done = skimo_reset(stack)
    assert done.returncode == 1 and "nobody listens" in done.stdout, done.stdout + done.stderr
    stack.serve()
    wait_until(lambda: stack.processes.log("server").count("ready") == 2, "the server to be back")
    told = len(watcher.status)
    assert "goes on" in reset_by_skimo(stack)
    wait_until(lambda: any(s.state != "held" for s in watcher.status[told:]), "the reset alone to end the hold", 20.0)
    acts(stack, "loop-killed", 1)


def test_an_operators_stop_holds_the_policy_and_says_why(stack: Stack) -> None:
    watcher = stack.watcher
    start(stack, "loop-stopped")
    stopped_s = stack.arm.now_s()
    assert watcher.trigger("gate/stop")[0]
    assert time_to_rest(stack, stopped_s) < AT_REST_WITHIN_S + LOADED_S
    held = wait_until(lambda: watcher.state == "held" and watcher.status[-1], "the policy to hold", 10.0)
    assert "the gate is stopped" in held.reason
    resumed, why = watcher.trigger("policy/resume")
    assert not resumed and "skimo reset" in why
    wait_until(lambda: watcher.trigger("gate/reset")[0], "the reset, once the stop has been told for a second", 10.0)
    wait_until(lambda: watcher.trigger("policy/resume")[0], "the policy to go on", 10.0)


def test_a_held_episode_is_refused_a_successor_in_words_until_it_is_cancelled(stack: Stack) -> None:
    watcher = stack.watcher
    start(stack, "loop-held")
    assert watcher.trigger(Names.POLICY_HOLD)[0]
    wait_until(lambda: watcher.state == "held", "the policy to hold", 10.0)
    begun, why, _ = watcher.start_episode("kitchen", 1, "loop-refused")
    assert not begun and why.startswith("held: ") and "`skimo start --anew` drops it" in why
    assert watcher.status[-1].episode_id == "loop-held"
    done, text = watcher.trigger(Names.CANCEL)
    assert done and "loop-held ends" in text
    ended = wait_until(
        lambda: [e for e in watcher.events if e.kind == 1 and e.episode_id == "loop-held"], "its end", 10.0
    )
    assert "while it was held: " in ended[0].detail
    wait_until(lambda: watcher.state == "done", "the policy to say so", 10.0)
    assert watcher.trigger(Names.CANCEL) == (True, "no episode was under way")
    assert not [e for e in watcher.events if e.episode_id == "loop-refused"]


def test_a_cancelled_episode_and_the_next_are_both_recorded(stack: Stack) -> None:
    watcher = stack.watcher
    start(stack, "loop-first")
    start(stack, "loop-second")
    ended = wait_until(
        lambda: [e for e in watcher.events if e.kind == 1 and e.episode_id == "loop-first"], "the first to end", 10.0
    )
    assert "policy/cancel was called" in ended[0].detail
    stack.processes.wait_for_log("recorder_node", "loop-first.mcap: ")
    episode = read_episode(stack.recordings / "loop-first.mcap")
    assert episode.steps >= 14 and episode.observations.shape[1] == 30


def swap(stack: Stack) -> str:
    """Let the server's link point to the other bundle, as a store does it; returns that one's id."""
    link = stack.link
    other = "bundle1" if link.readlink() == Path("bundle0") else "bundle0"
    beside = link.with_name(".new")
    beside.symlink_to(other)
    os.replace(beside, link)
    return load_bundle(link).manifest.bundle_id


def fly_across_a_swap(stack: Stack, episode_id: str) -> int:
    """Start an episode, swap, wait for a skill of the new bundle, or a hold; returns how many steps were before."""
    watcher = stack.watcher
    start(stack, episode_id)
    known, new = len(watcher.steps), swap(stack)
    stack.processes.wait_for_log("server", f"now serves bundle {new[:12]}")
    wait_until(
        lambda: watcher.state == "held" or sum(s.bundle_id == new for s in watcher.steps[known:]) > SKILL_STEPS,
        "a skill of the new bundle",
        START_S,
        lambda: watcher.status[-1],
    )
    return known


def test_a_swap_in_mid_episode_misses_no_tick_and_the_recording_says_whose_each_skill_was(stack: Stack) -> None:
    watcher = stack.watcher
    for attempt in range(3):  # a pause of a busy machine is not the swap's; what a swap costs would show in each
        name, old = f"loop-swapped-{attempt}", load_bundle(stack.link).manifest.bundle_id
        known = fly_across_a_swap(stack, name)
        missed = [step.reason for step in watcher.steps[known:] if step.kind not in ("act", RETRACE)]
        if not missed:
            break
    new = load_bundle(stack.link).manifest.bundle_id
    assert watcher.status[-1].bundle_id == new
    assert not missed, missed
    assert watcher.trigger(Names.CANCEL)[0]
    ended = wait_until(lambda: [e for e in watcher.events if e.kind == 1 and e.episode_id == name], "its end")
    before = sum(s.kind in ("missed", "hold") for s in watcher.steps[:known] if s.episode_id == name)
    assert ended[0].missed_ticks == before, "more were missed since"
    stack.processes.wait_for_log("recorder_node", f"{name}.mcap: ")
    episode = read_episode(stack.recordings / f"{name}.mcap")
    assert episode.bundle_ids is not None and episode.meta.bundle_id == old
    assert episode.kinds is not None
    whose = episode.bundle_ids[episode.kinds[:-1] != RETRACE].tolist()  # nobody's on the way back
    turns = [(a, b) for a, b in pairwise(whose) if a != b and a]
    assert turns == [(old, new)]
    begun, why, _ = watcher.start_episode("kitchen", 1, "loop-after")
    wait_until(lambda: [e for e in watcher.events if e.episode_id == "loop-after"], why or "its start", ANSWER_S)
    assert begun and next(e for e in watcher.events if e.episode_id == "loop-after").bundle_id == new
    assert watcher.trigger(Names.CANCEL)[0]


def test_a_person_takes_over_acts_and_hands_back_and_the_recording_says_so(stack: Stack) -> None:
    watcher, name = stack.watcher, "loop-helped"
    limits = load_limits("panda")
    jogging = JointState(name=[limits.joint_names[6]], velocity=[-0.3])  # turns the hand, wherever the arm is
    publisher = watcher.node.create_publisher(JointState, Names.TELEOP, EVENT_QOS)
    try:

        def jog(steps: int) -> None:
            """Publish at each control step that is heard of, for so many."""
            known = len(watcher.steps)
            told = known - 1

            def jogged() -> bool:
                nonlocal told
                if len(watcher.steps) > told:
                    told = len(watcher.steps)
                    publisher.publish(jogging)
                return told >= known + steps

            wait_until(jogged, f"{steps} control steps", poll_s=0.005)

        start(stack, name, steps=2)  # before this policy, which knows nothing, leads the arm into the furniture
        jog(1)  # nobody has taken over: it moves nothing
        assert watcher.call(SetBool, Names.INTERVENE, SetBool.Request(data=True)).success
        wait_until(lambda: watcher.state == "held", "the policy to be held")
        jog(20)
        by_hand = [s for s in watcher.steps if s.episode_id == name and s.kind == "intervene"]
        assert len(by_hand) >= 10, [s.kind for s in watcher.steps[-25:]]
        told = np.array([s.action_applied for s in by_hand[4:] if not s.verdict and not s.reason])
        assert len(told) >= 5
        assert abs(np.median(told[:, 6]) + 0.3 / load_domain().action.scale_rad_s) < 0.01
        assert np.abs(told[:, :6]).max() < 0.02
        assert watcher.call(SetBool, Names.INTERVENE, SetBool.Request(data=False)).success
        known = len(watcher.steps)
        jog(5)
        assert not [s for s in watcher.steps[known + 2 :] if s.kind == "intervene"]
        assert speed(stack) < REST_RAD_S
        wait_until(lambda: watcher.trigger(Names.RESUME)[0], "the policy to go on", 10.0)
        acts(stack, name, 5)
        assert watcher.trigger(Names.CANCEL)[0]
        stack.processes.wait_for_log("recorder_node", f"{name}.mcap: ")
        episode = read_episode(stack.recordings / f"{name}.mcap")
        assert episode.kinds is not None and episode.shown_T.sum() == (episode.kinds[:-1] == "intervene").sum() >= 10
        answer = watcher.call(SetBool, Names.INTERVENE, SetBool.Request(data=True))
        assert not answer.success and "no episode is under way" in answer.message
    finally:
        watcher.node.destroy_publisher(publisher)


def test_ending_the_policy_node_brakes_and_ends_its_episode(stack: Stack) -> None:
    start(stack, "loop-last")
    begun = time.monotonic()
    assert stack.processes.end("policy_node") == 0
    print(f"policy node ended in {time.monotonic() - begun:.2f} s")
    wait_until(lambda: speed(stack) < REST_RAD_S, "the arm to rest", 5.0)
    assert any(e.kind == 1 and e.episode_id == "loop-last" for e in stack.watcher.events)
