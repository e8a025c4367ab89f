"""Where a result comes from: command, commit, seed, processor, versions. Never a host name, a user or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "torch", "onnxruntime", "mujoco", "gymnasium-robotics")
GIT_TIMEOUT_S = 10.0


def commit() -> str:
    """The source's commit, with "+changes" when the working tree differs; "unknown" outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head}+changes" if changed else head


def provenance(command: str, seed: int | None, packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """What a committed result must name; `command` is how to make it again, with relative paths."""
    installed = {name: version for name in packages if (version := _version(name))}
    return {
        "command": command,
        "commit": commit(),
        "seed": seed,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **installed},
    }


def cpu_model() -> str:
    """The processor's name as its maker gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S
    )
    return run.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
