"""Calibration's side of `skimo doctor`: OpenCV, and the tracker that would tell the objects."""

from __future__ import annotations

from collections.abc import Iterable

from skimo_core.domain import library
from skimo_core.domain.domain import load_domain
from skimo_core.domain.rig_file import load_rig
from skimo_core.setup.finding import Asked, Check, Finding, fail, imports, ok

KIND, HOME = "trackers", "skimo_calibration"


def vision(asked: Asked) -> Iterable[Finding]:
    """What sees."""
    return imports("calibration's imports", ("cv2", "scipy"), "pip install ./calibration again")


def tracker(asked: Asked) -> Iterable[Finding]:
    """Whether the tracker file can be read, tells this domain's objects, and its cameras are in the rig."""
    domain = load_domain(asked.domain)
    if not asked.tracker and domain.name not in library.known(KIND, HOME):
        what = f"no tracker file for domain {domain.name}: its objects come from the twin, or a tracker of your own"
        yield ok("tracker", what if domain.observation.objects else f"domain {domain.name} has no objects")
        return
    from .objects.tracker_file import load_tracker

    spec = load_tracker(asked.tracker or domain.name)
    spec.check_domain(domain)
    rig = load_rig(asked.rig)
    if asked.rig and (unknown := [name for name in spec.cameras if name not in rig.cameras]):
        what = f"{spec.name} looks through {unknown[0]!r}, which rig {rig.name} does not have"
        yield fail("tracker", what, "calibrate that camera (skimo calibrate), or name its cameras as the rig does")
        return
    cameras = ", ".join(spec.cameras)
    yield ok("tracker", f"{spec.name}: {len(spec.tag_ids)} tags tell {len(spec.channels)} channels, cameras {cameras}")


CHECKS = (
    Check(name="calibration's imports", look=vision),
    Check(name="tracker", look=tracker),
)
