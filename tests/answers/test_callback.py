"""Callbacks: who is called, how often, for how long, and signed by what."""

import base64
import hashlib
import hmac
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from framesrv import ConfigError
from framesrv.settings import ResultSettings
from snapd.answers.callback import Callbacks
from snapd.answers.handover import Handover, Via
from snapd.answers.signature import Signer
from snapd.errors import AddressRefusedError
from snapd.http import guard as address
from snapd.http import session as deadline
from snapd.http.guard import Resolver, Target, refusal
from snapd.wire.request import Request
from snapd.wire.result import Result
from tests.support.edge import wait_until
from tests.support.held_up import HeldUp
from tests.support.http_server import Fault, FaultyServer, HttpRequest, HttpResponse
from tests.support.redis_server import RedisServer
from tests.support.trickle import TrickleServer
from tests.support.wvp import CALLBACK_PATH, WvpServer

Deliver = Callable[..., Via | None]

ENDLESS = 5.0  # s: what trickles has no end, who is cut off is so long before


@pytest.fixture
def wvp() -> Iterator[WvpServer]:
    with WvpServer() as server:
        yield server


@pytest.fixture
def deliver(redis_server: RedisServer) -> Iterator[Deliver]:
    """Delivers one result to a URL, as the service does."""
    client = redis_server.client(decode_responses=False)
    client.flushall()

    def delivered(url: str, request_id: str = "r1", **settings: Any) -> Via | None:
        delivery = Handover(ResultSettings(**settings), client)
        request = Request("1-1", request_id, "cam01", "a.jpg", url)
        return delivery.deliver(request, Result.ok(request_id, "cam01", "http://x/a.jpg"))

    yield delivered
    client.close()


@pytest.mark.parametrize(("fault", "tries"), [(500, 2), (503, 2), ("reset", 2), (400, 1), (404, 1), (302, 1)])
def test_callback_is_tried_again_only_after_what_may_pass(
    deliver: Deliver, wvp: WvpServer, fault: Any, tries: int
) -> None:
    wvp.fault = Fault(fault)
    assert deliver(wvp.url) == "key"
    assert wvp.requests["POST"] == tries


@pytest.mark.parametrize("fault", [500, "reset"])
def test_second_try_of_a_callback_succeeds(deliver: Deliver, wvp: WvpServer, fault: Any, held_up: HeldUp) -> None:
    wvp.fault = Fault(fault, times=1)
    began = time.monotonic()
    assert deliver(wvp.url) == "callback"
    assert 0.3 <= time.monotonic() - began < 1 + held_up.since(began)
    assert len(wvp.results) == 1


def test_callback_that_times_out_is_not_tried_again(deliver: Deliver, wvp: WvpServer, held_up: HeldUp) -> None:
    wvp.fault = Fault("hang")
    began = time.monotonic()
    assert deliver(wvp.url, callback_timeout=0.5) == "key"
    assert 0.5 <= time.monotonic() - began < 1 + held_up.since(began)
    assert wvp.requests["POST"] == 1


def test_callback_nobody_listens_for_goes_to_the_key_soon(deliver: Deliver, held_up: HeldUp) -> None:
    began = time.monotonic()
    assert deliver("http://127.0.0.1:1") == "key"
    assert time.monotonic() - began < 1 + held_up.since(began)


def test_callback_that_trickles_its_reply_is_cut_off(deliver: Deliver, held_up: HeldUp) -> None:
    with TrickleServer() as server:
        began = time.monotonic()
        assert deliver(f"http://{server.domain}", callback_timeout=1.0) == "key"
        assert time.monotonic() - began < ENDLESS + held_up.since(began)
        assert server.connections == 1


def test_body_that_trickles_does_not_spoil_a_callback_that_succeeded(deliver: Deliver, held_up: HeldUp) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with TrickleServer(head) as server:
        began = time.monotonic()
        assert deliver(f"http://{server.domain}", callback_timeout=1.0) == "callback"
        assert time.monotonic() - began < ENDLESS + held_up.since(began)


def test_trickle_over_tls_is_cut_off(
    deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_up: HeldUp
) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    deadline._tls_context.cache_clear()
    try:
        with TrickleServer(certificate=certificate) as server:
            began = time.monotonic()
            assert deliver(f"https://{server.domain}", callback_timeout=1.0) == "key"
            assert time.monotonic() - began < ENDLESS + held_up.since(began)
        with TrickleServer(b"HTTP/1.1 204 No\r\n\r\n", certificate=certificate) as server:
            assert deliver(f"https://{server.domain}") == "callback"
    finally:
        deadline._tls_context.cache_clear()


def test_server_of_an_unknown_authority_is_not_trusted(deliver: Deliver, tmp_path: Path) -> None:
    with TrickleServer(b"HTTP/1.1 204 No\r\n\r\n", certificate=self_signed(tmp_path)) as server:
        assert deliver(f"https://{server.domain}") == "key"


def test_handshake_that_trickles_is_cut_off(deliver: Deliver, held_up: HeldUp) -> None:
    with TrickleServer(b"\x16\x03\x03\x40\x00") as server:  # a record of 16 KB begins
        began = time.monotonic()
        assert deliver(f"https://{server.domain}", callback_timeout=1.0) == "key"
        assert time.monotonic() - began < ENDLESS + held_up.since(began)


def self_signed(directory: Path) -> Path:
    file = directory / "pair.pem"
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", *options.split(), "-keyout", str(directory / "key"), "-out", str(directory / "crt")]
    subprocess.run(command, check=True, capture_output=True)
    file.write_bytes((directory / "crt").read_bytes() + (directory / "key").read_bytes())
    return file


def test_redirects_are_not_followed_and_cookies_not_kept(deliver: Deliver, wvp: WvpServer) -> None:
    class Redirecting(FaultyServer):
        def answer(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse(307, headers={"Location": wvp.url + CALLBACK_PATH, "Set-Cookie": "a=b"})

    with Redirecting() as server:
        assert deliver(server.url) == "key"
        assert server.requests["POST"] == 1
    assert wvp.connections == 0


def test_proxies_of_the_environment_are_not_used(
    deliver: Deliver, wvp: WvpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert deliver(wvp.url) == "callback"


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "plain text 密"])
@pytest.mark.parametrize("request_id", ["r1", "请求 1"])
def test_signed_callback_verifies(deliver: Deliver, wvp: WvpServer, secret: str, request_id: str) -> None:
    assert deliver(wvp.url, request_id, signing_secret=secret) == "callback"
    (callback,) = wvp.results
    assert callback.request_id == request_id
    headers = callback.headers
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + callback.raw
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"].split(" ") == [f"v1,{expected}"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert headers["webhook-id"] == {"r1": "r1"}.get(request_id, "%E8%AF%B7%E6%B1%82%201")


def test_signature_is_that_of_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1614265330.9)
    signer = Signer("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_unsigned_callback_has_no_signature(deliver: Deliver, wvp: WvpServer) -> None:
    deliver(wvp.url)
    assert not [name for name in wvp.results[0].headers if name.startswith("webhook")]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"signing_secret": "whsec_*"}, "signing_secret"), ({"allowed_callbacks": ("http://[",)}, "allowed_callbacks")],
)
def test_settings_that_cannot_be_are_named(deliver: Deliver, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        deliver("", **settings)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://wvp.example:80/", "http://wvp.example"),
        ("HTTPS://WVP.Example:443", "https://wvp.example"),
        ("http://wvp.example:18080/a/b//", "http://wvp.example:18080/a/b"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
        ("http://[2001:DB8:0::1]:81", "http://[2001:db8::1]:81"),
        ("http://my_wvp", "http://my_wvp"),
    ],
)
def test_url_has_one_form(url: str, same: str) -> None:
    assert Target.parse(url).url == same


USABLE = """
127.0.0.1 10.0.0.1 172.16.3.4 192.168.1.1 100.64.0.1 8.8.8.8 ::1 fd12::1 2400:3200::1
::ffff:10.0.0.1 64:ff9b::8.8.8.8 2002:808:808::1
"""
FORBIDDEN = """
169.254.0.0 169.254.255.255 0.0.0.0 0.1.2.3 100.100.100.200 168.63.129.16 192.0.0.192 224.0.0.1 240.0.0.1
255.255.255.255 :: ::2 fe80::1 febf::1 fec0::1 ff02::1 fd00:ec2::254 fd20:ce::254 100::1 4000::1 2001:0:1::1
::ffff:169.254.169.254 ::169.254.169.254 ::ffff:0:169.254.1.1 ::ffff:0.0.0.0
64:ff9b::169.254.1.1 64:ff9b:1::a9fe:a9fe 2002:a9fe:a9fe::1
"""


@pytest.mark.parametrize("text", USABLE.split())
def test_addresses_that_may_be_called(text: str) -> None:
    assert not refusal(ip_address(text))


@pytest.mark.parametrize("text", FORBIDDEN.split())
def test_addresses_that_must_not_be_called(text: str) -> None:
    assert refusal(ip_address(text))


def names(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], list[str]]) -> list[str]:
    """Replaces DNS by `answer`; gives the names that are asked for."""
    asked: list[str] = []

    def getaddrinfo(name: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(name)
        return [(0, 0, 0, "", (text, 0)) for text in answer(name)]

    monkeypatch.setattr(address, "getaddrinfo", getaddrinfo)
    return asked


def test_name_is_resolved_once_and_called_where_it_was_checked(
    deliver: Deliver, wvp: WvpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    asked = names(monkeypatch, lambda _: next(answers))
    assert deliver(f"http://wvp.test:{wvp.port}") == "callback"
    assert asked == ["wvp.test"]
    assert wvp.results[0].headers["host"] == f"wvp.test:{wvp.port}"


def test_name_with_one_forbidden_address_is_not_called(
    deliver: Deliver, wvp: WvpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, lambda _: ["127.0.0.1", "169.254.169.254"])
    assert deliver(f"http://wvp.test:{wvp.port}") == "key"
    assert wvp.connections == 0


def test_allowed_origin_is_called_wherever_it_is(
    deliver: Deliver, wvp: WvpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, lambda _: ["0.0.0.0"])
    origin = f"http://wvp.test:{wvp.port}"
    assert deliver(origin, allowed_callbacks=(origin.upper().replace("HTTP", "http"),)) == "callback"
    assert deliver(f"http://other.test:{wvp.port}", allowed_callbacks=(origin,)) == "key"
    assert deliver(f"http://wvp.test:{wvp.port}.test", allowed_callbacks=(origin,)) == "key"


def test_next_address_is_tried_when_the_first_does_not_answer(
    deliver: Deliver, wvp: WvpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, lambda _: ["127.0.0.77", "127.0.0.1"])
    assert deliver(f"http://wvp.test:{wvp.port}") == "callback"


def test_lookup_that_hangs_is_left_and_does_not_keep_others_waiting(
    deliver: Deliver, wvp: WvpServer, monkeypatch: pytest.MonkeyPatch, held_up: HeldUp
) -> None:
    released = threading.Event()

    def answer(name: str) -> list[str]:
        if name == "hang.test":
            released.wait(20)
        return ["127.0.0.1"]

    names(monkeypatch, answer)
    began = time.monotonic()
    try:
        assert deliver("http://hang.test", callback_timeout=0.5) == "key"
        assert time.monotonic() - began < 0.8 + held_up.since(began)
        assert deliver(f"http://wvp.test:{wvp.port}") == "callback"
    finally:
        released.set()


def test_lookups_that_hang_are_bounded_and_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    asked = names(monkeypatch, lambda _: ["127.0.0.1"] if released.wait(20) else [])
    resolver = Resolver(refusal)

    def look_up(name: str) -> str:
        try:
            with deadline.deadline(0.05):
                return str(resolver(name, 80))
        except OSError as error:
            return str(error)

    try:
        problems = [look_up(f"h{number}.test") for number in range(address.MAX_LOOKUPS + 3)]
        assert look_up("h0.test") == "the host name h0.test is not looked up in time: see this host's DNS"
        assert [problem.endswith("hang") for problem in problems] == [False] * address.MAX_LOOKUPS + [True] * 3
        assert len(asked) == address.MAX_LOOKUPS
    finally:
        released.set()
    wait_until(lambda: "127.0.0.1" in look_up("new.test"))


def test_resolver_remembers_a_name_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = names(monkeypatch, lambda _: ["127.0.0.1"])
    resolver = Resolver(refusal)
    for _ in range(10):
        assert len(resolver("a.test", 80)) == 1
    assert asked == ["a.test"]
    monkeypatch.setattr(address, "MAX_NAMES", 5)
    for number in range(20):
        resolver(f"a{number}.test", 80)
    assert len(resolver._lookups) <= 6
    names(monkeypatch, lambda _: ["169.254.1.1"])
    with pytest.raises(AddressRefusedError, match="link-local"):
        resolver("b.test", 80)


def test_both_families_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["2400::1", "2400::2", "10.0.0.1", "10.0.0.2"]
    names(monkeypatch, lambda _: found)
    assert [where[1][0] for where in Resolver(refusal)("a.test", 80)] == ["2400::1", "10.0.0.1"]
    found[2:] = []
    assert [where[1][0] for where in Resolver(refusal)("a.test", 80)] == ["2400::1", "2400::2"]


def test_shorter_of_two_deadlines_counts() -> None:
    with deadline.deadline(0.2), deadline.deadline(10):
        assert deadline.remaining() <= 0.2
    with deadline.deadline(10), deadline.deadline(0.2):
        assert deadline.remaining() <= 0.2


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://no-such-host.invalid", "the host name no-such-host.invalid is unknown: see its spelling"),
        ("http://127.0.0.1:1", "nothing listens at 127.0.0.1:1: Connection refused"),
    ],
)
def test_platform_that_cannot_be_reached_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, url: str, words: str
) -> None:
    def unknown(name: str, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("snapd.http.guard.getaddrinfo", unknown)  # some networks know every name
    failure = Callbacks(ResultSettings()).post(Request("1-1", "r1", "cam01", "a.jpg", url), b"{}")
    assert failure is not None
    assert (words in failure.reason, failure.trouble) == (True, "unreachable"), failure.reason


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (302, "redirects are not followed"),
        (401, "does not let this host in, see result.signing_secret"),
        (404, "nothing there takes results, see result.callback_path"),
        (413, "does not take the result"),
        (503, "has trouble of its own"),
    ],
)
def test_status_is_told_with_what_it_means(wvp: WvpServer, status: int, words: str) -> None:
    wvp.fault = Fault(status)
    failure = Callbacks(ResultSettings()).post(Request("1-1", "r1", "cam01", "a.jpg", wvp.url), b"{}")
    assert failure is not None
    assert failure.reason.startswith(f"status {status}: ")
    assert words in failure.reason
