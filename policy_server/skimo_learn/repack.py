"""An old bundle in today's format: the same graphs, byte for byte, with recorded inputs and their answers beside.

For bundles of older formats, and for a change of the robot's limits. Format 2 named neither kind nor domain; formats 2
and 3 no ranges, and their goal value read a mask where today's reads weights: such a graph is given a first step that
makes the mask of the weights, and knows no tolerances. Where other recordings are given there is no checkpoint here to
ask, so the reference answers are those of the graphs in ONNX Runtime, and the parity report says so.

Dimensions: N inputs, H skill horizon, O observation, A action, Z skill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.contract.specs import Named
from skimo_core.domain.domain import Domain
from skimo_server.bundle import FORMAT_VERSION, Bundle, Manifest, read_bundle, rewrite_bundle
from skimo_server.graphs import parse_graph
from skimo_server.parity import PARITY_FILE, pack, read_arrays, recorded_inputs, unpack
from skimo_server.vetting import answer

from .data import PARITY_SEED, EpisodeSet, check_widths, parity_inputs
from .export import RECORDED_INPUTS, TOLERANCES

MIN_DEVIATION = 0.02  # of a channel, in its unit, as in pre-training
REFERENCE = "the graphs' own answers in ONNX Runtime, taken when the bundle was repacked"
MASKED = "goal_value"
"""The graph that read a mask up to format 3."""


def repack(old: Path, folder: Path, *, episodes: EpisodeSet | None, domain: Domain, robot: Named) -> Manifest:
    """Write the bundle of `old` anew, `old` as its parent.

    Args:
        episodes: recordings of the same scene, for the recorded inputs and the ranges; None keeps what `old` has.

    Raises:
        BundleError, SpecError: `old` is damaged, of another domain, or its graphs would not be served.
    """
    bundle = read_bundle(old, formats=(2, 3, FORMAT_VERSION))
    m = bundle.manifest
    if unfit := m.policy_spec.unfit_for(domain.observation, domain.action, domain.named):
        raise SpecError(f"{old.name}: its {unfit}; name the domain that it was made for with --domain")
    if m.skill_horizon != domain.horizon:
        raise SpecError(f"{old.name}: its skills last {m.skill_horizon} steps, {domain.name}'s {domain.horizon}")
    masked = m.format_version < FORMAT_VERSION and MASKED in m.graphs
    bundle = weighted(bundle) if masked else bundle
    if episodes is None:
        recorded: Mapping[str, Any] = unpack(bundle.parity, m.sizes, m.graphs)
        about, ranges = m.parity, m.ranges
    else:
        recorded = record(bundle, episodes)
        about = {**m.parity, "reference": REFERENCE, "inputs": RECORDED_INPUTS, "data": dict(episodes.digests)}
        ranges = episodes.ranges()
    made = rewrite_bundle(
        bundle, folder, recorded=recorded, parity=about, domain=domain.named, robot=robot, ranges=ranges
    )
    kept = {name: digest for name, digest in m.files.items() if name not in (PARITY_FILE, f"{MASKED}.onnx" * masked)}
    if changed := [name for name, digest in kept.items() if made.files[name] != digest]:
        raise BundleError(f"{changed[0]}: other bytes than in {old.name}, whose graphs are not in canonical form")
    return made


def weighted(bundle: Bundle) -> Bundle:
    """A bundle of format 2 or 3 whose goal value reads weights, of which it makes its mask: 1 where they are above 0.

    The recorded masks become weights of one deviation of the recorded observations: the answers stay as they are.
    """
    model = parse_graph(MASKED, bundle.graphs[MASKED])
    for port in model.graph.input:
        port.name = {"mask": "weight"}.get(port.name, port.name)
    sign = helper.make_node("Sign", ["weight"], ["weight_sign"], name="weight_sign")
    mask = helper.make_node("Relu", ["weight_sign"], ["mask"], name="weight_mask")
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([sign, mask, *rest])
    graphs = {**bundle.graphs, MASKED: model.SerializeToString(deterministic=True)}
    arrays = read_arrays(bundle.parity)
    if "masks" in arrays:
        deviation_O = np.maximum(arrays["observations"].std((0, 1)), MIN_DEVIATION)
        arrays["weights"] = (arrays.pop("masks") / deviation_O).astype(np.float32)
    return replace(bundle, graphs=graphs, parity=pack(arrays))


def record(bundle: Bundle, episodes: EpisodeSet) -> dict[str, Any]:
    """Inputs from recordings, and the graphs' own answers to them.

    Skills are as the skill encoder reads them; without one they are drawn from a standard normal, through tanh.
    """
    m = bundle.manifest
    check_widths(episodes, m.observation, m.action)
    segments = parity_inputs(episodes, m.skill_horizon)
    rng = np.random.default_rng(PARITY_SEED)
    inputs = {name: value[:RECORDED_INPUTS].numpy() for name, value in segments.items()}
    observation_NO = inputs["observations"][:, 0]
    masks_NO = (rng.random(observation_NO.shape) < 0.2).astype(np.float32)
    noise_NZ = rng.standard_normal((len(observation_NO), m.skill_dim)).astype(np.float32)
    inputs |= {
        "goals": observation_NO[rng.permutation(len(observation_NO))] * masks_NO,
        "skills": np.tanh(noise_NZ),
    }
    low, high = TOLERANCES
    tolerance_N1 = low * (high / low) ** rng.random((len(observation_NO), 1))
    inputs["weights"] = masks_NO / (tolerance_N1 * np.maximum(observation_NO.std(0), MIN_DEVIATION))
    inputs = {name: value for name, value in inputs.items() if name in recorded_inputs(m.graphs)}
    if "skill_encoder" in m.graphs:
        first = _answers(bundle, inputs)
        inputs["skills"] = np.tanh(first["skill_encoder.mean"] + first["skill_encoder.std"] * noise_NZ)
    return {**inputs, **_answers(bundle, inputs)}


def _answers(bundle: Bundle, inputs: Mapping[str, Any]) -> dict[str, Any]:
    files = {f"{name}.onnx": data for name, data in bundle.graphs.items()} | {PARITY_FILE: pack(inputs)}
    found = answer(files, bundle.manifest.sizes)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}
