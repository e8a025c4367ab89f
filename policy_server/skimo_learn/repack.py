"""An old bundle in today's format: the same graphs, byte for byte, with recorded inputs and their answers beside.

For bundles of format 2, which named neither kind nor domain, and for a change of the robot's limits. Where other
recordings are given there is no checkpoint here to ask, so the reference answers are those of the graphs in ONNX
Runtime, and the parity report says so.

Dimensions: N inputs, H skill horizon, O observation, A action, Z skill.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.contract.specs import Named
from skimo_core.domain.domain import Domain
from skimo_server.bundle import FORMAT_VERSION, Bundle, Manifest, read_bundle, write_bundle
from skimo_server.parity import PARITY_FILE, pack, recorded_inputs, unpack
from skimo_server.vetting import answer

from .data import EpisodeSet, check_widths
from .export import PARITY_SEED, RECORDED_INPUTS, parity_inputs

REFERENCE = "the graphs' own answers in ONNX Runtime, taken when the bundle was repacked"


def repack(old: Path, folder: Path, *, episodes: EpisodeSet | None, domain: Domain, robot: Named) -> Manifest:
    """Write the bundle of `old` anew, `old` as its parent.

    Args:
        episodes: recordings of the same scene; None keeps the recorded inputs that `old` has.

    Raises:
        BundleError, SpecError: `old` is damaged, of another domain, or its graphs would not be served.
    """
    bundle = read_bundle(old, formats=(2, FORMAT_VERSION))
    m = bundle.manifest
    if unfit := m.policy_spec.unfit_for(domain.observation, domain.action, domain.named):
        raise SpecError(f"{old.name}: its {unfit}; name the domain that it was made for with --domain")
    if m.skill_horizon != domain.horizon:
        raise SpecError(f"{old.name}: its skills last {m.skill_horizon} steps, {domain.name}'s {domain.horizon}")
    if episodes is None:
        recorded: Mapping[str, Any] = unpack(bundle.parity, m.sizes, m.graphs)
        about = m.parity
    else:
        recorded = record(bundle, episodes)
        about = {**m.parity, "reference": REFERENCE, "inputs": RECORDED_INPUTS, "data": dict(episodes.digests)}
    made = write_bundle(
        folder,
        graphs=bundle.graphs,
        recorded=recorded,
        observation=m.observation,
        action=m.action,
        skill_horizon=m.skill_horizon,
        skill_dim=m.skill_dim,
        latent_dim=m.latent_dim,
        kind=m.kind,
        planner=m.planner,
        recipe=m.recipe,
        parity=about,
        dataset_digests=m.dataset_digests,
        commit=m.commit,
        domain=domain.named,
        robot=robot,
        parent_id=m.bundle_id,
    )
    if changed := [name for name, digest in m.files.items() if name != PARITY_FILE and made.files[name] != digest]:
        raise BundleError(f"{changed[0]}: other bytes than in {old.name}, whose graphs are not in canonical form")
    return made


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
        "masks": masks_NO,
        "skills": np.tanh(noise_NZ),
    }
    inputs = {name: value for name, value in inputs.items() if name in recorded_inputs(m.graphs)}
    if "skill_encoder" in m.graphs:
        first = _answers(bundle, inputs)
        inputs["skills"] = np.tanh(first["skill_encoder.mean"] + first["skill_encoder.std"] * noise_NZ)
    return {**inputs, **_answers(bundle, inputs)}


def _answers(bundle: Bundle, inputs: Mapping[str, Any]) -> dict[str, Any]:
    files = {f"{name}.onnx": data for name, data in bundle.graphs.items()} | {PARITY_FILE: pack(inputs)}
    found = answer(files, bundle.manifest.sizes)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}
