"""A bundle that carries its domain: found without naming it, refused where it isn't the one that the manifest names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from skimo_bringup.stack import argument_values, load_stack
from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.packed import pack
from skimo_core.setup.new_domain import new_domain
from skimo_eval.evaluate import Args, evaluate
from skimo_server.api import load_bundle
from skimo_server.bundle import domain_of, read_bundle, rewrite_bundle
from skimo_server.testing import make_bundle

STACK = load_stack(Path(__file__).parents[2] / "launch/stack.yaml")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    place = tmp_path_factory.mktemp("own")
    assert new_domain(["bench", "--out", str(place)]) == 0
    path = place / "bench/domain.yaml"
    text = path.read_text().replace("twin: scene.yaml", "twin: kinematic")
    path.write_text(text.replace("step_limit: 600", "step_limit: 40"))
    return load_domain(str(path))


@pytest.fixture(scope="module")
def carrying(own: Domain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("carrying")
    make_bundle(place / "plain", observation=own.observation, action=own.action, skill_horizon=own.horizon)
    rewrite_bundle(read_bundle(place / "plain"), place / "bench", domain=own.named, domain_files=pack(own))
    return place / "bench"


def test_its_domain_needs_no_naming(carrying: Path, own: Domain) -> None:
    assert domain_of(str(carrying)) == str(carrying / "domain.yaml")
    agent = load_bundle(carrying)
    assert agent.domain.named == own.named
    action_A = agent.act(own.start, agent.plan(own.start, "push block"))
    assert action_A.shape == (9,)


def test_a_copy_with_other_entries_carries_it_too(carrying: Path, tmp_path: Path) -> None:
    rewrite_bundle(read_bundle(carrying), tmp_path / "next", commit="0" * 40)
    assert read_bundle(tmp_path / "next").domain_files == read_bundle(carrying).domain_files


def test_it_is_flown_without_naming_its_domain(carrying: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = evaluate(
        Args(bundle=str(carrying), episodes=1, workers=1, condition="papers", set=("samples=8", "elites=4"))
    )
    assert results["domain"].startswith("'bench'") and results["task"] == "first"


def test_a_twin_that_stayed_at_home_is_named(own: Domain, carrying: Path, tmp_path: Path) -> None:
    at_home = {**pack(own)}
    at_home["domain.yaml"] = at_home["domain.yaml"].replace(b"twin: kinematic", b"twin: ./scene.yaml")
    rewrite_bundle(read_bundle(carrying), tmp_path / "home", domain_files=at_home)
    with pytest.raises(SpecError, match=r"not the scene of its twin \(scene.yaml\); name the domain's own file"):
        evaluate(Args(bundle=str(tmp_path / "home"), episodes=1))


def test_one_that_ships_names_its_own() -> None:
    assert domain_of("kitchen") == "kitchen"


def test_a_changed_domain_is_refused(carrying: Path, own: Domain, tmp_path: Path) -> None:
    changed = {name: data.replace(b"horizon: 10", b"horizon: 9") for name, data in pack(own).items()}
    with pytest.raises(BundleError, match="the manifest says"):
        rewrite_bundle(read_bundle(carrying), tmp_path / "other", domain_files=changed)


def test_the_stack_takes_the_bundle_s_domain(carrying: Path, tmp_path: Path) -> None:
    environment = {"PATH": str(Path(sys.executable).parent)}

    def domain(*given: str) -> str:
        return argument_values(STACK, given, environment=environment)["domain"]

    assert domain() == domain("bundle:=kitchen") == "kitchen"
    assert domain(f"bundle:={carrying}") == str(carrying / "domain.yaml")
    assert domain(f"bundle:={carrying}", "domain:=table") == "table"
    link = tmp_path / "incumbent"
    link.symlink_to(carrying)
    assert domain(f"bundle:={link}") == str(link / "domain.yaml")
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    (nameless / "manifest.json").write_text('{"domain": {"name": "maze", "digest": ""}}')
    assert domain(f"bundle:={nameless}") == "maze"
    (nameless / "manifest.json").write_text("{}")
    assert domain(f"bundle:={nameless}") == "kitchen"  # older than domains are
