"""From a recorded episode to a video and a filmstrip, after the run.

A recording holds what the policy saw, sensor noise included; for the eye the states are smoothed over five steps.
Captions count the sub-tasks complete in that path as it was recorded; the last says how the episode ended, where that
is known. What the channels are is the domain's: only one whose twin has a scene, or draws itself, can be drawn. Times
s, rate Hz.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SpecError
from skimo_core.contract.specs import ObservationSpec
from skimo_core.contract.types import Array
from skimo_core.domain.domain import Domain, load_domain
from skimo_core.domain.robot import load_limits
from skimo_core.domain.tasks import Progress, Task
from skimo_core.episodes.episode import EpisodeMeta

from .condition import DRAWN, load_condition
from .flat import Flat
from .impaired import actual
from .render import Frame, Painter, filmstrip, write_video
from .scenes.scene import Drawable
from .twins import make_twin

KERNEL = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0
QUATERNION = (".qw", ".qx", ".qy", ".qz")
"""What the names of a quaternion's channels end in."""
YAW = ".yaw"
"""What the name of a turn about z ends in, which may jump by a whole turn."""
ENDED = {None: "", True: "success", False: "no success"}


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
    domain: Domain,
    *,
    video: Path,
    strip: Path,
    rate_hz: float,
    success: bool | None = None,
    condition: str = DRAWN,
    camera: str = "left",
    pictures: int = 12,
) -> Film:
    """Draw an episode's observations [T, O] as an mp4 and as a filmstrip of about `pictures` pictures.

    Args:
        domain: what the observations are of.
        rate_hz: of the observations.
        success: how the episode ended, where that is known.
        condition: of the twin in which it was recorded (skimo_sim.condition): how the arm is mounted, and which.

    Raises:
        SetupError: no GL library is installed.
        SpecError: fewer than two observations; not those of the domain; the domain has no scene to draw.
    """
    if len(observations_TO) < 2:
        raise SpecError(f"a film needs two observations or more; the episode has {len(observations_TO)}")
    seen_TO = np.asarray(observations_TO, np.float64)
    if seen_TO.shape[1] != domain.observation.size:
        raise SpecError(
            f"an observation of the episode has {seen_TO.shape[1]} channels, of domain {domain.name} "
            f"{domain.observation.size}; name the domain that it was recorded in"
        )
    last = len(seen_TO) - 1
    chosen = sorted(set(np.linspace(0, last, min(pictures, last + 1)).round().astype(int).tolist()))
    kept: list[Frame] = []
    spent_s = 0.0

    def frames() -> Iterator[Frame]:
        nonlocal spent_s
        for k in range(len(seen_TO)):
            begin_s = time.perf_counter()
            frame = paint(k)
            spent_s += time.perf_counter() - begin_s
            if k in chosen:
                kept.append(frame)
            yield frame

    with _brush(seen_TO, task, domain, camera, condition) as paint:
        count = write_video(video, frames(), rate_hz)
    captions = [caption(seen_TO, task, k, rate_hz) for k in chosen]
    captions[-1] = f"{captions[-1]}  {ENDED[success]}".rstrip()
    filmstrip(kept, captions).save(strip)
    return Film(video=video, strip=strip, frames=count, render_ms=1e3 * spent_s / count)


@contextmanager
def _brush(seen_TO: Array, task: Task, domain: Domain, camera: str, condition: str) -> Iterator[Callable[[int], Frame]]:
    """What draws an episode's observation k of [T, O]."""
    twin = actual(make_twin(domain, condition=load_condition(condition, domain)))
    if isinstance(twin, Flat):
        yield lambda k: twin.picture(seen_TO[: k + 1], task)
        return
    scene = _with_scene(twin, domain)
    states = smooth(seen_TO, domain.observation, load_limits(domain.robot).hand_width_max_m)
    with Painter(scene, samples=0) as painter:  # anti-aliasing would triple the time
        yield lambda k: painter.paint(scene.state_of(states[k]), camera)


def domain_of(meta: EpisodeMeta, wanted: str = "") -> Domain:
    """The domain that an episode was recorded in.

    Args:
        wanted: its name, or its file's path, where the recording names none that is known here.

    Raises:
        SpecError: there is no such domain, or the one of that name is another.
    """
    try:
        domain = load_domain(wanted or meta.domain.name)
    except SpecError as error:
        if wanted:
            raise
        raise SpecError(f"the episode was recorded in domain {meta.domain}: {error}: --domain PATH") from None
    if not wanted and meta.domain.digest not in ("", domain.digest):
        raise SpecError(
            f"the episode was recorded in domain {meta.domain}, other than {domain.named} here; give the one that it "
            "was recorded in: --domain PATH"
        )
    if meta.channels and meta.channels != domain.observation.names:
        raise SpecError(
            f"the episode has channels {_few(meta.channels)}, other than domain {domain.name}'s "
            f"{_few(domain.observation.names)}; give the one that it was recorded in: --domain PATH"
        )
    return domain


def drawable(domain: Domain) -> Drawable:
    """A twin of the domain, to draw its observations with.

    Raises:
        SpecError: the twin has no scene, or it is not of these channels.
    """
    return _with_scene(actual(make_twin(domain)), domain)


def _with_scene(twin: SimulatedBackend, domain: Domain) -> Drawable:
    if not isinstance(twin, Drawable):
        raise SpecError(
            f"domain {domain.name} can't be drawn: its twin, {domain.twin!r}, has no scene; name a scene file as its "
            "`twin`. The recording opens in Foxglove or PlotJuggler"
        )
    return twin


def smooth(states_TO: Array, spec: ObservationSpec, hand_width_max_m: float) -> Array:
    """Smooth states [T, O] over five steps, the ends repeated; fingers in range, quaternions of length 1."""
    states_TO = states_TO.copy()
    for k in (k for k, name in enumerate(spec.names) if name.endswith(YAW)):
        states_TO[:, k] = np.unwrap(states_TO[:, k])
    padded = np.concatenate([states_TO[:1].repeat(2, axis=0), states_TO, states_TO[-1:].repeat(2, axis=0)])
    out = np.asarray(sum(weight * padded[k : k + len(states_TO)] for k, weight in enumerate(KERNEL)))
    if spec.fingers:
        fingers = slice(spec.joints, spec.joints + spec.fingers)
        out[:, fingers] = np.clip(out[:, fingers], 0.0, hand_width_max_m / spec.fingers)
    for channels in quaternions(spec.names):
        out[:, channels] /= np.maximum(np.linalg.norm(out[:, channels], axis=1, keepdims=True), 1e-9)
    return out


def quaternions(names: Sequence[str]) -> list[list[int]]:
    """The channels w, x, y, z of each quaternion, known by its names: `kettle.qw` to `kettle.qz`."""
    index = {name: k for k, name in enumerate(names)}
    bodies = [name.removesuffix(".qw") for name in names if name.endswith(".qw")]
    found = [[index.get(f"{body}{end}") for end in QUATERNION] for body in bodies]
    return [[k for k in channels if k is not None] for channels in found if None not in channels]


def caption(states_TO: Array, task: Task, step: int, rate_hz: float) -> str:
    """Time and the sub-tasks complete, in order, up to a step, as recorded: smoothed, the last would come too late."""
    progress = Progress(task)
    for state in states_TO[: step + 1]:
        progress.update(state)
    done: Sequence[str] = [s.name for s in task.subtasks[: progress.done]]
    return f"{step / rate_hz:4.1f} s  {', '.join(done)}".rstrip()


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}, ... ({len(names)})" if len(names) > 4 else ", ".join(names)
