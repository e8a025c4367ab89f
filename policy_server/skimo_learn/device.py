"""Where training runs, and how an update is launched there.

On a GPU an update of these small networks is a few hundred kernels of microseconds each, so what costs is launching
them: the whole update, from drawing the batch to Adam, is captured once as a CUDA graph and then replayed. The same
code runs uncaptured on a CPU. What is captured may look at no value (no `.item()`, no boolean indexing). Several ranks
(ranks.py) run uncaptured: they speak to each other in mid-update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from skimo_core.contract.errors import SetupError, SpecError

from . import ranks

T = TypeVar("T", Tensor, dict[str, Tensor])
DEVICES = ("auto", "cpu", "cuda")
WARM_UP_CALLS = 3  # before a capture: lazily made handles and workspaces, and Adam's state, must be there


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one.

    Raises:
        SpecError: no such name.
        SetupError: "cuda", and torch finds none.
    """
    if name not in DEVICES:
        raise SpecError(f"device is {name!r}, must be one of {', '.join(DEVICES)}")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise SetupError(
            f"device is cuda, but torch {torch.__version__} finds no GPU here; use --device cpu, or install a driver "
            "and a torch that is built for it"
        )
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def make_adam(parameters: Iterable[nn.Parameter], learning_rate: float, *, eps: float = 1e-8) -> torch.optim.Adam:
    """Fused Adam; on CUDA one that can be captured, with its learning rate in a tensor."""
    owned = list(parameters)
    device = owned[0].device
    if device.type != "cuda":
        return torch.optim.Adam(owned, lr=learning_rate, eps=eps, fused=True)
    rate = torch.tensor(learning_rate, device=device)
    return torch.optim.Adam(owned, lr=rate, eps=eps, fused=True, capturable=True)


class Repeated(Generic[T]):
    """An update that is called again and again; each call does it once.

    Captured, it answers with the same tensors at each call, which the next call overwrites.
    """

    def __init__(self, update: Callable[[], T], generator: torch.Generator, *, capture: bool) -> None:
        """Args: update: draws from `generator` alone; capture: as a CUDA graph, where the generator is CUDA's."""
        self._update, self._generator = update, generator
        self._capture = capture and generator.device.type == "cuda" and ranks.count() == 1
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: T | None = None

    def __call__(self) -> T:
        self._calls += 1
        if not self._capture:
            return self._update()
        if self._calls <= WARM_UP_CALLS:
            return self._aside()
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            self._graph.register_generator_state(self._generator)
            with torch.cuda.graph(self._graph):
                self._result = self._update()
        self._graph.replay()
        assert self._result is not None
        return self._result

    def _aside(self) -> T:
        """Uncaptured, on a stream of its own, as a capture must be preceded."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._update()
        torch.cuda.current_stream().wait_stream(stream)
        return result
