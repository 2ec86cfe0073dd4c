"""Redis as it may be set up: with users, behind TLS, found through Sentinel."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from snapd.requests.url import SentinelUrl
from tests.support.cos import CosServer
from tests.support.edge import STREAM, Edge, Running, wait_until, write_config
from tests.support.held_up import HeldUp
from tests.support.ports import free_port
from tests.support.processes import run
from tests.support.redis_proxy import RedisProxy, Verdict
from tests.support.redis_server import RedisServer, binary
from tests.support.wvp import WvpServer
from tests.test_snapd_cli import snapd


def test_user_and_password_log_in(edge: Edge) -> None:
    edge.redis.acl_setuser(
        "edge", enabled=True, passwords=["+p@ss:/wort"], keys=[f"{STREAM}*", "snap:*"], commands=["+@all"]
    )
    port = edge.redis_server.port
    with Running(edge.settings(redis={"url": f"redis://edge:p%40ss%3A%2Fwort@127.0.0.1:{port}/0"})):
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0)


@contextmanager
def tls_in_front_of(port: int, directory: Path) -> Iterator[int]:
    """Ends TLS and passes on what it carries; the port."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def accept() -> None:
        while True:
            try:
                inner = context.wrap_socket(listening.accept()[0], server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            outer = socket.create_connection(("127.0.0.1", port))
            for pair in ((inner, outer), (outer, inner)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    listening.close()


def test_tls_carries_everything(edge: Edge, tmp_path: Path, held_up: HeldUp) -> None:
    with tls_in_front_of(edge.redis_server.port, tmp_path) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path / 'cert.pem'}"
        with Running(edge.settings(redis={"url": url})):
            assert edge.ask().status == "ok"
            wait_until(lambda: edge.pending == 0)
            began = time.monotonic()
        assert time.monotonic() - began < 1 + held_up.since(began)
        config = write_config(edge, tmp_path / "c.toml", redis={"url": f"rediss://127.0.0.1:{port}/0"})
        assert b"certificate" in snapd("queue", "--config", config).stderr


def test_master_is_found_through_sentinel_and_again_after_it_moved(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "one") as one,
        RedisServer(tmp_path / "two") as two,
        sentinel(tmp_path, one.port) as port,
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(one, cos, wvp) as edge,
        redis.Redis("127.0.0.1", port) as watcher,
        Edge(two, cos, wvp) as moved,
    ):
        edge.camera("cam01")
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/cameras/0"
        with Running(edge.settings(redis={"url": url})):
            assert edge.ask().status == "ok"
            watcher.sentinel_remove("cameras")
            watcher.sentinel_monitor("cameras", "127.0.0.1", two.port, 1)
            one.kill()
            assert moved.ask().status == "ok"
            wait_until(lambda: moved.pending == 0)


def test_sentinels_and_servers_that_do_not_know_hello_work(tmp_path: Path) -> None:
    """redis-py greets a sentinel with HELLO unless it is told not to, and gives up when that is refused."""
    refused: list[bytes] = []

    def judge(words: list[bytes]) -> Verdict:
        if words[0] in {b"HELLO", b"CLIENT"}:
            refused.append(words[0])
            return b"-ERR unknown command '%s', with args beginning with: \r\n" % words[0]
        return "pass"

    with (
        RedisServer(tmp_path / "redis") as server,
        RedisProxy(server.port, judge) as proxy,
        sentinel(tmp_path, proxy.port) as port,
        RedisProxy(port, judge) as greeter,
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(server, cos, wvp) as edge,
    ):
        edge.camera("cam01")
        with Running(edge.settings(redis={"url": f"redis+sentinel://127.0.0.1:{greeter.port}/cameras/0"})):
            assert edge.ask().status == "ok"
            wait_until(lambda: edge.pending == 0)
    assert b"HELLO" not in refused


@contextmanager
def sentinel(directory: Path, master: int) -> Iterator[int]:
    port = free_port()
    config = directory / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor cameras 127.0.0.1 {master} 1\n"
    )
    process = subprocess.Popen([binary(), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis("127.0.0.1", port) as client:
            wait_until(lambda: _knows(client))
        yield port
    finally:
        process.kill()
        process.wait()


def _knows(client: redis.Redis) -> bool:
    try:
        return bool(client.sentinel_masters())
    except redis.RedisError:
        return False


def test_sentinel_url_has_everything() -> None:
    url = SentinelUrl.parse(
        "rediss+sentinel://me:p%40ss@a,b:1234,[::1]:5/my%20one/3?sentinel_password=x&ssl_ca_certs=/a.pem"
    )
    assert url.hosts == [("a", 26379), ("b", 1234), ("::1", 5)]
    secure = {"ssl": True, "ssl_ca_certs": "/a.pem"}
    assert (url.service, url.options) == ("my one", secure | {"db": 3, "username": "me", "password": "p@ss"})
    assert url.sentinel_options == secure | {"password": "x"}
    assert "p@ss" not in repr(url)


@pytest.mark.parametrize("rest", ["", "host", "host/", "host:x/service", "host/service/name", "a,,b/service"])
def test_sentinel_url_that_is_none_is_refused(edge: Edge, tmp_path: Path, rest: str) -> None:
    config = write_config(edge, tmp_path / "c.toml", redis={"url": f"redis+sentinel://u:hidden@{rest}"})
    done = run("snapd", "run", "--config", config)
    assert done.returncode == 2, done.stderr
    assert "redis.url: expected redis+sentinel://" in done.stderr
    assert "hidden" not in done.stderr
