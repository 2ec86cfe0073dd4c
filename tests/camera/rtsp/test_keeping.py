"""How sessions are kept alive, and what is said to a camera and by it while it plays."""

import asyncio
import struct
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from framesrv.camera.sources.rtsp.session import Session
from framesrv.errors import SourceError
from framesrv.settings import Camera
from tests.support.footage import footage
from tests.support.odd_camera import OddCamera, OddClient
from tests.support.odd_clients import Forgetful
from tests.support.processes import wait_for
from tests.support.rtsp_server import RtspRequest, RtspResponse
from tests.support.side_by_side import side_by_side

GOP = 25


@pytest.fixture(scope="module")
def video() -> Path:
    return footage(width=640, height=360, gop=GOP, number=5)


def camera_of(url: str, **keys: Any) -> Camera:
    return Camera(code="cam", source=url, **({"timeout": 5.0} | keys))


def packets(session: Session) -> Iterator[bytes]:
    """Of RTP."""
    return (bytes(data) for one in session.packets() if one is not None and not one[0] for data in one[1])


def seconds(session: Session, count: float) -> None:
    """Takes what comes for so long."""
    end = time.monotonic() + count
    for _ in session.packets():
        if time.monotonic() >= end:
            return


class Silent(Forgetful):
    """Counts OPTIONS, and does not answer them."""

    answers = False


class Parametric(Forgetful):
    """Counts GET_PARAMETER alone."""

    counts = ("GET_PARAMETER",)
    offers = f"{Forgetful.offers}, GET_PARAMETER"


class Boastful(Forgetful):
    """Offers GET_PARAMETER, and does not know it."""

    counts = ("OPTIONS",)
    offers = f"{Forgetful.offers}, GET_PARAMETER"
    lasts = 4.0

    def _response(self, request: RtspRequest) -> RtspResponse:
        return RtspResponse("551 No") if request.method == "GET_PARAMETER" else super()._response(request)


def test_session_with_a_short_timeout_is_kept(video: Path) -> None:
    """All of them at the same time, as each one takes three of its time-outs."""

    def keep(kind: type[Forgetful], transport: str) -> None:
        with OddCamera(video, kind) as odd, Session(camera_of(odd.url(), transport=transport)) as session:
            seconds(session, 3 * kind.lasts)
            assert odd.connections == 1
        assert odd.methods()[-1] == "TEARDOWN"
        assert {one.headers.get("session") for one in odd.asked[4:]} == {"1"}

    side_by_side(
        {
            f"{kind.__name__} {transport}": partial(keep, kind, transport)
            for kind in (Forgetful, Silent, Parametric, Boastful)
            for transport in ("tcp", "udp")
        }
    )


def test_session_that_the_camera_has_forgotten_has_ended(video: Path) -> None:
    class Forgot(Forgetful):
        def _response(self, request: RtspRequest) -> RtspResponse:
            answer = super()._response(request)
            return RtspResponse("454 Session Not Found") if self._task else answer

    with (
        OddCamera(video, Forgot) as odd,
        Session(camera_of(odd.url())) as session,
        pytest.raises(SourceError, match="ended the session") as caught,
    ):
        seconds(session, 10)
    assert caught.value.cause == "ended"


class Talking(OddClient):
    """Asks something itself, amid the packets."""

    asks = "GET_PARAMETER"
    answers: list[bytes]

    async def _handle(self, request: RtspRequest) -> bool:
        goes_on = await super()._handle(request)
        if request.method == "PLAY":
            self._writer.write(f"{self.asks} rtsp://127.0.0.1/cam RTSP/1.0\r\nCSeq: 77\r\n\r\n".encode())
        return goes_on

    async def _request(self) -> RtspRequest:
        request = await super()._request()
        if request.method.startswith("RTSP"):
            self.odd.asked.append(request)
            return await self._request()
        return request


@pytest.mark.parametrize(("asks", "status"), [("GET_PARAMETER", "200"), ("OPTIONS", "200"), ("RECORD", "501")])
def test_camera_that_asks_is_answered(asks: str, status: str, video: Path) -> None:
    with OddCamera(video, type("Of", (Talking,), {"asks": asks})) as odd:
        with Session(camera_of(odd.url())) as session:
            assert len(list(islice(packets(session), 50))) == 50
        replies = [one for one in odd.asked if one.method.startswith("RTSP")]
    assert [(one.url, one.headers["cseq"]) for one in replies] == [(status, "77")]


@pytest.mark.parametrize("asks", ["TEARDOWN", "REDIRECT"])
def test_camera_that_ends_the_session_has_ended_the_stream(asks: str, video: Path) -> None:
    with (
        OddCamera(video, type("Of", (Talking,), {"asks": asks})) as odd,
        Session(camera_of(odd.url())) as session,
        pytest.raises(SourceError, match="the camera ended the stream") as caught,
    ):
        seconds(session, 10)
    assert caught.value.cause == "ended"


class Listening(OddClient):
    """Remembers what it is told by RTCP over TCP."""

    heard: list[bytes]

    async def _request(self) -> RtspRequest:
        while (first := await self._reader.readexactly(1)) == b"$":
            channel, size = struct.unpack(">BH", await self._reader.readexactly(3))
            self.heard.append(bytes([channel]) + await self._reader.readexactly(size))
        self._reader._buffer[:0] = first  # type: ignore[attr-defined]
        return await super()._request()


def test_reports_reach_the_camera(video: Path) -> None:
    heard: list[bytes] = []
    with (
        OddCamera(video, type("Of", (Listening,), {"heard": heard})) as odd,
        Session(camera_of(odd.url())) as session,
    ):
        session.report(b"\x80\xc9\x00\x01abcd")
        wait_for(lambda: heard == [b"\x01\x80\xc9\x00\x01abcd"], "it has come")


def test_camera_that_takes_nothing_is_played_all_the_same(video: Path) -> None:
    """Reports that it does not read fill the connection; they are left out then."""

    class Deaf(OddClient):
        async def _request(self) -> RtspRequest:
            if self._task:
                self._writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(60)
            return await super()._request()

    with OddCamera(video, Deaf) as odd, Session(camera_of(odd.url(), timeout=2.0)) as session:
        session._opening.every = 0.05
        for number, _ in enumerate(packets(session)):
            for _ in range(500):
                session.report(bytes(1000))
            if number == 60:
                break


def test_packets_before_the_answer_to_play_are_kept(video: Path) -> None:
    class Early(OddClient):
        async def _handle(self, request: RtspRequest) -> bool:
            if request.method == "PLAY":
                for number in range(300):
                    self._writer.write(struct.pack(">BBHBBHII", 36, 0, 1012, 0x80, 96, number, 0, 0) + bytes(1000))
                await asyncio.sleep(0.2)
            return await super()._handle(request)

        def _response(self, request: RtspRequest) -> RtspResponse:
            answer = super()._response(request)
            if request.method == "PLAY":
                answer.headers["RTP-Info"] = "url=rtsp://h/track0;seq=300;rtptime=4711"
            return answer

    with OddCamera(video, Early) as odd, Session(camera_of(odd.url())) as session:
        numbers = [int.from_bytes(one[2:4], "big") for one in islice(packets(session), 310)]
        assert numbers[:300] == list(range(300))
        assert (session.sequence, session.rtp_time) == (300, 4711)


def test_answer_to_play_that_comes_late_may_be_a_refusal(video: Path) -> None:
    class Late(OddClient):
        async def _handle(self, request: RtspRequest) -> bool:
            if request.method == "PLAY":
                self._writer.write(struct.pack(">BBHBBHII", 36, 0, 12, 0x80, 96, 0, 0, 0))
                await asyncio.sleep(0.2)
            return await super()._handle(request)

        def _response(self, request: RtspRequest) -> RtspResponse:
            return RtspResponse("453 No Room") if request.method == "PLAY" else super()._response(request)

    with (
        OddCamera(video, Late) as odd,
        Session(camera_of(odd.url())) as session,
        pytest.raises(SourceError, match="the camera answers 453 No Room to PLAY"),
    ):
        seconds(session, 10)
