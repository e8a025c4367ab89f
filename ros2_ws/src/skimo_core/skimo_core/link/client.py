"""A policy that lives in another process: `SkillPolicy` over ZeroMQ, without torch or ONNX Runtime.

Promises
  - Every call returns or raises within its deadline (a few milliseconds more at most); nothing waits for ever.
  - After any failure the socket is thrown away and rebuilt at the next call, since a DEALER does not always come back
    by itself (libzmq's "lazy pirate" pattern); an answer to an older request is never taken for a newer one's.
  - `connect` refuses a server of another protocol version, or whose bundle is another than asked for or has other
    channels, units, scale or rate than the caller's.
  - A server that swaps to another bundle is followed: at the first plan of the new one the client asks what it is,
    within the plan's deadline, and takes it if it may stand in for the one before (`PolicySpec.unfit_instead_of`) and
    is the one asked for. If not, that plan and every later one is refused with SpecError.
  - An action is taken from the bundle whose skill it is and from no other; that costs no second question.
  - Whatever a server sends becomes an answer that fits its spec, or one of the errors of `errors.py`.
  - Over TCP, a machine that has keys (`keys.py`) speaks to the server that it trusts and to no other; a server that
    refuses its key is an UnreachableError that says so.
One client is for one thread; two threads make two clients. Constructing one opens nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import zmq
from zmq.utils.monitor import recv_monitor_message

from ..contract.errors import DeadlineError, PolicyError, SetupError, SpecError, UnreachableError, WireError
from ..contract.policy import FloatArray, Goals, Plan, PolicySpec
from ..contract.specs import ActionSpec, Named, ObservationSpec
from . import protocol, wire
from .endpoint import LOCAL, check_private, is_local, parse_endpoint
from .keys import key_folder, load_client_keys
from .wire import Message

DEFAULT_ENDPOINT = LOCAL
HELLO_TIMEOUT_S = 2.0
MIN_BUNDLE_ID = 8
LEAST_DEADLINE_S = 1e-3
"""What is left at least for a second question when an answer came at the last moment."""
MAX_REPLY_BYTES = 8 * 1024 * 1024
LATE_CODES = frozenset({"deadline", "superseded", "busy"})
HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class PolicyClient:
    """Implements `skimo_core.contract.policy.SkillPolicy` against a policy server.

    Attributes:
        candidates: how many plans beside the one each plan is to tell of, up to `protocol.MAX_CANDIDATES`; may be set
            at any time, by any thread.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        observation: ObservationSpec | None = None,
        action: ActionSpec | None = None,
        domain: Named | None = None,
        bundle_id: str | None = None,
        served_as: str | None = None,
        keys: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Which server, and what it must serve.

        Args:
            endpoint: see `endpoint.py`.
            observation, action: what its bundle must take and give, where given.
            domain: what it must have been made for, where given.
            bundle_id: which bundle it must be, where given: the id, or at least MIN_BUNDLE_ID leading digits of it.
            served_as: what its server was told to serve, where given: for a bundle that is known by its name alone.
            keys: folder of this client's keys, for TCP; `key_folder()` where not given.
        """
        self._endpoint, self._keys = endpoint, keys
        self._observation, self._action, self._domain = observation, action, domain
        self._bundle_id, self._served_as = bundle_id, served_as
        self._clock = clock
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._spec: PolicySpec | None = None
        self._last_id = 0
        self.candidates = 0

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def connect(self, deadline_s: float = HELLO_TIMEOUT_S) -> PolicySpec:
        """Asks the server what it serves and checks it.

        Raises:
            UnreachableError, DeadlineError: nobody answers within `deadline_s`.
            WireError: another protocol.
            SpecError: its bundle is not the one, or not of the kind, that this client wants.
        """
        self._spec = None
        self._spec = self._hello(deadline_s)
        return self._spec

    def look_again(self, deadline_s: float = HELLO_TIMEOUT_S) -> PolicySpec:
        """Asks a connected server what it serves by now, which may be another bundle that fits.

        Raises:
            SpecError: its bundle is not the one asked for, or can't take the place of the one before, which stays in
                `spec`. The rest as `connect`.
        """
        before, now = self.spec, self._hello(deadline_s)
        if unfit := now.unfit_instead_of(before):
            raise SpecError(
                f"server {self._endpoint} now serves bundle {now.bundle_id[:12]} instead of {before.bundle_id[:12]}, "
                f"but its {unfit}; serve one made for this robot and scene"
            )
        self._spec = now
        return now

    def _hello(self, deadline_s: float) -> PolicySpec:
        wanted = self._bundle_id
        if wanted is not None and len(wanted) < MIN_BUNDLE_ID:
            raise SpecError(f"bundle id {wanted!r}: give at least {MIN_BUNDLE_ID} of its leading digits")
        reply = self._ask(Message(op="hello", request_id=self._next_id(), deadline_s=deadline_s))
        spec = protocol.read_hello_reply(reply)
        if wanted is not None and not spec.bundle_id.startswith(wanted):
            raise SpecError(
                f"server {self._endpoint} serves bundle id {spec.bundle_id[:64]}, wanted {wanted[:64]}; "
                "is it another stack's? Start it with that bundle, or ask for this one"
            )
        if self._served_as is not None and spec.served_as != self._served_as:
            raise SpecError(
                f"server {self._endpoint} serves {spec.served_as[:64]!r}, wanted {self._served_as[:64]!r}; "
                "is it another stack's? Start it with that bundle, or ask for this one"
            )
        if unfit := spec.unfit_for(self._observation, self._action, self._domain):
            raise SpecError(f"server {self._endpoint}: its bundle's {unfit}; serve one made for this robot and scene")
        return spec

    @property
    def spec(self) -> PolicySpec:
        """What the server said at `connect`, or when it was last asked again.

        Raises:
            PolicyError: not connected.
        """
        if self._spec is None:
            raise PolicyError(f"policy client {self._endpoint}: not connected; call connect() first")
        return self._spec

    def plan(
        self,
        observation_O: FloatArray,
        goals: Goals,
        *,
        seed: int,
        warm_start_PZ: FloatArray | None,
        deadline_s: float,
        warm_start_of: str = "",
        spent: int = 0,
    ) -> Plan:
        """See `SkillPolicy.plan`."""
        spec, end_s = self.spec, self._clock() + deadline_s
        query = protocol.PlanQuery(
            observation_O=observation_O,
            goals=goals,
            seed=seed,
            warm_start_PZ=warm_start_PZ,
            warm_start_of=warm_start_of or spec.bundle_id,
            candidates=self.candidates,
            spent=spent,
        )
        reply = self._ask(protocol.plan_request(query, self._next_id(), deadline_s))
        if reply.fields.get("bundle") != spec.bundle_id:
            spec = self.look_again(max(end_s - self._clock(), LEAST_DEADLINE_S))
        self._check_bundle(reply, spec.bundle_id)
        return protocol.read_plan_reply(reply, spec)

    def act(
        self, observation_O: FloatArray, skill_Z: FloatArray, bundle_id: str = "", *, deadline_s: float
    ) -> FloatArray:
        """See `SkillPolicy.act`."""
        spec = self.spec
        wanted = bundle_id or spec.bundle_id
        reply = self._ask(protocol.act_request(observation_O, skill_Z, self._next_id(), deadline_s, wanted))
        self._check_bundle(reply, wanted)
        return protocol.read_act_reply(reply, spec)

    def health(self, deadline_s: float = HELLO_TIMEOUT_S) -> dict[str, wire.Scalar]:
        """Counters and timings of the server, by name (see the server's README); raises as `connect`."""
        return dict(self._ask(Message(op="health", request_id=self._next_id(), deadline_s=deadline_s)).fields)

    def close(self) -> None:
        """Closes the socket; a later call opens a new one."""
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(linger=0)
            self._socket = None
        if self._monitor is not None:
            self._monitor.close(linger=0)
            self._monitor = None

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _ask(self, request: Message) -> Message:
        """Sends a request and waits for its reply; on any failure the socket goes."""
        if not 0 < request.deadline_s <= wire.MAX_DEADLINE_S:
            raise SpecError(f"deadline is {request.deadline_s} s, must lie in 0 to {wire.MAX_DEADLINE_S:g} s")
        frames = wire.encode(request)
        end_s = self._clock() + request.deadline_s
        try:
            reply = self._exchange(frames, request, end_s)
        except (PolicyError, WireError):
            self.close()
            raise
        except zmq.ZMQError as error:
            self.close()
            raise UnreachableError(f"policy server {self._endpoint}: {error}; check the address") from None
        if reply.code == "ok":
            return reply
        told = f"policy server {self._endpoint}: {request.op} refused ({reply.code}): {reply.text}"
        if reply.code in LATE_CODES:
            raise DeadlineError(told)
        if reply.code == "spec":
            raise SpecError(told)
        if reply.code in ("model", "internal", "bundle"):
            raise PolicyError(told)
        raise WireError(reply.code, told)

    def _exchange(self, frames: list[bytes], request: Message, end_s: float) -> Message:
        socket = self._open()
        self._wait_until_connected(socket, request, end_s)
        socket.send_multipart(frames, zmq.NOBLOCK)
        while socket.poll(self._left_ms(end_s), zmq.POLLIN):
            reply = wire.decode(_receive(socket))
            if reply.request_id == request.request_id or (reply.request_id == 0 and reply.code != "ok"):
                return reply
        raise DeadlineError(
            f"policy server {self._endpoint}: no answer to {request.op} within {request.deadline_s:g} s; "
            "is it alive, and the machine not overloaded?"
        )

    def _wait_until_connected(self, socket: zmq.Socket[bytes], request: Message, end_s: float) -> None:
        """Waits until a server took the connection.

        Raises:
            UnreachableError: nobody is there, or whoever is there refuses this client.
        """
        assert self._monitor is not None
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLOUT)
        poller.register(self._monitor, zmq.POLLIN)
        why = ""
        while True:
            ready = dict(poller.poll(self._left_ms(end_s)))
            if socket in ready:
                return
            if self._monitor in ready:
                why, final = _refusal(self._monitor)
                if not final:
                    continue
            raise UnreachableError(
                f"policy server {self._endpoint}: "
                + (why or f"nobody listens there (waited {request.deadline_s:g} s); start it with `skimo serve`")
            )

    def _open(self) -> zmq.Socket[bytes]:
        if self._socket is not None:
            return self._socket
        try:
            endpoint = parse_endpoint(self._endpoint)
            if is_local(self._endpoint) and endpoint.path is not None and endpoint.path.parent.exists():
                check_private(endpoint.path.parent)  # where others may write, another's server could pose as ours
            keys = load_client_keys(self._keys or key_folder()) if endpoint.path is None else None
        except SetupError as error:
            raise UnreachableError(f"policy server {self._endpoint}: {error}") from None
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket = socket
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # no queueing for a peer that isn't there: that is "unreachable"
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY_BYTES)
        socket.setsockopt(zmq.IPV6, 1 if ":" in endpoint.host else 0)
        if keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, bytes.fromhex(keys.server))
            socket.setsockopt(zmq.CURVE_PUBLICKEY, bytes.fromhex(keys.own.public))
            socket.setsockopt(zmq.CURVE_SECRETKEY, bytes.fromhex(keys.own.secret))
        self._monitor = socket.get_monitor_socket(HANDSHAKE_FAILED)
        socket.connect(str(endpoint))
        return socket

    def _left_ms(self, end_s: float) -> int:
        return max(0, round(1e3 * (end_s - self._clock())))

    def _check_bundle(self, reply: Message, wanted: str) -> None:
        if (found := reply.fields.get("bundle")) != wanted:
            raise PolicyError(
                f"policy server {self._endpoint}: {reply.op} was answered by bundle {str(found)[:12]}, wanted "
                f"{wanted[:12]}; plan again"
            )


def _receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """One message.

    Raises:
        WireError: it has more parts than any message; the rest is left to the socket's end.
    """
    frames = [socket.recv(zmq.NOBLOCK)]
    while socket.getsockopt(zmq.RCVMORE):
        if len(frames) > wire.MAX_ARRAYS:
            raise WireError("size", f"reply has more than {1 + wire.MAX_ARRAYS} frames")
        frames.append(socket.recv(zmq.NOBLOCK))
    return frames


def _refusal(monitor: zmq.Socket[bytes]) -> tuple[str, bool]:
    """Why a handshake failed, in words, and whether waiting can't help."""
    event = recv_monitor_message(monitor, zmq.NOBLOCK)
    kind = event["event"]
    if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "it refuses this client's key; on its machine, let the client in with `skimo keys add`", True
    if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return (
            "the security handshake failed: it wants keys and this client has none, or the other way round, or the key "
            "of `skimo keys trust` is not its key",
            True,
        )
    return "it broke the handshake off; is it a policy server, and the key of `skimo keys trust` its key?", False
