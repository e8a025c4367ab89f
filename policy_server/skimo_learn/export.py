"""From a run to a bundle: graphs, a measured parity report, and how it was made.

The parity report compares torch with ONNX Runtime on held-out inputs (and what the networks make of them); an export
whose error |onnx - torch| / (1 + |torch|) exceeds `TOLERANCE` in any graph fails, unless rounding alone moves torch's
own answers as far (`allowances`). The same checkpoint gives the same bundle from any directory. Nothing in it is a
path. The first inputs and torch's answers to them go into the bundle, so that whoever loads it can ask its networks the
same.

Dimensions: B inputs, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.contract.specs import UNKNOWN, Named
from skimo_core.domain.domain import Domain
from skimo_core.domain.packed import pack
from skimo_core.domain.robot import RobotLimits
from skimo_server.bundle import Manifest, write_bundle
from skimo_server.kinds import SKIMO
from skimo_server.planner_config import PlannerConfig

from .checkpoint import load_weights, part, read_checkpoint
from .data import PARITY_SEED
from .graphs import bundle_graphs
from .models.agent import SkillModel
from .recipes import Recipe

TOLERANCE = 1e-5
ROUNDING, MOST = 4.0, 1e-4
"""Where one float32 step in the observations moves torch's own answer by more than a quarter of the tolerance, ONNX may
differ by so many times as much, but no more than MOST."""
RECORDED_INPUTS = 128  # of them go into the bundle
TOLERANCES = 0.05, 1.0  # of the recorded goals, in deviations

Case = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """A finished run: the model, its recipe, the checkpoint's JSON state and its parity inputs."""

    model: SkillModel
    recipe: Recipe
    state: dict[str, Any]
    parity_observations_BHO: Tensor
    parity_actions_BHA: Tensor


def load_run(run: Path) -> TrainedRun:
    """Read a run folder's checkpoint.

    Raises:
        SpecError: none there, damaged, of a version before goals had tolerances, or its training isn't finished.
    """
    tensors, state = read_checkpoint(run)
    recipe = Recipe.from_dict(state["recipe"])
    parity = part(tensors, "parity")
    if not state.get("finished") or not parity:
        raise SpecError(
            f"{run.name}: stopped at update {state['update']} of {recipe.pretrain.updates}; "
            "run `skimo pretrain` again with the same --out to finish it"
        )
    if "ranges" not in state:
        raise SpecError(
            f"{run.name}: an older version trained it, whose goal value reads no tolerances; train it again"
        )
    model = SkillModel(recipe.model)
    load_weights(model, part(tensors, "model"), run)
    return TrainedRun(
        model=model.eval(),
        recipe=recipe,
        state=state,
        parity_observations_BHO=parity["observations"],
        parity_actions_BHA=parity["actions"],
    )


def export_bundle(
    run: TrainedRun,
    folder: Path,
    domain: Domain,
    *,
    planner: PlannerConfig | None = None,
    robot: RobotLimits | None = None,
) -> Manifest:
    """Write the bundle of a finished run.

    Args:
        robot: whose limits its data obeyed, where the data doesn't say; where it does, it must be the same.

    Raises:
        SpecError: the run was made for another domain, or its data with another robot.
        BundleError: torch and ONNX disagree, or the bundle would be refused on loading.
    """
    if run.state["domain_digest"] != domain.digest:
        made_for = Named(name=run.recipe.domain, digest=run.state["domain_digest"])
        raise SpecError(f"this run was made for domain {made_for}, not {domain.named}; name that one with --domain")
    made_with = robot_of(run, robot)
    graphs = bundle_graphs(run.model)
    known = parity_cases(run)
    cases = {name: known[name] for name in graphs}
    parity, allowed = measure_parity(cases, graphs), allowances(run, cases)
    for name, entry in parity["graphs"].items():
        if entry["max_error"] > allowed[name]:
            raise BundleError(
                f"{name}.onnx: differs from torch by {entry['max_error']:.2e}, at most {allowed[name]:.1e}; please "
                "report it with the run's report.json"
            )
    c = run.model.config
    return write_bundle(
        folder,
        graphs=graphs,
        recorded=recorded_answers(run, cases),
        observation=domain.observation,
        action=domain.action,
        skill_horizon=c.horizon,
        skill_dim=c.skill,
        latent_dim=c.latent,
        kind=SKIMO,
        planner=planner,
        recipe={**run.recipe.to_dict(), "updates_done": run.state["update"]},
        parity={**parity, "reference": "torch", "inputs": RECORDED_INPUTS, "data": run.state["dataset_digests"]},
        dataset_digests=run.state["dataset_digests"],
        commit=run.state["commit"],
        domain=domain.named,
        robot=made_with,
        ranges=run.state["ranges"],
        parent_id=run.state.get("parent_id"),
        domain_files=pack(domain),
    )


def robot_of(run: TrainedRun, robot: RobotLimits | None) -> Named:
    """Whose limits the run's data obeyed: what the data says, else `robot`.

    Raises:
        SpecError: the data names another one than `robot`.
    """
    recorded = Named(**run.state.get("robot", {}))
    if not recorded.digest:
        return UNKNOWN if robot is None else robot.named
    if robot is not None and not robot.accepts(recorded.digest):
        raise SpecError(f"this run's data was recorded with robot {recorded}, not {robot.named}; leave --robot out")
    return recorded


def measure_parity(cases: Mapping[str, Case], graphs: dict[str, bytes]) -> dict[str, Any]:
    """Per graph, the largest |onnx - torch| / (1 + |torch|) over all inputs and outputs."""
    report = {}
    for name, (inputs, expected) in cases.items():
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(graphs[name], options, providers=["CPUExecutionProvider"])
        given = [np.asarray(a) for a in session.run(list(expected), {k: v.numpy() for k, v in inputs.items()})]
        errors = [np.abs(g - e.numpy()) / (1.0 + np.abs(e.numpy())) for g, e in zip(given, expected.values())]
        report[name] = {"max_error": float(f"{max(float(e.max()) for e in errors):.3g}"), "inputs": len(given[0])}
    return {"tolerance": TOLERANCE, "graphs": report}


def allowances(run: TrainedRun, cases: Mapping[str, Case]) -> dict[str, float]:
    """Per graph, how far ONNX may be from torch: `TOLERANCE`, or what rounding makes of it where that is more."""
    moved = replace(run, parity_observations_BHO=_next_float(run.parity_observations_BHO))
    found = parity_cases(moved)
    return {name: min(MOST, max(TOLERANCE, ROUNDING * _furthest(found[name][1], cases[name][1]))) for name in cases}


def _next_float(values: Tensor) -> Tensor:
    return torch.nextafter(values, torch.full_like(values, torch.inf))


def _furthest(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest |given - expected| / (1 + |expected|) over all outputs."""
    return max(float(((given[port] - e).abs() / (1.0 + e.abs())).max()) for port, e in expected.items())


def recorded_answers(run: TrainedRun, cases: Mapping[str, Case]) -> dict[str, np.ndarray]:
    """The first inputs of these graphs and torch's answers, by the names of `skimo_server.parity`."""
    asked = {port: value for inputs, _ in cases.values() for port, value in inputs.items()}
    found = {"observations": run.parity_observations_BHO}
    ports = {"actions": "actions", "skills": "skill", "goals": "goal", "weights": "weight"}
    found |= {name: asked[port] for name, port in ports.items() if port in asked}
    found |= {f"{graph}.{port}": value for graph, (_, answers) in cases.items() for port, value in answers.items()}
    return {name: value[:RECORDED_INPUTS].numpy() for name, value in found.items()}


@torch.no_grad()
def parity_cases(run: TrainedRun) -> dict[str, Case]:
    """Inputs and torch's answers of every graph that can be made of the model."""
    m = run.model
    torch.set_num_threads(1)  # sums in the same order everywhere
    generator = torch.Generator().manual_seed(PARITY_SEED + 1)
    segments, actions = run.parity_observations_BHO, run.parity_actions_BHA
    observation = segments[:, 0]
    mean, std = m.encode_skill(segments, actions)
    skill = torch.tanh(mean + std * torch.randn(mean.shape, generator=generator))
    latent = m.encode(observation)
    prior_mean, prior_std = m.prior(latent)
    mask = (torch.rand(observation.shape, generator=generator) < 0.2).float()
    goal = observation[torch.randperm(len(observation), generator=generator)] * mask
    low, high = TOLERANCES
    tolerance = low * (high / low) ** torch.rand((len(goal), 1), generator=generator)
    weight = mask / (tolerance * m.std_O)
    ensemble = {"next_latent": m.dynamics(latent, skill)}
    if m.config.members > 1:
        ensemble["disagreement"] = m.dynamics.disagreement(latent, skill)
    step = {"latent": latent, "skill": skill}
    heads: dict[str, Case] = {}
    if m.heads is not None:
        task_mean, task_std = m.task_policy(latent)
        heads = {
            "reward": (step, {"reward": m.reward(latent, skill)}),
            "value": ({"latent": latent}, {"value": m.task_value(latent)}),
            "task_policy": ({"latent": latent}, {"mean": task_mean, "std": task_std}),
        }
    dynamics = {"dynamics": (step, ensemble)}
    if m.distilled is not None:
        dynamics = {"dynamics": (step, {"next_latent": m.step(latent, skill)}), "ensemble": (step, ensemble)}
    return {
        "encode": ({"observation": observation}, {"latent": latent}),
        "prior": ({"latent": latent}, {"mean": prior_mean, "std": prior_std}),
        **dynamics,
        **heads,
        "decode": ({"latent": latent}, {"observation": m.decode(latent)}),
        "goal_value": (
            {"latent": latent, "goal": goal, "weight": weight},
            {"value": m.goal_value(latent, goal, weight)},
        ),
        "skill_policy": ({"observation": observation, "skill": skill}, {"action": m.act(observation, skill)}),
        "skill_encoder": ({"observations": segments, "actions": actions}, {"mean": mean, "std": std}),
    }
