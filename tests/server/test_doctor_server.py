"""What `skimo doctor` says of bundles and of a server that runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.policy_server import running

from skimo_core.contract.specs import Named
from skimo_core.domain import library
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.setup import task
from skimo_core.setup.doctor import findings_of
from skimo_core.setup.finding import Asked, Check
from skimo_learn import doctor as learn
from skimo_server import doctor
from skimo_server.bundle import SHIPPED, read_bundle
from skimo_server.inprocess import InProcessPolicy

KITCHEN = load_domain("kitchen")
KITCHEN_TEXT = library.find("domains", "kitchen").text


def test_the_bundle_that_ships_is_its_domain_s_and_its_robot_s() -> None:
    found = list(doctor.bundle(Asked(domain="kitchen")))
    assert [f.verdict for f in found] == ["ok", "ok"]
    assert [f.verdict for f in doctor.bundle(Asked(domain="kitchen", robot="fr3"))] == ["ok", "fail"]


def test_a_bundle_of_another_domain_or_robot_is_told() -> None:
    manifest = read_bundle(SHIPPED / "kitchen").manifest
    other = doctor.made_for(replace(manifest, domain=Named(name="kitchen", digest="0" * 64)), KITCHEN)
    assert other.verdict == "fail" and "domain is 'kitchen'" in other.what
    longer = doctor.made_for(replace(manifest, skill_horizon=12), KITCHEN)
    assert longer.verdict == "fail" and "12 steps" in longer.what
    unsaid = doctor.within(replace(manifest, robot=Named()), load_limits("panda"))
    assert unsaid.verdict == "warn"


def test_no_bundle_is_no_fault_and_a_missing_one_is(tmp_path: Path) -> None:
    domain = tmp_path / "other.yaml"
    domain.write_text(KITCHEN_TEXT.replace("name: kitchen", "name: other", 1))
    assert [f.verdict for f in doctor.bundle(Asked(domain=str(domain)))] == ["ok"]
    check = Check(name="bundle", look=doctor.bundle)
    gone = findings_of(check, Asked(domain="kitchen", bundle=str(tmp_path / "gone")))
    assert [f.verdict for f in gone] == ["fail"] and "skimo export" in gone[0].remedy


def test_a_bundle_with_a_changed_byte_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (SHIPPED / "kitchen").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    data = bytearray((copy / "prior.onnx").read_bytes())
    data[-1] ^= 1
    (copy / "prior.onnx").write_bytes(data)
    found = findings_of(Check(name="bundle", look=doctor.bundle), Asked(domain="kitchen", bundle=str(copy)))
    assert [f.verdict for f in found] == ["fail"] and "prior.onnx: SHA-256" in found[0].what


def test_a_server_that_runs_is_asked_what_it_serves(endpoint: str, policy: InProcessPolicy) -> None:
    (other,) = task.server(Asked(domain="kitchen", endpoint=endpoint))
    assert other.verdict == "fail" and f"serves bundle {policy.spec.bundle_id[:12]}" in other.what
    assert "'channel0', wanted 'panda_joint1'" in other.what


def test_a_server_of_this_domain_s_bundle_is_fine() -> None:
    with running(InProcessPolicy.load("kitchen")) as endpoint:
        (ours,) = task.server(Asked(domain="kitchen", endpoint=endpoint))
    assert ours.verdict == "ok" and "made for domain 'kitchen'" in ours.what


def test_what_runs_networks_can_be_imported() -> None:
    assert [f.verdict for f in doctor.runtime(Asked(domain="kitchen"))] == ["ok"]


@pytest.mark.parametrize(("words", "verdict"), [("raise ImportError('no CUDA here')", "fail"), ("", "fail")])
def test_a_torch_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch, words: str, verdict: str) -> None:
    (tmp_path / "torch.py").write_text(words)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = list(learn.torch(Asked(domain="kitchen")))
    assert [f.verdict for f in found] == [verdict] and "torch can't be used" in found[0].what


def test_where_torch_is_not_installed_only_learning_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn.util, "find_spec", lambda name: None)
    found = list(learn.torch(Asked(domain="kitchen")))
    assert [f.verdict for f in found] == ["warn"] and "[learn]" in found[0].remedy
