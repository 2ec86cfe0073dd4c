"""HTTP connections whose every exchange ends in time, however the peer behaves.

A socket's own time-out begins anew with each read, so a peer that sends a byte now and then holds its caller
for ever. Here a thread says how long it has, ``with deadline(8, silence=4): session.put(...)``, and every
connecting, handshake, send and receive in it gets what is left of that.
"""

import fcntl
import math
import re
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, AddressFamily, socket
from typing import Any

import certifi
import requests
from requests.adapters import HTTPAdapter
from requests.utils import default_headers
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url
from urllib3.util.ssl_ import create_urllib3_context

from framesrv.process.reaching import causes

CONNECT_TIMEOUT = 3.0  # s for all addresses of a host together
NO_LIMIT = (math.inf, math.inf)
SLICE = 0.25  # s after which a silent peer is looked at
POOLS = 10  # hosts to which connections are kept

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


@dataclass(slots=True)
class Reply:
    """An answer, with what the SDK of COS asks of one.

    Attributes:
        status_code: its status.
        headers: by names in any case.
        raw: what its body is read from.
        content: the body; empty where it was not to be read.
    """

    status_code: int
    headers: Mapping[str, str]
    raw: BaseHTTPResponse
    content: bytes = b""

    @property
    def text(self) -> str:
        """The body, as UTF-8."""
        return self.content.decode(errors="replace")

    def close(self) -> None:
        """Ends its connection, if its body was not read to the end."""
        self.raw.close()
        self.raw.release_conn()


class DeadlineSession:
    """Calls as `requests.Session` does, with its errors, and sends the same; but at a third of the CPU time.

    It heeds `deadline`, and nothing from the environment: no proxies, no .netrc. It follows no redirect and keeps no
    cookies. What else `requests` takes (time-outs, proxies, certificates) it takes too, and does not need.

    Args:
        resolve: gives the addresses that a host is reached by. What it raises of its own ends the request.
        connections: how many are kept for one host.
        heard: each is called with a reply before its body is read.
    """

    def __init__(
        self, resolve: Resolve, *, connections: int = 1, heard: Sequence[Callable[[Reply], object]] = ()
    ) -> None:
        self._adapter = _Adapter(resolve, connections)
        self._heard = heard
        self._headers = dict(default_headers())

    def request(
        self,
        method: str,
        url: str,
        data: bytes | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: Callable[[requests.PreparedRequest], object] | None = None,
        stream: bool = False,
        **_: Any,
    ) -> Reply:
        """The reply to a request.

        Args:
            method: in capitals.
            url: of `params`, where there are any, without a query.
            data: the body.
            params: of the query.
            headers: besides those that `requests` sends, or in their place.
            auth: is called with the request before it is sent, and signs it.
            stream: leaves the body of the reply to be read.

        Raises:
            requests.RequestException: there is none, or the URL is impossible.
        """
        request = requests.PreparedRequest()
        request.method = method
        request.url = url if not params and _PLAIN.match(url) else _prepared(url, params)
        request.headers = {**self._headers, **(headers or {})}  # type: ignore[assignment]  # a dict of its own
        request.body = data
        if data is not None:
            request.headers["Content-Length"] = str(len(data))
        if auth:
            auth(request)
        raw: Any = self._adapter.send(request)
        reply = Reply(raw.status, raw.headers, raw)
        for hear in self._heard:
            hear(reply)
        if not stream:
            reply.content = _read(raw)
        return reply

    def get(self, url: str, **options: Any) -> Reply:
        """See `request`."""
        return self.request("GET", url, **options)

    def put(self, url: str, data: bytes | None = None, **options: Any) -> Reply:
        """See `request`."""
        return self.request("PUT", url, data, **options)

    def post(self, url: str, data: bytes | None = None, **options: Any) -> Reply:
        """See `request`."""
        return self.request("POST", url, data, **options)


# What requests would leave as it is; it takes 60 µs to find that.
_PLAIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+\Z")


def _prepared(url: str, params: Mapping[str, Any] | None) -> str:
    """A URL in the one form in which it is sent."""
    request = requests.PreparedRequest()
    request.prepare_url(url, params)
    return str(request.url)


def _read(raw: BaseHTTPResponse) -> bytes:
    """The body of a reply; what goes wrong is raised as `requests` raises it."""
    try:
        return raw.read(decode_content=True)
    except ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except ReadTimeoutError as error:
        raise requests.ConnectionError(error) from error
    except SSLError as error:
        raise requests.exceptions.SSLError(error) from error


class _Adapter(HTTPAdapter):
    """What sends, and raises the errors, in `requests`; what it would prepare anew for each request is left out."""

    def __init__(self, resolve: Resolve, connections: int) -> None:
        super().__init__()
        self._pool = lru_cache(maxsize=POOLS)(partial(_open_pool, resolve=resolve, connections=connections))

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        """The connections to its host."""
        return self._pool(_split(request)[0])

    def request_url(self, request: requests.PreparedRequest, *_: Any) -> str:
        """What follows the host."""
        return _split(request)[1]

    def cert_verify(self, *_: Any) -> None:
        """Nothing: the certificates are loaded once, into the context of all connections."""

    def build_response(self, req: Any, resp: Any) -> Any:
        """What there is."""
        return resp


def _split(request: requests.PreparedRequest) -> tuple[str, str]:
    """What says who is asked, and for what."""
    scheme, _, rest = str(request.url).partition("://")
    host, slash, target = rest.partition("/")
    return f"{scheme}://{host}", slash + target


def _open_pool(origin: str, *, resolve: Resolve, connections: int) -> HTTPConnectionPool:
    parts = parse_url(origin)
    if parts.scheme == "https":
        return _HttpsPool(parts.host, parts.port, maxsize=connections, cert_reqs="CERT_REQUIRED", resolve=resolve)
    return _HttpPool(parts.host, parts.port, maxsize=connections, resolve=resolve)


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
