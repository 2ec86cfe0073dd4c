"""What a session sends is, to the byte, what `requests` sends: it only takes fewer steps to it."""

import socket
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import requests

from snapd.http.guard import Resolver
from snapd.http.session import DeadlineSession, deadline
from tests.support.tcp_server import TcpServer

LENGTH = b"content-length:"
BODY = b"\xff\xd8" + bytes(range(256))
PATHS = [
    "/",
    "",
    "/edge/2026-11-29/c1.jpg",
    "/a b/%E6%91%84.jpg",
    "/a|b/%7Ec/%2F/..%2Fd",
    "/a/../b/./c",
    "/a..b/.c/c.",
    "/a//b/",
    "/摄像头",
    "/a?b=c",
]


class Recorder(TcpServer):
    """Keeps what it is sent, request by request, and answers each on the same connection."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []

    def serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while head := b"".join(iter(lines.readline, b"\r\n")):
                named = [line for line in head.lower().split(b"\r\n") if line.startswith(LENGTH)]
                length = int(named[0].removeprefix(LENGTH)) if named else 0
                self.heard.append(head + b"\r\n" + lines.read(length))
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Kind: odd\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Signs all that a signature may be of."""
    request.headers["Authorization"] = f"{request.method} {request.url} {sorted(request.headers.items())}"
    return request


def test_session_sends_what_requests_sends(server: Recorder) -> None:
    session, plain = DeadlineSession(Resolver()), requests.Session()
    plain.trust_env = False
    calls: list[tuple[str, dict[str, Any]]] = [
        ("put", {"data": BODY, "headers": {"User-Agent": "sdk", "Content-Type": "image/jpeg"}, "auth": sign}),
        ("post", {"data": b"{}", "headers": {"Content-Type": "application/json"}}),
        ("get", {"params": {"max-keys": 1, "prefix": "a/b c"}, "headers": {"User-Agent": "sdk"}, "auth": sign}),
    ]
    with plain, deadline(30):
        for path, (method, options) in product(PATHS, calls):
            url = f"http://127.0.0.1:{server.port}{path}"
            assert getattr(plain, method)(url, timeout=30, **options).content == b"ok"
            reply = getattr(session, method)(url, timeout=30, proxies=None, allow_redirects=False, **options)
            assert (reply.status_code, reply.content, reply.text) == (200, b"ok", "ok")
            assert reply.headers["x-kind"] == "odd"
    assert server.heard[1::2] == server.heard[::2]
    assert server.connections == 2, "a connection is used again"


def test_reply_that_is_closed_unread_does_not_answer_the_next_request(server: Recorder) -> None:
    session = DeadlineSession(Resolver())
    url = f"http://127.0.0.1:{server.port}/"
    with deadline(5):
        session.post(url, b"", stream=True).close()
        assert session.post(url, b"").content == b"ok"


def test_session_keeps_connections_to_few_hosts(server: Recorder) -> None:
    session = DeadlineSession(Resolver())
    with deadline(5):
        for number in range(1, 13):
            host = f"127.0.0.{number}"
            try:
                session.get(f"http://{host}:{server.port}/")
            except requests.ConnectionError:
                assert number > 1
        assert session.get(f"http://127.0.0.1:{server.port}/").content == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize("url", ["http://", "http://[::1/", "ftp://here/", "http://a b/"])
def test_impossible_url_is_an_error(url: str) -> None:
    with deadline(1), pytest.raises((requests.RequestException, ValueError)):
        DeadlineSession(Resolver()).post(url, b"")
