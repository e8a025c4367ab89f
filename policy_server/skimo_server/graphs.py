"""The networks that a bundle can have: their ports and shapes, and what an ONNX file must be to be served.

Promises
  - A graph that passes `check_graph` is one self-contained file of ONNX's own operators: no external data, no sparse
    weights, no functions, no control flow, no randomness, nothing that this version of ONNX doesn't know.
  - Its weights are float32 (sizes and axes int64), of as many bytes as their shape says, and finite.
  - Its inputs and outputs have exactly the names, types and shapes of the table below; the batch axis is free.
  - Its operators are those of `operators.py`, which bounds what a row costs and lets no row depend on another.
  - `canonical_graph` drops what describes the machine that made the file (doc strings, metadata), so that the same
    network exported anywhere is the same bytes.
It never runs a graph; `trial.py` does so first, in a process of its own.

Dimensions: B batch, H skill horizon, O observation, A action, Z skill, D latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto

from skimo_core.contract.errors import BundleError

from .operators import MAX_ROW_ELEMENTS, MAX_ROW_FLOPS, Attributes, Call, Value, constant, infer, shown

MAX_GRAPH_BYTES = 32 * 1024 * 1024
OPSET = 17
IR_VERSIONS = (8, 9)
MAX_NODES = 1000
MAX_WEIGHTS = 1000
DOMAINS = frozenset({"", "ai.onnx"})
KINDS: Mapping[int, np.dtype] = {TensorProto.FLOAT: np.dtype("<f4"), TensorProto.INT64: np.dtype("<i8")}


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
    "ensemble": _signature("latent BD, skill BZ", "next_latent BD, disagreement B?"),
    "decode": _signature("latent BD", "observation BO"),
    "goal_value": _signature("latent BD, goal BO, weight BO", "value B"),
    "skill_policy": _signature("observation BO, skill BZ", "action BA"),
    "skill_encoder": _signature("observations BHO, actions BHA", "mean BZ, std BZ"),
    "reward": _signature("latent BD, skill BZ", "reward B"),
    "value": _signature("latent BD", "value B"),
    "task_policy": _signature("latent BD", "mean BZ, std BZ"),
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
    _check_form(name, model, len(data))
    signature = SIGNATURES[name]
    _check_ports(name, "input", list(model.graph.input), signature.inputs, sizes, strict=True)
    _check_ports(name, "output", list(model.graph.output), signature.outputs, sizes, strict=False)
    values = _weights(name, model)
    for port in signature.inputs:
        values[port.name] = Value(dims=(-1, *(sizes[letter] for letter in port.dims[1:])))
    _walk(name, model, values)
    for port in model.graph.output:
        letters = next(p.dims for p in signature.outputs if p.name == port.name)
        wanted = (-1, *(sizes[letter] for letter in letters[1:]))
        if port.name not in values or values[port.name].dims != wanted:
            found = shown(values[port.name].dims) if port.name in values else "never made"
            raise BundleError(f"{name}.onnx: output {port.name!r} is {found}, must be {shown(wanted)}; export it again")


def parse_graph(name: str, data: bytes) -> onnx.ModelProto:
    """The file as a protocol buffer, unchecked.

    Raises:
        BundleError: too large, no ONNX file, or empty.
    """
    return _parse(name, data)


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


def _check_form(name: str, model: onnx.ModelProto, size: int) -> None:
    """Everything about the file but its operators' meaning and its weights."""
    if not model.opset_import:
        raise BundleError(f"{name}.onnx: names no operator set, ONNX's own {OPSET} is needed; export it again")
    for opset in model.opset_import:
        if opset.domain not in DOMAINS:
            raise BundleError(
                f"{name}.onnx: needs operator domain {opset.domain!r}, allowed is only ONNX's own; "
                "export without custom operators"
            )
        if opset.version != OPSET:
            raise BundleError(f"{name}.onnx: opset {opset.version}, must be {OPSET}; export with that opset")
    if model.ir_version not in IR_VERSIONS:
        raise BundleError(f"{name}.onnx: IR version {model.ir_version}, must be one of {IR_VERSIONS}; export it again")
    if model.functions or model.training_info:
        raise BundleError(f"{name}.onnx: holds functions or training data, neither is allowed; export for inference")
    if model.graph.sparse_initializer:
        raise BundleError(f"{name}.onnx: holds sparse tensors, only dense ones are allowed; export dense weights")
    for what, number, bound in (
        ("operators", len(model.graph.node), MAX_NODES),
        ("weights", len(model.graph.initializer), MAX_WEIGHTS),
    ):
        if number > bound:
            raise BundleError(f"{name}.onnx: {number} {what}, at most {bound}; export a smaller network")
    _check_known(name, model, size)


def _check_known(name: str, model: onnx.ModelProto, size: int) -> None:
    """Refuses what this version of ONNX would skip and another, ONNX Runtime's, might not."""
    if model.graph.value_info or model.graph.quantization_annotation:
        raise BundleError(f"{name}.onnx: holds notes on inner values; export it again")
    known = onnx.ModelProto()
    known.CopyFrom(model)
    known.DiscardUnknownFields()
    if known.ByteSize() != size:
        raise BundleError(
            f"{name}.onnx: {size} bytes, of which {known.ByteSize()} are ONNX: the rest is unknown or repeated; "
            "export it again"
        )


def _weights(name: str, model: onnx.ModelProto) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for tensor in model.graph.initializer:
        if not tensor.name or tensor.name in found:
            raise BundleError(f"{name}.onnx: weight {tensor.name!r} is nameless or given twice; export it again")
        found[tensor.name] = _weight(f"{name}.onnx: weight {tensor.name!r}", tensor)
    return found


def _weight(label: str, tensor: TensorProto) -> Value:
    if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
        raise BundleError(f"{label} lies in another file (external data); export a single file")
    if tensor.data_type not in KINDS:
        kinds = TensorProto.DataType
        kind = kinds.Name(tensor.data_type) if tensor.data_type in kinds.values() else str(tensor.data_type)
        raise BundleError(f"{label} is {kind}, allowed are FLOAT and INT64; export in float32")
    dims = tuple(tensor.dims)
    if any(d < 1 for d in dims):
        raise BundleError(f"{label} has dimensions {list(dims)}, each must be at least 1; export it again")
    kind = KINDS[tensor.data_type]
    needed = math.prod(dims) * kind.itemsize
    if len(tensor.raw_data) != needed or tensor.float_data or tensor.int64_data:
        raise BundleError(
            f"{label} has dimensions {list(dims)}, which are {needed} bytes, but holds {len(tensor.raw_data)}; "
            "export it again"
        )
    values = np.frombuffer(tensor.raw_data, kind).reshape(dims)
    if kind.kind == "f" and not np.isfinite(values).all():
        raise BundleError(f"{label} holds a non-finite weight; train it again")
    return constant(values)


def _walk(name: str, model: onnx.ModelProto, values: dict[str, Value]) -> None:
    """Works out every value in order, and what they cost together."""
    elements = flops = 0
    for index, node in enumerate(model.graph.node):
        where = f"{name}.onnx: operator {node.op_type} (number {index})"
        if node.domain not in DOMAINS:
            raise BundleError(
                f"{where} of domain {node.domain!r}, allowed is only ONNX's own; export without custom operators"
            )
        try:
            inputs = [values[i] if i else None for i in node.input]
            call = Call(inputs=inputs, attributes=_attributes(node), same=len(set(node.input)) == 1)
            made = infer(node.op_type, call)
        except KeyError as error:
            raise BundleError(f"{where} reads {error}, which nothing before it makes; export it again") from None
        except BundleError as error:
            raise BundleError(f"{where} {error}") from None
        if len(node.output) > len(made.outputs):
            raise BundleError(f"{where} has {len(node.output)} outputs, at most {len(made.outputs)}; export it again")
        for output, value in zip(node.output, made.outputs):
            if output in values:
                raise BundleError(f"{where} makes {output!r} a second time; export it again")
            if output:
                values[output] = value
        elements += sum(value.row_elements for value in made.outputs)
        flops += made.flops
        for what, number, bound in (("elements", elements, MAX_ROW_ELEMENTS), ("operations", flops, MAX_ROW_FLOPS)):
            if number > bound:
                raise BundleError(
                    f"{where} brings it to {number} {what} per row, at most {bound}; export a smaller network"
                )


def _attributes(node: onnx.NodeProto) -> Attributes:
    """Numbers and lists of numbers by name; nothing else is an attribute of what is served."""
    found: dict[str, object] = {}
    for attribute in node.attribute:
        if attribute.name in found or attribute.ref_attr_name:
            raise BundleError(f"has attribute {attribute.name!r} twice or from a function")
        match attribute.type:
            case AttributeProto.INT:
                found[attribute.name] = attribute.i
            case AttributeProto.FLOAT:
                found[attribute.name] = attribute.f
            case AttributeProto.INTS:
                found[attribute.name] = list(attribute.ints)
            case AttributeProto.GRAPH | AttributeProto.GRAPHS:
                raise BundleError(f"attribute {attribute.name!r} is a graph: control flow is refused")
            case AttributeProto.SPARSE_TENSOR | AttributeProto.SPARSE_TENSORS:
                raise BundleError(f"attribute {attribute.name!r} holds a sparse tensor")
            case _:
                raise BundleError(f"attribute {attribute.name!r} is no number")
    return found


def normalisation(model: onnx.ModelProto, port: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and deviation that a checked graph takes of an input, (x - mean) / deviation; None if it takes none."""
    weights = {t.name: np.frombuffer(t.raw_data, KINDS[t.data_type]) for t in model.graph.initializer}
    first = [node for node in model.graph.node if port in node.input]
    if len(first) != 1 or first[0].op_type != "Sub" or first[0].input[1] not in weights:
        return None
    second = [node for node in model.graph.node if first[0].output[0] in node.input]
    if len(second) != 1 or second[0].op_type != "Div" or second[0].input[1] not in weights:
        return None
    return weights[first[0].input[1]], weights[second[0].input[1]]


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
