"""HTTP connections whose every exchange ends in time, however the peer behaves.

A socket's own time-out begins anew with each read, so a peer that sends a byte now and then holds its caller
for ever. Here a thread says how long it has, ``with deadline(8, silence=4): session.put(...)``, and every
connecting, handshake, send and receive in it gets what is left of that.
"""

import fcntl
import math
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from http.cookiejar import DefaultCookiePolicy
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, AddressFamily, socket
from typing import Any

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context

from framesrv.process.reaching import causes

CONNECT_TIMEOUT = 3.0  # s for all addresses of a host together
NO_LIMIT = (math.inf, math.inf)
SLICE = 0.25  # s after which a silent peer is looked at

Address = tuple[AddressFamily, tuple[Any, ...]]
Resolve = Callable[[str, int], Sequence[Address]]

_limit = threading.local()


@contextmanager
def deadline(seconds: float, *, silence: float = math.inf) -> Iterator[None]:
    """What this thread does on the sockets of a `DeadlineSession` is cut off with TimeoutError.

    Within another deadline the shorter one counts.

    Args:
        seconds: all of it together.
        silence: seconds in which the peer neither sends a byte nor takes one.
    """
    before = getattr(_limit, "now", None)
    end, patience = before or NO_LIMIT
    _limit.now = (min(end, time.monotonic() + seconds), min(patience, silence))
    try:
        yield
    finally:
        _limit.now = before


def remaining() -> float:
    """Seconds that are left to this thread; TimeoutError if none are. Without a deadline: infinity."""
    end, _ = getattr(_limit, "now", None) or NO_LIMIT
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is up")
    return float(left)


def is_timeout(error: BaseException) -> bool:
    """Whether `error`, or what it was raised for, is a time-out."""
    return any(isinstance(one, (TimeoutError, requests.Timeout)) for one in causes(error))


def reason(error: BaseException) -> str:
    """What `error` was raised for in the end, without the names of connections and pools."""
    *_, first = causes(error)
    return str(first) or type(first).__name__


class DeadlineSession(requests.Session):
    """A session that heeds `deadline`, and nothing from the environment: no proxies, no .netrc. It keeps no cookies.

    Args:
        resolve: gives the addresses that a host is reached by. What it raises of its own ends the request.
        connections: how many are kept for one host.
    """

    def __init__(self, resolve: Resolve, *, connections: int = 1) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(resolve, connections))

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Merges nothing, for that is all there is: requests takes 50 µs a call for it."""
        return {"proxies": {}, "stream": bool(stream), "verify": True, "cert": None}


class _Adapter(HTTPAdapter):
    def __init__(self, resolve: Resolve, connections: int) -> None:
        super().__init__(pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = {
            "http": partial(_HttpPool, resolve=resolve),
            "https": partial(_HttpsPool, resolve=resolve),
        }

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leaves `conn` as it is: the certificates are loaded once, into the context of all connections."""


class _HttpPool(HTTPConnectionPool):
    def __init__(self, *args: Any, resolve: Resolve, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.ConnectionCls = partial(_HttpConnection, resolve=resolve)  # type: ignore[assignment]


class _HttpsPool(HTTPSConnectionPool):
    def __init__(self, *args: Any, resolve: Resolve, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.ConnectionCls = partial(_HttpsConnection, resolve=resolve)  # type: ignore[assignment]


class _HttpConnection(HTTPConnection):
    def __init__(self, *args: Any, resolve: Resolve, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._resolve = resolve

    def _new_conn(self) -> socket:
        return _connect(self, self._resolve)


class _HttpsConnection(HTTPSConnection):
    def __init__(self, *args: Any, resolve: Resolve, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._resolve = resolve

    def connect(self) -> None:
        self.ssl_context = _tls_context()
        super().connect()

    def _new_conn(self) -> socket:
        return _connect(self, self._resolve)


@cache
def _tls_context() -> ssl.SSLContext:
    """Certificates as requests has them, and the host's, among which there may be a private authority."""
    context = create_urllib3_context()
    context.load_verify_locations(certifi.where())
    context.load_default_certs()
    context.sslsocket_class = _TlsSocket
    return context


def _connect(connection: HTTPConnection, resolve: Resolve) -> socket:
    """A connected socket to the first address that answers, with urllib3's errors."""
    host, port = connection._dns_host, connection.port
    end = time.monotonic() + min(CONNECT_TIMEOUT, remaining())
    problem: OSError = OSError(f"{host} has no address")
    try:
        with deadline(CONNECT_TIMEOUT):
            addresses = resolve(host, port)
        for number, (family, address) in enumerate(addresses):
            sock = _Socket(family, SOCK_STREAM)
            try:
                # Each has its share, so that one that never answers leaves time for the next.
                sock.settimeout(max(0.001, (end - time.monotonic()) / (len(addresses) - number)))
                sock.connect(address)
                sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                sock.settimeout(remaining())
            except OSError as error:
                sock.close()
                problem = error
            else:
                sys.audit("http.client.connect", connection, host, port)
                return sock
        raise problem
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"{host}:{port} does not answer: {error}") from error
    except OSError as error:
        raise NewConnectionError(connection, f"{host}:{port} cannot be reached: {error}") from error


class _Bounded(socket):
    """A socket whose calls end with the deadline of their thread, and after its silence."""

    __slots__ = ()

    def recv_into(self, *args: Any, **keywords: Any) -> int:
        silence = _silence()
        if silence == math.inf:
            self.settimeout(_patience())
            return super().recv_into(*args, **keywords)
        # On a thin line the reply waits for a request that the kernel is still sending: that is no silence.
        unsent, since = _unsent(self), time.monotonic()
        while True:
            self.settimeout(min(SLICE, silence, remaining()))
            try:
                return super().recv_into(*args, **keywords)
            except TimeoutError:
                unsent, before = _unsent(self), unsent
                if unsent < before:
                    since = time.monotonic()
                elif time.monotonic() - since >= silence:
                    raise

    def send(self, *args: Any, **keywords: Any) -> int:
        self.settimeout(_patience())
        return super().send(*args, **keywords)

    def sendall(self, data: Any, flags: int = 0) -> None:
        with memoryview(data) as view, view.cast("B") as content:
            sent = 0
            while sent < len(content):
                sent += self.send(content[sent:], flags)


class _Socket(_Bounded):
    __slots__ = ()


class _TlsSocket(_Bounded, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(_patience())
        super().do_handshake(block)


def _patience() -> float | None:
    """The time-out of the next call."""
    seconds = min(_silence(), remaining())
    return None if seconds == math.inf else seconds


def _silence() -> float:
    _, silence = getattr(_limit, "now", None) or NO_LIMIT
    return float(silence)


def _unsent(sock: socket) -> int:
    """Bytes that the peer has not acknowledged, see SIOCOUTQ in tcp(7)."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
