"""Why COS takes no picture, in one sentence that leads to the remedy: alike at an upload and in a check."""

import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from snapd.errors import StoreError
from snapd.stores.cos import CosStore
from tests.stores.test_stores import cos_store, failure, lines
from tests.support.cos import CosServer
from tests.support.http_server import FaultyServer, HttpRequest, HttpResponse
from tests.support.processes import ROOT
from tests.support.tcp_server import TcpServer

CERTIFICATE = ROOT / "tests/support/certificate.pem"  # with its key; of nobody, for a hundred years


@pytest.fixture
def cos() -> Iterator[CosServer]:
    with CosServer() as server:
        yield server


def said(store: CosStore) -> tuple[str, str, str]:
    """The word and the sentence of an upload, and what a check says."""
    error = failure(store)
    with pytest.raises(StoreError) as caught:
        store.check()
    assert caught.value.cause == error.cause
    return error.cause, error.reason, str(caught.value)


def check(store: CosStore, cause: str, words: str) -> None:
    found, why, checked = said(store)
    assert (found, words in why, why in checked) == (cause, True, True), (found, why, checked)


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        (
            {"secret_key": "other"},
            "unauthorized",
            "store.secret_key is not the one of store.secret_id (403 ",
        ),
        ({"secret_id": "AKIDother"}, "unauthorized", "COS does not know store.secret_id (or its token)"),
        ({"domain": "127.0.0.1:1"}, "refused", "nothing listens at 127.0.0.1:1: Connection refused"),
        ({"domain": "cos.invalid:80"}, "name_unknown", "the host name cos.invalid is unknown: see its spelling"),
        (
            {"domain": "", "region": "nowhere"},
            "name_unknown",
            "the host name edge-1250000000.cos.nowhere.myqcloud.com is unknown: see its spelling, and this host's DNS"
            "; the name is made of store.bucket and store.region",
        ),
    ],
)
def test_what_is_wrong_in_the_configuration_is_named(
    cos: CosServer, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], cause: str, words: str
) -> None:
    def unknown(name: str, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("snapd.http.guard.getaddrinfo", unknown)  # some networks know every name
    check(cos_store(cos, **changes), cause, words)


class Answering(FaultyServer):
    """Answers with one error of COS."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__()
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message or code}</Message>"
        body += "<Resource></Resource><RequestId>1</RequestId><TraceId>1</TraceId></Error>"
        self._response = HttpResponse(status, body.encode() if code else b"", "application/xml")

    def answer(self, request: HttpRequest) -> HttpResponse:
        return self._response


@pytest.mark.parametrize(
    ("status", "code", "message", "cause", "words"),
    [
        (403, "RequestTimeTooSkewed", "", "clock", "the clock of this host is wrong: mend it (NTP)"),
        (403, "AccessDenied", "Request has expired", "clock", "the clock of this host is wrong: mend it (NTP)"),
        (403, "ExpiredToken", "", "unauthorized", "renew secret_id, secret_key and token"),
        (404, "NoSuchBucket", "", "not_found", "there is no bucket edge-1250000000 in region "),
        (451, "UnavailableForLegalReasons", "", "forbidden", "blocked or in arrears"),
        (503, "SlowDown", "", "", "COS has trouble of its own, or too much to do (503 SlowDown)"),
        (400, "SomethingNew", "so it is", "", "COS answers 400 SomethingNew: so it is"),
        (403, "", "", "unauthorized", "refuses, and does not say why as COS does: see store.domain and the cred"),
        (404, "", "", "protocol", "is perhaps no COS: see store.domain, bucket and region (status 404)"),
    ],
)
def test_what_cos_answers_leads_to_the_remedy(
    cos: CosServer, status: int, code: str, message: str, cause: str, words: str
) -> None:
    with Answering(status, code, message) as server:
        check(cos_store(cos, domain=server.domain), cause, words)


def test_right_that_lacks_for_uploads_alone_is_named(cos: CosServer) -> None:
    with Answering(403, "AccessDenied", "Access Denied.") as server:
        store = cos_store(cos, domain=server.domain)
        error = failure(store)
        assert error.cause == "forbidden"
        assert "allow them name/cos:PutObject in this bucket" in error.reason
        assert "may not look into it" in store.check()


class Server(TcpServer):
    """Answers each connection as it is told."""

    def __init__(self, answer: Callable[[socket.socket], object]) -> None:
        super().__init__()
        self._answer = answer

    def serve(self, connection: socket.socket) -> None:
        """By what it was given."""
        self._answer(connection)


def over_tls(connection: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with context.wrap_socket(connection, server_side=True) as inner:
        inner.recv(1)


def alert(connection: socket.socket) -> None:
    """As OpenSSL answers what is not TLS."""
    connection.recv(65536)
    connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")
    ends(connection)


def plain(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    ends(connection)


def ends(connection: socket.socket) -> None:
    """Says no more, and hears all: what is not read when it closes would take the answer back, by a reset."""
    connection.shutdown(socket.SHUT_WR)
    hanging(connection)


def hanging(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def nothing(connection: socket.socket) -> None:
    connection.recv(65536)


@pytest.mark.parametrize(
    ("answer", "scheme", "cause", "words"),
    [
        (
            over_tls,
            "https",
            "certificate",
            "is not trusted (self-signed certificate): add its authority",
        ),
        (plain, "https", "protocol", "does not speak TLS: try http:// in its place"),
        (alert, "http", "protocol", "speaks TLS: try https:// in its place"),
        (nothing, "http", "lost", "ends the connection without an answer: does it speak http?"),
    ],
)
def test_what_is_spoken_at_the_port_is_told(
    cos: CosServer, answer: Callable[[socket.socket], object], scheme: str, cause: str, words: str
) -> None:
    with Server(answer) as server:
        check(cos_store(cos, domain=f"127.0.0.1:{server.port}", scheme=scheme), cause, words)


def test_store_that_does_not_answer_in_time_is_told_so(cos: CosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.stores.cos.PATIENCE", 0.3)
    with Server(hanging) as server:
        store = cos_store(cos, domain=f"127.0.0.1:{server.port}")
        check(store, "timeout", "has taken the connection, and does not answer in time")


def test_store_that_is_not_asked_now_is_silent_for_the_same_cause(
    cos: CosServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = cos_store(cos, domain="127.0.0.1:1")
    causes = {failure(store).cause for _ in range(8)}
    assert causes == {"refused"}
    assert len(lines(caplog, logging.ERROR, "nothing listens at 127.0.0.1:1")) == 1
