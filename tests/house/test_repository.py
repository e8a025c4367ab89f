"""What may lie in the repository: no machine's paths, no pickle, no big files, no unfinished places."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from house.repository import PACKAGES, ROOT, tracked, tracked_text

MAX_FILE_BYTES = 10_000_000
MACHINE_PATH = re.compile(r"""(?<![\w.~$}<>*-])/(?:home|root|work|tmp|Users|mnt|farm)/(?!somebody)\w""")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplemented")
PICKLE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "msgpack_numpy"}


def test_no_file_is_bigger_than_a_clone_should_carry() -> None:
    assert [str(path.relative_to(ROOT)) for path in tracked() if path.stat().st_size > MAX_FILE_BYTES] == []


def test_no_tracked_file_names_a_path_of_the_machine_it_was_made_on() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path, text in tracked_text().items()
        if path != Path(__file__)
        for match in MACHINE_PATH.finditer(text)
    ]
    assert found == []


def test_no_bundle_or_other_binary_names_one_either() -> None:
    paths = re.compile(rb"/(?:home|root|work|tmp|Users)/[\w.-]+/")
    texts = tracked_text()
    found = [path for path in tracked() if path not in texts and paths.search(path.read_bytes())]
    assert found == []


def test_nothing_is_unpickled() -> None:
    wrong = []
    for path in (path for path in tracked() if path.suffix == ".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            wrong += [f"{path.relative_to(ROOT)}: {name}" for name in names if name.split(".")[0] in PICKLE_MODULES]
            if isinstance(node, ast.Call):
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {why}" for why in unpickling(node)]
    assert wrong == []


def unpickling(call: ast.Call) -> list[str]:
    """Returns why a call may unpickle: allow_pickle=True, or torch.load without weights_only=True."""
    options = {word.arg: word.value for word in call.keywords}
    allow = options.get("allow_pickle")
    if isinstance(allow, ast.Constant) and allow.value is True:
        return ["allow_pickle=True"]
    function = ast.unparse(call.func)
    weights_only = options.get("weights_only")
    if function == "torch.load" and not (isinstance(weights_only, ast.Constant) and weights_only.value is True):
        return ["torch.load without weights_only=True"]
    return []


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path, text in tracked_text().items()
        if path.suffix == ".py" and not path.is_relative_to(ROOT / "tests")  # suites there have abstract fixtures
        for match in UNFINISHED.finditer(text)
    ]
    assert found == []


def test_no_test_sleeps() -> None:
    sleeps = re.compile(r"\btime\.sleep\(")
    texts = tracked_text().items()
    tests = [(path, text) for path, text in texts if path.is_relative_to(ROOT / "tests") and path != Path(__file__)]
    assert [str(path.relative_to(ROOT)) for path, text in tests if sleeps.search(text)] == []


GENERIC = ("skimo_core", "skimo_ros", "skimo_server", "skimo_learn", "skimo_promote", "skimo_bringup")
DEFAULTS = re.compile(r'(= "kitchen"|"kitchen",|e\.g\. kitchen|SkiMo.s kitchen|for Kitchen|\(kitchen sizes)')


def test_nothing_outside_a_data_file_knows_the_scene_that_ships() -> None:
    """Defaults may name it, and the papers' tables; nothing else in core, nodes, server, learning and bringup."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path, text in tracked_text().items()
        if path.suffix == ".py" and any(path.is_relative_to(PACKAGES[name]) for name in GENERIC)
        for line in text.splitlines()
        if "kitchen" in line.lower() and not DEFAULTS.search(line)
    ]
    assert found == []
