"""The commands `skimo serve` and `skimo verify`."""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from skimo_core.errors import SkimoError
from skimo_core.heap import settle_heap

from .bundle import load_bundle, resolve_bundle
from .inprocess import InProcessPolicy
from .server import DEFAULT_PORT, PolicyServer
from .session import Session

FAILED = 1
INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Serve a bundle to skill policy clients on this machine until SIGINT or SIGTERM."""

    bundle: str = "kitchen"
    """a bundle's folder, or the name of one that ships"""
    host: str = "127.0.0.1"
    """a loopback address; others are refused"""
    port: int = DEFAULT_PORT
    """0 takes a free one"""
    workers: int = 1
    """threads that share the rows of a large batch"""
    planner: tuple[str, ...] = field(default=())
    """settings on top of the bundle's own, e.g. samples=512 proposals=gaussian"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Check a bundle's files, hashes, graphs and specs, and try every network in a process of its own."""

    bundle: Annotated[str, tyro.conf.Positional]
    """a bundle's folder, or the name of one that ships"""


def serve(argv: list[str]) -> int:
    """Serve a bundle: plans and actions over ZeroMQ, loopback only."""
    options = tyro.cli(Serve, args=argv, prog="skimo serve")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        policy = InProcessPolicy.load(options.bundle, settings=options.planner, workers=options.workers)
        server = PolicyServer(Session(policy.engine, policy.planner, policy.spec), host=options.host, port=options.port)
        endpoint = server.bind()
    except SkimoError as error:
        print(f"skimo serve: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    server.stop_on(signal.SIGINT, signal.SIGTERM)
    settle_heap()
    print(f"skimo serve: ready {endpoint} bundle {policy.spec.bundle_id}", flush=True)
    server.serve()
    policy.engine.close()
    print("skimo serve: stopped", flush=True)
    return 0


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
    for name, errors in sorted(manifest.parity.items()):
        print(f"parity {name}: {errors}")
    print(f"verified {manifest.bundle_id}")
    return 0
