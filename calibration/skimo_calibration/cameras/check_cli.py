"""`skimo calibrate check`: whether a rig is still true, in two minutes; the rig file then says so."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import tyro

from skimo_core.contract.errors import SpecError
from skimo_core.domain.rig_file import load_rig, write_rig

from .capture import load_capture
from .check import VIEWS_MIN, CheckBounds, check_page, check_rig_on, outcome
from .views import look_at

BOUNDS = CheckBounds()


def check(
    rig: tyro.conf.Positional[Path], capture: tyro.conf.Positional[Path], *, bounds: CheckBounds = BOUNDS
) -> None:
    """Hold a rig against a capture of a few views; start-up refuses a rig that fails.

    Args:
        rig: its file, which is told the outcome.
        capture: folder of a capture with one of its cameras (skimo calibrate capture --views 6).
        bounds: what it must keep.
    """
    known = load_rig(rig.resolve())
    sights = look_at(load_capture(capture), least=VIEWS_MIN)
    page = check_page(known, sights, check_rig_on(known, sights), bounds)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    write_rig(rig, replace(known, check=outcome(page, today)))
    print(f"{page.write(capture / 'check.html')}: {'passed' if page.passed else 'FAILED'}")
    for criterion in page.criteria:
        print(f"  {'ok  ' if criterion.passed else 'FAIL'} {criterion.words}")
    if not page.passed:
        raise SpecError(
            f"rig {known.name} fails: {'; '.join(page.failures)}; calibrate what moved (skimo calibrate hand-eye)"
        )
