"""Where a figure comes from: command, commit, seed, processor and versions, for every result file.

Never a host name, a user or an absolute path.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "mujoco", "torch", "onnxruntime", "pyzmq", "gymnasium-robotics")
GIT_TIMEOUT_S = 5.0


def provenance(*, command: str | None = None, seed: int | None = None) -> dict[str, Any]:
    """Describe this run; `command` defaults to the program's name and arguments, its paths made relative."""
    return {
        "command": command or " ".join(_relative(part) for part in sys.argv),
        "commit": source_commit(),
        "seed": seed,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def source_commit() -> str:
    """The commit of the checkout that holds this file, "+changes" if tracked files differ; "unknown" outside one."""
    here = Path(__file__).resolve().parent
    commit = _git(here, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _relative(part: str) -> str:
    return Path(part).name if os.path.isabs(part) else part


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *args: str) -> str:
    try:
        run = subprocess.run(
            ["git", *args], cwd=folder, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
