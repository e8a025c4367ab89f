"""The store: bundles by their content, and which of them drives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from promote.conftest import Family

from skimo_core.contract.errors import BundleError, StoreError
from skimo_promote.store import CANARY, FORMER, INCUMBENT, REFUSED, SANE, SHADOW, Store
from skimo_server.bundle import load_bundle


def test_a_bundle_comes_in_once_and_is_found_by_its_first_digits(store: Store, family: Family) -> None:
    first = store.add(family.first)
    assert store.add(family.first) == first and len(store.bundles()) == 1
    assert store.find(first.bundle_id[:8]).manifest == first
    for name in (first.bundle_id[:3], "0" * 12):
        with pytest.raises(StoreError, match=first.bundle_id[:12]):
            store.find(name)


def test_a_damaged_bundle_stays_out(store: Store, family: Family, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(family.first, copy)
    (copy / "encode.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="encode"):
        store.add(copy)
    assert store.bundles() == [] and not list(store.folder.glob("bundles/*"))


def test_a_bundle_that_was_changed_in_the_store_is_not_given_out(store: Store, family: Family) -> None:
    first = store.add(family.first)
    file = store.path(first.bundle_id) / "encode.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="changed"):
        store.find(first.bundle_id)


def test_the_link_follows_the_ledger(store: Store, family: Family) -> None:
    ids = [store.add(folder).bundle_id for folder in (family.first, family.second)]
    assert store.incumbent() == "" and not (store.folder / "incumbent").exists()
    for bundle_id in ids:
        store.promote(bundle_id, "test", {})
        assert load_bundle(store.folder / "incumbent").manifest.bundle_id == store.incumbent() == bundle_id
    assert [held.state for held in store.bundles()] == [FORMER, INCUMBENT]
    (store.folder / "incumbent").unlink()  # as if its writer had died after the ledger's line
    store.point()
    assert load_bundle(store.folder / "incumbent").manifest.bundle_id == ids[1]


def test_rolling_back_goes_one_step_each_time(store: Store, family: Family) -> None:
    ids = [store.add(folder).bundle_id for folder in (family.first, family.second, family.third)]
    for bundle_id in ids:
        store.promote(bundle_id, "test", {})
    assert [store.roll_back("worse").bundle_id for _ in range(2)] == [ids[1], ids[0]]
    assert load_bundle(store.folder / "incumbent").manifest.bundle_id == ids[0]
    with pytest.raises(StoreError, match="nothing to go back to"):
        store.roll_back("further")


def test_rolling_back_to_a_damaged_bundle_is_refused_and_nothing_changes(store: Store, family: Family) -> None:
    ids = [store.add(folder).bundle_id for folder in (family.first, family.second)]
    for bundle_id in ids:
        store.promote(bundle_id, "test", {})
    (store.path(ids[0]) / "parity.npz").unlink()
    with pytest.raises(BundleError, match="parity"):
        store.roll_back("worse")
    assert store.incumbent() == ids[1]


def test_ancestors_are_followed_as_far_as_they_are_known(store: Store, family: Family) -> None:
    second = load_bundle(family.second).manifest
    assert store.ancestors(second) == [second.parent_id]
    store.add(family.first)
    assert store.ancestors(second) == [second.parent_id]


def test_pruning_leaves_who_drives_who_drove_before_and_candidates(store: Store, family: Family) -> None:
    first, second, third, wild = (
        store.add(folder).bundle_id for folder in (family.first, family.second, family.third, family.wild)
    )
    for bundle_id in (first, second, third):
        store.promote(bundle_id, "test", {})
    store.ledger.append(REFUSED, wild, "test")
    candidate = store.add(family.stranger).bundle_id
    store.link(CANARY, wild)
    store.link(SHADOW, first)
    assert store.prune(keep=0) == []
    states = {held.manifest.bundle_id: held.state for held in store.bundles()}
    assert (states[wild], states[first]) == (CANARY, SHADOW)
    store.withdraw(CANARY)
    store.withdraw(SHADOW)
    assert store.prune(keep=1) == [first]
    assert store.prune(keep=0) == [wild]
    assert [held.manifest.bundle_id for held in store.bundles()] == [second, third, candidate]
    assert not store.path(wild).exists()
    assert store.add(family.wild).bundle_id == wild and store.bundles()[-1].state == "added"


def test_a_link_goes_from_one_bundle_to_the_next_and_comes_down(store: Store) -> None:
    assert store.linked(SHADOW) == ""
    for bundle_id in ("a" * 64, "b" * 64, "b" * 64):
        store.link(SHADOW, bundle_id)
        assert store.linked(SHADOW) == bundle_id
    (store.folder / ".shadow.new").symlink_to("left by a process that died")
    store.link(SHADOW, "a" * 64)
    store.withdraw(SHADOW)
    store.withdraw(SHADOW)
    assert store.linked(SHADOW) == "" and list(store.folder.iterdir()) == []
    (store.folder / SHADOW).symlink_to("/elsewhere")
    assert store.linked(SHADOW) == ""


def test_what_was_passed_counts_against_one_incumbent_and_until_it_is_turned_down(store: Store, family: Family) -> None:
    bundle_id = store.add(family.second).bundle_id
    store.ledger.append(SANE, bundle_id, "test", {"against": "a"})
    assert store.passed(bundle_id, SANE, "a") and not store.passed(bundle_id, SANE, "b")
    store.ledger.append(REFUSED, bundle_id, "test")
    assert not store.passed(bundle_id, SANE, "a")


def test_a_rollback_that_comes_too_late_changes_nothing(store: Store, family: Family) -> None:
    ids = [store.add(folder).bundle_id for folder in (family.first, family.second)]
    for bundle_id in ids:
        store.promote(bundle_id, "test", {})
    store.link(CANARY, ids[0])
    with pytest.raises(StoreError, match="no longer"):
        store.roll_back("worse", instead_of=ids[0])
    assert store.incumbent() == ids[1] and store.linked(CANARY) == ids[0]
