"""Cameras whose answers are wrong, by mistake or on purpose: an error in words, soon, and nothing else."""

import random
import socket
import time
from contextlib import suppress
from functools import partial
from itertools import islice

import pytest

from framesrv.camera.sources.authentication import Authentication
from framesrv.camera.sources.rtsp import description, message
from framesrv.camera.sources.rtsp.session import Session
from framesrv.errors import SourceError
from framesrv.settings import Camera
from tests.support.side_by_side import side_by_side
from tests.support.tcp_server import TcpServer

SEEDS = 60
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 239.1.2.3/12\r\nt=0 0\r\na=control:*\r\n"
    "m=audio 0 RTP/AVP 8\r\na=control:t2\r\nm=video 0 RTP/AVP 96 97\r\na=rtpmap:96 H264/90000\r\n"
    "a=rtpmap:97 H265/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z2QAHqy0BQ==,aO48sA==\r\n"
    "a=rtcp-fb:96 nack pli\r\na=control:track1\r\n"
)
ANSWERS = [
    "RTSP/1.0 200 OK\r\nCSeq: {0}\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n",
    'RTSP/1.0 401 Unauthorized\r\nCSeq: {0}\r\nWWW-Authenticate: Digest realm="a b", nonce="1", qop="auth"\r\n'
    'WWW-Authenticate: Basic realm="c"\r\n\r\n',
    "RTSP/1.0 200 OK\r\nCSeq: {0}\r\nContent-Base: rtsp://127.0.0.1/x/\r\nContent-Type: application/sdp\r\n"
    f"Content-Length: {len(SDP)}\r\n\r\n{SDP}",
    "RTSP/1.0 200 OK\r\nCSeq: {0}\r\nSession: 12;timeout=60\r\n"
    "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
    "RTSP/1.0 200 OK\r\nCSeq: {0}\r\nSession: 12\r\nRTP-Info: url=rtsp://h/x;seq=1;rtptime=2\r\n\r\n",
    "$\0\0\4abcd$\1\0\4abcd",
]
ODD = [b"9" * 5000, b"\xc2\xb2", b"\r\n", b"=", b":", b'"', b"\\", b" " * 500, b"%"]


def mutated(text: bytes, chance: random.Random) -> bytes:
    """With a few bytes, lines or numbers of it changed."""
    data = bytearray(text)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randrange(20)]
            case 2:
                data[at:at] = bytes(data[at : at + chance.randrange(40)]) * chance.randrange(1, 30)
            case 3:
                data[at:at] = chance.choice(
                    [b"9" * 5000, b"\xc2\xb2", b"\r\n", b"=", b":", b'"', b"\\", b" " * 500, b"%"]
                )
            case _:
                data = bytearray(data.replace(*chance.choice([(b"0-1", b"300-301"), (b"60", b"0"), (b"=", b"")])))
        data = data or bytearray(b"x")
    return bytes(data)


class Mutating(TcpServer):
    """Answers each request in its turn, now and then by what makes no sense."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    def serve(self, connection: socket.socket) -> None:
        """Until the client goes."""
        for answer in [*self._chance.sample(ANSWERS[:2], 2)[:1], *ANSWERS[2:]]:
            request = connection.recv(65536).decode("utf-8", "replace")
            number = request.partition("CSeq: ")[2].partition("\r")[0]
            connection.sendall(mutated(answer.replace("{0}", number).encode("latin-1"), self._chance))


def test_whatever_a_camera_answers_there_is_an_error_in_words() -> None:
    side_by_side({transport: partial(answered, transport) for transport in ("tcp", "multicast")})


def answered(transport: str) -> None:
    for seed in range(SEEDS):
        with Mutating(seed) as server, suppress(SourceError):  # any other error ends the test
            url = f"rtsp://u:p@127.0.0.1:{server.port}/x"
            with Session(Camera(code="cam", source=url, timeout=0.2, transport=transport)) as session:  # type: ignore[arg-type]
                for _ in islice(session.packets(), 50):
                    session.report(b"\x80\xc9\x00\x01abcd")
                assert session.sequence is None or session.sequence < 10**10
                assert session.track.clock_rate > 0


def test_whatever_is_described_can_be_read() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        with suppress(SourceError):
            found = description.parse(mutated(SDP.encode(), chance))
            for number in range(3):
                track = found.track(number)
                description.absolute(track.control, "rtsp://h/x")


def test_whatever_is_offered_can_be_answered() -> None:
    chance = random.Random(2)
    for _ in range(3000):
        head = mutated(ANSWERS[1].encode(), chance)
        one = message.parse(head)
        if isinstance(one, message.Response):
            authentication = Authentication("u", "p")
            while authentication.challenged(one.headers.get("www-authenticate", [])):
                assert "\n" not in authentication.header("DESCRIBE", "rtsp://h/")
            assert authentication.refusal()[1]


@pytest.mark.parametrize(
    "header",
    [
        "a" + " " * 60_000 + "@",
        "Digest " + 'k="' * 20_000,
        "Digest " + "k" * 60_000,
        'Digest realm="' + "\\" * 60_000,
        "," * 60_000,
    ],
)
def test_offer_that_is_long_takes_no_time(header: str) -> None:
    began = time.process_time()
    for _ in range(20):
        Authentication("u", "p").challenged([header] * 100)
    assert time.process_time() - began < 20  # of which a way that looks at each place again would take hundreds


class Said(TcpServer):
    """Answers everything with the same."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def serve(self, connection: socket.socket) -> None:
        """Until the client goes."""
        while request := connection.recv(65536).decode():
            number = request.partition("CSeq: ")[2].partition("\r")[0]
            connection.sendall(f"RTSP/1.0 {self._answer}\r\nCSeq: {number}\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("302 Found\r\nLocation: rtsp://[::1", "it leads to 'rtsp://[::1', which is no address"),
        ("302 Found\r\nLocation: rtsp://h:99999/", "it leads to 'rtsp://h:99999/', which is no address"),
        ("302 Found\r\nLocation: rtsp://a..b/", "the host name a..b is unknown"),
        ("302 Found", "the camera answers 302 Found to OPTIONS"),
        ("200 OK\r\nContent-Length: " + "9" * 5000, "its session description has 10000000000 bytes, more than"),
        ("600 What", "the camera answers 600 What to OPTIONS"),
    ],
)
def test_answer_that_makes_no_sense_is_said(answer: str, words: str) -> None:
    with (
        Said(answer) as server,
        pytest.raises(SourceError) as caught,
        Session(Camera(code="cam", source=f"rtsp://127.0.0.1:{server.port}/x", timeout=5.0)),
    ):
        pass
    assert words in str(caught.value)
