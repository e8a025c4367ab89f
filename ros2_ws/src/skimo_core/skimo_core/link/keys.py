"""Keys by which a policy server and its clients know each other over TCP (CurveZMQ, rfc.zeromq.org/spec/26).

A folder (SKIMO_KEYS, else ~/.config/skimo/keys) holds, each a line of text:
    server_secret     the server's own secret key            client_secret    a client's own secret key
    allowed_clients   "NAME KEY" of every client that        trusted_server   the public key of the server that
                      the server lets in                                      this machine's clients speak to
Keys are written as 64 hexadecimal digits, which need no quoting in a shell.

Promises
  - Secrets are made with mode 0600 in a folder of mode 0700, never overwritten, and refused when others may read them.
  - The allow-list is read again whenever it changes: who is removed is refused from the next message on.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils import z85

from ..contract.errors import SetupError
from ..process.whole import write_whole

SERVER_SECRET, CLIENT_SECRET = "server_secret", "client_secret"
TRUSTED_SERVER, ALLOWED_CLIENTS = "trusted_server", "allowed_clients"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A key pair in hexadecimal; `repr` does not tell the secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKeys:
    """What a client needs: its own pair, and its server's public key."""

    own: KeyPair
    server: str


def key_folder() -> Path:
    """Where keys lie."""
    if given := os.environ.get("SKIMO_KEYS"):
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "skimo" / "keys"


def make_pair(folder: Path, secret_file: str) -> KeyPair:
    """The pair of a secret that lies in the folder; makes one where there is none."""
    path = folder / secret_file
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return load_pair(folder, secret_file)
    except OSError as error:
        raise SetupError(f"can't write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(z85.decode(zmq.curve_keypair()[1]).hex().encode() + b"\n")
    return load_pair(folder, secret_file)


def load_pair(folder: Path, secret_file: str) -> KeyPair:
    """The pair of a secret in the folder.

    Raises:
        SetupError: there is none, others may read it, or it is no key.
    """
    path = folder / secret_file
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = check_key(path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError):
        raise SetupError(f"no key in {path}; make one with `skimo keys {secret_file.partition('_')[0]}`") from None
    if mode & 0o077:
        raise SetupError(
            f"{path} has mode {mode:04o}, so that others may read the secret; chmod 600 it, or make a new one"
        )
    public = z85.decode(zmq.curve_public(z85.encode(bytes.fromhex(secret)))).hex()
    return KeyPair(public=public, secret=secret)


def load_client_keys(folder: Path) -> ClientKeys | None:
    """A client's keys; None where this machine has none.

    Raises:
        SetupError: only one of the two files is there, or one is unusable.
    """
    trusted = folder / TRUSTED_SERVER
    if not (folder / CLIENT_SECRET).exists() and not trusted.exists():
        return None
    own = load_pair(folder, CLIENT_SECRET)
    try:
        server = check_key(trusted.read_text(encoding="ascii").strip(), str(trusted))
    except (OSError, UnicodeDecodeError):
        raise SetupError(f"no server's key in {trusted}; name it with `skimo keys trust KEY`") from None
    return ClientKeys(own=own, server=server)


def trust(folder: Path, server: str) -> None:
    """Makes a server the one that this machine's clients speak to."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(folder / TRUSTED_SERVER, check_key(server, "the server's key") + "\n")


def check_key(text: str, what: str) -> str:
    """Returns a public or secret key.

    Raises:
        SetupError: it is none.
    """
    if not _KEY.fullmatch(text):
        raise SetupError(f"{what} is {len(text)} characters, must be a key of 64 hexadecimal digits")
    return text


class AllowList:
    """Who may use the server: names by public key, as they stand in the file now."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ALLOWED_CLIENTS
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[str, str] = {}

    def names(self) -> Mapping[str, str]:
        """Client names by public key.

        Raises:
            SetupError: a line that is no name and key, or either of them twice.
        """
        try:
            found = self._path.stat()
        except OSError:
            self._seen, self._names = None, {}
            return self._names
        if (seen := (found.st_mtime_ns, found.st_size, found.st_ino)) != self._seen:
            self._names = self._parse(self._path.read_text(encoding="utf-8"))
            self._seen = seen
        return self._names

    def add(self, name: str, key: str) -> None:
        """Lets a client in; a new key for a known name replaces the old one."""
        if not NAME.fullmatch(name):
            raise SetupError(f"client name {name[:60]!r}: must be 1 to 40 letters, digits, '.', '_' or '-'")
        known = {k: n for k, n in self.names().items() if n != name}
        if check_key(key, "the client's key") in known:
            raise SetupError(f"that key is already that of {known[key]}; give every client a key of its own")
        self._write({**known, key: name})

    def remove(self, name: str) -> None:
        """Shuts a client out.

        Raises:
            SetupError: nobody of that name is on the list.
        """
        known = self.names()
        if name not in known.values():
            raise SetupError(
                f"no client {name[:60]!r} on the list; it has {', '.join(sorted(known.values())) or 'none'}"
            )
        self._write({k: n for k, n in known.items() if n != name})

    def _write(self, names: Mapping[str, str]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self._path, "".join(f"{name} {key}\n" for key, name in names.items()))

    def _parse(self, text: str) -> dict[str, str]:
        names: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 2 or not NAME.fullmatch(words[0]) or not _KEY.fullmatch(words[1]):
                raise SetupError(f"{self._path}, line {number}: must be a name and a key; mend it or remove the line")
            if words[1] in names or words[0] in names.values():
                raise SetupError(f"{self._path}, line {number}: {words[0]} or its key stands there twice")
            names[words[1]] = words[0]
        return names


def _replace(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    try:
        write_whole(path, text.encode("ascii"), 0o600)
    except OSError as error:
        raise SetupError(f"can't write {path}: {error.strerror}") from None
