"""A domain whose scene is not beside it: the twin says where it is to be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.setup.new_domain import new_domain
from skimo_sim.twins import make_twin


def test_the_remedy_is_said(tmp_path: Path) -> None:
    assert new_domain(["bench", "--out", str(tmp_path)]) == 0
    (tmp_path / "bench/scene.yaml").unlink()
    with pytest.raises(SpecError, match=r"no scene file .*scene.yaml; it lies beside the domain's own file"):
        make_twin(load_domain(tmp_path / "bench/domain.yaml"))
