"""Who may see the pages, and that whoever tries to harm them leaves snapshots untouched."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from framesrv import ConfigError
from framesrv.settings import HttpSettings
from tests.support.edge import Edge, wait_until, write_config
from tests.support.pages import Viewer, open_files, shown
from tests.support.processes import run

TOKEN = "correct-horse-battery"
PATHS = (
    "/",
    "/page.js",
    "/cameras",
    "/cameras/cam01.jpg",
    "/cameras/cam01.mjpeg",
    "/overview",
    "/healthz",
    "/metrics",
)


def test_who_listens_to_others_must_say_whom_it_lets_in(edge: Edge, tmp_path: Path) -> None:
    for address in ("0.0.0.0:8390", "[::]:8390", "192.0.2.1:8390", "host.example:8390"):
        config = write_config(edge, tmp_path / "framesrv.toml", http={"listen": address})
        done = run("snapd", "run", "--config", config)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert (
            f"http.listen: others than this host reach {address}: expected a value of http.token, or" in done.stderr
        )


@pytest.mark.parametrize("listen", ["", "127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.9.10:1"])
def test_own_host_needs_no_token(listen: str) -> None:
    HttpSettings(listen=listen).check()


def test_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"http\.listen: expected a port of at most 65535, not 70000"):
        HttpSettings(listen="127.0.0.1:70000").check()


def test_everybody_is_let_in_only_where_that_is_said(edge: Edge, tmp_path: Path) -> None:
    with shown(edge, tmp_path, "0.0.0.0:0", http={"insecure": True}) as pages:
        assert pages.get("/cameras", Host="edge.example").status_code == 200
        assert "WARNING Pages are shown to everybody who reaches this host" in pages.program.output


def test_without_the_token_nothing_is_served(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    with shown(edge, tmp_path, "0.0.0.0:0", http={"token": TOKEN}) as pages:
        for path in PATHS:
            for headers in (
                {},
                {"Authorization": "Bearer "},
                {"Authorization": f"Basic {TOKEN}"},
                {"Cookie": "framesrv="},
            ):
                assert pages.get(path, **headers).status_code == 401, path
        wrong = [TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é" * 20]
        for token in wrong:
            assert pages.get(f"/cameras?token={token}").status_code == 401
            assert pages.get("/cameras", Cookie=f"framesrv={TOKEN}").status_code == 401
        for path in PATHS:
            if not path.endswith("mjpeg"):
                assert pages.get(path, Authorization=f"Bearer {TOKEN}").status_code == 200, path
        with Viewer(pages, "/cameras/cam01.mjpeg") as viewer, pytest.raises(AssertionError, match="401"):
            viewer.next()
        assert TOKEN not in pages.program.output


def test_browser_gives_the_token_once_and_keeps_a_cookie(edge: Edge, tmp_path: Path) -> None:
    with shown(edge, tmp_path, http={"token": TOKEN}) as pages:
        answer = pages.get(f"/cameras?a=1&token={TOKEN}&b=2")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/cameras?a=1&b=2")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=lax" in cookie.lower()  # a link from elsewhere works
        assert TOKEN not in cookie
        assert pages.get("/cameras").status_code == 200  # the session has kept it
        pages.session.cookies.clear()
        assert pages.get("/cameras").status_code == 401
        for path in ("//evil.example/", "/%5Cevil.example", "/\\evil.example"):
            with socket.create_connection(("127.0.0.1", pages.port), 10) as sock:
                sock.sendall(f"GET {path}?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = sock.recv(65536).decode().lower()
            assert "location: /evil.example" in head


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8390", "127.0.0.1.evil.example", "", "localhost.evil"]
)
def test_page_that_points_here_by_a_name_of_its_own_reads_nothing(edge: Edge, tmp_path: Path, name: str) -> None:
    with shown(edge, tmp_path) as pages:
        assert pages.get("/cameras", Host=name).status_code == 403
        for own in ("localhost", "127.0.0.1:1234", "[::1]", "LOCALHOST:8390"):
            assert pages.get("/cameras", Host=own).status_code == 200


@contextmanager
def files_allowed(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(number, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousand_open_connections_leave_snapshots_untouched(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    with files_allowed(4096), shown(edge, tmp_path) as pages, ExitStack() as stack:
        assert edge.ask().status == "ok"
        wait_until(lambda: pages.get("/healthz").status_code == 200)
        pages.session.close()
        before = open_files(pages.program.pid)
        for number in range(1000):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", pages.port), 10))
            if number % 2:
                sock.sendall(b"GET /cameras/cam01.jpg HTTP/1.1\r\nHost: local")  # and nothing more
        assert [edge.ask().status for _ in range(20)] == ["ok"] * 20
        assert open_files(pages.program.pid) < before + 50  # its workers' connections
        assert open_files(pages.pid) < 400
        stack.close()
        wait_until(lambda: pages.get("/healthz").status_code == 200)


def test_connection_that_never_asks_is_closed(edge: Edge, tmp_path: Path) -> None:
    with shown(edge, tmp_path) as pages:
        assert pages.get("/healthz").status_code == 200
        with socket.create_connection(("127.0.0.1", pages.port), 10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n")
            sock.settimeout(30)
            assert sock.recv(1) == b""


def test_connection_is_kept_between_requests(edge: Edge, tmp_path: Path) -> None:
    with shown(edge, tmp_path) as pages, socket.create_connection(("127.0.0.1", pages.port), 10) as sock:
        for _ in range(3):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += sock.recv(65536) or b"ok\n"
            assert b"200 OK" in answer


def test_flood_of_questions_delays_no_snapshot_beyond_its_time(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    with shown(edge, tmp_path) as pages, ExitStack() as stack:
        wait_until(lambda: pages.get("/healthz").status_code == 200)
        question = b"GET /cameras/cam01.jpg?quality=%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for number in range(20):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", pages.port), 10))
            sock.sendall((question % (50 + number)) * 200)  # pipelined, and no answer is read
        assert [edge.ask().status for _ in range(20)] == ["ok"] * 20


def test_settings_of_access_say_what_they_expect(edge: Edge, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{"token": "short"}, {"token": "with a space in it"}, {"listen": "nowhere"}]
    for keys in wrong:
        config = write_config(edge, tmp_path / "framesrv.toml", http=keys)
        done = run("snapd", "run", "--config", config)
        assert done.returncode == 2
        (name,) = keys
        assert f"http.{name}: expected " in done.stderr
