"""Stores: what COS's errors mean, its silence, credentials that change, a wrong clock."""

import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from framesrv import ConfigError
from framesrv.settings import StoreSettings
from snapd.errors import StoreError
from snapd.stores.cos import CosStore
from snapd.stores.store import open_store
from tests.support import http_server
from tests.support.cos import CosServer
from tests.support.held_up import HeldUp
from tests.support.http_server import Fault, FaultyServer, HttpRequest, HttpResponse
from tests.support.trickle import TrickleServer


@pytest.fixture
def cos() -> Iterator[CosServer]:
    with CosServer() as server:
        yield server


HELD = 1.5  # s: who is held by a silent store is held for longer, see PROBE_PATIENCE


def store_settings(cos: CosServer, **changes: Any) -> StoreSettings:
    values = {"bucket": cos.bucket, "secret_id": cos.secret_id, "secret_key": cos.secret_key, "token": cos.token}
    return StoreSettings(**(values | {"scheme": "http", "domain": cos.domain} | changes))


def cos_store(cos: CosServer, **changes: Any) -> CosStore:
    return CosStore(store_settings(cos, **changes), connections=8)


def failure(store: Any, key: str = "a.jpg", content: bytes = b"jpeg") -> StoreError:
    with pytest.raises(StoreError) as caught:
        store.put(key, content)
    return caught.value


def lines(caplog: pytest.LogCaptureFixture, level: int, words: str = "") -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelno == level and words in record.getMessage()
    ]


@pytest.mark.parametrize(
    ("fault", "tries"), [(500, 2), (503, 2), (429, 2), ("reset", 2), (400, 1), (403, 1), (404, 1), (411, 1)]
)
def test_upload_is_tried_again_only_after_what_may_pass(cos: CosServer, fault: Any, tries: int) -> None:
    cos.fault = Fault(fault)
    failure(cos_store(cos))
    assert len(cos.puts) == tries


@pytest.mark.parametrize(("fault", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
def test_what_is_to_be_mended_is_logged_once_until_it_is(
    cos: CosServer, caplog: pytest.LogCaptureFixture, fault: int, code: str
) -> None:
    caplog.set_level(logging.INFO)
    store = cos_store(cos)
    for _ in range(2):
        caplog.clear()
        cos.fault = Fault(fault)
        with ThreadPoolExecutor(8) as threads:
            assert all(error.told for error in threads.map(failure, [store] * 20))
        assert [code in line for line in lines(caplog, logging.ERROR)] == [True]
        cos.fault = None
        for _ in range(3):
            store.put("a.jpg", b"jpeg")
        assert [code in line for line in lines(caplog, logging.INFO)] == [True]


def test_each_thing_to_mend_is_logged(cos: CosServer, caplog: pytest.LogCaptureFixture) -> None:
    store = cos_store(cos, secret_key="wrong")
    failure(store)
    cos.fault = Fault(404)
    failure(store)
    cos.fault = None
    failure(store)
    found = lines(caplog, logging.ERROR)
    assert ["SignatureDoesNotMatch" in found[0], "NoSuchBucket" in found[1], len(found)] == [True, True, 2]


def test_what_may_pass_is_not_logged_as_to_be_mended(cos: CosServer, caplog: pytest.LogCaptureFixture) -> None:
    cos.fault = Fault(500, times=2)
    assert not failure(cos_store(cos)).told
    assert not lines(caplog, logging.ERROR)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": 1}', b"[]", b"\xff"])
def test_error_of_something_that_is_not_cos_is_an_error_as_any(body: bytes) -> None:
    class Other(FaultyServer):
        def answer(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse(403, body)

    with Other() as server, CosServer() as cos:
        assert "403" in str(failure(cos_store(cos, domain=server.domain)))


def test_redirect_is_no_success(caplog: pytest.LogCaptureFixture, cos: CosServer) -> None:
    class Redirecting(FaultyServer):
        def answer(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse(301, headers={"Location": cos.url + "/a.jpg"})

    with Redirecting() as server:
        assert "redirected to http://127" in str(failure(cos_store(cos, domain=server.domain)))
        assert server.requests["PUT"] == 1
    assert not cos.puts
    assert len(lines(caplog, logging.ERROR, "RedirectError")) == 1


def test_store_that_trickles_its_reply_is_cut_off(
    cos: CosServer, monkeypatch: pytest.MonkeyPatch, held_up: HeldUp
) -> None:
    monkeypatch.setattr("snapd.stores.cos.LIMIT", 0.6)
    with TrickleServer() as server:
        began = time.monotonic()
        failure(cos_store(cos, domain=server.domain))
        assert 1.2 <= time.monotonic() - began < 2.2 + held_up.since(began)
        assert server.connections == 2


def test_slow_line_is_not_taken_for_silence(cos: CosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes the whole picture at once; the store's reply can come only when it has been sent."""
    monkeypatch.setattr("snapd.stores.cos.PATIENCE", 0.5)
    _slow_line(monkeypatch, 0.2)
    with CosServer() as server:
        began = time.monotonic()
        cos_store(server).put("a.jpg", bytes(2_000_000))
        assert time.monotonic() - began > 1.5


def test_clip_has_longer_to_be_stored_than_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.stores.cos.LIMIT", 0.5)
    _slow_line(monkeypatch, 0.1)
    with CosServer() as server:
        store = cos_store(server)
        assert failure(store, content=bytes(2_000_000)).trouble == "silent"
        assert store.put("a.mp4", bytes(6_000_000), "video/mp4")
        assert server.objects["a.mp4"].content_type == "video/mp4"


def _slow_line(monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    """Uploads come in eight parts, with so many seconds between two."""
    read = http_server._Handler._handle

    def slow(handler: Any) -> None:
        left = int(handler.headers["content-length"])
        parts = []
        for _ in range(8):
            parts.append(handler.rfile.read(left // 8))
            time.sleep(pause)
        parts.append(handler.rfile.read(left % 8))
        handler.rfile = io.BytesIO(b"".join(parts))
        read(handler)

    monkeypatch.setattr(http_server._Handler, "do_PUT", slow)
    monkeypatch.setattr(http_server._Server, "server_bind", _with_a_small_window(http_server._Server.server_bind))


def _with_a_small_window(bind: Callable[[Any], None]) -> Callable[[Any], None]:
    def bound(server: Any) -> None:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bind(server)

    return bound


def test_silent_store_fails_uploads_at_once_and_is_back_soon(
    cos: CosServer, caplog: pytest.LogCaptureFixture, held_up: HeldUp
) -> None:
    caplog.set_level(logging.INFO)
    store = cos_store(cos)
    cos.fault = Fault("hang")
    stopped = threading.Event()
    outcomes: list[tuple[float, float, bool]] = []  # when, how long it took, whether it was stored

    def upload() -> None:
        while not stopped.is_set():
            began = time.monotonic()
            try:
                store.put("a.jpg", bytes(100_000))
                stored = True
            except StoreError:
                stored = False
            outcomes.append((time.monotonic(), time.monotonic() - began, stored))
            time.sleep(0.02)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(7.5)
    cos.fault = None
    healed = time.monotonic()
    time.sleep(5)
    full = [one for one in outcomes if one[0] > healed + 4.7]
    stopped.set()
    for thread in threads:
        thread.join()
    assert max(took for _, took, _ in outcomes) < 8.5 + held_up.seconds
    # From its opening on, at most one of the eight is held.
    early = [took for when, took, _ in outcomes if began + 4.6 < when < healed]
    assert sum(took > HELD + held_up.seconds for took in early) <= 2
    assert len(early) > 500
    assert full
    assert all(stored and took < HELD + held_up.seconds for _, took, stored in full)
    assert len(lines(caplog, logging.ERROR, "silent")) == 1
    assert len(lines(caplog, logging.INFO, "answers again")) == 1


def test_errors_are_answers_to_the_breaker(cos: CosServer) -> None:
    store = cos_store(cos)
    cos.fault = Fault(500)
    for _ in range(5):
        failure(store)
    assert len(cos.puts) == 10


def test_refused_connections_open_the_breaker_and_one_success_closes_it(cos: CosServer) -> None:
    store = cos_store(cos)
    cos.stop()
    errors = [str(failure(store)) for _ in range(5)]
    assert "not asked" in errors[-1]
    cos.start()
    deadline = time.monotonic() + 3
    while True:
        try:
            store.put("a.jpg", b"jpeg")
            break
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    for _ in range(10):
        store.put("a.jpg", b"jpeg")


def credentials(file: Path, **values: str) -> Path:
    """Puts a file of credentials in its place, as whoever renews them does."""
    new = file.with_suffix(".new")
    new.write_text("".join(f'{key} = "{value}"\n' for key, value in values.items()))
    return new.replace(file)


@pytest.mark.parametrize("token", ["", "tok/en"])
def test_credentials_that_change_in_their_file_are_taken_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, token: str
) -> None:
    caplog.set_level(logging.INFO)
    with CosServer(token="old" if token else "") as cos:
        file = credentials(tmp_path / "c.toml", secret_id="AKIDtest", secret_key="sekret", token=cos.token)
        store = CosStore(store_settings(cos, secret_id="", secret_key="", credentials_file=str(file)), connections=2)
        store.put("a.jpg", b"1")
        cos.secret_id, cos.secret_key, cos.token = "AKIDnew", "renewed", token
        credentials(file, secret_id="AKIDnew", secret_key="renewed", token=token)
        url = store.put("b.jpg", b"2")  # without waiting for the next look: they were refused
        assert requests.get(url, timeout=5).content == b"2"
        assert parse_qs(urlsplit(url).query).get("x-cos-security-token", [""]) == [token]
    assert not lines(caplog, logging.ERROR)
    assert len(lines(caplog, logging.INFO, "Credentials changed secret_id='AKIDnew'")) == 1
    assert not [text for text in ("sekret", "renewed", "tok/en") if text in caplog.text]


def test_wrong_file_leaves_the_credentials_and_is_logged_once(
    tmp_path: Path, cos: CosServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.stores.credentials.LOOK", 0.0)
    file = credentials(tmp_path / "c.toml", secret_id=cos.secret_id, secret_key=cos.secret_key)
    store = open_store(store_settings(cos, credentials_file=str(file)), connections=2)
    for text in ("SECRET_ID=a", "nosuch = 1", 'secret_id = "a"\nsecret_key = 2'):
        file.write_text(text)
        store.put("a.jpg", b"1")
        store.put("a.jpg", b"1")
    file.unlink()
    store.put("a.jpg", b"1")
    assert [line.partition(": ")[2][:26] for line in lines(caplog, logging.ERROR)] == [
        "not TOML: expected secret_",
        "secret_id: expected a valu",
        "secret_key: expected a tex",
        "cannot be read: No such fi",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("a", "not TOML"),
        ('secret_id = "a"', "secret_key: expected a value"),
        ("secret_id = 1", "secret_id: expected a text"),
        ('secret_id = "a"\nsecret_key = "b"\ntokne = "c"', "tokne: no such key"),
    ],
)
def test_wrong_file_of_credentials_is_named(tmp_path: Path, cos: CosServer, text: str | None, words: str) -> None:
    file = tmp_path / "credentials"
    if text:
        file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        open_store(store_settings(cos, credentials_file=str(file)), connections=1)


def test_credentials_that_may_only_put_objects_are_no_fault(cos: CosServer) -> None:
    cos.may_only_put = True
    store = cos_store(cos)
    assert "may not look into it" in store.check()
    assert store.put("a.jpg", b"1")


@pytest.mark.parametrize("wrong", [{"secret_key": "wrong"}, {"secret_id": "AKIDwrong"}, {"token": "wrong"}])
def test_check_tells_wrong_credentials_from_those_that_may_only_put_objects(
    cos: CosServer, wrong: dict[str, str]
) -> None:
    cos.may_only_put = True
    with pytest.raises(StoreError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId"):
        CosStore(store_settings(cos, **wrong), connections=1).check()


@pytest.mark.parametrize("status", [0, 403])
def test_wrong_clock_is_named_once_with_its_seconds(
    cos: CosServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    caplog.set_level(logging.INFO)
    store = cos_store(cos)
    now = http_server._Handler.date_time_string
    monkeypatch.setattr(
        http_server._Handler, "date_time_string", lambda _: formatdate(time.time() + 300, usegmt=True)
    )
    cos.fault = Fault(status) if status else None
    for _ in range(3):
        failure(store) if status else store.put("a.jpg", b"1")
        time.sleep(0.4)
    (line,) = lines(caplog, logging.ERROR, "clock")
    assert "300 s behind" in line or "299 s behind" in line
    monkeypatch.setattr(http_server._Handler, "date_time_string", now)
    cos.fault = None
    store.put("a.jpg", b"1")
    store.put("a.jpg", b"1")
    assert len(lines(caplog, logging.INFO, "clock")) == 1


def test_right_clock_is_not_named(cos: CosServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cos_store(cos).put("a.jpg", b"1")
    assert not caplog.records
