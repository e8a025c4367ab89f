"""A bundle's networks back in torch, so that learning goes on from what drives, without the run that made it.

The inverse of `graphs.py`: layers stand in a graph in the order in which they were built, so they are read off its
nodes in that order. An ELU that was rewritten left its -1 in the next layer's bias, which is taken out again; what
float32 loses there is 1e-6. The slow copy of the encoder, which no bundle holds, begins as the encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.domain.bodies import objects_in_base
from skimo_core.domain.domain import Domain
from skimo_core.domain.robot import load_limits
from skimo_server.bundle import Bundle, load_bundle, resolve_bundle
from skimo_server.graphs import parse_graph
from skimo_server.parity import unpack

from .checkpoint import CHECKPOINT, save_checkpoint
from .export import TrainedRun, allowances, measure_parity, parity_cases
from .models.agent import SkillModel
from .models.networks import SegmentEncoder
from .recipes import Recipe

Array = npt.NDArray[np.float32]


class Layers:
    """The layers of a graph, in order: `next("Gemm")` gives the constants of the next node of that kind."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        kinds: dict[str, list[list[Array]]] = {}
        for node in graph.node:
            kinds.setdefault(node.op_type, []).append([weights[name] for name in node.input if name in weights])
        self._left: Mapping[str, Iterator[list[Array]]] = {kind: iter(found) for kind, found in kinds.items()}

    def next(self, kind: str) -> list[Array]:
        """Raises SpecError where there is none left."""
        found = next(self._left.get(kind, iter(())), None)
        if found is None:
            raise SpecError(
                f"a graph has fewer {kind} nodes than its recipe's networks; was it made by another version?"
            )
        return found


def model_of(bundle: Bundle, domain: Domain) -> tuple[SkillModel, Recipe]:
    """The model of a bundle, and the recipe that made it.

    Raises:
        SpecError: it was made by another version of the recipes, or its graphs answer otherwise than the model.
    """
    recipe = Recipe.from_dict(bundle.manifest.recipe)
    graphs = {name: Layers(parse_graph(name, data).graph) for name, data in bundle.graphs.items()}
    model = SkillModel(recipe.model)
    model.mount(load_limits(domain.robot), objects_in_base(domain))
    with torch.no_grad():
        _read(model, graphs)
    check_parity(bundle, model.eval(), recipe)
    return model, recipe


def _read(model: SkillModel, graphs: Mapping[str, Layers]) -> None:
    seen = graphs["encode"]
    for mean, std in (("mean_O", "std_O"), ("mean_P", "std_P"))[: 1 if model.hand is None else 2]:
        getattr(model, mean).copy_(_tensor(seen.next("Sub")[0]))
        getattr(model, std).copy_(_tensor(seen.next("Div")[0]))
    _fill(model.encoder, seen)
    _fill(model.prior_net, graphs["prior"], folded=True)
    _fill(model.decoder, graphs["decode"], folded=True)
    if model.config.value_octaves:
        for _ in (layer for layer in model.decoder if isinstance(layer, nn.Linear)):
            graphs["goal_value"].next("Gemm")
    _fill(model.value.net, graphs["goal_value"], folded=True)
    if model.low_encoder is not None:
        _fill(model.low_encoder, graphs["skill_policy"])
        for _ in (layer for layer in model.low_encoder if isinstance(layer, nn.Linear)):
            graphs["skill_encoder"].next("Gemm")
    _fill(model.skill_policy.net, graphs["skill_policy"])
    if isinstance(model.skill_encoder, SegmentEncoder):
        _fill(model.skill_encoder.net, graphs["skill_encoder"])
    else:
        _fill_lstm(model.skill_encoder.lstm, graphs["skill_encoder"])
        _fill(model.skill_encoder.head, graphs["skill_encoder"])
    if model.distilled is not None:
        _fill(model.distilled.members[0], graphs["dynamics"], folded=True)
    for member in model.dynamics.members:
        _fill(member, graphs["dynamics" if model.distilled is None else "ensemble"], folded=True)
    if model.heads is not None:
        _fill(model.heads.reward, graphs["reward"], folded=True)
        for net in (model.heads.policy, *model.heads.critics):  # in which order `value` asks them
            _fill(net, graphs["value"], folded=True)


def _fill(net: nn.Module, layers: Layers, *, folded: bool = False) -> None:
    """Gives an mlp its weights; `folded`: its graph was built with `fast_elu`."""
    assert isinstance(net, nn.Sequential)
    shift = 0.0
    for layer in net:
        if isinstance(layer, nn.Linear):
            weight, bias = (array.astype(np.float64) for array in layers.next("Gemm"))
            if weight.T.shape != tuple(layer.weight.shape):
                raise SpecError(f"a layer is {weight.T.shape}, its recipe's {tuple(layer.weight.shape)}")
            layer.weight.copy_(_tensor(weight.T))
            layer.bias.copy_(_tensor(bias + shift * weight.sum(0)))
            shift = 0.0
        elif isinstance(layer, nn.LayerNorm):
            scale, offset = layers.next("LayerNormalization")
            layer.weight.copy_(_tensor(scale))
            layer.bias.copy_(_tensor(offset))
        elif isinstance(layer, nn.ELU) and folded:
            shift = 1.0


def _fill_lstm(lstm: nn.LSTM, layers: Layers) -> None:
    """Gates stand as input, output, forget, cell in ONNX, as input, forget, cell, output in torch."""

    def gates(matrix: Array) -> Tensor:
        i, o, f, c = np.split(matrix, 4)
        return _tensor(np.concatenate([i, f, c, o]))

    w, r, both = (array[0] for array in layers.next("LSTM"))
    for parameter, value in zip(lstm.parameters(), (w, r, *np.split(both, 2))):
        parameter.copy_(gates(value))


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def check_parity(bundle: Bundle, model: SkillModel, recipe: Recipe) -> None:
    """Holds the model's answers to the bundle's recorded inputs against the bundle's own graphs.

    Raises:
        SpecError: they differ.
    """
    run = as_run(bundle, model, recipe)
    cases = {name: case for name, case in parity_cases(run).items() if name in bundle.graphs}
    allowed = allowances(run, cases)
    for name, entry in measure_parity(cases, dict(bundle.graphs))["graphs"].items():
        if entry["max_error"] > allowed[name]:
            raise SpecError(
                f"{name}.onnx answers otherwise than the networks read from it, by {entry['max_error']:.2e}: another "
                "version made the bundle; go on from its run with `skimo pretrain --start-from`"
            )


def as_run(bundle: Bundle, model: SkillModel, recipe: Recipe) -> TrainedRun:
    """The model as a run that ended with it, with the bundle's recorded inputs."""
    manifest = bundle.manifest
    recorded = unpack(bundle.parity, manifest.sizes, manifest.graphs)
    return TrainedRun(
        model=model,
        recipe=recipe,
        state={"update": int(manifest.recipe.get("updates_done", 0))},
        parity_observations_BHO=_tensor(recorded["observations"]),
        parity_actions_BHA=_tensor(recorded["actions"]),
    )


def write_run(model: SkillModel, recipe: Recipe, folder: Path, *, bundle_id: str = "") -> None:
    """Write what `Pretrainer.start_from` reads; `bundle_id`: of the bundle that these networks are."""
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        folder,
        modules={"model": model, "target": copy.deepcopy(model.encoder)},
        optimizer=None,
        generators={},
        state={"update": 0, "recipe": recipe.to_dict(), "parent_id": bundle_id or None},
    )


def run_of(given: str, domain: Domain, folder: Path) -> Path:
    """What `Pretrainer.start_from` reads, of a run's folder, a bundle's, or the name of a bundle that ships.

    Args:
        folder: where a bundle's networks are written as a run.

    Raises:
        SpecError: neither, or a bundle that sees other channels than the domain's, or of another version.
        BundleError: the bundle is damaged.
    """
    if (Path(given) / CHECKPOINT).is_file():
        return Path(given)
    try:
        source = resolve_bundle(given)
    except BundleError as error:
        raise SpecError(f"{given!r} is no run ({CHECKPOINT} is not there), and {error}") from None
    bundle = load_bundle(source)
    if bundle.manifest.observation.names != domain.observation.names:
        raise SpecError(
            f"bundle {given} sees the channels of domain {bundle.manifest.domain}, not those of {domain.named}; start "
            "from one that was made for it, or from nothing"
        )
    model, recipe = model_of(bundle, domain)
    write_run(model, recipe, folder, bundle_id=bundle.manifest.bundle_id)
    return folder
