"""The supervisor of `skimo up`, on tiny real processes: respawn, its cap, vital deaths, orderly stops."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from skimo_bringup.stack import OnExit, ProcessSpec, Ready
from skimo_bringup.supervise import Outcome, SuperviseConfig, Supervisor

FAST = SuperviseConfig(interrupt_timeout_s=5.0, terminate_timeout_s=5.0, respawn_delay_s=0.0, poll_s=0.005)
DEADLINE_S = 30.0

LIVE = "import signal\nprint('alive', flush=True)\nsignal.pause()"
QUIET_END = "import signal, sys\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(0))\nprint('alive', flush=True)\n"
QUIET_END += "while True: signal.pause()"


def spec(name: str, code: str, on_exit: OnExit = OnExit.STOP, **options: object) -> ProcessSpec:
    command = (sys.executable, "-c", textwrap.dedent(code))
    return ProcessSpec(name=name, command=command, on_exit=on_exit, **options)  # type: ignore[arg-type]


class Stage:
    """Runs a supervisor and lets a test react to the lines that it echoes."""

    def __init__(self, *processes: ProcessSpec, config: SuperviseConfig = FAST, log_folder: Path | None = None) -> None:
        self.lines: list[tuple[str, str]] = []
        self.reactions: list[Callable[[str, str], None]] = []
        self.supervisor = Supervisor(
            processes, environment=os.environ, echo=self._echo, config=config, log_folder=log_folder
        )

    def _echo(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        for react in self.reactions:
            react(name, line)

    def on_line(self, name: str, text: str, reaction: Callable[[], None]) -> None:
        self.reactions.append(lambda n, line: reaction() if (n, line) == (name, text) else None)

    def count(self, name: str, text: str) -> int:
        return self.lines.count((name, text))

    def run(self) -> Outcome:
        async def bounded() -> Outcome:
            return await asyncio.wait_for(self.supervisor.run(), DEADLINE_S)

        return asyncio.run(bounded())


def test_a_requested_stop_ends_everything_with_code_0_in_reverse_order() -> None:
    saying = "import signal, sys\ndef end(*_):\n    print('end', flush=True)\n    sys.exit(0)\n"
    saying += "signal.signal(signal.SIGINT, end)\nprint('alive', flush=True)\nwhile True: signal.pause()"
    stage = Stage(spec("first", saying), spec("second", saying))
    stage.on_line("second", "alive", lambda: stage.supervisor.request_stop("test"))
    outcome = stage.run()
    assert outcome == Outcome(exit_code=0, reason="test")
    assert next(name for name, line in stage.lines if line == "end") == "second"
    assert stage.supervisor.pids() == {}


def test_the_death_of_a_vital_process_ends_the_stack_and_is_named() -> None:
    stage = Stage(spec("server", QUIET_END, OnExit.RESPAWN), spec("gate_node", "print('why')\nraise SystemExit(3)"))
    outcome = stage.run()
    assert outcome.exit_code == 1
    assert outcome.reason == "gate_node died (exit code 3); its last lines:\n    why"
    assert stage.supervisor.pids() == {}


def test_a_clean_exit_of_a_vital_process_is_a_death_too() -> None:
    assert Stage(spec("policy_node", "pass")).run().reason == "policy_node died (exit code 0)"


def test_a_killed_process_is_started_again() -> None:
    stage = Stage(spec("server", QUIET_END, OnExit.RESPAWN, max_per_minute=3))

    def react() -> None:
        if stage.count("server", "alive") == 1:
            os.kill(stage.supervisor.pids()["server"], signal.SIGKILL)
        else:
            stage.supervisor.request_stop("came back")

    stage.on_line("server", "alive", react)
    assert stage.run() == Outcome(exit_code=0, reason="came back")
    assert ("up", "server died (signal SIGKILL); it is started again") in stage.lines


def test_more_deaths_in_a_minute_than_allowed_end_the_stack() -> None:
    stage = Stage(spec("recorder_node", "print('start')", OnExit.RESPAWN, max_per_minute=3))
    outcome = stage.run()
    assert outcome.exit_code == 1
    assert outcome.reason.startswith("recorder_node died 4 times within a minute (exit code 0)")
    assert stage.count("recorder_node", "start") == 4


def test_a_server_that_dies_before_it_is_ready_ends_the_stack(free_port: int) -> None:
    ready = Ready(port=free_port, timeout_s=20.0)
    stage = Stage(spec("server", "raise SystemExit('no bundle')", OnExit.RESPAWN, max_per_minute=3, ready=ready))
    outcome = stage.run()
    assert (outcome.exit_code, outcome.reason.splitlines()[-1].strip()) == (1, "no bundle")


def test_the_next_process_waits_for_the_port_of_the_one_before(free_port: int) -> None:
    listen = f"""
        import signal, socket, sys
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        print("binding", flush=True)
        server = socket.create_server(("127.0.0.1", {free_port}))
        while True: signal.pause()
    """
    stage = Stage(spec("server", listen, ready=Ready(port=free_port, timeout_s=20.0)), spec("next", QUIET_END))
    stage.on_line("next", "alive", lambda: stage.supervisor.request_stop("test"))
    assert stage.run().exit_code == 0
    assert stage.lines.index(("server", "binding")) < stage.lines.index(("next", "alive"))


def test_a_port_that_never_answers_ends_the_stack(free_port: int) -> None:
    impatient = replace(FAST, interrupt_timeout_s=0.1)  # it may be asked to end before it listens to that
    stage = Stage(spec("server", QUIET_END, ready=Ready(port=free_port, timeout_s=0.02)), config=impatient)
    assert stage.run().reason == f"server: nothing answers on port {free_port} after 0.02 s"


def test_one_that_ignores_interrupts_is_killed_and_named() -> None:
    deaf = "import signal\nfor n in (signal.SIGINT, signal.SIGTERM): signal.signal(n, signal.SIG_IGN)\n"
    deaf += "print('alive', flush=True)\nwhile True: signal.pause()"
    stage = Stage(spec("deaf", deaf), config=SuperviseConfig(interrupt_timeout_s=0.05, terminate_timeout_s=0.05))
    stage.on_line("deaf", "alive", lambda: stage.supervisor.request_stop("test"))
    assert stage.run() == Outcome(exit_code=1, reason="deaf did not stop when asked and had to be killed")


def test_helpers_may_end_by_themselves() -> None:
    stage = Stage(spec("spawner", "pass", OnExit.FINISH), spec("node", QUIET_END))
    ended, alive = ("up", "spawner ended (exit code 0)"), ("node", "alive")

    def react() -> None:
        if stage.count(*ended) and stage.count(*alive):
            stage.supervisor.request_stop("test")

    for line in (ended, alive):
        stage.on_line(*line, react)
    assert stage.run().exit_code == 0


def test_the_failure_of_a_helper_ends_the_stack_and_is_named() -> None:
    stage = Stage(spec("node", QUIET_END), spec("spawner", "raise SystemExit('no controller')", OnExit.FINISH))
    outcome = stage.run()
    assert outcome == Outcome(exit_code=1, reason="spawner died (exit code 1); its last lines:\n    no controller")


def test_what_fails_in_its_first_seconds_is_not_started_again() -> None:
    stage = Stage(spec("recorder_node", "raise SystemExit('no folder')", OnExit.RESPAWN, max_per_minute=3))
    outcome = stage.run()
    assert (outcome.exit_code, outcome.reason.splitlines()) == (
        1,
        ["recorder_node died (exit code 1); its last lines:", "    no folder"],
    )


def test_a_missing_program_is_named() -> None:
    missing = ProcessSpec(name="server", command=("no-such-program",), on_exit=OnExit.RESPAWN)
    assert Stage(missing).run().reason == "server: cannot start no-such-program: No such file or directory"


def test_output_and_process_ids_go_to_the_log_folder(tmp_path: Path) -> None:
    stage = Stage(spec("node", "print('hello')"), log_folder=tmp_path)
    stage.run()
    assert (tmp_path / "node.log").read_text() == "hello\n"
    assert "node" in (tmp_path / "pids.json").read_text()


def test_children_that_a_process_leaves_behind_die_with_it() -> None:
    parent = f"import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', {LIVE!r}])\n"
    parent += "print(child.pid, flush=True)\nchild.wait()"
    stage = Stage(spec("parent", parent))
    seen: list[int] = []

    def react(name: str, line: str) -> None:
        if name == "parent" and line.isdigit():
            seen.append(int(line))
        if name == "parent" and line == "alive":
            os.kill(stage.supervisor.pids()["parent"], signal.SIGKILL)

    stage.reactions.append(react)
    assert stage.run().exit_code == 1
    # the pipe is at its end, so nobody of the group lives: run() could not have returned otherwise
    assert seen and stage.supervisor.pids() == {}
