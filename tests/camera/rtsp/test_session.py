"""Sessions with RTSP cameras: what they give, and how they end."""

import asyncio
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from framesrv.camera.sources.rtsp.session import Session
from framesrv.errors import SourceError, SourceLimitError
from framesrv.settings import Camera
from tests.support.flood import DESCRIPTION, HEADERS, LINE, Flood, FloodServer
from tests.support.footage import footage
from tests.support.odd_camera import OddCamera, OddClient
from tests.support.processes import wait_for
from tests.support.rtsp import RtspServer
from tests.support.rtsp_server import RtspRequest
from tests.support.trickle import TrickleServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    with RtspServer({"cam": footage(width=640, height=360, frames=50)}, tmp_path, rtcp="wall") as one:
        yield one


def camera(url: str, timeout: float = 5.0) -> Camera:
    return Camera(code="cam", source=url, timeout=timeout)


def sequence(data: memoryview) -> int:
    return int.from_bytes(data[2:4], "big")


def test_session_gives_every_packet_in_order_and_the_camera_reports(server: RtspServer) -> None:
    with Session(camera(server.url("cam"))) as session:
        assert (session.track.codec, session.track.payload_type, session.track.clock_rate) == ("h264", 96, 90_000)
        assert session.track.parameters["packetization-mode"] == "1"
        assert session.transport == "tcp"
        packets = [
            (is_rtcp, bytes(data), arrived)
            for is_rtcp, together, arrived in islice(filter(None, session.packets()), 100)
            for data in together
        ]
    numbers = [sequence(memoryview(data)) for is_rtcp, data, _ in packets if not is_rtcp]
    assert all(after == before + 1 & 0xFFFF for before, after in pairwise(numbers))
    assert {data[1] for is_rtcp, data, _ in packets if is_rtcp} == {200}
    times = [arrived for _, _, arrived in packets]
    assert times == sorted(times)
    assert times[-1] <= time.monotonic_ns()


def test_silent_camera_is_lost_after_its_time_out_and_there_is_a_turn_meanwhile(server: RtspServer) -> None:
    newest = [0]
    turns: list[None] = []

    def play(packets: Iterator[tuple[bool, list[memoryview], int] | None]) -> None:
        for one in packets:
            if one is None:
                turns.append(one)
            else:
                newest[0] = one[2]

    with Session(camera(server.url("cam"), timeout=2.0)) as session:
        server.fault("stall")
        with pytest.raises(SourceError, match="lost: no packet for 2 s") as caught:
            play(session.packets())
    assert caught.value.cause == "timeout"
    assert turns
    assert time.monotonic_ns() - newest[0] >= 1.9e9


def test_camera_that_ends_the_connection_has_ended_the_stream(server: RtspServer) -> None:
    with Session(camera(server.url("cam"))) as session:
        packets = session.packets()
        next(packets)
        server.stop()
        with pytest.raises(SourceError) as caught:
            list(packets)
    assert caught.value.cause in ("ended", "lost")


def test_camera_that_answers_nothing_is_told_of_after_its_time_out(server: RtspServer) -> None:
    server.fault("silent")
    said: list[SourceError] = []

    def silent() -> bool:
        try:
            with Session(camera(server.url("cam"), timeout=0.5)):
                return False
        except SourceError as error:
            said.append(error)
            return True

    wait_for(silent, "it is silent")
    assert (str(said[0]), said[0].cause) == ("cannot be opened: no answer for 0.5 s", "timeout")


def test_answer_that_comes_a_byte_at_a_time_is_waited_for_as_long_as_any_other() -> None:
    with (
        TrickleServer(b"RTSP/1.0 200 OK\r\nX-Filling: ", 0.01) as server,
        pytest.raises(SourceError, match="no answer for 1 s"),
        Session(camera(f"rtsp://{server.domain}/cam", timeout=1.0)),
    ):
        pass


@pytest.mark.parametrize(
    ("flood", "words"),
    [
        (DESCRIPTION, "its session description has 1500000000 bytes, more than 131072"),
        (HEADERS, "an answer of it has more than 65536 bytes of headers"),
        (LINE, "an answer of it has more than 65536 bytes of headers"),
    ],
)
def test_answer_without_end_is_refused(flood: Flood, words: str) -> None:
    with (
        FloodServer(flood) as server,
        pytest.raises(SourceLimitError, match=words),
        Session(camera(server.url("rtsp"))),
    ):
        pass


def test_camera_that_sends_anything_but_packets_is_lost_after_its_time_out(tmp_path: Path) -> None:
    class Babbling(OddClient):
        """Sends what is no RTSP, once it plays, and packets of a channel that nobody asked for."""

        async def _handle(self, request: RtspRequest) -> bool:
            if request.method == "PLAY":
                self._task = asyncio.create_task(self._babble())
            return await super()._handle(request)

        async def _babble(self) -> None:
            while True:
                await asyncio.sleep(0.01)
                self._writer.write(b"\x01\x02$" + b"garbage $ " * 100 + b"$\x09\x00\x04abcd")

    video = footage(width=640, height=360, frames=50)
    with (
        OddCamera(video, Babbling) as odd,
        Session(camera(odd.url(), timeout=1.0)) as session,
        pytest.raises(SourceError, match="no packet for 1 s"),
    ):
        list(session.packets())
