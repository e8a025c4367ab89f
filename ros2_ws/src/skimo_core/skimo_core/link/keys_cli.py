"""The command `skimo keys`: keys of a policy server and its clients, and the list of clients that may use it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from skimo_core.contract.errors import SkimoError
from skimo_core.link.keys import CLIENT_SECRET, SERVER_SECRET, AllowList, key_folder, make_pair, trust


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    folder: Path = field(default_factory=key_folder)
    """where the keys lie"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server(_Keys):
    """Make this machine's server key where there is none, and print its public half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client(_Keys):
    """Make this machine's client key where there is none, and print its public half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust(_Keys):
    """On the client's machine: name the server that it speaks to."""

    key: Annotated[str, tyro.conf.Positional]
    """what `skimo keys server` printed there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(_Keys):
    """On the server's machine: let a client in, from its next connection on."""

    name: Annotated[str, tyro.conf.Positional]
    """what the server calls it in its log"""
    key: Annotated[str, tyro.conf.Positional]
    """what `skimo keys client` printed there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class List(_Keys):
    """On the server's machine: who may use the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove(_Keys):
    """On the server's machine: shut a client out, from its next message on."""

    name: Annotated[str, tyro.conf.Positional]
    """as `skimo keys list` shows it"""


Command = Server | Client | Trust | Add | List | Remove


def keys(argv: list[str]) -> int:
    """Make keys for a policy server over TCP and its clients; add, list and remove clients."""
    command = tyro.cli(Command, args=argv, prog="skimo keys")  # type: ignore[arg-type]
    try:
        for line in _carry_out(command):
            print(line)
    except SkimoError as error:
        print(f"skimo keys: {error}", file=sys.stderr)
        return 1
    return 0


def _carry_out(command: Command) -> list[str]:
    allowed = AllowList(command.folder)
    if isinstance(command, Server):
        return [make_pair(command.folder, SERVER_SECRET).public]
    if isinstance(command, Client):
        return [make_pair(command.folder, CLIENT_SECRET).public]
    if isinstance(command, Trust):
        trust(command.folder, command.key)
        return []
    if isinstance(command, Add):
        allowed.add(command.name, command.key)
    elif isinstance(command, Remove):
        allowed.remove(command.name)
    return [f"{name:<20} {key}" for key, name in allowed.names().items()]
