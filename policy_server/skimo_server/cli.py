"""The commands `skimo serve` and `skimo verify`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from skimo_core.contract.errors import SkimoError, SpecError
from skimo_core.link.endpoint import LOCAL
from skimo_core.link.keys import SERVER_SECRET, AllowList, key_folder, load_pair
from skimo_core.link.protocol import MIN_SPEED
from skimo_core.process.heap import settle_heap

from .bundle import load_bundle, resolve_bundle
from .ceiling import FOLLOW_BYTES, HEADROOM_BYTES, hold_memory
from .follow import CANARY_SPEED, Follower, Target
from .inprocess import InProcessPolicy
from .served import Served
from .server import PolicyServer, ServerKeys
from .session import Session
from .shadow import Shadow

FAILED = 1
INTERRUPTED = 130
SWITCH_INTERVAL_S = 0.001
"""How long one thread may compute in Python while another waits: answering does not wait long for planning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Serve a bundle to skill policy clients until SIGINT or SIGTERM."""

    bundle: str = "kitchen"
    """a bundle's folder, a link to one, which is followed wherever it comes to point, or the name of one that ships"""
    endpoint: str = LOCAL
    """local: a Unix socket of this user and ROS domain; local/NAMESPACE; ipc://PATH; or tcp://HOST:PORT (with keys)"""
    port: int | None = None
    """short for tcp://127.0.0.1:PORT; 0 takes a free one"""
    keys: Path = field(default_factory=key_folder)
    """where the server's key and the list of clients lie, for TCP (see skimo keys)"""
    open_to_local_users: bool = False
    """on a loopback port without keys: let in every user of this machine"""
    workers: int = 1
    """threads that share the rows of a large batch"""
    planner: tuple[str, ...] = field(default=())
    """settings on top of the bundle's own, e.g. samples=512 proposals=gaussian"""
    explore: float | None = None
    """how widely skills are explored (planner setting of that name); none: as the planner has it"""
    canary_speed: float = CANARY_SPEED
    """share of full speed at which a bundle on trial drives (a link canary beside the link that is followed)"""

    def __post_init__(self) -> None:
        if not MIN_SPEED <= self.canary_speed <= 1.0:
            raise SpecError(f"canary speed is {self.canary_speed:g}, must lie in {MIN_SPEED:g} to 1")

    @property
    def settings(self) -> tuple[str, ...]:
        """Of the planner that drives. A shadow plans without exploring, so that plans are compared, not dice."""
        return self.planner if self.explore is None else (*self.planner, f"explore={self.explore}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Check a bundle's files, hashes, graphs and specs, and try every network in a process of its own."""

    bundle: Annotated[str, tyro.conf.Positional]
    """a bundle's folder, or the name of one that ships"""


def serve(argv: list[str]) -> int:
    """Serve a bundle: plans and actions over ZeroMQ, on a socket of this user or with keys."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        options = tyro.cli(Serve, args=argv, prog="skimo serve")
        link = Path(options.bundle)
        at_first = Target.of(link) if link.is_symlink() else None
        session = Session(load(options, options.bundle))
        server = make_server(options, session)
        endpoint = server.bind()
    except SkimoError as error:
        print(f"skimo serve: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    server.stop_on(signal.SIGINT, signal.SIGTERM)
    settle_heap()
    hold_memory(HEADROOM_BYTES + (0 if at_first is None else FOLLOW_BYTES))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    print(f"skimo serve: ready {endpoint} bundle {session.spec.bundle_id}", flush=True)
    with ExitStack() as beside:
        if at_first is not None:
            follower = Follower(link, at_first, session, partial(load, options), canary_speed=options.canary_speed)
            beside.enter_context(follower)
            beside.enter_context(Shadow(link, session, options.planner))
        server.serve()
    session.close()
    print("skimo serve: stopped", flush=True)
    return 0


def load(options: Serve, bundle: Path | str) -> Served:
    """A bundle with the planner settings and workers of the options.

    Raises:
        BundleError, SpecError: the bundle or a setting is refused.
    """
    folder = Path(os.path.realpath(resolve_bundle(str(bundle))))
    policy = InProcessPolicy.load(str(folder), settings=options.settings, workers=options.workers)
    return Served(policy.engine, policy.planner, replace(policy.spec, served_as=options.bundle), folder)


def make_server(options: Serve, session: Session) -> PolicyServer:
    """The server that the options ask for; keys are taken for TCP unless every local user may come in.

    Raises:
        SetupError: the keys are unusable.
    """
    endpoint = options.endpoint if options.port is None else f"tcp://127.0.0.1:{options.port}"
    keys = None
    has_keys = (options.keys / SERVER_SECRET).exists()
    if endpoint.startswith("tcp:") and has_keys and not options.open_to_local_users:
        keys = ServerKeys(own=load_pair(options.keys, SERVER_SECRET), allowed=AllowList(options.keys))
    return PolicyServer(session, endpoint, keys=keys, open_to_local_users=options.open_to_local_users)


def verify(argv: list[str]) -> int:
    """Verify a bundle: hashes, operators, shapes, specs, recorded inputs; within bounds of time and memory."""
    options = tyro.cli(Verify, args=argv, prog="skimo verify")
    try:
        bundle = load_bundle(resolve_bundle(options.bundle))
    except SkimoError as error:
        print(f"skimo verify: refused: {error}", file=sys.stderr)
        return FAILED
    manifest = bundle.manifest
    size_mb = sum(map(len, bundle.graphs.values())) / 1e6
    sizes = " ".join(f"{letter} {number}" for letter, number in manifest.sizes.items())
    print(f"recipe {manifest.recipe.get('name', '-')}, sizes {sizes}, {len(bundle.graphs)} graphs, {size_mb:.2f} MB")
    print(f"kind {manifest.kind}: {', '.join(manifest.graphs)}")
    for name, errors in sorted(manifest.parity.items()):
        print(f"parity {name}: {errors}")
    print(f"verified {manifest.bundle_id}")
    return 0
