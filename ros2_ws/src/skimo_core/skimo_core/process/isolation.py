"""Keeps stacks on one machine apart: free ports, free ROS domains, namespaces, and a lock that lets one stack in.

The lock is a socket in Linux's abstract namespace: it needs no file, is released by the kernel when its holder dies,
and tells a second starter the first one's process id.
"""

from __future__ import annotations

import random
import re
import select
import socket
import struct
from types import TracebackType

from skimo_core.contract.errors import SetupError, SpecError

# Domains whose DDS ports lie below Linux's ephemeral range ("The ROS_DOMAIN_ID", ROS 2 documentation) but for 0, the
# default of every ROS program.
DOMAINS = range(1, 102)
DDS_BASE_PORT, DDS_DOMAIN_GAIN, DDS_UNICAST_OFFSET = 7400, 250, 10

_NAMESPACE = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*/?")


def namespace_of(text: str) -> str:
    """A ROS namespace in one form: "/left" for left, /left and /left/; "" for none and /.

    Raises:
        SpecError: it is none that ROS allows.
    """
    if text not in ("", "/") and not _NAMESPACE.fullmatch(text):
        raise SpecError(f"namespace {text[:80]!r}: want words of letters, digits and _ joined by /, such as /left")
    inner = text.strip("/")
    return f"/{inner}" if inner else ""


def role(namespace: str, name: str) -> str:
    """The role under which something is the only one of its name in a namespace of a domain."""
    namespace = namespace_of(namespace)
    return f"{namespace}/{name}" if namespace else name


def free_port() -> int:
    """Returns a loopback TCP port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class DomainLock:
    """Lets one holder of a role into a ROS domain of this machine; a context manager.

    Roles: `stack` is held by `skimo up`, `gate_node` by a gate node, so that two gates never command one arm; below a
    namespace they are that namespace's own (`role`), so that two arms have a stack each.
    """

    def __init__(self, domain: int, role: str = "stack") -> None:
        self.domain = domain
        self._role = role
        self._socket: socket.socket | None = None

    def acquire(self) -> None:
        """Takes the lock, if it does not hold it already.

        Raises:
            SetupError: somebody else holds it; names the process.
        """
        if self._socket is not None:
            return
        address = f"\0skimo/domain/{self.domain}/{self._role}"
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(address)
            held.listen(1)
        except OSError as error:
            held.close()
            raise SetupError(
                f"ROS domain {self.domain} already has a skimo {self._role}{_holder(address)}; stop that one, "
                "or start in another domain (ROS_DOMAIN_ID, or skimo up --isolated) or, for another arm, in another "
                "namespace (skimo up --namespace /left)"
            ) from error
        self._socket = held

    def release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> DomainLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class RoleWatch:
    """Tells whether somebody on this machine holds a role in a ROS domain, and when it is let go; a context manager.

    One connection to the holder's socket is kept open: the kernel ends it when the holder goes, however that dies.
    """

    def __init__(self, domain: int, role: str) -> None:
        self._address = f"\0skimo/domain/{domain}/{role}"
        self._line: socket.socket | None = None

    def is_held(self) -> bool:
        if self._line is None:
            return self._connect()
        readable, _, _ = select.select([self._line], [], [], 0.0)  # nobody ever writes: readable is the end
        return not readable

    def _connect(self) -> bool:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.setblocking(False)
        try:
            line.connect(self._address)
        except BlockingIOError:  # held, by one whose queue is full
            line.close()
            return True
        except OSError:
            line.close()
            return False
        self._line = line
        return True

    def __enter__(self) -> RoleWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.close()


def _holder(address: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(0.2)
        try:
            asker.connect(address)
            pid, _, _ = struct.unpack("3i", asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return ""
    return f" (process {pid})"


def free_domain(role: str = "stack") -> DomainLock:
    """Returns the lock, already held, of a ROS domain in which nobody on this machine takes part."""
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        if not _is_silent(domain):
            continue
        lock = DomainLock(domain, role)
        try:
            lock.acquire()
        except SetupError:
            continue
        return lock
    raise SetupError(f"no free ROS domain among {DOMAINS.start}..{DOMAINS.stop - 1}; stop some ROS programs")


def _is_silent(domain: int) -> bool:
    """Whether the first DDS participant's unicast port of a domain is unused."""
    port = DDS_BASE_PORT + DDS_DOMAIN_GAIN * domain + DDS_UNICAST_OFFSET
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
