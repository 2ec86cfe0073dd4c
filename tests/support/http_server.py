"""A real HTTP/1.1 server in threads of the test process, with faults to order.

`CosServer` and `WvpServer` subclass `FaultyServer`; each gives only `answer`: a request in, a response
out, no sockets. Faults happen here, to requests of one method (`faulty_method`), before `answer` is asked:
what a fault refuses was never stored.
"""

import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request, for the next `times` requests (None: until the fault is changed).

    `kind`: "slow" answers after `delay` seconds; "hang" never answers until the server stops; "reset" closes
    with a TCP RST; a number is the status answered.
    """

    kind: Literal["slow", "hang", "reset"] | int
    times: int | None = None
    delay: float = 3.0


@dataclass(frozen=True)
class HttpRequest:
    """A request read whole. `path` is decoded; header names are lower-case; `time` is Unix seconds."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes
    time: float


@dataclass(frozen=True)
class HttpResponse:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class FaultyServer:
    """An HTTP server on 127.0.0.1; a context manager that can be stopped and started again on its port.

    `delay`: seconds added to every request of `faulty_method`. `requests`: how many came, by method.
    `connections`: how many were accepted. `changed` guards and announces every list that a subclass keeps.
    """

    faulty_method = "POST"

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.delay = 0.0
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.changed = threading.Condition()
        self._fault: Fault | None = None
        self._fault_left: int | None = None
        self._stopped = threading.Event()
        self._http: _Server | None = None

    def answer(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError

    def refusal(self, request: HttpRequest, status: int) -> HttpResponse:
        """The response of a fault that is a status."""
        return HttpResponse(status, b'{"error": "as ordered"}')

    def unanswered(self, request: HttpRequest) -> None:
        """Called for a request that a fault left without an answer."""

    @property
    def domain(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.domain}"

    @property
    def fault(self) -> Fault | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        with self.changed:
            self._fault = fault
            self._fault_left = fault.times if fault else None

    def start(self) -> None:
        self._stopped = threading.Event()
        self._http = _Server(self, self.port)
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection, hanging ones too."""
        self._stopped.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.cut_all()
            self._http = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def serve(self, request: HttpRequest) -> HttpResponse | Literal["reset", "close"]:
        """Answer or refuse one request, or say how its connection ends. Runs in the connection's thread."""
        stopped = self._stopped
        with self.changed:
            self.requests[request.method] += 1
            fault = self._next_fault(request)
        if request.method == self.faulty_method and self.delay:
            stopped.wait(self.delay)
        if fault is None:
            return self.answer(request)
        if fault.kind == "slow":
            stopped.wait(fault.delay)
            return self.answer(request)
        if isinstance(fault.kind, int):
            return self.refusal(request, fault.kind)
        self.unanswered(request)
        if fault.kind == "hang":
            stopped.wait()
            return "close"
        return "reset"

    def _next_fault(self, request: HttpRequest) -> Fault | None:
        if self._fault is None or request.method != self.faulty_method:
            return None
        if self._fault_left is None:
            return self._fault
        if self._fault_left == 0:
            return None
        self._fault_left -= 1
        return self._fault


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, owner: FaultyServer, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.owner = owner
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    def remember(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)
        with self.owner.changed:
            self.owner.connections += 1

    def forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)

    def cut_all(self) -> None:
        """End kept-alive connections, whose threads would answer on after the server is gone."""
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):  # the client was first
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that give up are what these servers are for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment

    def setup(self) -> None:
        super().setup()
        cast(_Server, self.server).remember(self.connection)

    def finish(self) -> None:
        cast(_Server, self.server).forget(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def version_string(self) -> str:
        return "stand-in"

    def _handle(self) -> None:
        target = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if len(body) < int(self.headers.get("content-length", 0)):
            self.close_connection = True
            return
        outcome = cast(_Server, self.server).owner.serve(
            HttpRequest(
                self.command,
                unquote(target.path),
                dict(parse_qsl(target.query, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                body,
                time.time(),
            )
        )
        if isinstance(outcome, HttpResponse):
            self._send(outcome)
            return
        self.close_connection = True
        if outcome == "reset":
            # No lingering turns close() into RST (socket(7)); the file objects hold the descriptor open.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _send(self, response: HttpResponse) -> None:
        self.send_response(response.status, _phrase(response.status))
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.body:
            self.send_header("Content-Type", response.content_type)
        if response.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(timestamp, usegmt=True)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
