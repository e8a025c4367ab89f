"""From a recorded episode to a video and a filmstrip, after the run.

A recording holds what the policy saw, sensor noise included; for the eye the states are smoothed over five steps.
Captions count the sub-tasks complete in that smoothed path. Times s, rate Hz.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skimo_core.contract.errors import SpecError
from skimo_core.contract.types import Array
from skimo_core.domain.tasks import Progress, Task

from .render import Frame, Painter, filmstrip, write_video

KERNEL = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0
FINGERS, FINGER_MAX_M = slice(7, 9), 0.04
QUATERNION = slice(26, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What was made.

    Attributes:
        video, strip: where it lies.
        frames: of the video.
        render_ms: mean time to draw one.
    """

    video: Path
    strip: Path
    frames: int
    render_ms: float


def film(
    observations_TO: np.ndarray,
    task: Task,
    *,
    video: Path,
    strip: Path,
    rate_hz: float = 12.5,
    camera: str = "left",
    arm: str = "panda",
    pictures: int = 12,
) -> Film:
    """Draw an episode's observations [T, 30] as an mp4 and as a filmstrip of about `pictures` pictures.

    Raises:
        SetupError: no GL library is installed.
        SpecError: fewer than two observations.
    """
    if len(observations_TO) < 2:
        raise SpecError(f"a film needs two observations or more; the episode has {len(observations_TO)}")
    seen_TO = np.asarray(observations_TO, np.float64)
    states = smooth(seen_TO)
    chosen = set(np.linspace(0, len(states) - 1, min(pictures, len(states))).round().astype(int).tolist())
    kept: list[Frame] = []
    spent_s = 0.0

    def frames() -> Iterator[Frame]:
        nonlocal spent_s
        for k, state in enumerate(states):
            begin_s = time.perf_counter()
            frame = painter.paint(state - zero, camera)
            spent_s += time.perf_counter() - begin_s
            if k in chosen:
                kept.append(frame)
            yield frame

    with Painter(arm, samples=0) as painter:  # anti-aliasing would triple the time
        zero = np.zeros(states.shape[1])
        zero[: len(painter.zero_rad)] = painter.zero_rad
        count = write_video(video, frames(), rate_hz)
    filmstrip(kept, [caption(seen_TO, task, k, rate_hz) for k in sorted(chosen)]).save(strip)
    return Film(video=video, strip=strip, frames=count, render_ms=1e3 * spent_s / count)


def smooth(states_TO: Array) -> Array:
    """Smooth states [T, 30] over five steps, the ends repeated; fingers in range, quaternions of length 1."""
    padded = np.concatenate([states_TO[:1].repeat(2, axis=0), states_TO, states_TO[-1:].repeat(2, axis=0)])
    out = sum(weight * padded[k : k + len(states_TO)] for k, weight in enumerate(KERNEL))
    out = np.asarray(out)
    out[:, FINGERS] = np.clip(out[:, FINGERS], 0.0, FINGER_MAX_M)
    out[:, QUATERNION] /= np.linalg.norm(out[:, QUATERNION], axis=1, keepdims=True)
    return out


def caption(states_TO: Array, task: Task, step: int, rate_hz: float) -> str:
    """Time and the sub-tasks complete, in order, up to a step, as recorded: smoothed, the last would come too late."""
    progress = Progress(task)
    for state in states_TO[: step + 1]:
        progress.update(state)
    done: Sequence[str] = [s.name for s in task.subtasks[: progress.done]]
    return f"{step / rate_hz:4.1f} s  {', '.join(done)}".rstrip()
