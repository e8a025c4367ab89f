"""Bundles that somebody has tampered with who has all of this repository."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from skimo_server.parity import pack


def forge(folder: Path, source: Path, graphs: dict[str, bytes], recorded: dict[str, np.ndarray] | None = None) -> Path:
    """A copy of a sound bundle with other graphs and arrays, and hashes and id that fit."""
    shutil.copytree(source, folder)
    files = {f"{name}.onnx": data for name, data in graphs.items()}
    if recorded is not None:
        files["parity.npz"] = pack(recorded)
    raw = json.loads((folder / "manifest.json").read_bytes())
    for name, data in files.items():
        (folder / name).write_bytes(data)
        raw["files"][name] = hashlib.sha256(data).hexdigest()
    raw.pop("bundle_id")
    raw["bundle_id"] = hashlib.sha256(json.dumps(raw, sort_keys=True).encode() + b"\n").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(raw))
    return folder


def nan_weights(folder: Path, sound: Path) -> None:
    """A copy of a sound bundle in which a weight is not a number; every hash fits."""
    model = onnx.ModelProto.FromString((sound / "decode.onnx").read_bytes())
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(np.full(list(weight.dims), np.nan, np.float32), weight.name))
    forge(folder, sound, {"decode": model.SerializeToString(deterministic=True)})
