"""The recorded inputs of a bundle and what its networks answered to them: parity.npz.

    observations [N, H, O], actions [N, H, A]    segments of episodes
    skills [N, Z], goals [N, O], weights [N, O]  under which the networks were asked; weights are 1 over a tolerance
    encode.latent, dynamics.next_latent, ...     each graph's outputs, as the exporter had them

Observations are always there, of the other inputs those that the bundle's graphs read. Plain float32 arrays, stored
uncompressed, in the order of their names: the same arrays are the same bytes. Nothing is unpickled, and no array is
made whose bytes are not in the file.

Dimensions: N rows, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import BundleError

from .graphs import SIGNATURES

PARITY_FILE = "parity.npz"
MAX_PARITY_BYTES = 16 * 1024 * 1024
MIN_ROWS, MAX_ROWS = 16, 1024
MAX_WEIGHT = 1e9
RECORDED: Mapping[str, str] = {"observations": "BHO", "actions": "BHA", "skills": "BZ", "goals": "BO", "weights": "BO"}
_SOURCES: Mapping[str, str] = {  # what a graph's input is fed, by port
    "observation": "observations",
    "latent": "encode.latent",
    "skill": "skills",
    "goal": "goals",
    "weight": "weights",
    "observations": "observations",
    "actions": "actions",
}

FloatArray = npt.NDArray[np.float32]
Arrays = Mapping[str, FloatArray]


def pack(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """The file of arrays by name."""
    buffer = io.BytesIO()
    ordered = {name: np.ascontiguousarray(arrays[name], np.float32) for name in sorted(arrays)}
    np.savez(buffer, allow_pickle=False, **ordered)  # type: ignore[arg-type]
    return buffer.getvalue()


def recorded_inputs(graphs: Collection[str]) -> set[str]:
    """Names of the inputs that a bundle of these graphs has recorded."""
    read = {_SOURCES[port.name] for graph in graphs for port in SIGNATURES[graph].inputs}
    return {"observations"} | (read & set(RECORDED))


def unpack(data: bytes, sizes: Mapping[str, int], graphs: Collection[str]) -> dict[str, FloatArray]:
    """Reads and checks the file of a bundle that has these graphs.

    Args:
        sizes: what the letters H, O, A, Z and D stand for.

    Raises:
        BundleError: not such a file, compressed, an array too many or too few, mis-shaped or not finite.
    """
    outputs = [(f"{graph}.{port.name}", port) for graph in graphs for port in SIGNATURES[graph].outputs]
    wanted = {name: RECORDED[name] for name in recorded_inputs(graphs)}
    wanted |= {name: port.dims for name, port in outputs if not port.optional}
    optional = {name: port.dims for name, port in outputs if port.optional}
    arrays = read_arrays(data)
    if wrong := sorted((set(wanted) - set(arrays)) | (set(arrays) - set(wanted) - set(optional))):
        raise BundleError(f"{PARITY_FILE}: {wrong[0]!r} is missing or unknown; export the bundle again")
    rows = len(arrays["observations"])
    if not MIN_ROWS <= rows <= MAX_ROWS:
        raise BundleError(f"{PARITY_FILE}: {rows} rows, must be {MIN_ROWS} to {MAX_ROWS}; export the bundle again")
    for name, array in arrays.items():
        shape = tuple({"B": rows, **sizes}[letter] for letter in {**wanted, **optional}[name])
        if array.shape != shape or not np.isfinite(array).all():
            raise BundleError(
                f"{PARITY_FILE}: {name} is {list(array.shape)}, must be finite {list(shape)}; export the bundle again"
            )
    for name, low, high in (("skills", -1.0, 1.0), ("actions", -1.0, 1.0), ("weights", 0.0, MAX_WEIGHT)):
        if name in arrays and (arrays[name].min() < low - 1e-4 or arrays[name].max() > high + 1e-4):
            raise BundleError(f"{PARITY_FILE}: {name} must lie within {low:g} and {high:g}; export the bundle again")
    return arrays


def feeds(graph: str, arrays: Arrays) -> dict[str, FloatArray]:
    """The inputs of a graph by port."""
    found = {port.name: arrays[_SOURCES[port.name]] for port in SIGNATURES[graph].inputs}
    if "observation" in found:
        found["observation"] = found["observation"][:, 0]
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def read_arrays(data: bytes) -> dict[str, FloatArray]:
    """The arrays of a file by name, as they are.

    Raises:
        BundleError: not such a file, or compressed.
    """
    try:
        return _read(data)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, SyntaxError) as error:
        raise BundleError(f"{PARITY_FILE}: not a file of plain arrays ({error}); export the bundle again") from None


def _read(data: bytes) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > 64 or sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("more is declared than the file holds")
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if entry.compress_type != zipfile.ZIP_STORED or name in found or entry.flag_bits & 1:
                raise ValueError(f"{name}: compressed, encrypted or given twice")
            found[name] = _array(name, archive.read(entry))
    return found


def _array(name: str, data: bytes) -> FloatArray:
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name}: another version of the array format")
    shape, fortran, kind = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
    body = data[stream.tell() :]
    if fortran or kind != np.dtype("<f4") or math.prod(shape) * 4 != len(body) or any(d < 1 for d in shape):
        raise ValueError(f"{name}: is {kind} {list(shape)} in {len(body)} bytes, must be float32 of as many bytes")
    return np.frombuffer(body, "<f4").reshape(shape)
