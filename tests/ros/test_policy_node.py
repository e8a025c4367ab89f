"""What the policy's node asks its server for: a bundle by its id, folder or name; refused where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_ros.policy_node import _asked
from skimo_server.bundle import load_bundle
from skimo_server.testing import make_bundle


def test_a_bundle_is_asked_for_by_id_by_name_or_by_folder(tmp_path: Path) -> None:
    assert _asked("") == (None, None)
    assert _asked("0" * 64) == ("0" * 64, None)
    assert _asked("kitchen") == (None, "kitchen")
    domain = load_domain()
    make_bundle(tmp_path / "bundle", observation=domain.observation, action=domain.action)
    assert _asked(str(tmp_path / "bundle")) == (load_bundle(tmp_path / "bundle").manifest.bundle_id, None)


def test_a_link_pins_no_bundle_but_the_name_that_the_server_was_told(tmp_path: Path) -> None:
    link = str(tmp_path / "incumbent")
    (tmp_path / "incumbent").symlink_to("bundles")
    assert _asked(link) == (None, link)
    make_bundle(tmp_path / "bundles")
    assert _asked(link) == (None, link)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"bundle_id'])
def test_a_folder_that_holds_no_bundle_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SpecError, match="give a bundle's folder"):
        _asked(str(tmp_path))
