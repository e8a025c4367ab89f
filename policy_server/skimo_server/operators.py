"""The operators that a bundle's graph may use, and what each makes of shapes: a proof of what a graph costs.

Promises, for a graph that `infer` accepts
  - Every value is fixed in size per row of the batch: one of its dimensions is the batch (or a whole multiple of it),
    the others are numbers. No size depends on a value, none grows with the square of the batch.
  - No operator works across rows (no sum, slice, join or reshape over the batch axis) and none on constants alone, so
    nothing can be unfolded while the graph is loaded.
  - Elements and floating-point operations per row stay below the bounds here.
  - Exp has a bounded argument, Sqrt one that can't be negative, Log one that is away from zero, Div a constant divisor
    that is.
The list is what `skimo export` writes, and Max and Neg besides. ONNX operator set 17. It never runs a graph.

Dimensions: a batch dimension is written as -k, which stands for k times the rows B; others are positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import BundleError

MAX_VALUE_ELEMENTS = 1 << 16  # of one value, per row
MAX_ROW_ELEMENTS = 1 << 17  # of all values of a graph together, per row
MAX_ROW_FLOPS = 16_000_000  # of a graph, per row
MAX_RANK = 4
MAX_EXPONENT = 80.0  # exp(88.7) is float32's largest number
MIN_DIVISOR = 1e-9

Dims = tuple[int, ...]
Attributes = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What is known of a value before anything runs.

    Attributes:
        dims: see the legend above.
        low, high: bounds of its elements.
        array: its elements, for a constant.
    """

    dims: Dims
    low: float = -math.inf
    high: float = math.inf
    array: npt.NDArray[np.generic] | None = None

    @property
    def row_elements(self) -> int:
        return math.prod(abs(d) for d in self.dims)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One node: its input values (None where an optional one is left out) and attributes."""

    inputs: Sequence[Value | None]
    attributes: Attributes
    same: bool = False  # all inputs are one and the same value

    def data(self, index: int = 0) -> Value:
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None or value.array is not None:
            raise BundleError(f"input {index} must be a value computed from the graph's inputs")
        return value

    def constant(self, index: int) -> npt.NDArray[np.generic]:
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None or value.array is None:
            raise BundleError(f"input {index} must be a constant, a size or a weight can't depend on values")
        return value.array

    def integers(self, index: int) -> list[int]:
        array = self.constant(index)
        if array.dtype != np.int64 or array.ndim > 1:
            raise BundleError(f"input {index} must be a list of 64-bit integers")
        return [int(n) for n in array.ravel()]

    def integer(self, name: str, default: int) -> int:
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise BundleError(f"attribute {name} is {value!r}, must be an integer")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a node makes: its outputs and floating-point operations per row."""

    outputs: tuple[Value, ...]
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Number of inputs, attributes and meaning of one operator."""

    least: int
    most: int
    infer: Callable[[Call], Made]
    attributes: frozenset[str] = frozenset()


def constant(array: npt.NDArray[np.generic]) -> Value:
    """A weight as a value."""
    return Value(dims=array.shape, low=float(array.min()), high=float(array.max()), array=array)


def infer(op: str, call: Call) -> Made:
    """What an operator makes of its inputs.

    Raises:
        BundleError: not on the list, or not provably bounded; without the file's and the node's name.
    """
    rule = RULES.get(op)
    if rule is None:
        raise BundleError(f"is not on the list of operators that are served ({', '.join(RULES)})")
    if not rule.least <= len(call.inputs) <= rule.most:
        raise BundleError(f"has {len(call.inputs)} inputs, must have {rule.least} to {rule.most}")
    if surplus := sorted(set(call.attributes) - rule.attributes):
        raise BundleError(f"attribute {surplus[0]!r} is not served")
    if not any(value is not None and value.array is None for value in call.inputs):
        raise BundleError("works on constants alone; fold it into a weight")
    made = rule.infer(call)
    for value in made.outputs:
        if len(value.dims) > MAX_RANK or sum(d < 0 for d in value.dims) != 1:
            raise BundleError(f"gives {shown(value.dims)}, must have the batch B as exactly one of its dimensions")
        if value.row_elements > MAX_VALUE_ELEMENTS:
            raise BundleError(f"gives {value.row_elements} elements per row, at most {MAX_VALUE_ELEMENTS}")
    return made


def shown(dims: Dims) -> list[int | str]:
    """Dimensions for people: -1 is B, -10 is 10B."""
    return [d if d >= 0 else ("B" if d == -1 else f"{-d}B") for d in dims]


def _one(dims: Dims, low: float = -math.inf, high: float = math.inf, flops: int | None = None) -> Made:
    value = Value(dims=dims, low=_known(low, -math.inf), high=_known(high, math.inf))
    return Made(outputs=(value,), flops=value.row_elements if flops is None else flops)


def _known(bound: float, otherwise: float) -> float:
    return otherwise if math.isnan(bound) else bound


def _broadcast(*shapes: Dims) -> Dims:
    rank = max(map(len, shapes))
    result = []
    for column in zip(*((1,) * (rank - len(dims)) + dims for dims in shapes)):
        sizes = {d for d in column if d != 1}
        if len(sizes) > 1:
            raise BundleError(f"can't join shapes {' and '.join(str(shown(dims)) for dims in shapes)}")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def _inputs(call: Call) -> list[Value]:
    if any(value is None for value in call.inputs):
        raise BundleError("lacks an input")
    values = [value for value in call.inputs if value is not None]
    if any(value.array is not None and value.array.dtype != np.float32 for value in values):
        raise BundleError("reckons with integers, must be float32")
    return values


def _elementwise(bounds: Callable[[Call, list[Value]], tuple[float, float]]) -> Callable[[Call], Made]:
    def rule(call: Call) -> Made:
        values = _inputs(call)
        return _one(_broadcast(*(v.dims for v in values)), *bounds(call, values))

    return rule


def _mul(call: Call, values: list[Value]) -> tuple[float, float]:
    if call.same:
        return 0.0, math.inf
    a, b = values
    if min(a.low, b.low) >= 0.0:
        return 0.0, math.inf
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return (-math.inf, math.inf) if any(map(math.isnan, corners)) else (min(corners), max(corners))


def _div(call: Call, values: list[Value]) -> tuple[float, float]:
    if float(np.abs(call.constant(1)).min()) < MIN_DIVISOR:
        raise BundleError(f"divides by a constant below {MIN_DIVISOR:g} in size; fold it into a weight")
    a, b = values
    corners = [x / y for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(corners), max(corners)


def _exp(call: Call, values: list[Value]) -> tuple[float, float]:
    del call
    if values[0].high > MAX_EXPONENT:
        raise BundleError(f"argument may exceed {MAX_EXPONENT:g} and its result be infinite; bound it with Min or Clip")
    return 0.0, math.exp(values[0].high)


def _sqrt(call: Call, values: list[Value]) -> tuple[float, float]:
    del call
    if values[0].low < 0.0:
        raise BundleError("argument may be negative and its result NaN; take it of squares only")
    return 0.0, math.inf


def _log(call: Call, values: list[Value]) -> tuple[float, float]:
    del call
    if values[0].low < MIN_DIVISOR:
        raise BundleError(f"argument may be below {MIN_DIVISOR:g} and its result not finite; take it of 1 + Relu")
    return math.log(values[0].low), math.inf


def _clip(call: Call) -> Made:
    value = call.data()
    limits = []
    for index in (1, 2):
        array = call.constant(index)
        if array.size != 1 or array.dtype != np.float32:
            raise BundleError("bounds must be single float32 constants")
        limits.append(float(array.ravel()[0]))
    if limits[0] > limits[1]:
        raise BundleError(f"bounds are {limits[0]:g} and {limits[1]:g}, the lower one must come first")
    return _one(value.dims, *limits)


def _gemm(call: Call) -> Made:
    value, weight = call.data(), call.constant(1)
    if call.integer("transA", 0):
        raise BundleError("transposes the batch")
    weight = weight.T if call.integer("transB", 0) else weight
    if len(value.dims) != 2 or value.dims[0] >= 0 or weight.ndim != 2 or value.dims[1] != weight.shape[0]:
        raise BundleError(f"multiplies {shown(value.dims)} by {list(weight.shape)}")
    dims = (value.dims[0], weight.shape[1])
    if len(call.inputs) == 3 and _broadcast(dims, call.constant(2).shape) != dims:
        raise BundleError(f"adds {list(call.constant(2).shape)} to {shown(dims)}")
    return _one(dims, flops=2 * -dims[0] * weight.size)


def _matmul(call: Call) -> Made:
    value, weight = call.data(), call.constant(1)
    if weight.ndim != 2 or value.dims[-1:] != weight.shape[:1]:
        raise BundleError(f"multiplies {shown(value.dims)} by {list(weight.shape)}")
    return _one((*value.dims[:-1], weight.shape[1]), flops=2 * value.row_elements * weight.shape[1])


def _axis(axis: int, dims: Dims) -> int:
    """A checked axis that is not the batch."""
    if not -len(dims) <= axis < len(dims):
        raise BundleError(f"axis {axis} is none of {shown(dims)}")
    if dims[axis] < 0:
        raise BundleError(f"works across the rows of the batch (axis {axis} of {shown(dims)})")
    return axis % len(dims)


def _concat(call: Call) -> Made:
    values = _inputs(call)
    axis = _axis(call.integer("axis", 0), values[0].dims)
    rest = {(*v.dims[:axis], *v.dims[axis + 1 :]) for v in values}
    if len(rest) != 1 or len({len(v.dims) for v in values}) != 1:
        raise BundleError(f"can't join shapes {' and '.join(str(shown(v.dims)) for v in values)}")
    dims = list(values[0].dims)
    dims[axis] = sum(v.dims[axis] for v in values)
    return _one(tuple(dims), min(v.low for v in values), max(v.high for v in values))


def _slice(call: Call) -> Made:
    value = call.data()
    dims = list(value.dims)
    starts, ends, axes = (call.integers(i) for i in (1, 2, 3))
    if not len(starts) == len(ends) == len(axes):
        raise BundleError("has starts, ends and axes of different number")
    for start, end, axis in zip(starts, ends, axes):
        at = _axis(axis, value.dims)
        dims[at] = len(range(*slice(start, end).indices(value.dims[at])))
        if not dims[at]:
            raise BundleError(f"takes nothing of {shown(value.dims)}")
    return _one(tuple(dims), value.low, value.high)


def _squeeze(call: Call) -> Made:
    value = call.data()
    gone = {_axis(axis, value.dims) for axis in call.integers(1)}
    if any(value.dims[axis] != 1 for axis in gone):
        raise BundleError(f"drops a dimension of {shown(value.dims)} that is not 1")
    return _one(tuple(d for i, d in enumerate(value.dims) if i not in gone), value.low, value.high)


def _transpose(call: Call) -> Made:
    value, order = call.data(), call.attributes.get("perm")
    if not isinstance(order, list) or sorted(order) != list(range(len(value.dims))):
        raise BundleError(f"order {order!r} is no order of {shown(value.dims)}")
    return _one(tuple(value.dims[i] for i in order), value.low, value.high)


def _reshape(call: Call) -> Made:
    """[B, ...] to [kB, ...] with the rows' elements kept together."""
    value, target = call.data(), call.integers(1)
    inner = math.prod(target[1:])
    if value.dims[0] >= 0 or not target or target[0] != -1 or any(d < 1 for d in target[1:]):
        raise BundleError(f"takes {shown(value.dims)} to {target}, must keep the batch first: [-1, sizes]")
    if value.row_elements % inner:
        raise BundleError(f"takes {shown(value.dims)} to {target}: {value.row_elements} elements a row don't divide so")
    return _one((-(value.row_elements // inner), *target[1:]), value.low, value.high)


def _reduce_mean(call: Call) -> Made:
    value, axes = call.data(), call.attributes.get("axes")
    if not isinstance(axes, list) or not axes:
        raise BundleError("names no axes, which is a mean over the batch")
    gone = {_axis(axis, value.dims) for axis in axes}
    keep = bool(call.integer("keepdims", 1))
    dims = tuple(1 if i in gone else d for i, d in enumerate(value.dims) if keep or i not in gone)
    return _one(dims, value.low, value.high, flops=value.row_elements)


def _layer_norm(call: Call) -> Made:
    value = call.data()
    if _axis(call.integer("axis", -1), value.dims) != len(value.dims) - 1:
        raise BundleError("must work on the last axis")
    if float(call.attributes.get("epsilon", 1e-5)) < MIN_DIVISOR:  # type: ignore[arg-type]
        raise BundleError(f"epsilon is below {MIN_DIVISOR:g}, which divides by zero")
    for index in range(1, len(call.inputs)):
        if call.constant(index).shape != (value.dims[-1],):
            raise BundleError(f"scales {shown(value.dims)} by {list(call.constant(index).shape)}")
    return _one(value.dims, flops=8 * value.row_elements)


def _lstm(call: Call) -> Made:
    value, w, r = call.data(), call.constant(1), call.constant(2)
    hidden = call.integer("hidden_size", 0)
    if len(value.dims) != 3 or value.dims[1] >= 0 or hidden < 1:
        raise BundleError(f"reads {shown(value.dims)}, must be [steps, B, features]")
    steps, rows, features = value.dims
    wanted = [(1, 4 * hidden, features), (1, 4 * hidden, hidden), (1, 8 * hidden)]
    found = [w.shape, r.shape, *([call.constant(3).shape] if len(call.inputs) > 3 else [])]
    if found != wanted[: len(found)]:
        raise BundleError(f"has weights {found}, must be {wanted[: len(found)]}")
    every = Value(dims=(steps, 1, rows, hidden), low=-1.0, high=1.0)
    last = Value(dims=(1, rows, hidden), low=-1.0, high=1.0)
    flops = 2 * steps * -rows * 4 * hidden * (features + hidden)
    return Made(outputs=(every, last, Value(dims=last.dims)), flops=flops)


def _bounded(low: float, high: float) -> Rule:
    return Rule(least=1, most=1, infer=_elementwise(lambda call, values: (low, high)))


RULES: Mapping[str, Rule] = {
    "Add": Rule(least=2, most=2, infer=_elementwise(lambda c, v: (v[0].low + v[1].low, v[0].high + v[1].high))),
    "Sub": Rule(least=2, most=2, infer=_elementwise(lambda c, v: (v[0].low - v[1].high, v[0].high - v[1].low))),
    "Mul": Rule(least=2, most=2, infer=_elementwise(_mul)),
    "Div": Rule(least=2, most=2, infer=_elementwise(_div)),
    "Neg": Rule(least=1, most=1, infer=_elementwise(lambda c, v: (-v[0].high, -v[0].low))),
    "Min": Rule(least=2, most=16, infer=_elementwise(lambda c, v: (min(x.low for x in v), min(x.high for x in v)))),
    "Max": Rule(least=2, most=16, infer=_elementwise(lambda c, v: (max(x.low for x in v), max(x.high for x in v)))),
    "Mean": Rule(least=2, most=16, infer=_elementwise(lambda c, v: (min(x.low for x in v), max(x.high for x in v)))),
    "Identity": Rule(least=1, most=1, infer=_elementwise(lambda c, v: (v[0].low, v[0].high))),
    "Relu": Rule(least=1, most=1, infer=_elementwise(lambda c, v: (max(v[0].low, 0.0), max(v[0].high, 0.0)))),
    "Elu": _bounded(-1.0, math.inf),
    "Tanh": _bounded(-1.0, 1.0),
    "Sigmoid": _bounded(0.0, 1.0),
    "Sin": _bounded(-1.0, 1.0),
    "Cos": _bounded(-1.0, 1.0),
    "Exp": Rule(least=1, most=1, infer=_elementwise(_exp)),
    "Sign": _bounded(-1.0, 1.0),
    "Log": Rule(least=1, most=1, infer=_elementwise(_log)),
    "Sqrt": Rule(least=1, most=1, infer=_elementwise(_sqrt)),
    "Clip": Rule(least=3, most=3, infer=_clip),
    "Gemm": Rule(least=2, most=3, infer=_gemm, attributes=frozenset({"transA", "transB"})),
    "MatMul": Rule(least=2, most=2, infer=_matmul),
    "Concat": Rule(least=2, most=16, infer=_concat, attributes=frozenset({"axis"})),
    "Slice": Rule(least=4, most=4, infer=_slice),
    "Squeeze": Rule(least=2, most=2, infer=_squeeze),
    "Transpose": Rule(least=1, most=1, infer=_transpose, attributes=frozenset({"perm"})),
    "Reshape": Rule(least=2, most=2, infer=_reshape),
    "ReduceMean": Rule(least=1, most=1, infer=_reduce_mean, attributes=frozenset({"axes", "keepdims"})),
    "LayerNormalization": Rule(least=2, most=3, infer=_layer_norm, attributes=frozenset({"axis", "epsilon"})),
    "LSTM": Rule(least=3, most=4, infer=_lstm, attributes=frozenset({"hidden_size"})),
}
