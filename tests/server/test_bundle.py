"""A bundle is refused for every single thing that is not as it should be, each with its reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skimo_core.contract.errors import BundleError
from skimo_core.contract.policy import Calibration
from skimo_core.domain.domain import load_domain
from skimo_server import cli
from skimo_server.bundle import load_bundle, read_bundle, resolve_bundle, rewrite_bundle, write_bundle
from skimo_server.graphs import MAX_GRAPH_BYTES, canonical_graph, check_graph
from skimo_server.planner_config import skimo_table_2
from skimo_server.testing import make_bundle, toy_graphs, toy_recorded, toy_specs

SIZES = {"H": 10, "O": 30, "A": 9, "Z": 10, "D": 12}
GRAPHS = toy_graphs(SIZES)
RECORDED = toy_recorded(GRAPHS, SIZES)


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "copy"))


def write(folder: Path, graphs: dict[str, bytes], **changes: object):
    observation, action = toy_specs()
    sizes = {"skill_horizon": 10, "skill_dim": 10, "latent_dim": 12}
    return write_bundle(
        folder, graphs=graphs, recorded=RECORDED, observation=observation, action=action, **sizes, **changes
    )


def edit(name: str, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.ModelProto.FromString(GRAPHS[name])
    change(model)
    return model.SerializeToString()


def rehash(folder: Path, change: Callable[[dict], None]) -> None:
    """Changes a manifest and gives it an id that fits again: an attacker could."""
    raw = json.loads((folder / "manifest.json").read_bytes())
    change(raw)
    raw.pop("bundle_id", None)
    body = json.dumps(raw, sort_keys=True).encode() + b"\n"
    raw["bundle_id"] = hashlib.sha256(body).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(raw))


def test_what_is_written_is_what_is_loaded(tmp_path: Path) -> None:
    domain = load_domain()
    manifest = make_bundle(
        tmp_path / "b", observation=domain.observation, action=domain.action, planner=skimo_table_2()
    )
    loaded = load_bundle(tmp_path / "b")
    assert loaded.manifest == manifest
    assert manifest.observation == domain.observation and manifest.action == domain.action
    assert manifest.planner == skimo_table_2()
    assert set(loaded.graphs) == set(manifest.graphs) == set(GRAPHS) and manifest.kind == "skimo"
    assert manifest.policy_spec.skill.plan_length == 3


def test_the_same_content_is_the_same_bytes_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "one")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    make_bundle("two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "elsewhere" / "two" / path.name).read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()


def test_different_content_has_another_id(tmp_path: Path) -> None:
    assert make_bundle(tmp_path / "a", seed=0).bundle_id != make_bundle(tmp_path / "b", seed=1).bundle_id


def test_a_bundle_is_never_overwritten(folder: Path) -> None:
    before = load_bundle(folder).manifest
    assert make_bundle(folder) == before  # the same again is no change
    with pytest.raises(BundleError, match="immutable"):
        make_bundle(folder, seed=1)
    assert load_bundle(folder).manifest == before


def test_a_refused_bundle_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        write(tmp_path / "b", {**GRAPHS, "encode": b"no graph"})
    with pytest.raises(BundleError, match="graph 'dynamics' is missing"):
        write(tmp_path / "b", {"encode": GRAPHS["encode"]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["parity.npz", *(f"{name}.onnx" for name in GRAPHS)])
def test_any_changed_byte_of_a_graph_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    for at in np.random.default_rng(0).integers(len(data), size=5):
        changed = bytearray(data)
        changed[at] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(BundleError, match=f"{name}: SHA-256"):
            read_bundle(folder)


def test_any_changed_byte_of_the_manifest_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    data = path.read_bytes()
    meaningful = [i for i, byte in enumerate(data) if byte not in b" \n"]
    for at in np.random.default_rng(0).choice(meaningful, 40):
        changed = bytearray(data)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            load_bundle(folder)


def test_missing_extra_linked_and_large_files_are_refused(folder: Path, tmp_path: Path) -> None:
    graph = folder / "decode.onnx"
    (folder / "weights.bin").write_bytes(b"")
    with pytest.raises(BundleError, match=r"weights\.bin: is no part"):
        load_bundle(folder)
    (folder / "weights.bin").unlink()
    graph.rename(tmp_path / "moved.onnx")
    with pytest.raises(BundleError, match=r"decode\.onnx: missing"):
        load_bundle(folder)
    graph.symlink_to(tmp_path / "moved.onnx")
    with pytest.raises(BundleError, match=r"decode\.onnx: is a link"):
        load_bundle(folder)
    graph.unlink()
    with open(graph, "wb") as file:
        os.truncate(file.fileno(), MAX_GRAPH_BYTES + 1)
    with pytest.raises(BundleError, match=r"decode\.onnx: \d+ bytes, at most"):
        load_bundle(folder)
    with pytest.raises(BundleError, match="no such bundle"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(format_version=5), "format version 5, this program reads 4; export with this version"),
        (lambda m: m.update(format_version=True), "format version True"),
        (lambda m: m.update(format_version=3), "make it anew with `skimo export --repack copy --out NEW`"),
        (lambda m: m.update(format_version=2), "make it anew with `skimo export --repack copy --out NEW`"),
        (lambda m: m.update(ranges={"low": [0.0] * 30}), "ranges must hold low and high, a number per channel"),
        (lambda m: m.update(ranges={"low": [0.0] * 29, "high": [0.0] * 30}), "ranges must hold low and high"),
        (lambda m: m.update(ranges={"low": [True] * 30, "high": [1.0] * 30}), "ranges must be numbers of at most"),
        (lambda m: m.update(ranges={"low": [2.0] * 30, "high": [1.0] * 30}), "channel 0: lowest value above"),
        (lambda m: m.update(surplus=1), "'surplus' is missing or unknown"),
        (lambda m: m.pop("commit"), "'commit' is missing or unknown"),
        (lambda m: m["files"].pop("encode.onnx"), "must name exactly"),
        (lambda m: m["files"].update({"encode.onnx": "beef"}), "64 hexadecimal"),
        (lambda m: m.update(skill_dim=10.0), "skill_dim is 10.0"),
        (lambda m: m.update(latent_dim=10**9), "latent_dim is 1000000000"),
        (lambda m: m.update(recipe=[]), "recipe is a list"),
        (lambda m: m["planner"].update(samples=0), "planner samples is 0"),
        (lambda m: m["planner"].update(magic=1), "'magic' is unknown"),
        (lambda m: m["action"].update(rate_hz=0), "rate 0"),
        (lambda m: m["observation"]["units"].pop(), "30 names but 29 units"),
        (lambda m: m.update(recipe={"data": "/home/somebody/episodes"}), "path of a machine"),
        (lambda m: m["observation"].update(names=[]), "0 names but 30 units"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(folder: Path, change: Callable, reason: str) -> None:
    rehash(folder, change)
    with pytest.raises(BundleError, match=reason):
        load_bundle(folder)


def test_a_bundle_older_than_a_planner_option_still_loads(folder: Path) -> None:
    before = read_bundle(folder).manifest.planner
    rehash(folder, lambda raw: raw["planner"].pop("disagreement_weight"))
    assert read_bundle(folder).manifest.planner == before


@pytest.mark.parametrize(
    "numbers", [[1.0] * 4, [1.0] * 7, [1.0] * 5 + ["a"], [1.0] * 5 + [1e4], "123456", [1.0] * 5 + [True]]
)
def test_a_calibration_of_anything_but_six_numbers_is_refused(folder: Path, numbers: object) -> None:
    rehash(folder, lambda raw: raw["planner"].update(calibration=numbers))
    with pytest.raises(
        BundleError, match=r"planner calibration is .* must be 6 numbers of at most 1000 in size, or none"
    ):
        read_bundle(folder)


def test_a_bundle_is_written_once_more_with_other_entries(folder: Path, tmp_path: Path) -> None:
    old = load_bundle(folder)
    planner = replace(old.manifest.planner, calibration=(0.5, 0.1, 0.2, -1.0, 0.0))  # as before `second` was told
    made = rewrite_bundle(old, tmp_path / "new", planner=planner)
    assert made.parent_id == old.manifest.bundle_id != made.bundle_id and made.files == old.manifest.files
    assert made.policy_spec.calibration == Calibration(bias=0.5, predicted=0.1, value=0.2, spent=-1.0, first=0.0)
    same = replace(
        made, bundle_id=old.manifest.bundle_id, parent_id=old.manifest.parent_id, planner=old.manifest.planner
    )
    assert same == old.manifest


def test_a_forged_size_does_not_pass_for_the_graphs(folder: Path) -> None:
    rehash(folder, lambda m: m.update(latent_dim=13))
    with pytest.raises(BundleError, match=r"shape \['B', 12\], must be \['B', 13\]"):
        load_bundle(folder)


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    for text in ("", "[]", "{", '{"format_version": NaN}', "[" * 100_000):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(BundleError, match=r"manifest\.json"):
            load_bundle(folder)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_constant(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "t")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="x")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    index = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [4]))


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.insert(0, helper.make_node("If", ["latent"], ["y"], then_branch=body, else_branch=body))


def hidden_subgraph(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))


def bad_weight(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"1234"


def set_shape(port: str, at: int, size: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        found = next(p for p in (*model.graph.input, *model.graph.output) if p.name == port)
        found.type.tensor_type.shape.dim[at].dim_value = size

    return change


def double(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def rename(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "y"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external, "external data"),
        (external_constant, "attribute 'value' is no number"),
        (sparse, "sparse"),
        (loop, "operator If .* control flow is refused"),
        (hidden_subgraph, "control flow"),
        (bad_weight, "non-finite weight"),
        (short_weight, r"dimensions \[12, 16\], which are 768 bytes, but holds 4"),
        (lambda m: m.graph.node[0].__setattr__("domain", "com.microsoft"), "domain 'com.microsoft'"),
        (lambda m: m.opset_import.append(helper.make_opsetid("evil.ops", 1)), "domain 'evil.ops'"),
        (lambda m: m.opset_import[0].__setattr__("version", 11), "opset 11, must be 17"),
        (lambda m: m.opset_import[0].__setattr__("version", 99), "opset 99, must be 17"),
        (lambda m: m.__setattr__("ir_version", 3), "IR version 3"),
        (lambda m: m.ClearField("opset_import"), "no operator set"),
        (lambda m: m.functions.add(name="f", domain=""), "functions"),
        (lambda m: m.graph.node[0].__setattr__("op_type", "RandomNormalLike"), "RandomNormalLike .* not on the list"),
        (lambda m: m.graph.ClearField("node"), "no operators"),
        (set_shape("latent", 1, 13), r"input 'latent' has shape \['B', 13\]"),
        (set_shape("latent", 0, 1), r"shape \[1, 12\], must be \['B', 12\] with B free"),
        (lambda m: m.graph.value_info.append(m.graph.output[0]), "notes on inner values"),
        (lambda m: m.graph.node.append(m.graph.node[0]), "a second time"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "nowhere"), "'nowhere', which nothing before it makes"),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "given twice"),
        (set_shape("mean", 1, 3), r"output 'mean' has shape \['B', 3\]"),
        (double, "is DOUBLE, must be FLOAT"),
        (rename, "outputs are"),
        (lambda m: m.graph.input.pop(), "inputs are"),
    ],
)
def test_a_graph_that_must_not_be_served_is_refused(change: Callable, reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as caught:
        check_graph("prior", edit("prior", change), SIZES)
    assert str(caught.value).startswith("prior.onnx")


def test_the_sound_graph_passes() -> None:
    for name, data in GRAPHS.items():
        check_graph(name, data, SIZES)
    ensemble = toy_graphs(SIZES, disagreement=True)
    check_graph("dynamics", ensemble["dynamics"], SIZES)


def test_notes_of_the_making_machine_are_dropped() -> None:
    def annotate(model: onnx.ModelProto) -> None:
        model.doc_string = "/home/somebody/train.py"
        model.producer_name = "exporter"
        model.graph.node[0].doc_string = "/home/somebody/model.py line 3"
        model.graph.node[0].metadata_props.add(key="source", value="/home/somebody")
        model.metadata_props.add(key="host", value="machine")

    plain, noted = canonical_graph(GRAPHS["prior"]), canonical_graph(edit("prior", annotate))
    assert plain == noted


def test_a_graph_that_lies_about_its_output_is_refused(tmp_path: Path) -> None:
    """Declared shapes are only words; what the operators make counts."""
    x = helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["B", 30])
    y = helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["B", None])
    graph = helper.make_graph([helper.make_node("Relu", ["observation"], ["latent"])], "g", [x], [y])
    liar = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    with pytest.raises(BundleError, match=r"output 'latent' is \['B', 30\], must be \['B', 12\]"):
        write(tmp_path / "b", {**GRAPHS, "encode": liar})


def test_bytes_that_onnx_does_not_know_are_refused() -> None:
    """ONNX Runtime's own reader might know them."""
    for more in (b"\xfa\x3f\x01x", onnx.ModelProto(graph=onnx.GraphProto(name="again")).SerializeToString()):
        with pytest.raises(BundleError, match=r"prior\.onnx: .* unknown or repeated"):
            check_graph("prior", GRAPHS["prior"] + more, SIZES)


def test_parity_and_recipe_must_be_plain_and_finite(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="JSON"):
        write(tmp_path / "b", GRAPHS, parity={"encode": float("nan")})
    with pytest.raises(BundleError, match="JSON"):
        write(tmp_path / "b", GRAPHS, recipe={"x": np.float32(1)})


def test_names_resolve_to_shipped_bundles_and_paths(bundle_folder: Path) -> None:
    assert resolve_bundle(str(bundle_folder)) == bundle_folder
    with pytest.raises(BundleError, match="no bundle 'nonsense'"):
        resolve_bundle("nonsense")


def test_verify_tells_what_it_found(bundle_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.verify([str(bundle_folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"verified {load_bundle(bundle_folder).manifest.bundle_id}"
    with open(folder / "encode.onnx", "ab") as file:
        file.write(b"\0")
    assert cli.verify([str(folder)]) == 1
    assert "refused: encode.onnx: SHA-256" in capsys.readouterr().err


def test_what_ships_is_vetted_small_and_says_what_its_references_are() -> None:
    folder = resolve_bundle("kitchen")
    loaded = load_bundle(folder)
    assert loaded.manifest.action.joints == 7 and loaded.manifest.parity["reference"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000
