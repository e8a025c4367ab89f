"""A node ends on SIGINT and SIGTERM, with code 0, whatever threads its imports made; once asked is enough."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import START_S, wait_until

POOLS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
READY = {"twin_node": "ready under the names", "gate_node": "gate ready"}


def threads(process: subprocess.Popen[bytes]) -> int:
    return len(list(Path(f"/proc/{process.pid}/task").iterdir()))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_nodes_whose_libraries_made_threads_end_clean(sent: signal.Signals, ros_domain: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in POOLS}
    environment |= {"OPENBLAS_NUM_THREADS": "4", "PYTHONUNBUFFERED": "1"}
    nodes = {}
    for name in READY:
        with (tmp_path / name).open("wb") as log:
            command = [sys.executable, "-m", f"skimo_ros.{name}"]
            nodes[name] = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        for name, words in READY.items():
            log = tmp_path / name
            wait_until(
                lambda log=log, words=words: words in log.read_text(), f"{name} to be up", START_S, log.read_text
            )
            assert threads(nodes[name]) > 4
        for name, process in nodes.items():
            process.send_signal(sent)
            process.send_signal(sent)  # a terminal and a launcher both say so
            assert process.wait(20) == 0, (tmp_path / name).read_text()
            assert "Traceback" not in (tmp_path / name).read_text()
    finally:
        for process in nodes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
