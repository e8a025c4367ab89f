"""The process in which a bundle is vetted: reads it from standard input, tells its verdict in JSON lines.

    in:   one JSON line {job, cpu_s, memory_bytes, sizes, joints, files: [[name, bytes], ...]}, then the files
    out:  {"stage": what is being done} ..., then {"refused": why} or {"passed": {cpu_s, peak_bytes, answers}}

It limits itself before it reads anything: processor time, address space, no files written; it lets others go first, for
an arm may be moving. What it can't survive is told by its last stage and by how it ended. Run by `vetting.py`, never by
hand.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

# how the readers and ONNX Runtime word it
NICENESS = 10
OUT_OF_MEMORY = ("alloc failed", "bad_alloc", "bad allocation", "allocate memory", "failed to map")


def main() -> int:
    """Vets one bundle."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    source: BinaryIO = sys.stdin.buffer
    header = json.loads(source.readline(1 << 16))
    cpu_s, memory = int(header["cpu_s"]), int(header["memory_bytes"])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    data = resource.getrlimit(resource.RLIMIT_DATA)[1]  # a server's own ceiling is not its vetting's
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    stage("reading it")
    try:
        files = {name: source.read(size) for name, size in header["files"]}
        found = vet(header, files)
    except MemoryError:
        say({"refused": None, "memory": True})
    except Exception as error:  # this process's border: whatever a hostile file sets off is a refusal
        from skimo_core.contract.errors import BundleError

        known = isinstance(error, BundleError)
        text = str(error) if known else f"the vetting failed on it ({type(error).__name__}: {str(error)[:200]})"
        say({"refused": text, "known": known, "memory": any(word in text for word in OUT_OF_MEMORY)})
    else:
        used = resource.getrusage(resource.RUSAGE_SELF)
        say({"passed": {"cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": peak_bytes(), "answers": found}})
    return 0


def peak_bytes() -> int:
    """The most memory that this process held; getrusage would tell its parent's where that held more at the fork."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def vet(header: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """All checks, those that run nothing first; returns the graphs' own answers where they are asked for."""
    from .graphs import check_graph
    from .parity import PARITY_FILE, unpack

    sizes = header["sizes"]
    graphs = {name.removesuffix(".onnx"): data for name, data in files.items() if name != PARITY_FILE}
    for name, data in graphs.items():
        stage(f"{name}.onnx: reading it")
        check_graph(name, data, sizes)
    stage(f"{PARITY_FILE}: reading it")
    from .trial import answers, try_graphs  # ONNX Runtime comes in only now

    if header["job"] == "answer":
        recorded = _recorded(files[PARITY_FILE])
        return {name: value.tolist() for name, value in answers(graphs, recorded, stage).items()}
    try_graphs(graphs, unpack(files[PARITY_FILE], sizes, graphs), int(header["joints"]), stage)
    return {}


def _recorded(data: bytes) -> dict[str, Any]:
    from .parity import read_arrays

    return read_arrays(data)


def stage(text: str) -> None:
    """Tells what comes next, in case it's the last that is heard."""
    say({"stage": text})


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
