"""RTSP through HTTP, where nothing else comes through: one connection brings, the other takes, in base64.

The way is Apple's (Tunnelling RTSP and RTP through HTTP, 1999), and that of many cameras.
"""

import secrets
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from framesrv import __version__
from framesrv.camera.sources.address import Address
from framesrv.camera.sources.authentication import Authentication
from framesrv.camera.sources.reasons import cannot
from framesrv.camera.sources.rtsp import message
from framesrv.camera.sources.rtsp.connection import Connection, EndedError, StrangeError
from framesrv.camera.sources.sockets import connected, wait_at_most

if TYPE_CHECKING:
    from ssl import SSLContext

KIND = "application/x-rtsp-tunnelled"
LONGEST = 16 * 1024  # bytes of the lines of an answer
TRIES = 3  # each with another Authorization
UNAUTHORIZED = 401
PORTS = {"rtsp": 80, "rtsps": 443}
SIZE = 32767  # bytes that the second connection announces, as others do; more may follow


def connect(address: Address, seconds: float, context: "SSLContext | None") -> Connection:
    """A connection to the camera; arguments and errors as of `connection.connect`.

    Raises:
        SourceError: the camera does not take it.
    """
    deadline = time.monotonic() + seconds
    parts = urlsplit(address.url)
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    place = (address.host, parts.port or PORTS[address.scheme])
    authentication = Authentication(address.user, address.password)
    headers = {
        "User-Agent": f"framesrv/{__version__}",
        "x-sessioncookie": secrets.token_hex(11),
        "Pragma": "no-cache",
        "Cache-Control": "no-cache",
    }

    def said(method: str, more: dict[str, str]) -> bytes:
        authorization = authentication.header(method, path)
        known = {"Authorization": authorization} if authorization else {}
        return message.written(f"{method} {path} HTTP/1.0", headers | more | known)

    for _ in range(TRIES):
        with ExitStack() as things:
            incoming = things.enter_context(connected(place, deadline - time.monotonic(), context))
            incoming.sendall(said("GET", {"Accept": KIND}))
            status, words, offers = _answer(incoming, deadline)
            if status == UNAUTHORIZED and authentication.challenged(offers):
                continue
            if status == UNAUTHORIZED:
                raise cannot(authentication.refusal())
            if status != 200:
                raise cannot(("refused", f"over HTTP it answers {words} to GET"))
            outgoing = things.enter_context(connected(place, deadline - time.monotonic(), context))
            outgoing.sendall(
                said(
                    "POST",
                    {
                        "Content-Type": KIND,
                        "Content-Length": str(SIZE),
                        "Expires": "Sun, 9 Jan 1972 00:00:00 GMT",
                    },
                )
            )
            one = Connection(incoming, outgoing)
            things.pop_all()
            return one
    raise cannot(authentication.refusal())


def _answer(one: socket.socket, deadline: float) -> tuple[int, str, list[str]]:
    """Status, status with reason, and ways of authentication that are offered; what follows is left where it is."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer")
        wait_at_most(one, left)
        try:
            byte = one.recv(1)
        except BlockingIOError:
            continue
        if not byte:
            raise EndedError("the camera has closed the connection")
        head += byte
        if len(head) > LONGEST or (len(head) == 5 and head != b"HTTP/"):
            raise StrangeError(bytes(head[:64]))
    start = head.partition(b"\r")[0].decode("utf-8", "replace")
    words = start.partition(" ")[2].strip()
    found = message.headers_of(head.decode("utf-8", "replace").splitlines()[1:])
    status = words[:3]
    return int(status) if status.isdigit() else 0, words, found.get("www-authenticate", [])
