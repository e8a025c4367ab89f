"""The way to the page: this machine's own loopback, a key in the address, and nobody else's pages.

Promises
  - The page listens on 127.0.0.1 alone. Who asks under another name than 127.0.0.1 or localhost (DNS rebinding), whose
    page is another origin's, or who lacks the key, is refused before anything is answered, websockets too.
  - The key is drawn anew at each start and stands in the address; a browser that came by it keeps it in a cookie that
    scripts can't read and other sites don't send.
  - viser's way to share a page through a server in the internet is shut, and no other page may frame this one.
  - Whether all this holds is tried at the start, against the page itself; a viser with which it doesn't is not used.
viser (viser-project/viser) has no such checks of its own, and takes the next free port where one is taken.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import secrets
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import viser
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from skimo_core.contract.errors import SetupError, SpecError

LOOPBACK = "127.0.0.1"
TRY_S = 5.0
REMEDY = "install the version of constraints.txt"
HEADERS = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Door:
    """Who may come in.

    Attributes:
        port: that the page listens on.
        key: that opens it.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.key = secrets.token_urlsafe(18)
        self.refused = 0

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{LOOPBACK}:{self.port}/?key={self.key}"

    @property
    def cookie(self) -> str:
        """The cookie's name; ports share their cookies."""
        return f"skimo_watch_{self.port}"

    def refusal(self, path: str, headers: Any) -> str:
        """Why a request is not let in; empty if it is.

        Args:
            path: with its query.
            headers: with `get` and `get_all`, as websockets has them.
        """
        names = (f"{LOOPBACK}:{self.port}", f"localhost:{self.port}")
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or hosts[0].lower() not in names:
            return "this page is only there under the address that `skimo watch` printed"
        if [origin for origin in origins if origin.lower() not in [f"http://{name}" for name in names]]:
            return "another page may not speak for this one"
        if "websocket" in headers.get("Upgrade", "").lower() and not origins:
            return "a websocket must say whose page it is"
        if not self._has_key(path, headers.get_all("Cookie")):
            return "the key is missing or old; open the address that `skimo watch` printed"
        return ""

    def _has_key(self, path: str, cookies: list[str]) -> bool:
        given = parse_qs(urlsplit(path).query).get("key", [])
        for text in cookies:
            try:
                kept = SimpleCookie(text).get(self.cookie)
            except CookieError:
                continue
            given += [kept.value] if kept is not None else []
        return any(secrets.compare_digest(key.encode(), self.key.encode()) for key in given)

    def guard(self, answer: Callable[..., Any]) -> Callable[[ServerConnection, Request], Any]:
        """`answer` to a request behind the door; what it answers carries the cookie."""

        def first(connection: ServerConnection, request: Request) -> Response | None:
            if words := self.refusal(request.path, request.headers):
                self.refused += 1
                return connection.respond(HTTPStatus.FORBIDDEN, f"{words}\n")
            response = answer(connection, request)
            if response is not None:
                response.headers["Set-Cookie"] = f"{self.cookie}={self.key}; Path=/; HttpOnly; SameSite=Strict"
                for name, value in HEADERS.items():
                    response.headers[name] = value
            return response

        return first


class PageServer(viser.ViserServer):
    """viser's server, which nobody reaches through the internet."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Share nothing: whoever has the page may start the arm."""
        return None


def check_host(host: str) -> None:
    """Raises SpecError for any but this machine's loopback."""
    if host not in (LOOPBACK, "localhost"):
        raise SpecError(
            f"host is {host[:80]!r}, and the page binds {LOOPBACK} alone: it shows the cell, and its buttons start an "
            f"arm. From another machine: ssh -L 8080:{LOOPBACK}:8080 THIS_MACHINE, then the address that it prints"
        )


def open_page(port: int, label: str) -> tuple[PageServer, Door]:
    """Serve an empty page behind a door.

    Raises:
        SetupError: the port is taken, or the door does not hold with this viser.
    """
    _check_free(port)
    logging.getLogger("websockets").setLevel(logging.WARNING)  # else a line for each connection
    door = Door(port)
    with contextlib.redirect_stdout(io.StringIO()), _guarded(door):  # its own banner shows an address without the key
        server = PageServer(host=LOOPBACK, port=port, label=label, verbose=False)
    try:
        if server.get_port() != port:
            raise SetupError(f"port {port} was taken by somebody else just now; give another: --port {port + 1}")
        try_door(door)
    except SetupError:
        close_page(server)
        raise
    door.refused = 0
    return server, door


def close_page(server: viser.ViserServer) -> None:
    """End it; a browser that is still open says so."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def try_door(door: Door) -> None:
    """Ask as strangers would; raises SetupError where one is let in, or the owner isn't."""
    own, cookie = f"{LOOPBACK}:{door.port}", f"{door.cookie}={door.key}"
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    upgrade |= {
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": f"viser-v{viser.__version__}",
    }
    strangers: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("who has no key", "/", {"Host": own}),
        ("another host's name", f"/?key={door.key}", {"Host": f"elsewhere.test:{door.port}"}),
        ("a websocket without a key", "/", {"Host": own, "Origin": f"http://{own}", **upgrade}),
        ("another page", "/", {"Host": own, "Origin": "http://elsewhere.test", "Cookie": cookie, **upgrade}),
    )
    for who, path, headers in strangers:
        if (status := _ask(door.port, path, headers)) != HTTPStatus.FORBIDDEN:
            raise SetupError(f"with viser {viser.__version__} the page lets in {who} (HTTP {status}); {REMEDY}")
    if (status := _ask(door.port, f"/?key={door.key}", {"Host": own})) != HTTPStatus.OK:
        raise SetupError(f"with viser {viser.__version__} the page is not there (HTTP {status}); {REMEDY}")


def _ask(port: int, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TRY_S)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise SetupError(f"the page on port {port} does not answer: {error}") from None
    finally:
        connection.close()


def _check_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise SetupError(f"port {port} can't be had ({error}); give another: --port NUMBER") from None


@contextlib.contextmanager
def _guarded(door: Door) -> Iterator[None]:
    """Put the door before whatever websockets' server is started meanwhile: viser gives no other way to look at a
    request before it is answered."""
    serve = websockets.asyncio.server.serve

    def behind_the_door(handler: Any, host: str, port: int, **options: Any) -> Any:
        return serve(handler, host, port, **{**options, "process_request": door.guard(options["process_request"])})

    websockets.asyncio.server.serve = behind_the_door  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]
