"""Learning's side of `skimo doctor`: torch, and where it would train. It loads no torch in this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib import util

from skimo_core.setup.finding import Asked, Check, Finding, fail, ok, warn

DEADLINE_S = 25.0
"""Importing torch for the first time since the machine's start reads a gigabyte."""
TRIAL = """
import torch, safetensors, tqdm
kind = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
print(torch.__version__, torch.get_num_threads(), kind, sep="|")
"""


def torch(asked: Asked) -> Iterable[Finding]:
    """Whether this interpreter can train."""
    if util.find_spec("torch") is None:
        remedy = "pip install 'skimo_policy_server[learn]' where you train; serving needs none"
        yield warn("learning", "torch is not installed: no pretrain, finetune and export here", remedy)
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S - 1.0,
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"torch was not imported within {DEADLINE_S - 1.0:g} s"
        yield warn("learning", what, "ask again on a quieter machine")
        return
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        remedy = "pip install --force-reinstall 'skimo_policy_server[learn]'"
        yield fail("learning", f"torch can't be used: {why}", remedy)
        return
    version, threads, gpu = done.stdout.strip().split("|")
    yield ok("learning", f"torch {version}, {gpu or f'on {threads} threads (no CUDA device)'}")


CHECKS = (Check(name="learning", look=torch, deadline_s=DEADLINE_S),)
