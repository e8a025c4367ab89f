"""The page of a latency calibration: what is told, how the log tells it, and what no log can.

Verdicts judge repetitions: halves of the log that know nothing of one another. Units ms, mrad, mm.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..report import Criterion, Page
from .latency import Late, Timing
from .shift import Shift
from .timing import ArmLog

SIGMA_MS, HALVES_MS = 4.0, 4.0
CAMERA_MS = 2.0
UNKNOWN = (
    "Not in these numbers: how long a stamped state travels (everybody goes by its stamp), and a clock of the driver's "
    "that is off as a whole: by that, commands seem later and states earlier, or the other way round. Synchronise the "
    "clocks (chrony, PTP)."
)
WITHOUT_REFERENCE = (
    "The log holds no reference of the driver's (franka_msgs/FrankaRobotState, FrankaState, or a controller's state), "
    "so that joint states tell servos and stamps together: the rig's `state` stays as it is."
)


def latency_page(log: ArmLog, timing: Timing | None, camera: str, seen: Shift | None, camera_s: float) -> Page:
    """The page.

    Args:
        timing: of commands and states; None: not asked for.
        camera, seen, camera_s: the camera's name, how much later it stamps than joint states are, and than things are.
    """
    page = Page("Latencies", f"log {log.name}")
    if timing is not None:
        _commands(page, log, timing)
    if seen is not None:
        _camera(page, camera, seen, camera_s)
    page.heading("What no log tells")
    page.text(UNKNOWN)
    page.heading("Log")
    page.table(("file", "SHA-256"), [(log.name, log.digest)])
    return page


def _commands(page: Page, log: ArmLog, timing: Timing) -> None:
    apart_ms = 1e3 * abs(timing.halves_s[0] - timing.halves_s[1])
    page.judge(
        Criterion(name="command latency's standard deviation", value=_ms(timing.command)[1], bound=SIGMA_MS, unit="ms"),
        Criterion(name="halves of the log differ by", value=apart_ms, bound=HALVES_MS, unit="ms"),
    )
    page.heading("Commands and joint states")
    rows = [("commands take effect after they are sent", *_ms(timing.command))]
    if timing.state is not None:
        rows.append(("states are stamped after they are measured", *_ms(timing.state)))
    rows.append(("joint states lie behind the path (servos and stamps)", *_ms(timing.lag)))
    if (transport_s := log.states.transport_s) is not None:
        spread = np.quantile(transport_s, [0.5, 0.99])
        rows.append(("states are received after their stamp (median; 99 %)", 1e3 * spread[0], 1e3 * spread[1]))
    page.table(("", "ms", "sigma / ms"), rows)
    if timing.at_most_s:
        page.text(
            f"No command in this log shows more than that it took effect within {1e3 * timing.at_most_s:.0f} ms: the "
            "latency is the middle of that. It is all that the loop needs to know, as nothing leaves the path sooner."
        )
    page.text(
        f"{timing.trajectories} trajectories in {timing.seconds:.0f} s, joined as {timing.joins!r} says "
        f"(skimo_calibration.timing.driver_path); the fit leaves {1e3 * timing.residual_rad:.2f} mrad."
    )
    if timing.state is None:
        page.text(WITHOUT_REFERENCE)
    figure = Figure(figsize=(7, 3))
    axes = figure.subplots()
    axes.plot(1e3 * timing.grid_s, timing.cost, ".-")
    axes.axvline(1e3 * timing.command.late_s, color="black", linewidth=0.8)
    axes.set(xlabel="command latency / ms", ylabel="cost per block")
    page.figure(figure, "How badly each latency explains the log; flat: it can't be told.")


def _camera(page: Page, camera: str, seen: Shift, camera_s: float) -> None:
    page.judge(Criterion(name=f"camera {camera}: sigma", value=1e3 * seen.sigma_s, bound=CAMERA_MS, unit="ms"))
    page.heading(f"Camera {camera}")
    rows = [
        ("pictures are stamped after joint states of the same moment", 1e3 * seen.late_s, 1e3 * seen.sigma_s),
        (
            "pictures are stamped after they are taken, states' own lateness included",
            1e3 * camera_s,
            1e3 * seen.sigma_s,
        ),
    ]
    page.table(("", "ms", "sigma / ms"), rows)
    figure = Figure(figsize=(7, 3))
    axes = figure.subplots()
    axes.plot(seen.times_s, 1e3 * seen.left, ".", markersize=3)
    axes.set(xlabel="time / s", ylabel="left / mm")
    page.figure(
        figure, f"What is left of {len(seen.times_s)} sightings; root mean square {1e3 * seen.residual:.2f} mm."
    )


def _ms(late: Late) -> tuple[float, float]:
    return 1e3 * late.late_s, 1e3 * late.sigma_s
