"""Bundles made to harm whoever loads them: each is refused with its reason, in seconds and within a gigabyte.

The files are real and consistent (right hashes, right id, references that are the graph's own answers wherever it has
any): what an attacker can do who has all of this repository.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.forged import forge

from skimo_core.contract.errors import BundleError
from skimo_server import cli
from skimo_server.bundle import load_bundle
from skimo_server.graphs import check_graph
from skimo_server.inprocess import InProcessPolicy
from skimo_server.parity import MAX_ROWS, pack, unpack
from skimo_server.testing import toy_graphs, toy_recorded
from skimo_server.trial import answers, try_graphs
from skimo_server.vetting import Budget, vet

SIZES = {"H": 10, "O": 30, "A": 9, "Z": 10, "D": 12}
GRAPHS = toy_graphs(SIZES)
RECORDED = toy_recorded(GRAPHS, SIZES)
INPUTS = {name: value for name, value in RECORDED.items() if "." not in name}
MAX_CPU_S = 10.0
MAX_BYTES = 1_000_000_000

Op = tuple[str, list[str], list[str], dict[str, Any]]


def graph(ports: str, ops: Sequence[Op], weights: dict[str, np.ndarray] | None = None) -> bytes:
    """A graph whose ports are those of the toy bundle's graph of that name."""
    model = onnx.ModelProto.FromString(GRAPHS[ports])
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.extend(helper.make_node(kind, ins, outs, **more) for kind, ins, outs, more in ops)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in (weights or {}).items())
    return model.SerializeToString(deterministic=True)


def encode(*ops: Op, **weights: np.ndarray) -> bytes:
    """An encoder that is honest but for what `ops` make of "observation": "x" [B, 30]."""
    weights = {**weights, "w": np.full((30, 12), 0.1, np.float32) * np.arange(1, 13, dtype=np.float32)}
    return graph("encode", [*ops, ("Gemm", ["x", "w"], ["latent"], {})], weights)


def edit(name: str, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.ModelProto.FromString(GRAPHS[name])
    change(model)
    return model.SerializeToString(deterministic=True)


def refused_in_bounds(folder: Path) -> str:
    """Loads a bundle; returns why it was refused, having seen that it cost little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MAX_CPU_S
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # a child is counted with what we held when it was forked
    assert after.ru_maxrss * 1024 < MAX_BYTES or after.ru_maxrss <= max(before.ru_maxrss, ours)
    return str(caught.value)


COPY: Op = ("Identity", ["observation"], ["x"], {})
BIG = np.zeros((1000, 1000), np.float32)
I64 = np.int64


def dims(*sizes: int) -> np.ndarray:
    return np.array(sizes, I64)


def bfloat16_nan(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    tensor.raw_data = np.full(int(np.prod(tensor.dims)), 0x7FC0, "<u2").tobytes()
    tensor.data_type = TensorProto.BFLOAT16


def float8_nan(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    tensor.raw_data = b"\x7f" * int(np.prod(tensor.dims))
    tensor.data_type = TensorProto.FLOAT8E4M3FN


def half(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    tensor.CopyFrom(numpy_helper.from_array(np.full(list(tensor.dims), np.nan, np.float16), tensor.name))


def nan_weight(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    tensor.CopyFrom(numpy_helper.from_array(np.full(list(tensor.dims), np.nan, np.float32), tensor.name))


def negative_dims(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    tensor.dims[0], tensor.dims[1] = -1, -tensor.dims[0] * tensor.dims[1]


def huge_dims(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.dims[0] = 2**62


def external_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/dev/zero")


def nested(depth: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        body = helper.make_graph([], "g", [], [])
        for _ in range(depth):
            node = helper.make_node("If", ["observation"], ["y"], then_branch=body, else_branch=body)
            body = helper.make_graph([node], "g", [], [])
        model.graph.node.insert(0, body.node[0])

    return change


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="").node.append(helper.make_node("Relu", ["a"], ["b"]))


def products(count: int, size: int) -> bytes:
    """`count` products of size x size matrices made of nothing: gigabytes and teraflops while the graph is loaded."""
    ops: list[Op] = [("ConstantOfShape", ["shape"], ["p0"], {})]
    ops += [("MatMul", [f"p{i}", f"p{i}"], [f"p{i + 1}"], {}) for i in range(count)]
    return encode(
        *ops, ("ReduceMean", [f"p{count}"], ["m"], {}), ("Add", ["observation", "m"], ["x"], {}), shape=dims(size, size)
    )


STATIC: dict[str, tuple[str, bytes, str]] = {
    "memory grows with the square of the batch": (
        "encode",
        encode(
            ("Reshape", ["observation", "column"], ["c"], {}),
            ("Transpose", ["c"], ["r"], {"perm": [1, 0]}),
            ("Mul", ["c", "r"], ["bb"], {}),
            ("ReduceMean", ["bb"], ["m"], {"axes": [1]}),
            COPY,
            column=dims(-1, 1),
        ),
        "can't join shapes|exactly one of its dimensions",
    ),
    "attention across rows": (
        "encode",
        encode(
            ("Transpose", ["observation"], ["t"], {"perm": [1, 0]}), ("MatMul", ["observation", "t"], ["bb"], {}), COPY
        ),
        "operator MatMul .* must be a constant",
    ),
    "allocates by the observation's value": (
        "encode",
        encode(
            ("ReduceMax", ["observation"], ["m"], {}),
            ("Cast", ["m"], ["i"], {"to": TensorProto.INT64}),
            ("ConstantOfShape", ["i"], ["z"], {}),
            COPY,
        ),
        "operator ReduceMax .* not on the list",
    ),
    "tiles by value": (
        "encode",
        encode(("Tile", ["observation", "observation"], ["x"], {})),
        "Tile .* not on the list",
    ),
    "range": (
        "encode",
        encode(("Range", ["a", "b", "c"], ["r"], {}), COPY, a=BIG[0, 0], b=BIG[0, 0], c=BIG[0, 0]),
        "Range",
    ),
    "reshape by value": (
        "encode",
        encode(("Reshape", ["observation", "observation"], ["x"], {})),
        "must be a constant",
    ),
    "sum over the batch": (
        "encode",
        encode(("ReduceMean", ["observation"], ["m"], {"axes": [0]}), ("Sub", ["observation", "m"], ["x"], {})),
        "works across the rows",
    ),
    "sum over everything": (
        "encode",
        encode(("ReduceMean", ["observation"], ["m"], {}), ("Sub", ["observation", "m"], ["x"], {})),
        "a mean over the batch",
    ),
    "rows joined": (
        "encode",
        encode(("Concat", ["observation", "observation"], ["x"], {"axis": 0})),
        "works across the rows",
    ),
    "rows shuffled by reshape": (
        "encode",
        encode(("Reshape", ["observation", "s"], ["x"], {}), s=dims(-1, 60)),
        "30 elements a row don't divide so",
    ),
    "NaN off zero: a root of what may be negative": (
        "encode",
        encode(("Sqrt", ["observation"], ["x"], {})),
        "may be negative and its result NaN",
    ),
    "NaN off zero: a quotient": (
        "encode",
        encode(("Div", ["observation", "observation"], ["x"], {})),
        "must be a constant",
    ),
    "division by a zero weight": (
        "encode",
        encode(("Div", ["observation", "z"], ["x"], {}), z=np.zeros(30, np.float32)),
        "divides by a constant below",
    ),
    "infinite exponential": ("encode", encode(("Exp", ["observation"], ["x"], {})), "its result be infinite"),
    "Dropout in training mode": (
        "encode",
        encode(
            ("Dropout", ["observation", "ratio", "training"], ["x"], {}),
            ratio=np.array(0.5, np.float32),
            training=np.array(True),
        ),
        "BOOL, allowed are FLOAT and INT64",
    ),
    "Dropout": ("encode", encode(("Dropout", ["observation"], ["x"], {})), "operator Dropout .* not on the list"),
    "randomness": (
        "encode",
        encode(("RandomNormalLike", ["observation"], ["x"], {})),
        "RandomNormalLike .* not on the",
    ),
    "initialiser dims of -1": ("encode", edit("encode", negative_dims), r"dimensions \[-1, .*must be at least 1"),
    "initialiser dims of 2^62": ("encode", edit("encode", huge_dims), r"dimensions \[4611686018427387904, .*but holds"),
    "NaN bfloat16 weights": ("encode", edit("encode", bfloat16_nan), "is BFLOAT16, allowed are FLOAT and INT64"),
    "NaN float8 weights": ("encode", edit("encode", float8_nan), "is FLOAT8E4M3FN, allowed are"),
    "NaN float16 weights": ("encode", edit("encode", half), "is FLOAT16, allowed are"),
    "NaN float32 weights": ("encode", edit("encode", nan_weight), "non-finite weight"),
    "4 GiB of constants": (
        "encode",
        encode(("ConstantOfShape", ["shape"], ["big"], {}), COPY, shape=dims(1 << 30)),
        "ConstantOfShape .* not on the list",
    ),
    "4 GiB by Expand": (
        "encode",
        encode(("Expand", ["one", "shape"], ["big"], {}), COPY, one=np.ones(1, np.float32), shape=dims(1 << 30)),
        "Expand .* not on the list",
    ),
    "4 GiB by broadcasting": (
        "encode",
        encode(
            ("Add", ["column", "row"], ["big"], {}),
            COPY,
            column=np.ones((1 << 15, 1), np.float32),
            row=np.ones((1, 1 << 15), np.float32),
        ),
        "works on constants alone",
    ),
    "a row of 4 GiB by broadcasting": (
        "encode",
        encode(
            ("Reshape", ["observation", "shape"], ["r"], {}),
            ("Add", ["r", "column"], ["big"], {}),
            COPY,
            shape=dims(-1, 1, 30),
            column=np.ones((1 << 20, 1), np.float32),
        ),
        "elements per row, at most 65536",
    ),
    "40 products of 3000^3": ("encode", products(40, 3000), "ConstantOfShape .* not on the list"),
    "40 products of weights": (
        "encode",
        encode(*[("MatMul", ["p", "p"], [f"p{i}"], {}) for i in range(40)], COPY, p=BIG),
        "works on constants alone",
    ),
    "a long chain of products": (
        "encode",
        encode(
            ("Gemm", ["observation", "wide"], ["p0"], {}),
            *[("Gemm", [f"p{i}", "p"], [f"p{i + 1}"], {}) for i in range(40)],
            COPY,
            p=BIG,
            wide=np.zeros((30, 1000), np.float32),
        ),
        "operations per row, at most",
    ),
    "external data": ("encode", edit("encode", external_weights), "lies in another file"),
    "a subgraph": ("encode", edit("encode", nested(1)), "control flow is refused"),
    "subgraphs within subgraphs": ("encode", edit("encode", nested(12)), "control flow is refused"),
    "a function": ("encode", edit("encode", function), "holds functions"),
}


def deep(levels: int) -> bytes:
    """An operator in a graph in an operator ..., written by hand: the reader's own recursion is the target."""

    def field(number: int, data: bytes) -> bytes:
        size, out = len(data), bytes([number << 3 | 2])
        while size > 127:
            out, size = out + bytes([size & 127 | 128]), size >> 7
        return out + bytes([size]) + data

    node = field(4, b"Relu")
    for _ in range(levels):
        attribute = field(1, b"g") + field(6, field(1, node)) + b"\xa0\x01\x05"
        node = field(4, b"If") + field(5, attribute)
    return GRAPHS["encode"] + field(7, field(1, node))


def swollen(nodes: int) -> bytes:
    """A file that is small for what its reader makes of it."""
    body = b"\x0a\x00" * nodes
    size, head = len(body), b"\x3a"
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + body


@pytest.mark.parametrize("kind", STATIC)
def test_a_hostile_graph_is_refused_before_it_is_loaded(kind: str) -> None:
    """In this process as it is in the vetting one: nothing of it runs."""
    name, data, reason = STATIC[kind]
    with pytest.raises(BundleError, match=reason) as caught:
        check_graph(name, data, SIZES)
    assert str(caught.value).startswith(f"{name}.onnx")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: deep(200), "encode.onnx: not an ONNX file"),
        (lambda: swollen(12_000_000), "encode.onnx: .*(operators, at most|of memory|processor time)"),
        (lambda: STATIC["40 products of 3000^3"][1], "not on the list"),
    ],
    ids=["200 nested subgraphs", "16 million empty operators", "40 products of 3000^3"],
)
def test_what_harms_its_reader_harms_only_the_vetting_process(
    made: Callable[[], bytes], reason: str, bundle_folder: Path, tmp_path: Path
) -> None:
    folder = forge(tmp_path / "b", bundle_folder, {"encode": made()})
    assert re.search(reason, refused_in_bounds(folder))


def constant_policy(value: float, spread: float) -> bytes:
    weights = {"a": np.full((10, 9), spread, np.float32), "b": np.full(9, value, np.float32)}
    return graph("skill_policy", [("Gemm", ["skill", "a", "b"], ["r"], {}), ("Tanh", ["r"], ["action"], {})], weights)


def normalised(mean: float, std: float) -> bytes:
    weights = {"m": np.full(30, mean, np.float32), "s": np.full(30, std, np.float32)}
    return encode(("Sub", ["observation", "m"], ["c"], {}), ("Div", ["c", "s"], ["x"], {}), **weights)


def overflow() -> bytes:
    """Finite on what was recorded, NaN (infinity less infinity) a little further out."""
    ops: list[Op] = [("Mul", ["observation", "observation"], ["p0"], {})]
    ops += [("Mul", [f"p{i}", f"p{i}"], [f"p{i + 1}"], {}) for i in range(4)]
    tail: list[Op] = [("Sub", ["p4", "p4"], ["z"], {}), ("Add", ["observation", "z"], ["x"], {})]
    return encode(*ops, *tail)


DYNAMIC: dict[str, tuple[str, bytes, str]] = {
    "constant full action": ("skill_policy", constant_policy(20.0, 0.0), "gives the same action for all 32"),
    "constant action": ("skill_policy", constant_policy(0.1, 0.0), "gives the same action for all 32"),
    "full action with a tremor": ("skill_policy", constant_policy(3.0, 0.01), "joint 1 is at full speed for 100%"),
    "normalisation by a tiny deviation": ("encode", normalised(0.0, 1e-4), "normalises its observations otherwise"),
    "NaN off zero: overflow": ("encode", overflow(), "latent' for the recorded inputs times .* is not finite"),
    "actions out of bounds": (
        "skill_policy",
        graph("skill_policy", [("Gemm", ["skill", "a"], ["action"], {})], {"a": np.eye(10, 9, dtype=np.float32) * 3}),
        "lies in .* must be within -1 to 1",
    ),
    "an encoder that tells nothing apart": (
        "encode",
        encode(("Mul", ["observation", "z"], ["x"], {}), z=np.zeros(30, np.float32)),
        "all the same or huge",
    ),
    "a decoder in other units": (
        "decode",
        graph("decode", [("Gemm", ["latent", "w"], ["observation"], {})], {"w": np.full((12, 30), 1e3, np.float32)}),
        "deviations from where it was recorded",
    ),
}


@pytest.mark.parametrize("kind", DYNAMIC)
def test_a_hostile_network_is_refused_when_tried(kind: str) -> None:
    """Its references are its own answers: only what it does gives it away. In this process, because it is cheap."""
    name, data, reason = DYNAMIC[kind]
    with pytest.raises(BundleError, match=reason):
        check_graph(name, data, SIZES)
        graphs = {**GRAPHS, name: data}
        try_graphs(graphs, {**INPUTS, **answers(graphs, INPUTS)}, 7)


@pytest.mark.parametrize(
    ("mean", "std", "reason"),
    [
        (0.0, 1e-3, "must be of order 1"),
        (5e2, 1.0, "must be of order 1"),
        (0.0, -1.0, "0 or less"),
        (0.0, 1e3, "order 1"),
    ],
)
def test_a_wrong_normalisation_is_refused_even_where_all_networks_share_it(
    mean: float, std: float, reason: str
) -> None:
    graphs = {**GRAPHS, "encode": normalised(mean, std)}
    for name, port in (("skill_policy", "observation"), ("skill_encoder", "observations"), ("goal_value", "goal")):
        graphs[name] = edit(name, partial(prepend, port=port, mean=mean, std=std))
        check_graph(name, graphs[name], SIZES)
    with pytest.raises(BundleError, match=reason):
        try_graphs(graphs, {**INPUTS, **answers(graphs, INPUTS)}, 7)


def prepend(model: onnx.ModelProto, port: str, mean: float, std: float) -> None:
    for node in model.graph.node:
        node.input[:] = ["normal_x" if i == port else i for i in node.input]
    sub, div = (["normal_m"], "normal_c"), (["normal_s"], "normal_x")
    model.graph.node.insert(0, helper.make_node("Div", ["normal_c", *div[0]], [div[1]]))
    model.graph.node.insert(0, helper.make_node("Sub", [port, *sub[0]], [sub[1]]))
    for name, value in (("normal_m", mean), ("normal_s", std)):
        model.graph.initializer.append(numpy_helper.from_array(np.full(30, value, np.float32), name))


def test_honest_normalisation_passes() -> None:
    graphs = {**GRAPHS, "encode": normalised(0.3, 0.5)}
    for name, port in (("skill_policy", "observation"), ("skill_encoder", "observations"), ("goal_value", "goal")):
        graphs[name] = edit(name, partial(prepend, port=port, mean=0.3, std=0.5))
    try_graphs(graphs, {**INPUTS, **answers(graphs, INPUTS)}, 7)


def test_another_network_than_the_one_exported_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    other = toy_graphs(SIZES, seed=5)["prior"]
    reason = refused_in_bounds(forge(tmp_path / "b", bundle_folder, {"prior": other}))
    assert reason.startswith("prior.onnx: output 'mean' differs from the recorded reference")


def swell(data: bytes) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return out.getvalue()


def test_recorded_inputs_that_are_no_plain_arrays_are_refused() -> None:
    data = pack(RECORDED)
    assert set(unpack(data, SIZES, GRAPHS)) == set(RECORDED) and pack(RECORDED) == data
    for changed, reason in (
        (swell(data), "not a file of plain arrays"),
        (data[:500], "not a file of plain arrays"),
        (b"", "not a file of plain arrays"),
        (pack({k: v for k, v in RECORDED.items() if k != "weights"}), "'weights' is missing"),
        (pack({**RECORDED, "more": RECORDED["weights"]}), "'more' is missing or unknown"),
        (pack({k: v[:4] for k, v in RECORDED.items()}), "4 rows, must be 16 to 1024"),
        (pack({**RECORDED, "goals": RECORDED["goals"] * np.nan}), "goals is .* must be finite"),
        (pack({**RECORDED, "skills": RECORDED["skills"] * 3}), "skills must lie within"),
        (data.replace(b"'<f4'", b"'|O8'"), "not a file of plain arrays"),
        (data.replace(b"(32, 9)", b"(99, 9)"), "not a file of plain arrays"),
    ):
        with pytest.raises(BundleError, match=rf"parity\.npz: .*{reason}"):
            unpack(changed, SIZES, GRAPHS)


def test_vetting_stays_within_its_budget_and_says_at_what(bundle_folder: Path) -> None:
    files = {p.name: p.read_bytes() for p in bundle_folder.iterdir() if p.name != "manifest.json"}
    with pytest.raises(BundleError, match=r"took more than 0\.01 s"):
        vet(files, content="wall", sizes=SIZES, joints=7, budget=Budget(wall_s=0.01))
    with pytest.raises(BundleError, match=r"needs more than 130 MB of memory"):
        vet(files, content="memory", sizes=SIZES, joints=7, budget=Budget(memory_bytes=130_000_000))
    passed = vet(files, content="whole", sizes=SIZES, joints=7)
    assert passed is not None and passed.cpu_s < 3.0 and passed.peak_bytes < 300_000_000
    assert vet(files, content="whole", sizes=SIZES, joints=7) is None  # remembered


def test_who_runs_on_idle_cores_alone_is_waited_for() -> None:
    """A learner beside a robot: its vetting gets its turn when the robot leaves a core."""
    patience = "from skimo_server.vetting import Budget; print(Budget(wall_s=2.0).patience_s)"
    idle = f"import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); {patience}"
    said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for code in (patience, idle)]
    assert [float(done.stdout) for done in said] == [2.0, 120.0]


def test_a_graph_that_never_ends_is_ended(bundle_folder: Path) -> None:
    """The processor limit itself, on the largest graph and the most rows that are let through: seconds."""
    wide: list[Op] = [("Gemm", ["observation", "wide"], ["p0"], {})]
    wide += [("Gemm", [f"p{i}", "p"], [f"p{i + 1}"], {}) for i in range(7)]
    wide += [("Elu", [f"p{i}"], [f"p{i + 1}"], {}) for i in range(7, 110)]
    heavy = encode(
        *wide,
        ("Slice", ["p110", "a", "b", "axis"], ["x"], {}),
        p=BIG,
        wide=np.zeros((30, 1000), np.float32),
        a=dims(0),
        b=dims(30),
        axis=dims(1),
    )
    check_graph("encode", heavy, SIZES)
    files = {p.name: p.read_bytes() for p in bundle_folder.iterdir() if p.name != "manifest.json"}
    files = {"encode.onnx": heavy} | {k: v for k, v in files.items() if k != "encode.onnx"}
    recorded = {name: np.resize(value, (MAX_ROWS, *value.shape[1:])) for name, value in RECORDED.items()}
    parity = {**recorded, "encode.latent": np.zeros((MAX_ROWS, 12), np.float32)}
    with pytest.raises(BundleError, match=r"encode\.onnx: .* took more than 1 s of processor time"):
        vet({**files, "parity.npz": pack(parity)}, content="slow", sizes=SIZES, joints=7, budget=Budget(cpu_s=1))


def test_everything_that_loads_a_bundle_vets_it(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(forge(tmp_path / "b", bundle_folder, {"encode": STATIC["Dropout"][1]}))
    with pytest.raises(BundleError, match="Dropout"):
        InProcessPolicy.load(folder)
    assert cli.verify([folder]) == 1
    assert "skimo verify: refused: encode.onnx: operator Dropout" in capsys.readouterr().err
    assert cli.serve(["--bundle", folder, "--port", "0"]) == 1
    assert "skimo serve: encode.onnx: operator Dropout" in capsys.readouterr().err
