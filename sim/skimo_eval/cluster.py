"""Episodes on a Ray cluster: a crew on each free processor, and the results of local processes, in the jobs' order.

The machine that runs this must have joined the cluster (`ray start --address ...`), and every machine of it must have
skimo installed, with the same versions of what computes. Nothing else need be there: bundle and files that are given
by path travel through Ray's object store, and are unpacked by their digest in a folder of the crew's own. A crew that
dies, or whose machine does, is replaced elsewhere and its job done again, MAX_DEATHS times; a job depends on nothing
but itself, so that this changes no result. Every wait has a bound.

Ray runs what it is sent: whoever reaches its ports has the machines' user. Start it with RAY_AUTH_MODE=token, on a
network that is trusted.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skimo_core.contract.errors import SetupError, SkimoError, SpecError
from skimo_core.domain import library
from skimo_core.domain.domain import load_domain
from skimo_core.process.provenance import provenance

from .inprocess import Crew, Fly, Job, World, factory_for, fly
from .trials import EpisodeResult

CONNECT_S, PROBE_S = 5.0, 60.0
"""For a first answer from the address, and for joining the cluster; left alone, Ray tries for minutes."""
READY_S = 180.0
"""For the crews' processes to start and to load the bundle."""
EPISODE_S = 900.0
"""Between two results; a kitchen episode takes 10 s of a core."""
MAX_DEATHS = 2
COMPUTES = ("numpy", "onnxruntime", "mujoco", "gymnasium-robotics")

PROBE = "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A file or a folder to travel: its name, and its files by their paths below it ("" for a file)."""

    name: str
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, path: Path) -> Parcel:
        """Pack it; raises SpecError where it isn't there, or can't be read."""
        try:
            if path.is_file():
                return cls(name=path.name, files={"": path.read_bytes()})
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            files = {file.relative_to(path).as_posix(): file.read_bytes() for file in inside}
        except OSError as error:
            raise SpecError(f"{path} can't be read: {error.strerror}") from error
        if not files:
            raise SpecError(f"{path}: nothing is there to be sent")
        return cls(name=path.resolve().name, files=files)

    @property
    def digest(self) -> str:
        """Of names and contents."""
        found = hashlib.sha256(self.name.encode())
        for name, data in self.files.items():
            found.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(data).digest())
        return found.hexdigest()

    def unpack(self, folder: Path) -> Path:
        """Where it lies below `folder`, under its digest, unpacked unless it was before."""
        root = folder / self.digest[:16] / self.name
        if not root.exists():
            for name, data in self.files.items():
                file = root / name if name else root
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
        return root


@dataclass(frozen=True, slots=True, kw_only=True)
class Luggage:
    """What a crew needs to fly, wherever it is.

    Attributes:
        bundle: its folder.
        settings: of the planner, on top of the bundle's own.
        world: of names and paths.
        files: what stands at those paths, and at the jobs' conditions', by path.
    """

    bundle: Parcel
    settings: dict[str, object]
    world: World
    files: dict[str, Parcel]

    @classmethod
    def of(cls, bundle: Path, settings: dict[str, object], world: World, jobs: Sequence[Job]) -> Luggage:
        """Pack it; raises SpecError where a domain or a file can't be read."""
        domain = load_domain(world.domain)
        world = replace(world, robot=world.robot or domain.robot, cell=world.cell or domain.cell)
        named = *world.names.values(), *(job.condition for job in jobs)
        paths = [name for name in dict.fromkeys(named) if library.is_path(name)]
        files = {name: Parcel.of(Path(name).expanduser()) for name in paths}
        return cls(bundle=Parcel.of(bundle), settings=settings, world=world, files=files)


class Traveller:
    """A crew that unpacks what it needs where it finds itself; each actor of the cluster is one.

    Made in its first use, so that what is wrong with a bundle is said as by a local crew, and again after a restart.
    """

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._crew: Crew | None = None
        self._paths: dict[str, str] = {}

    def ready(self, luggage: Luggage) -> dict[str, str]:
        """Load all of it; returns the versions of what computes here."""
        self._unpacked(luggage)
        return provenance("", None, COMPUTES)["versions"]

    def fly(self, luggage: Luggage, flown: Fly, job: Job) -> EpisodeResult:
        """One episode, with the same luggage as ever."""
        crew = self._unpacked(luggage)
        return crew.fly(flown, replace(job, condition=self._paths.get(job.condition, job.condition)))

    def close(self) -> None:
        """Remove what was unpacked."""
        if self._folder is not None:
            self._folder.cleanup()

    def _unpacked(self, luggage: Luggage) -> Crew:
        if self._crew is None:
            self._folder = tempfile.TemporaryDirectory(prefix="skimo-crew-")
            folder = Path(self._folder.name)
            self._paths = {name: str(parcel.unpack(folder)) for name, parcel in luggage.files.items()}
            bundle = luggage.bundle.unpack(folder)
            self._crew = Crew(factory_for(bundle, luggage.settings), luggage.world.moved(self._paths))
        return self._crew


def run_on_ray(
    jobs: Sequence[Job],
    bundle: Path,
    settings: dict[str, object],
    world: World,
    *,
    address: str,
    workers: int = 0,
    flown: Fly = fly,
) -> Iterator[EpisodeResult]:
    """Run the episodes on a cluster and yield their results in the order of `jobs`, as they come.

    Args:
        bundle: its folder.
        settings: of its planner.
        address: HOST:PORT of the cluster that this machine has joined, or auto.
        workers: crews at most; 0: as many as processors are free.

    Raises:
        SetupError: Ray is not installed, no cluster answers, its machines don't fit, or crews die again and again.
        SkimoError: as a local crew does.
    """
    luggage = Luggage.of(bundle, settings, world, jobs)
    with _connected(address) as ray:
        sent = ray.put(luggage)
        crews = _crews(ray, workers or len(jobs))
        try:
            yield from _in_order(ray, _ready(ray, crews, sent), sent, jobs, flown)
        finally:
            ray.wait([crew.close.remote() for crew in crews], num_returns=len(crews), timeout=CONNECT_S)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, joined to a cluster; what doesn't answer is found out by a process that can be ended."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise SetupError("--ray needs ray: pip install 'skimo_sim[ray]', here and on every machine of it") from None
    remedy = "start one with `ray start --head`, join it with `ray start --address HOST:PORT`, or leave --ray out"
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or "/" in address:
            raise SpecError(f"ray is {address!r}, must be HOST:PORT of a cluster that this machine has joined, or auto")
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise SetupError(f"no Ray cluster answers at {address} ({error}); {remedy}") from None
    try:
        command = [sys.executable, "-c", PROBE, address]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=False)
        said = "" if not probe.returncode else (probe.stderr.strip().splitlines() or ["no word"])[-1][:300]
    except subprocess.TimeoutExpired:
        said = f"nothing within {PROBE_S:g} s"
    if said:
        raise SetupError(f"no Ray cluster can be joined at {address} ({said}); {remedy}")
    ray.init(address, logging_level="ERROR", log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


def _crews(ray: Any, wanted: int) -> list[Any]:
    """Actors, one for each free processor."""
    free = int(ray.available_resources().get("CPU", 0))
    if not free:
        raise SetupError("no processor of the Ray cluster is free; wait for its other work, or leave --ray out")
    actor = ray.remote(num_cpus=1, max_restarts=MAX_DEATHS, max_task_retries=MAX_DEATHS)(Traveller)
    return [actor.remote() for _ in range(min(free, wanted))]


def _ready(ray: Any, crews: Sequence[Any], luggage: Any) -> list[Any]:
    """Those that are ready to fly, on machines that compute as this one does."""
    asked = {crew.ready.remote(luggage): crew for crew in crews}
    came, _ = ray.wait(list(asked), num_returns=len(asked), timeout=READY_S)
    if not came:
        raise SetupError(f"none of {len(crews)} crews was ready within {READY_S:g} s; see `ray status`")
    here = provenance("", None, COMPUTES)["versions"]
    for ref in came:
        its = _told(ray, ref, "getting ready")
        if unlike := [name for name in here if its.get(name) != here[name]]:
            name = unlike[0]
            raise SetupError(
                f"a machine of the Ray cluster has {name} {its.get(name, 'not at all')}, this one {here[name]}; "
                "install the same versions everywhere"
            )
    return [asked[ref] for ref in came]


def _in_order(ray: Any, crews: Sequence[Any], luggage: Any, jobs: Sequence[Job], flown: Fly) -> Iterator[EpisodeResult]:
    waiting, idle = deque(range(len(jobs))), list(crews)
    flying: dict[Any, tuple[int, Any]] = {}
    came: dict[int, EpisodeResult] = {}
    for index in range(len(jobs)):
        while index not in came:
            while idle and waiting:
                crew, number = idle.pop(), waiting.popleft()
                flying[crew.fly.remote(luggage, flown, jobs[number])] = number, crew
            done, _ = ray.wait(list(flying), timeout=EPISODE_S)
            if not done:
                raise SetupError(f"no episode came within {EPISODE_S:g} s; see `ray status`")
            for ref in done:
                number, crew = flying.pop(ref)
                came[number] = _told(ray, ref, f"flying the episode of seed {jobs[number].seed}")
                idle.append(crew)
        yield came.pop(index)


def _told(ray: Any, ref: Any, doing: str) -> Any:
    """What a crew answers, or raises, in its own words."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        if isinstance(cause := getattr(error, "cause", None), SkimoError):
            raise cause from None
        last = (str(error).strip().splitlines() or [""])[-1].strip()[:300]
        died = f"died {MAX_DEATHS + 1} times" if isinstance(error, ray.exceptions.ActorDiedError) else "failed"
        raise SetupError(
            f"a crew on the Ray cluster {died} {doing} ({type(error).__name__}: {last}); is skimo installed on every "
            "machine of it, and enough memory free?"
        ) from error
