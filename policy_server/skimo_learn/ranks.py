"""Several processes that train as one: what `torchrun` starts, each with its share of every batch.

    torchrun --nproc-per-node 2 --no-python skimo pretrain ...

Every rank holds the same weights and the same generator. A batch and its noise are drawn whole on each of them, so that
they are those of a single process; a rank keeps its own rows (`drawing`), and gradients and figures are averaged
(`average`) before each step. So the losses are a single process's, but for the order in which float32 adds up. What is
a mean over some of the rows only is divided by how many there are on all ranks (`total`).

Rank 0 reads data and checkpoint and sends them to the others (`bytes_of_first`), and alone leaves files: the others
need the command, and neither data nor a shared disk. Where one rank ends, the others end with an error: a collective
whose peer is gone raises SetupError, and one that hangs does so after TIMEOUT. Started without torchrun, or as one
rank, nothing here does anything.

CPU tensors go through gloo, CUDA tensors through NCCL; neither asks anybody who they are, so their ports are for a
network that is trusted.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.overrides import TorchFunctionMode

from skimo_core.contract.errors import SetupError, SpecError

TIMEOUT = timedelta(minutes=30)
"""Of one collective: as long as rank 0 may take to read its data while the others wait."""


def count() -> int:
    """How many ranks train together; 1 outside of `together`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Whether this is rank 0, or the only process."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Within it the ranks that torchrun started know of each other; only rank 0 prints. May be entered again inside.

    Args:
        device: of training; on CUDA each rank of a machine takes a GPU of its own.

    Raises:
        SetupError: they don't find each other, or there are more ranks than GPUs.
    """
    if dist.is_initialized() or not dist.is_torchelastic_launched() or os.environ.get("WORLD_SIZE") == "1":
        yield
        return
    if device.type == "cuda":
        here, gpus = _of_this_machine(), torch.cuda.device_count()
        if here > gpus:
            raise SetupError(f"{here} ranks on a machine with {gpus} GPUs; start one each, or use --device cpu")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    with _talking():
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
        if _of_this_machine() == size:  # torchrun --max-restarts keeps the store, with what ranks that died said there
            store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(sys.stdout if first() else nowhere):
            yield
    finally:
        dist.destroy_process_group()


def threads(wanted: int) -> int:
    """This rank's part of the threads that a machine's ranks share; at least 1."""
    return max(1, wanted // _of_this_machine()) if count() > 1 else wanted


def share(batch: int, of: str) -> int:
    """How many rows of a batch are each rank's.

    Raises:
        SpecError: they can't be shared alike.
    """
    if batch % count():
        raise SpecError(
            f"{of} batch is {batch}, must be a multiple of the number of ranks, {count()}; set {of}.batch, or start "
            "another number"
        )
    return batch // count()


def drawing(generator: torch.Generator) -> AbstractContextManager[object]:
    """Within it, what is drawn from `generator` for this rank's rows is drawn for the whole batch, and cut to them."""
    return nullcontext() if count() == 1 else _Whole(generator)


class _Whole(TorchFunctionMode):
    """Draws for all ranks' rows, which lie one rank's after another's along the first dimension."""

    DRAWS = torch.rand, torch.randn, torch.randint

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self.DRAWS or kwargs.get("generator") is not self._generator:
            return func(*args, **kwargs)
        *before, size = args
        assert isinstance(size, tuple), "a draw names its size as a tuple, last of what is unnamed"
        whole: Tensor = func(*before, (size[0] * count(), *size[1:]), **kwargs)
        return whole[dist.get_rank() * size[0] :][: size[0]]


def average(tensors: Iterable[Tensor]) -> None:
    """Replace tensors, in place, by their mean over the ranks, which is the same bits on each."""
    if count() == 1:
        return
    held = list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in held])
    with _talking():
        dist.all_reduce(flat)
    flat /= count()
    for tensor, mean in zip(held, flat.split([tensor.numel() for tensor in held])):
        tensor.copy_(mean.view_as(tensor))


def total(tensor: Tensor) -> Tensor:
    """The sum over all ranks."""
    if count() == 1:
        return tensor
    summed = tensor.clone()
    with _talking():
        dist.all_reduce(summed)
    return summed


def number_of_first(value: float) -> float:
    """Rank 0's, on all: what a clock says, or which way to go, is not the same everywhere."""
    if count() == 1:
        return value
    told = torch.tensor([value], dtype=torch.float64)
    with _talking():
        dist.broadcast(told, src=0)
    return float(told)


def bytes_of_first(data: bytes) -> bytes:
    """Rank 0's, on all; what the others give is not looked at."""
    if count() == 1:
        return data
    told = torch.empty(int(number_of_first(len(data))), dtype=torch.uint8)
    if first() and data:
        told = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    with _talking():
        dist.broadcast(told, src=0)
    return told.numpy().tobytes()


@contextmanager
def folder_of_first(folder: Path, *files: str) -> Iterator[Path]:
    """Rank 0's folder; on another rank a temporary one of the same name, which begins with copies of these files."""
    if count() == 1:
        yield folder
        return
    with nullcontext() if first() else tempfile.TemporaryDirectory(prefix="skimo-rank-") as made:
        mine = folder if made is None else Path(made) / folder.name
        if made is not None:
            mine.mkdir()
        for name in files:
            file = mine / name
            if not number_of_first(file.is_file()):
                continue
            data = bytes_of_first(file.read_bytes() if first() else b"")
            if not first():
                file.write_bytes(data)
        yield mine


def agree(what: str, text: str) -> None:
    """Raises SpecError unless all ranks were given the same."""
    if count() == 1:
        return
    digest = hashlib.sha256(text.encode()).digest()
    same = torch.tensor([digest == bytes_of_first(digest)], dtype=torch.int32)
    if int(total(same)) != count():
        raise SpecError(f"the {count()} ranks were not given the same {what}; start all of them by the same command")


def _of_this_machine() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def _talking() -> Iterator[None]:
    """What a collective says of a peer that is gone, in words."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise SetupError(
            f"another rank of this training can't be reached ({reason}); see what it printed: the same command goes on "
            "from the last checkpoint"
        ) from error
