"""Why Redis cannot be read, in one sentence that leads to the remedy: the same in status, log, check and commands."""

import logging
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from framesrv.log import mask
from snapd.requests.cause import explain
from tests.requests.test_redis import sentinel
from tests.support.edge import Edge, Running, wait_until, write_config
from tests.support.processes import ROOT
from tests.support.redis_proxy import RedisProxy
from tests.support.redis_server import RedisServer
from tests.support.tcp_server import TcpServer
from tests.test_snapd_cli import snapd

CERTIFICATE = ROOT / "tests/support/certificate.pem"  # with its key; of nobody, for a hundred years


class Answering(TcpServer):
    """Answers whatever comes with the same bytes, and ends the connection."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._answer = answer

    def serve(self, connection: socket.socket) -> None:
        """With what it was given."""
        connection.recv(4096)
        connection.sendall(self._answer)


class Secure(TcpServer):
    """Speaks TLS, and nothing in it."""

    def serve(self, connection: socket.socket) -> None:
        """By a certificate that nobody trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        with context.wrap_socket(connection, server_side=True) as inner:
            inner.recv(1)


class Mute(TcpServer):
    """Takes connections and says nothing."""

    def serve(self, connection: socket.socket) -> None:
        """Until the end."""
        self.stopped.wait()


def at(url: str) -> Callable[[Edge, Path, ExitStack], str]:
    """The edge's Redis, by such a URL."""
    return lambda edge, _directory, _stack: url.format(port=edge.redis_server.port)


def with_password(url: str) -> Callable[[Edge, Path, ExitStack], str]:
    """A Redis with one."""

    def start(_edge: Edge, directory: Path, stack: ExitStack) -> str:
        server = stack.enter_context(RedisServer(directory / "redis"))
        server.client().config_set("requirepass", "secret")
        return url.format(port=server.port)

    return start


def from_(server: Callable[[], TcpServer], scheme: str = "redis") -> Callable[[Edge, Path, ExitStack], str]:
    """Something else at that port."""
    return lambda _edge, _directory, stack: f"{scheme}://127.0.0.1:{stack.enter_context(server()).port}/0"


def loading(edge: Edge, _directory: Path, stack: ExitStack) -> str:
    """A Redis that reads its file."""
    answer = b"-LOADING Redis is loading the dataset in memory\r\n"
    proxy = stack.enter_context(RedisProxy(edge.redis_server.port, lambda _words: answer))
    return f"redis://127.0.0.1:{proxy.port}/0"


def without_rights(edge: Edge, _directory: Path, _stack: ExitStack) -> str:
    """As a user who may do next to nothing."""
    edge.redis.acl_setuser("few", enabled=True, passwords=["+secret"], keys=["*"], commands=["+select", "+xinfo"])
    return f"redis://few:secret@127.0.0.1:{edge.redis_server.port}/0"


def unknown_to_sentinel(edge: Edge, directory: Path, stack: ExitStack) -> str:
    """A service that the sentinel does not watch."""
    port = stack.enter_context(sentinel(directory, edge.redis_server.port))
    return f"redis+sentinel://127.0.0.1:{port}/others/0"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (with_password("redis://127.0.0.1:{port}/0"), "wants a password, and redis.url has none: put it there"),
        (with_password("redis://:other@127.0.0.1:{port}/0"), "refuses the user or the password: see redis.url"),
        (with_password("redis://bob:secret@127.0.0.1:{port}/0"), "refuses the user or the password: see redis.url"),
        (at("redis://:secret@127.0.0.1:{port}/0"), "has no password, and redis.url gives one: remove it"),
        (at("redis://127.0.0.1:{port}/99"), "has no database of that number: see the end of redis.url"),
        (at("rediss://127.0.0.1:{port}/0"), "does not speak TLS: try redis:// in its place"),
        (at("redis://no-such-host.invalid:{port}/0"), "the host name no-such-host.invalid is unknown"),
        (at("redis://127.0.0.1:1/0"), "nothing listens at 127.0.0.1:1: Connection refused"),
        (at("redis+sentinel://127.0.0.1:1/cameras/0"), "as they do not answer (127.0.0.1:1): see redis.url"),
        (unknown_to_sentinel, "no sentinel knows a master 'others': see the name behind the hosts in redis.url"),
        (from_(Secure), "speaks TLS: try rediss:// in its place"),
        (from_(Secure, "rediss"), "is not trusted (self-signed certificate): add its authority to this host's"),
        (from_(lambda: Answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")), "is no Redis: see the host and the port"),
        (from_(lambda: Answering(b"")), "ends the connection: it ends itself, or is no Redis"),
        (from_(lambda: Answering(b"-DENIED Redis is running in protected mode\r\n")), "is in protected mode"),
        (from_(lambda: Answering(b"-ERR max number of clients reached\r\n")), "takes no more clients: raise its"),
        (from_(Mute), "has taken the connection, and does not answer"),
        (loading, "is loading its data, and serves when that is done"),
        (without_rights, "give that user the rights in docs/operating.md"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_redis_is_said_alike_everywhere(
    edge: Edge,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    start: Callable[[Edge, Path, ExitStack], str],
    words: str,
) -> None:
    with ExitStack() as stack:
        url = start(edge, tmp_path, stack)
        with Running(edge.settings(redis={"url": url})) as running:
            wait_until(lambda: words in running.service.status, 60)
            said = running.service.away
        assert running.service.status.startswith("stopping")
        if start is not without_rights:  # what is refused has a line of its own
            assert any(said in line for line in logged(caplog))
        config = write_config(edge, tmp_path / "c.toml", redis={"url": url})
        with ThreadPoolExecutor() as threads:
            queue, check = threads.map(lambda command: snapd(command, "--config", config), ("queue", "check"))
        assert (queue.returncode, words in queue.stderr.decode()) == (1, True), queue.stderr
        assert (check.returncode, words in check.stdout.decode()) == (1, True), check.stdout
        assert "secret" not in said + queue.stderr.decode() + check.stdout.decode() + mask(caplog.text)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_key_that_is_no_stream_is_named_by_its_setting(edge: Edge) -> None:
    edge.redis.set("a-string", "x")
    with Running(edge.settings(stream={"name": "a-string"})) as running:
        wait_until(lambda: "another name for stream.name" in running.service.status)


def test_error_that_nobody_knows_is_told_as_it_is() -> None:
    assert explain(redis.ResponseError("ERR something new"), "redis://a:1/0") == "ERR something new"
    assert explain(redis.ConnectionError(), "redis://a:1/0") == "ConnectionError"


def test_rights_that_are_good_to_have_are_named_and_nothing_is_changed(edge: Edge, tmp_path: Path) -> None:
    before = {key: edge.redis.dump(key) for key in edge.redis.keys("*")}
    few = ["+xreadgroup", "+xack", "+set", "+get", "+select", "+xinfo", "+info"]
    edge.redis.acl_setuser("few", enabled=True, passwords=["+secret"], keys=["*"], commands=few)
    url = f"redis://few:secret@127.0.0.1:{edge.redis_server.port}/0"
    check = snapd("check", "--config", write_config(edge, tmp_path / "c.toml", redis={"url": url}))
    assert (check.returncode, b"ok     rights: " in check.stdout) == (0, True)
    assert b"without XADD no dead letter" in check.stdout
    check = snapd("check", "--config", write_config(edge, tmp_path / "c.toml"))
    assert (check.returncode, b"ok     rights: snapd may do" in check.stdout) == (0, True)
    assert {key: edge.redis.dump(key) for key in edge.redis.keys("*")} == before
