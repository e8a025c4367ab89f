"""Where a policy server listens and its clients look for it.

    local                 a Unix socket of this user and this ROS domain (ROS_DOMAIN_ID); the default on one machine
    local/NAMESPACE       the same for the stack below a namespace, such as local/left
    ipc://PATH            a Unix socket at a path of one's own choice, in a folder that only its owner may enter
    tcp://HOST:PORT       a TCP port; clients and server then know each other by keys (`keys.py`)

Promises
  - The folder of a Unix socket belongs to this user and lets nobody else in, or it is refused: whoever could put a
    file there could pose as the server, or keep it away.
  - Two ROS domains, and two namespaces of one, never share a socket, so a second stack on the machine never plans on
    the first one's server.
Nothing here opens a connection that it keeps.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..contract.errors import SetupError, SpecError
from ..process.isolation import namespace_of

LOCAL = "local"
MAX_SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its final zero
PROBE_TIMEOUT_S = 0.5
MAX_DOMAIN = 232


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address that was looked at: either `path` (Unix socket) or `host` and `port`."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return f"ipc://{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """The address that `local`, `local/NAMESPACE`, `ipc://PATH` or `tcp://HOST:PORT` stands for.

    Raises:
        SetupError: none of these, a path too long for a socket, or no usable runtime folder.
    """
    if is_local(text):
        return Endpoint(path=_short_enough(runtime_folder() / _socket_name(text.removeprefix(LOCAL))))
    scheme, _, rest = text.partition("://")
    if scheme == "ipc" and rest.startswith("/"):
        return Endpoint(path=_short_enough(Path(rest)))
    host, colon, port = rest.rpartition(":")
    if scheme == "tcp" and colon and host and port.isascii() and port.isdigit() and int(port) < 2**16:
        return Endpoint(host=host.strip("[]"), port=int(port))
    raise SetupError(f"endpoint {text[:80]!r}: must be {LOCAL}, ipc:///ABSOLUTE/PATH or tcp://HOST:PORT")


def is_local(text: str) -> bool:
    """Whether it is a socket in this user's own folder, of a name that both sides derive."""
    return text == LOCAL or text.startswith(f"{LOCAL}/")


def endpoint_below(text: str, namespace: str) -> str:
    """What an endpoint means to a node below a namespace: `local` is that namespace's, all others are what they are."""
    return LOCAL + namespace_of(namespace) if text == LOCAL else text


def ros_domain() -> int:
    """The ROS domain of this process (ROS_DOMAIN_ID; 0 where it isn't set).

    Raises:
        SetupError: it is no domain.
    """
    text = os.environ.get("ROS_DOMAIN_ID", "").strip() or "0"
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_DOMAIN):
        raise SetupError(f"ROS_DOMAIN_ID is {text[:40]!r}, must be a whole number of 0 to {MAX_DOMAIN}")
    return int(text)


def runtime_folder() -> Path:
    """This user's folder for sockets: in XDG_RUNTIME_DIR, in /run/user, else beside other temporary files.

    The same for every process of a user on a machine, also where one of them was started without a login session.
    """
    user = os.getuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"):
        if base.startswith("/") and _why_not_private(Path(base)) == "":
            return Path(base) / "skimo"
    return Path(tempfile.gettempdir()) / f"skimo-{user}"


def check_private(folder: Path) -> None:
    """Refuses a folder that somebody else owns or may enter.

    Raises:
        SetupError: with the reason and the remedy.
    """
    if why := _why_not_private(folder):
        raise SetupError(
            f"folder {folder}, for the policy server's socket, {why}; it must be a folder of this user with mode 0700 "
            "(remove it, or name another socket with ipc://PATH)"
        )


def answers(endpoint: Endpoint) -> bool:
    """Whether somebody accepts connections there now."""
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(str(endpoint.path) if endpoint.path else (endpoint.host, endpoint.port))
        except OSError:
            return False
    return True


def _socket_name(namespace: str) -> str:
    """No name of ROS has a "-", so two namespaces never give the same."""
    try:
        below = namespace_of(namespace).replace("/", "-")
    except SpecError as error:
        raise SetupError(f"endpoint {LOCAL + namespace[:80]!r}: {error}") from None
    return f"policy-{ros_domain()}{below}.sock"


def _short_enough(path: Path) -> Path:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise SetupError(f"socket path {path} is longer than {MAX_SOCKET_PATH_BYTES} bytes, the most that Linux takes")
    return path


def _why_not_private(folder: Path) -> str:
    try:
        found = folder.lstat()
    except OSError as error:
        return f"can't be looked at ({error.strerror})"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}, not to user {os.getuid()}"
    if found.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}, so that others may enter it"
    return ""
