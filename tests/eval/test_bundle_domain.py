"""Which domain a bundle is flown in: its own where none is named; another that contradicts it is refused in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from skimo_core.cli import GROUP
from skimo_core.contract.errors import SpecError
from skimo_core.contract.specs import Named
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.packed import pack
from skimo_core.episodes.recording import read_episode
from skimo_core.setup.new_domain import new_domain
from skimo_eval.practice import Args, practise
from skimo_server.bundle import read_bundle, rewrite_bundle
from skimo_server.domains import domain_for
from skimo_server.testing import make_bundle

COMMANDS = {
    "eval": (),
    "demo": (),
    "intervene": ("--out", "out"),
    "practice": ("--out", "out"),
    "promises": ("--out", "out"),
    "finetune": ("--recordings", ".", "--out", "out"),
}


def toy(folder: Path, domain: Domain) -> Path:
    """A bundle of random networks for a domain, which it names."""
    specs = {"observation": domain.observation, "action": domain.action, "skill_horizon": domain.horizon}
    make_bundle(folder, **specs, domain=domain.named)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("bundles") / "mine", load_domain("table"))


def command(name: str) -> Callable[[list[str]], int]:
    (entry,) = metadata.entry_points(group=GROUP, name=name)
    return entry.load()


def test_the_domain_s_own_where_none_is_named(table: Path) -> None:
    assert domain_for(str(table)) == "table" and domain_for("kitchen") == "kitchen"
    assert domain_for(str(table), "table") == "table"


def test_goals_of_one_s_own_are_no_contradiction(table: Path, tmp_path: Path) -> None:
    assert new_domain(["bench", "--out", str(tmp_path)]) == 0
    path = tmp_path / "bench/domain.yaml"
    bundle = toy(tmp_path / "bundle", load_domain(path))
    path.write_text(path.read_text().replace("drawer: 0.2", "drawer: 0.1").replace("step_limit: 600", "step_limit: 9"))
    assert domain_for(str(bundle), str(path)) == str(path)


@pytest.mark.parametrize("name", COMMANDS)
def test_another_is_refused_by_every_command_and_both_are_named(
    name: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(name)(["--bundle", str(table), "--domain", "kitchen", *COMMANDS[name]]) == 1
    said = capsys.readouterr().err
    assert f"skimo {name}: bundle mine was made for domain {load_domain('table').named}, not for " in said
    assert str(load_domain("kitchen").named) in said and "leave the domain kitchen out" in said
    assert not (tmp_path / "out").exists()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # who is refused goes on at his old priority


@pytest.fixture(scope="module")
def lost(table: Path) -> Path:
    """A bundle for a domain that isn't here, and that it only names."""
    named = Named(name="pantry", digest=load_domain("table").digest)
    rewrite_bundle(read_bundle(table), table.with_name("lost"), domain=named)
    return table.with_name("lost")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_domain_that_nobody_knows_is_asked_for(
    name: str, lost: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(name)(["--bundle", str(lost), *COMMANDS[name]]) == 1
    assert "no domain 'pantry'" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_practice_is_in_the_bundle_s_own_domain(tmp_path: Path) -> None:
    assert new_domain(["bench", "--out", str(tmp_path)]) == 0
    path = tmp_path / "bench/domain.yaml"
    text = path.read_text().replace("twin: scene.yaml", "twin: kinematic")
    path.write_text(text.replace("step_limit: 600", "step_limit: 20"))
    bench = load_domain(path)
    plain = toy(tmp_path / "plain", bench)
    rewrite_bundle(read_bundle(plain), tmp_path / "carrying", domain_files=pack(bench))
    small = ("samples=8", "elites=4")
    practise(Args(out=tmp_path / "out", bundle=str(tmp_path / "carrying"), episodes=1, workers=1, set=small))
    assert read_episode(tmp_path / "out/practice-0500000.mcap").meta.domain == bench.named


def test_the_demo_learns_only_where_its_condition_can_be(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--learn", "--bundle", str(table), "--out", str(tmp_path / "out")]
    assert command("demo")(words) == 1
    assert "base stands 0.030 m deep in 'table'" in (said := capsys.readouterr().err) and "with --condition" in said


def test_a_domain_that_is_wrong_is_told_as_it_is(table: Path) -> None:
    with pytest.raises(SpecError, match="no domain 'kitchn'"):
        domain_for(str(table), "kitchn")
