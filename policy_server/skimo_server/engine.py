"""A bundle's networks in ONNX Runtime: numpy in, numpy out.

Promises
  - One thread per call unless `workers` says otherwise: large batches are then split by rows over that many calls,
    each on one thread (ONNX Runtime's own intra-op threads are slower at these sizes). Rows do not depend on each
    other, so the split changes nothing in the result beyond float32 rounding.
  - Loading runs every network once on zeros, so that this process too has seen them run.
  - Calls are safe from several threads at once.
It reads no files: the graphs come as the bytes that `bundle.load_bundle` had vetted. It never imports torch.

Dimensions: B batch, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort

from skimo_core.contract.errors import BundleError, SetupError

from .bundle import Bundle, Manifest
from .graphs import SIGNATURES
from .model import FloatArray
from .sessions import first_line, open_session

MIN_ROWS_TO_SPLIT = 128


class Engine:
    """A bundle's networks; a `SkillModel`, and the skill policy and encoder besides."""

    def __init__(self, manifest: Manifest, sessions: dict[str, ort.InferenceSession], workers: int) -> None:
        self.manifest = manifest
        self._sessions = sessions
        self._outputs = {name: [port.name for port in session.get_outputs()] for name, session in sessions.items()}
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers - 1, "skimo-engine") if workers > 1 else None

    @classmethod
    def load(cls, bundle: Bundle, *, workers: int = 1) -> Engine:
        """Makes the sessions and tries each once.

        Raises:
            BundleError: ONNX Runtime can't load a graph, or its output is not as the manifest says.
            SetupError: `workers` exceeds this machine's processors.
        """
        cores = os.cpu_count() or 1
        if not 1 <= workers <= cores:
            raise SetupError(f"engine workers {workers}, must lie in 1 to this machine's {cores} processors")
        sessions = {name: open_session(name, data) for name, data in bundle.graphs.items()}
        engine = cls(bundle.manifest, sessions, workers)
        engine._try_all()
        return engine

    def close(self) -> None:
        """Ends the helper threads."""
        if self._pool is not None:
            self._pool.shutdown()

    @property
    def skill_dim(self) -> int:
        return self.manifest.skill_dim

    @property
    def graphs(self) -> frozenset[str]:
        """Names of the networks that there are; the methods of others raise BundleError."""
        return frozenset(self._sessions)

    def encode(self, observation_BO: FloatArray) -> FloatArray:
        return self._run("encode", observation_BO)[0]

    def prior(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean_BZ, std_BZ = self._run("prior", latent_BD)
        return mean_BZ, std_BZ

    def dynamics(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        return self._step("dynamics", latent_BD, skill_BZ)

    def ensemble(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        return self._step("ensemble", latent_BD, skill_BZ)

    def decode(self, latent_BD: FloatArray) -> FloatArray:
        return self._run("decode", latent_BD)[0]

    def goal_value(self, latent_BD: FloatArray, goal_BO: FloatArray, weight_BO: FloatArray) -> FloatArray:
        return self._run("goal_value", latent_BD, goal_BO, weight_BO)[0]

    def reward(self, latent_BD: FloatArray, skill_BZ: FloatArray) -> FloatArray:
        return self._run("reward", latent_BD, skill_BZ)[0]

    def value(self, latent_BD: FloatArray) -> FloatArray:
        return self._run("value", latent_BD)[0]

    def task_policy(self, latent_BD: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean_BZ, std_BZ = self._run("task_policy", latent_BD)
        return mean_BZ, std_BZ

    def act(self, observation_O: FloatArray, skill_Z: FloatArray) -> FloatArray:
        """The skill policy's action [A] for one observation under one skill, within [-1, 1]."""
        action_BA = self._run("skill_policy", observation_O[None], skill_Z[None])[0]
        return np.clip(action_BA[0], -1.0, 1.0)

    def encode_skill(self, observations_BHO: FloatArray, actions_BHA: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and std [B, Z] before tanh of the skills behind H steps of behaviour."""
        mean_BZ, std_BZ = self._run("skill_encoder", observations_BHO, actions_BHA)
        return mean_BZ, std_BZ

    def _step(self, name: str, *inputs: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        found = self._run(name, *inputs)
        return found[0], found[1] if len(found) > 1 else None

    def _run(self, name: str, *inputs: FloatArray) -> Sequence[FloatArray]:
        if name not in self._sessions:
            raise BundleError(f"this bundle has no {name}.onnx, only {', '.join(sorted(self._sessions))}; use another")
        feeds = {
            port.name: np.ascontiguousarray(value, np.float32) for port, value in zip(SIGNATURES[name].inputs, inputs)
        }
        rows = len(inputs[0])
        if self._pool is None or rows < MIN_ROWS_TO_SPLIT:
            return self._call(name, feeds)
        edges = [rows * i // self._workers for i in range(self._workers + 1)]
        parts = [{k: v[a:b] for k, v in feeds.items()} for a, b in zip(edges, edges[1:])]  # noqa: RUF007
        later = [self._pool.submit(self._call, name, part) for part in parts[1:]]
        found = [self._call(name, parts[0]), *(future.result() for future in later)]
        return [np.concatenate(pieces) for pieces in zip(*found)]

    def _call(self, name: str, feeds: dict[str, FloatArray]) -> Sequence[FloatArray]:
        return self._sessions[name].run(self._outputs[name], feeds)  # type: ignore[return-value]

    def _try_all(self) -> None:
        """Runs every network on two rows of zeros."""
        sizes = {"B": 2, **self.manifest.sizes}
        for name in self._sessions:
            signature = SIGNATURES[name]
            zeros = {port.name: np.zeros([sizes[d] for d in port.dims], np.float32) for port in signature.inputs}
            try:
                found = self._call(name, zeros)
            except Exception as error:  # onnxruntime raises many kinds, all meaning that it can't run the graph
                raise BundleError(f"{name}.onnx: does not run ({first_line(error)}); export it again") from None
            for port, value in zip(signature.outputs, found):
                shape = tuple(sizes[d] for d in port.dims)
                if value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
                    raise BundleError(
                        f"{name}.onnx: output {port.name!r} for zeros is {value.dtype}{list(value.shape)}, must be "
                        f"finite float32{list(shape)}; export it again"
                    )
