"""The seven networks of a bundle: their names, ports and shapes, and what an ONNX file must be to be served.

Promises
  - A graph that passes `check_graph` is one self-contained file: no external data, no sparse weights, no functions,
    no operator outside ONNX's own domain, no control flow, no randomness, only finite weights.
  - Its inputs and outputs have exactly the names, types and shapes of the table below; the batch axis is free.
  - `canonical_graph` drops what describes the machine that made the file (doc strings, metadata), so that the same
    network exported anywhere is the same bytes.
It never runs a graph; `engine.py` does.

Dimensions: B batch, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from skimo_core.errors import BundleError

MAX_GRAPH_BYTES = 32 * 1024 * 1024
MIN_OPSET = 17
MAX_NODES = 20_000
DOMAINS = frozenset({"", "ai.onnx"})
REFUSED_OPS = frozenset(
    {"If", "Loop", "Scan", "SequenceMap"}  # control flow: unbounded run time
    | {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output; each dimension is a letter of the legend above."""

    name: str
    dims: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The ports of one graph, in order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def _ports(text: str) -> tuple[Port, ...]:
    """Reads "latent BD, disagreement B?" (a question mark: may be absent)."""
    found = []
    for item in text.split(","):
        name, dims = item.split()
        found.append(Port(name=name, dims=dims.rstrip("?"), optional=dims.endswith("?")))
    return tuple(found)


def _signature(inputs: str, outputs: str) -> Signature:
    return Signature(inputs=_ports(inputs), outputs=_ports(outputs))


SIGNATURES: Mapping[str, Signature] = {
    "encode": _signature("observation BO", "latent BD"),
    "prior": _signature("latent BD", "mean BZ, std BZ"),
    "dynamics": _signature("latent BD, skill BZ", "next_latent BD, disagreement B?"),
    "decode": _signature("latent BD", "observation BO"),
    "goal_value": _signature("latent BD, goal BO, mask BO", "value B"),
    "skill_policy": _signature("observation BO, skill BZ", "action BA"),
    "skill_encoder": _signature("observations BHO, actions BHA", "mean BZ, std BZ"),
}


def check_graph(name: str, data: bytes, sizes: Mapping[str, int]) -> None:
    """Refuses a graph that is not what `SIGNATURES[name]` says.

    Args:
        name: a key of SIGNATURES.
        data: the ONNX file.
        sizes: what the letters H, O, A, Z and D stand for.

    Raises:
        BundleError: with the file, what is wrong, its value, the bound and the remedy.
    """
    model = _parse(name, data)
    _check_operators(name, model)
    _check_tensors(name, model)
    initialisers = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in initialisers]
    signature = SIGNATURES[name]
    _check_ports(name, "input", inputs, signature.inputs, sizes, strict=True)
    _check_ports(name, "output", list(model.graph.output), signature.outputs, sizes, strict=False)


def canonical_graph(data: bytes) -> bytes:
    """Returns the graph without doc strings, metadata and producer notes, serialised deterministically."""
    model = _parse("graph", data)
    model.doc_string = ""
    model.producer_name, model.producer_version = "skimo", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "skimo", ""
    del graph.value_info[:]
    for item in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        item.doc_string = ""
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
    return model.SerializeToString(deterministic=True)


def _parse(name: str, data: bytes) -> onnx.ModelProto:
    if len(data) > MAX_GRAPH_BYTES:
        raise BundleError(f"{name}.onnx: {len(data)} bytes, at most {MAX_GRAPH_BYTES}; export a smaller network")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BundleError(f"{name}.onnx: not an ONNX file ({error}); export it again") from None
    if not model.graph.node:
        raise BundleError(f"{name}.onnx: holds no operators; export it again")
    return model


def _check_operators(name: str, model: onnx.ModelProto) -> None:
    for opset in model.opset_import:
        if opset.domain not in DOMAINS:
            raise BundleError(
                f"{name}.onnx: needs operator domain {opset.domain!r}, allowed is only ONNX's own; "
                "export without custom operators"
            )
        if opset.version < MIN_OPSET:
            raise BundleError(f"{name}.onnx: opset {opset.version}, at least {MIN_OPSET}; export with a newer opset")
    if not model.opset_import:
        raise BundleError(f"{name}.onnx: names no operator set, one of ONNX's own is needed; export it again")
    if model.functions or model.training_info:
        raise BundleError(f"{name}.onnx: holds functions or training data, neither is allowed; export for inference")
    if len(model.graph.node) > MAX_NODES:
        raise BundleError(f"{name}.onnx: {len(model.graph.node)} operators, at most {MAX_NODES}")
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            raise BundleError(
                f"{name}.onnx: operator {node.op_type} of domain {node.domain!r}, allowed is only ONNX's own; "
                "export without custom operators"
            )
        if node.op_type in REFUSED_OPS or any(a.HasField("g") or a.graphs for a in node.attribute):
            raise BundleError(
                f"{name}.onnx: operator {node.op_type}: control flow and randomness are refused; "
                "export a plain deterministic network"
            )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_tensors(name: str, model: onnx.ModelProto) -> None:
    sparse = any(a.HasField("sparse_tensor") or a.sparse_tensors for n in model.graph.node for a in n.attribute)
    if model.graph.sparse_initializer or sparse:
        raise BundleError(f"{name}.onnx: holds sparse tensors, only dense ones are allowed; export dense weights")
    for tensor in _tensors(model):
        label = tensor.name or "constant"
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BundleError(
                f"{name}.onnx: tensor {label!r} lies in another file (external data); export a single file"
            )
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{name}.onnx: tensor {label!r} can't be read ({error}); export it again") from None
        # A single infinity is the usual "no bound" of Clip and of masks.
        unbounded = values.size == 1 and not np.isnan(values).any() if values.dtype.kind == "f" else True
        if not unbounded and not np.isfinite(values).all():
            raise BundleError(f"{name}.onnx: tensor {label!r} holds a non-finite weight; train it again")


def _check_ports(
    name: str,
    kind: str,
    found: list[onnx.ValueInfoProto],
    wanted: tuple[Port, ...],
    sizes: Mapping[str, int],
    *,
    strict: bool,
) -> None:
    names = [port.name for port in found]
    full = [port.name for port in wanted]
    required = [port.name for port in wanted if not port.optional]
    if names not in (full, required):
        raise BundleError(
            f"{name}.onnx: {kind}s are {names}, must be {required} in this order; rename them in the export"
        )
    for value, port in zip(found, wanted):
        tensor = value.type.tensor_type
        if tensor.elem_type != onnx.TensorProto.FLOAT:
            kind_name = onnx.TensorProto.DataType.Name(tensor.elem_type)
            raise BundleError(f"{name}.onnx: {kind} {port.name!r} is {kind_name}, must be FLOAT; export in float32")
        dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
        expected = [sizes.get(letter) for letter in port.dims]
        fits = len(dims) == len(expected) and dims[0] is None
        fits = fits and all(d == e or (d is None and not strict) for d, e in zip(dims[1:], expected[1:]))
        if not fits and (strict or tensor.HasField("shape")):
            shown = ["B" if d is None else d for d in dims]
            must = ["B", *expected[1:]]
            raise BundleError(f"{name}.onnx: {kind} {port.name!r} has shape {shown}, must be {must} with B free")
