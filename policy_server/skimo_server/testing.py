"""Small bundles with random weights, for tests and benchmarks: the real format and the real graphs, nothing learned.

`toy_graphs` builds multilayer perceptrons (ELU written as Relu + Exp, as the exporter does it) and one LSTM, from a
seed; `make_bundle` writes them as a complete bundle that `load_bundle` accepts. Nothing here is meant to be good at
anything.

Dimensions: B batch, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from skimo_core.contract.specs import ActionSpec, Named, ObservationSpec

from .bundle import Manifest, write_bundle
from .graph_builder import GraphBuilder
from .graphs import SIGNATURES
from .parity import FloatArray, recorded_inputs
from .planner_config import PlannerConfig

TOY_ROWS = 32
TOY_GRAPHS = ("encode", "prior", "dynamics", "decode", "goal_value", "skill_policy", "skill_encoder")
TASK_GRAPHS = ("reward", "value", "task_policy")
GUARD_GRAPHS = ("ensemble",)


class RandomGraph(GraphBuilder):
    """One graph of the bundle, with random weights."""

    def __init__(self, name: str, sizes: dict[str, int], rng: np.random.Generator) -> None:
        super().__init__({port.name: [sizes[d] for d in port.dims[1:]] for port in SIGNATURES[name].inputs})
        self.name, self.sizes, self.rng = name, sizes, rng

    def weight(self, *shape: int, gain: float = 1.0) -> str:
        values = self.rng.standard_normal(shape) * gain / np.sqrt(shape[-2] if len(shape) > 1 else 1)
        return self.constant(values)

    def elu(self, x: str) -> str:
        """ELU as max(x, 0) + exp(min(x, 0)) - 1: several times faster than ONNX Runtime's Elu kernel on batches."""
        tail = self.op("Sub", self.op("Exp", self.op("Min", x, self.constant(0.0))), self.constant(1.0))
        return self.op("Add", self.op("Relu", x), tail)

    def mlp(self, inputs: Sequence[str], widths: Sequence[int], *, gain: float = 1.0, to: str | None = None) -> str:
        x = inputs[0] if len(inputs) == 1 else self.op("Concat", *inputs, axis=1)
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            last = layer == len(widths) - 2
            weight, bias = self.weight(fan_in, fan_out, gain=gain), self.constant(np.zeros(fan_out))
            x = self.op("Gemm", x, weight, bias, to=to if last else None)
            x = x if last else self.elu(x)
        return x

    def build(self) -> bytes:
        made = {output for node in self.nodes for output in node.output}
        ports = [port for port in SIGNATURES[self.name].outputs if port.name in made]
        self.outputs = [self._value(port.name, [self.sizes[d] for d in port.dims[1:]]) for port in ports]
        return super().build()


def toy_graphs(
    sizes: dict[str, int],
    *,
    names: Collection[str] = TOY_GRAPHS,
    seed: int = 0,
    hidden: int = 16,
    layers: int = 1,
    disagreement: bool = False,
) -> dict[str, bytes]:
    """Returns graphs with random weights; `hidden` and `layers` set their size.

    A graph has the same weights whichever others are asked for.
    """
    rng = np.random.default_rng(seed)
    O, A, Z, D = (sizes[letter] for letter in "OAZD")  # noqa: E741
    middle = [hidden] * layers

    def graph(name: str) -> RandomGraph:
        return RandomGraph(name, sizes, rng)

    def normal(g: RandomGraph, features: str, width: int, body: Sequence[int]) -> None:
        g.mlp([features], [width, *body, Z], gain=0.5, to="mean")
        raw = g.mlp([features], [width, Z], gain=0.1)
        g.op("Exp", g.op("Clip", raw, g.constant(-5.0), g.constant(2.0)), to="std")

    built: dict[str, bytes] = {}
    g = graph("encode")
    g.mlp(["observation"], [O, hidden, D], to="latent")
    built[g.name] = g.build()
    g = graph("prior")
    normal(g, "latent", D, middle)
    built[g.name] = g.build()
    g = graph("dynamics")
    g.mlp(["latent", "skill"], [D + Z, *middle, D], to="next_latent")
    if disagreement:
        square = g.op("Mul", "skill", "skill")
        g.op("ReduceMean", square, axes=[1], keepdims=0, to="disagreement")
    built[g.name] = g.build()
    g = graph("decode")
    g.mlp(["latent"], [D, hidden, hidden, O], to="observation")
    built[g.name] = g.build()
    g = graph("goal_value")
    logit = g.mlp(["latent", "goal", "weight"], [D + 2 * O, *middle, 1], gain=0.3)
    g.op("Squeeze", g.op("Sigmoid", logit), g.constant(np.array([1])), to="value")
    built[g.name] = g.build()
    g = graph("skill_policy")
    raw = g.mlp(["observation", "skill"], [O + Z, *middle, A])
    g.op("Tanh", raw, to="action")
    built[g.name] = g.build()
    built["skill_encoder"] = _skill_encoder(graph("skill_encoder"), normal, hidden)
    g = graph("reward")
    earned = g.mlp(["latent", "skill"], [D + Z, *middle, 1], gain=0.3)
    g.op("Squeeze", earned, g.constant(np.array([1])), to="reward")
    built[g.name] = g.build()
    g = graph("value")
    earned = g.mlp(["latent"], [D, *middle, 1], gain=0.3)
    g.op("Squeeze", earned, g.constant(np.array([1])), to="value")
    built[g.name] = g.build()
    g = graph("task_policy")
    normal(g, "latent", D, middle)
    built[g.name] = g.build()
    g = graph("ensemble")
    g.mlp(["latent", "skill"], [D + Z, *middle, D], to="next_latent")
    g.op("ReduceMean", g.op("Mul", "skill", "skill"), axes=[1], keepdims=0, to="disagreement")
    built[g.name] = g.build()
    return {name: built[name] for name in names}


def _skill_encoder(g: RandomGraph, normal: Callable[..., None], hidden: int) -> bytes:
    """An LSTM over H steps whose last hidden state gives the skill's distribution."""
    width = g.sizes["O"] + g.sizes["A"]
    steps = g.op("Concat", "observations", "actions", axis=2)
    w, r = g.weight(1, 4 * hidden, width, gain=0.1), g.weight(1, 4 * hidden, hidden, gain=0.1)
    normal(g, g.last_of_lstm(steps, w, r, hidden=hidden), hidden, [])
    return g.build()


def toy_recorded(graphs: dict[str, bytes], sizes: dict[str, int], *, seed: int = 0) -> dict[str, FloatArray]:
    """Made-up inputs and the graphs' own answers, in place of what an exporter records."""
    from .trial import answers  # brings ONNX Runtime in

    rng, sizes = np.random.default_rng(seed), {"B": TOY_ROWS, **sizes}

    def normal(dims: str) -> FloatArray:
        return rng.standard_normal([sizes[letter] for letter in dims]).astype(np.float32)

    masks = (normal("BO") > 0.5).astype(np.float32)
    inputs = {
        "observations": normal("BHO"),
        "actions": np.tanh(normal("BHA")),
        "skills": np.tanh(normal("BZ")),
        "goals": normal("BO") * masks,
        "weights": masks / 0.3,
    }
    inputs = {name: value for name, value in inputs.items() if name in recorded_inputs(graphs)}
    return {**inputs, **answers(graphs, inputs)}


def toy_specs(observation: int = 30, action: int = 9) -> tuple[ObservationSpec, ActionSpec]:
    """Returns specs of the given sizes with made-up names."""
    joints, fingers = min(7, action), min(2, max(action - 7, 0))
    names = tuple(f"channel{i}" for i in range(observation))
    units = tuple("rad" if i < joints else "m" for i in range(observation))
    actions = tuple(f"action{i}" for i in range(action))
    return (
        ObservationSpec(names=names, units=units, joints=joints, fingers=fingers),
        ActionSpec(names=actions, scale_rad_s=2.0, rate_hz=12.5, joints=joints),
    )


def make_bundle(
    folder: Path | str,
    *,
    observation: ObservationSpec | None = None,
    action: ActionSpec | None = None,
    skill_horizon: int = 10,
    skill_dim: int = 10,
    latent_dim: int = 12,
    hidden: int = 16,
    layers: int = 1,
    seed: int = 0,
    disagreement: bool = False,
    names: Collection[str] = TOY_GRAPHS,
    planner: PlannerConfig | None = None,
    domain: Named | None = None,
    robot: Named | None = None,
) -> Manifest:
    """Writes a bundle of random networks (kitchen sizes unless told otherwise) and returns its manifest.

    Args:
        names: the graphs that it has. Its own planner scores by the goal value where it has one, else by the reward.
    """
    toy_observation, toy_action = toy_specs()
    observation, action = observation or toy_observation, action or toy_action
    sizes = {"H": skill_horizon, "O": observation.size, "A": action.size, "Z": skill_dim, "D": latent_dim}
    graphs = toy_graphs(sizes, names=names, seed=seed, hidden=hidden, layers=layers, disagreement=disagreement)
    score = "value" if "goal_value" in graphs else "reward"
    return write_bundle(
        folder,
        graphs=graphs,
        recorded=toy_recorded(graphs, sizes, seed=seed),
        observation=observation,
        action=action,
        skill_horizon=skill_horizon,
        skill_dim=skill_dim,
        latent_dim=latent_dim,
        domain=domain,
        robot=robot,
        planner=planner or PlannerConfig(samples=32, elites=8, horizon=3, policy_samples=4, score=score),
        recipe={"name": "random weights", "seed": seed},
    )
