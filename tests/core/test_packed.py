"""A lab's own domain in a bundle: read back it is the same, and what isn't it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from skimo_core.contract.errors import SpecError
from skimo_core.domain import library
from skimo_core.domain.cell import load_cell
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.packed import DOMAIN_FILE, FILES, check_packed, pack
from skimo_core.domain.robot import load_limits
from skimo_core.setup.new_domain import new_domain


@pytest.fixture
def own(tmp_path: Path) -> Domain:
    """A new domain with a cell of its own, and a robot of its own."""
    robot = tmp_path / "lab_arm.yaml"
    robot.write_text(library.find("robots", "fr3").text)
    assert new_domain(["bench", "--out", str(tmp_path / "far"), "--robot", str(robot)]) == 0
    return load_domain(str(tmp_path / "far/bench/domain.yaml"))


def test_what_ships_is_found_by_its_name() -> None:
    assert pack(load_domain("kitchen")) == {}


def test_read_back_elsewhere_it_is_the_same(own: Domain, tmp_path: Path) -> None:
    files = pack(own)
    assert tuple(sorted(files)) == tuple(sorted(FILES))
    check_packed(files, own.named)
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    back = load_domain(str(folder / DOMAIN_FILE))
    assert back.named == own.named and back.subtasks == own.subtasks and back.starts == own.starts
    assert load_limits(back.robot).digest == load_limits(own.robot).digest
    assert load_cell(back.cell).digest == load_cell(own.cell).digest
    assert Path(back.robot).parent == folder and str(tmp_path / "far").encode() not in files[DOMAIN_FILE]
    assert pack(back) == files  # again and again the same bytes


def test_no_files_are_fine() -> None:
    check_packed({}, load_domain("kitchen").named)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.pop("domain.yaml"), "domain.yaml is missing"),
        (lambda f: f.pop("cell.yaml"), "cell.yaml is not there"),
        (lambda f: f.update({"notes.txt": b"hi"}), "no file of a domain"),
        (lambda f: f.update({"domain.yaml": b"\xff"}), "not YAML"),
        (lambda f: f.update({"domain.yaml": b"a: ["}), "not YAML"),
        (lambda f: f.update({"domain.yaml": b"a: &x [1]\nb: [*x, *x]\n"}), "anchors, aliases or tags"),
        (lambda f: f.update({"domain.yaml": b"a: !!python/none 1\n"}), "anchors, aliases or tags"),
        (lambda f: f.update({"domain.yaml": b"# " + b"x" * 300_000}), "at most"),
        (lambda f: f.update({"domain.yaml": f["domain.yaml"].replace(b"rate_hz: 20", b"rate_hz: 10")}), "the manifest"),
        (lambda f: f.update({"domain.yaml": f["domain.yaml"].replace(b"./cell.yaml", b"../cell.yaml")}), "is there"),
        (lambda f: f.update({"cell.yaml": b"name: x\n"}), "cell.yaml"),
        (lambda f: f.update({"robot.yaml": b"name: x\n"}), "robot.yaml"),
    ],
)
def test_what_is_not_the_domain_is_refused(own: Domain, change, words: str) -> None:
    files = dict(pack(own))
    change(files)
    with pytest.raises(SpecError, match=words):
        check_packed(files, own.named)


def test_a_file_beside_the_bundle_is_not_followed(own: Domain) -> None:
    files = pack(own)
    data = yaml.safe_load(files[DOMAIN_FILE])
    data["cell"] = "/etc/passwd"
    without = {name: text for name, text in files.items() if name != "cell.yaml"}
    with pytest.raises(SpecError, match="a file that a bundle doesn't carry"):
        check_packed({**without, DOMAIN_FILE: yaml.safe_dump(data).encode()}, own.named)
