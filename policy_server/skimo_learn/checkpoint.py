"""Saving a run so that it can go on as if it had never stopped: weights, optimiser, random states, counters.

One safetensors file, whose header carries the JSON part; written beside and moved into place, so that a kill leaves
either the old or the new checkpoint. No pickle.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from skimo_core.contract.errors import SetupError, SpecError

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(
    run: Path,
    *,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer | None,
    generators: dict[str, torch.Generator],
    state: dict[str, Any],
    extra: dict[str, Tensor] | None = None,
) -> None:
    """Write RUN/checkpoint.safetensors; `state` is plain JSON, `extra` further tensors by name.

    Raises:
        SetupError: it can't be written; what was there is as it was.
    """
    tensors: dict[str, Tensor] = {k: v.cpu().contiguous() for k, v in (extra or {}).items()}
    for prefix, module in modules.items():
        tensors |= {f"{prefix}/{k}": v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    if optimizer is not None:
        for index, entry in optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{index}/{k}": torch.as_tensor(v).cpu().clone() for k, v in entry.items()}
    tensors |= {f"rng/{name}": g.get_state() for name, g in generators.items()}
    temporary = run / f".{CHECKPOINT}.part"
    try:
        save_file(tensors, temporary, metadata={"state": json.dumps(state, sort_keys=True)})
        os.replace(temporary, run / CHECKPOINT)
    except (OSError, SafetensorError) as error:
        raise SetupError(f"{run / CHECKPOINT} can't be written ({error}); make room, or choose another --out") from None


def read_checkpoint(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors by name and the JSON state.

    Raises:
        SpecError: no checkpoint there, or a damaged one.
    """
    path = run / CHECKPOINT
    if not path.is_file():
        raise SpecError(f"{run.name}: holds no {CHECKPOINT}; give the folder that `skimo pretrain --out` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, json.loads((file.metadata() or {})["state"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise SpecError(f"{run.name}/{CHECKPOINT}: can't be read ({error}); train again or restore a copy") from None


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}/")}


def load_weights(module: nn.Module, tensors: dict[str, Tensor], run: Path) -> None:
    """Give a module its weights.

    Raises:
        SpecError: they are not this module's.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise SpecError(
            f"{run.name}/{CHECKPOINT}: its weights are not those of its recipe in this version ({detail}); train again"
        ) from None


def restore_adam(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the optimiser's moments and counters back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part(tensors, "adam").items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
