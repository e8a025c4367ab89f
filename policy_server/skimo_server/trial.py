"""A bundle's networks on trial: run on recorded inputs, on large ones and in batches, before anything is served.

Promises, for a bundle that passes `try_graphs`
  - Every network answers the recorded inputs as its exporter's reference did.
  - Outputs are finite on the recorded inputs scaled from -1000 to 1000; actions lie in [-1, 1], values in [0, 1],
    deviations are positive.
  - Rewards and values of the recorded inputs are within +-MAX_RETURN.
  - A row's result depends neither on how many rows there are nor on its neighbours.
  - Memory grows no faster than the rows.
  - Over the recorded inputs the normalised observations are of order 1 and the same in every network; actions differ
    from input to input, and no joint stands at full speed throughout.
The last point's bounds are wide: an untrained network passes. They say that a bundle is broken, not that it is good.

Dimensions: N recorded rows, B batch, O observation, A action, D latent.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime as ort

from skimo_core.contract.errors import BundleError

from .graphs import normalisation, parse_graph
from .parity import Arrays, FloatArray, feeds
from .sessions import first_line, open_session

PARITY_TOLERANCE = 1e-4  # of |found - reference| / (1 + |reference|): another processor rounds otherwise
ROW_TOLERANCE = 1e-4
BATCHES = (1, 2, 384, 768)
SCALES = (0.0, -1.0, 30.0, 1000.0, -1000.0)
MAX_GROWTH_BYTES = 256 * 1024 * 1024
MAX_NORMALISED_RMS, MIN_NORMALISED_RMS, MAX_CHANNEL_RMS = 10.0, 0.02, 100.0
MAX_LATENT = 1e4
MAX_RETURN = 1e4  # of rewards and values, in the task's unit: 1 per sub-task
MAX_DECODED_RMS = 100.0  # in deviations of the recorded observations
MIN_DEVIATION = 0.02  # of a channel, in its unit, as in pre-training
SATURATED = 0.98
MAX_SATURATED_SHARE = 0.95
MIN_ACTION_SPREAD = 1e-4
BOUNDS: Mapping[str, tuple[float, float]] = {
    "skill_policy.action": (-1.0, 1.0),
    "goal_value.value": (0.0, 1.0),
    "prior.std": (0.0, np.inf),
    "skill_encoder.std": (0.0, np.inf),
    "task_policy.std": (0.0, np.inf),
    "dynamics.disagreement": (0.0, np.inf),
    "ensemble.disagreement": (0.0, np.inf),
}
BOUND_SLACK = 1e-5

Stage = Callable[[str], None]


class Trial:
    """One graph's session, its recorded inputs and what it gives."""

    def __init__(self, name: str, data: bytes, inputs: Mapping[str, FloatArray]) -> None:
        self.name, self.inputs = name, inputs
        self.session: ort.InferenceSession = open_session(name, data, arena=False)
        self.outputs = [port.name for port in self.session.get_outputs()]

    def run(self, inputs: Mapping[str, FloatArray], what: str) -> list[FloatArray]:
        """Outputs, checked for shape, finiteness and bounds."""
        try:
            found = self.session.run(self.outputs, dict(inputs))
        except Exception as error:  # onnxruntime raises many kinds, all meaning that it can't run the graph
            raise BundleError(
                f"{self.name}.onnx: does not run on {what} ({first_line(error)}); export it again"
            ) from None
        rows = len(next(iter(inputs.values())))
        for port, value in zip(self.outputs, found):
            label = f"{self.name}.onnx: output {port!r} for {what}"
            if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.shape[:1] != (rows,):
                raise BundleError(f"{label} is no float32 array of {rows} rows; export it again")
            if not np.isfinite(value).all():
                raise BundleError(f"{label} is not finite in {int((~np.isfinite(value)).sum())} places; train it again")
            low, high = BOUNDS.get(f"{self.name}.{port}", (-np.inf, np.inf))
            if value.min() < low - BOUND_SLACK or value.max() > high + BOUND_SLACK:
                raise BundleError(
                    f"{label} lies in {value.min():.3g} to {value.max():.3g}, must be within {low:g} to {high:g}"
                )
        return found  # type: ignore[return-value]


def answers(graphs: Mapping[str, bytes], recorded: Arrays, stage: Stage = lambda _: None) -> dict[str, FloatArray]:
    """What checked graphs themselves answer to recorded inputs: the reference where there is no checkpoint."""
    arrays = dict(recorded)
    for name in ("encode", *(n for n in graphs if n != "encode")):
        stage(f"{name}.onnx: running it")
        trial = Trial(name, graphs[name], feeds(name, arrays))
        found = trial.run(trial.inputs, "the recorded inputs")
        arrays |= {f"{name}.{port}": value for port, value in zip(trial.outputs, found)}
    return {name: value for name, value in arrays.items() if name not in recorded}


def try_graphs(graphs: Mapping[str, bytes], arrays: Arrays, joints: int, stage: Stage = lambda _: None) -> None:
    """Runs checked graphs on `arrays` (see `parity.py`); `joints` is the number of joint velocities in an action.

    Raises:
        BundleError: one of the promises above doesn't hold.
    """
    _check_normalisation(graphs, arrays)
    for name, data in graphs.items():
        stage(f"{name}.onnx: loading it")
        trial = Trial(name, data, feeds(name, arrays))
        stage(f"{name}.onnx: running it")
        reference = trial.run(trial.inputs, "the recorded inputs")
        _check_reference(trial, reference, arrays)
        for scale in SCALES:
            trial.run(_scaled(trial.inputs, scale), f"the recorded inputs times {scale:g}")
        _check_rows(trial, reference)
        _check_batches(trial, reference)
    _check_actions(arrays["skill_policy.action"], joints)
    _check_latents(arrays)
    _check_returns(arrays)


def _check_reference(trial: Trial, found: list[FloatArray], arrays: Arrays) -> None:
    for port, value in zip(trial.outputs, found):
        wanted = arrays.get(f"{trial.name}.{port}")
        if wanted is None or wanted.shape != value.shape:
            shape = None if wanted is None else list(wanted.shape)
            raise BundleError(f"{trial.name}.onnx: output {port!r} is {list(value.shape)}, its reference {shape}")
        error = float((np.abs(value - wanted) / (1.0 + np.abs(wanted))).max())
        if error > PARITY_TOLERANCE:
            raise BundleError(
                f"{trial.name}.onnx: output {port!r} differs from the recorded reference by {error:.2e}, at most "
                f"{PARITY_TOLERANCE:.0e}: this is not the network that was exported; export the bundle again"
            )


def _scaled(inputs: Mapping[str, FloatArray], scale: float) -> dict[str, FloatArray]:
    """Observations, goals and latents scaled; what has bounds scaled and clipped."""
    bounds = {"skill": (-1.0, 1.0), "actions": (-1.0, 1.0), "weight": (0.0, None)}
    return {
        port: np.clip(value * scale, *bounds[port]) if port in bounds else value * scale
        for port, value in ((port, np.asarray(value, np.float32)) for port, value in inputs.items())
    }


def _check_rows(trial: Trial, reference: list[FloatArray]) -> None:
    """Rows alone, in reverse, and beside large neighbours are the rows of the whole."""
    rows = len(reference[0])
    alone = [trial.run({k: v[i : i + 1] for k, v in trial.inputs.items()}, "one row") for i in (0, rows - 1)]
    reverse = trial.run({k: np.ascontiguousarray(v[::-1]) for k, v in trial.inputs.items()}, "rows in reverse")
    large = _scaled(trial.inputs, SCALES[-1])
    beside = trial.run({k: np.concatenate([v, large[k]]) for k, v in trial.inputs.items()}, "rows beside large ones")
    for index, port in enumerate(trial.outputs):
        for found, wanted in (
            (alone[0][index], reference[index][:1]),
            (alone[1][index], reference[index][-1:]),
            (reverse[index][::-1], reference[index]),
            (beside[index][:rows], reference[index]),
        ):
            if float((np.abs(found - wanted) / (1.0 + np.abs(wanted))).max()) > ROW_TOLERANCE:
                raise BundleError(f"{trial.name}.onnx: output {port!r} of a row depends on its neighbours")


def _check_batches(trial: Trial, reference: list[FloatArray]) -> None:
    rows = len(reference[0])
    for batch in BATCHES:
        before = _peak_bytes()
        inputs = {k: np.ascontiguousarray(np.resize(v, (batch, *v.shape[1:]))) for k, v in trial.inputs.items()}
        found = trial.run(inputs, f"a batch of {batch}")
        if (grown := _peak_bytes() - before) > MAX_GROWTH_BYTES:
            bound = MAX_GROWTH_BYTES / 1e6
            raise BundleError(f"{trial.name}.onnx: a batch of {batch} takes {grown / 1e6:.0f} MB, at most {bound:.0f}")
        wanted = [np.resize(value, (batch, *value.shape[1:])) for value in reference]
        errors = [float((np.abs(f - w) / (1.0 + np.abs(w))).max()) for f, w in zip(found, wanted)]
        if max(errors) > ROW_TOLERANCE:
            raise BundleError(f"{trial.name}.onnx: gives other rows in a batch of {batch} than of {rows}")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _check_normalisation(graphs: Mapping[str, bytes], arrays: Arrays) -> None:
    """Normalised recorded observations are of order 1, and all networks normalise alike."""
    observation_NO = arrays["observations"][:, 0].astype(np.float64)
    ports = {
        "encode": "observation",
        "skill_policy": "observation",
        "skill_encoder": "observations",
        "goal_value": "goal",
    }
    taken = {n: normalisation(parse_graph(n, graphs[n]), port) for n, port in ports.items() if n in graphs}
    first = taken["encode"]
    for name, found in taken.items():
        alike = (first is None) == (found is None) and (
            first is None or found is None or all(np.array_equal(a, b) for a, b in zip(first, found))
        )
        if not alike:
            raise BundleError(f"{name}.onnx: normalises its observations otherwise than encode.onnx; export it again")
    mean_O, std_O = (np.zeros(1), np.ones(1)) if first is None else (a.astype(np.float64) for a in first)
    if (std_O <= 0).any():
        raise BundleError("encode.onnx: normalises with a deviation of 0 or less; swapped with the mean?")
    rms_O = np.sqrt(np.square((observation_NO - mean_O) / std_O).mean(0))
    rms, channel = float(np.sqrt(np.square(rms_O).mean())), int(rms_O.argmax())
    if not MIN_NORMALISED_RMS <= rms <= MAX_NORMALISED_RMS or rms_O[channel] > MAX_CHANNEL_RMS:
        raise BundleError(
            f"encode.onnx: the recorded observations, normalised, have a root mean square of {rms:.3g} (channel "
            f"{channel}: {rms_O[channel]:.3g}), must be of order 1 ({MIN_NORMALISED_RMS:g} to {MAX_NORMALISED_RMS:g}, "
            f"a channel at most {MAX_CHANNEL_RMS:g}): wrong normalisation, or inputs recorded in other units"
        )


def _check_actions(action_NA: FloatArray, joints: int) -> None:
    spread = float(np.ptp(action_NA, axis=0).max())
    if spread < MIN_ACTION_SPREAD:
        raise BundleError(
            f"skill_policy.onnx: gives the same action for all {len(action_NA)} recorded inputs (spread {spread:.1e}, "
            f"at least {MIN_ACTION_SPREAD:g}): a constant policy is not served, however it was trained"
        )
    share_A = (np.abs(action_NA[:, :joints]) > SATURATED).mean(0)
    if share_A.size and share_A.max() > MAX_SATURATED_SHARE:
        raise BundleError(
            f"skill_policy.onnx: joint {int(share_A.argmax()) + 1} is at full speed for {share_A.max():.0%} of the "
            f"recorded inputs, at most {MAX_SATURATED_SHARE:.0%}: such a policy is not served, even if honestly trained"
        )


def _check_latents(arrays: Arrays) -> None:
    """Latents of order 1 that tell inputs apart; decoded observations near where the recorded ones are."""
    latent_ND, decoded_NO = arrays["encode.latent"], arrays["decode.observation"].astype(np.float64)
    if np.abs(latent_ND).max() > MAX_LATENT or float(np.ptp(latent_ND, axis=0).max()) < 1e-6:
        raise BundleError("encode.onnx: latents of the recorded inputs are all the same or huge; train it again")
    observation_NO = arrays["observations"][:, 0].astype(np.float64)
    deviation_O = np.maximum(observation_NO.std(0), MIN_DEVIATION)
    rms_O = np.sqrt(np.square((decoded_NO - observation_NO.mean(0)) / deviation_O).mean(0))
    if (worst := float(rms_O.max())) > MAX_DECODED_RMS:
        raise BundleError(
            f"decode.onnx: channel {int(rms_O.argmax())} of the decoded recorded inputs is {worst:.3g} deviations from "
            f"where it was recorded, at most {MAX_DECODED_RMS:g}: wrong normalisation, even for an untrained network"
        )


def _check_returns(arrays: Arrays) -> None:
    """Scores add them to rewards of 1 per sub-task."""
    for name in ("reward", "value"):
        found_N = arrays.get(f"{name}.{name}")
        if found_N is not None and (largest := float(np.abs(found_N).max())) > MAX_RETURN:
            raise BundleError(
                f"{name}.onnx: {name} of the recorded inputs is up to {largest:.3g}, at most {MAX_RETURN:g}; "
                "train it on rewards of the order of 1"
            )
