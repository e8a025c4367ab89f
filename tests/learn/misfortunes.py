"""What befalls a learner at some place in its code: functions for processes of their own (support.forked)."""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

import torch.distributed.run

from skimo_learn import finetune as module
from skimo_learn.finetune_cli import finetune


def killed_at(place: str, *asked: str) -> int:
    """`skimo finetune`, ended by SIGKILL where it would call `place` ("module:name", "module:class.name")."""
    owner, name, _ = _found(place)
    setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    return impatient(*asked)


def out_of_room_at(place: str, bound: int, *asked: str) -> int:
    """`skimo finetune`; from its call of `place` on no file may have more than `bound` bytes."""
    owner, name, then = _found(place)

    def full(*given: Any, **more: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bound, resource.RLIM_INFINITY))
        return then(*given, **more)

    setattr(owner, name, full)
    return impatient(*asked)


def impatient(*asked: str) -> int:
    """`skimo finetune`, but it doesn't let everybody go first: beside other tests it would wait for them."""
    module.be_polite = lambda: None
    return finetune(list(asked))


def _found(place: str) -> tuple[Any, str, Callable[..., Any]]:
    """Who has it, its name there, and what it is."""
    found = re.fullmatch("(.*)[.:](.*)", place)
    assert found is not None
    owner = resolve_name(found[1])
    return owner, found[2], getattr(owner, found[2])


def torchrun(*words: str) -> None:
    """The command, begun where torch is imported."""
    torch.distributed.run.main(["--standalone", *words])
