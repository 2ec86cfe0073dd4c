"""What comes while nobody looks waits for more: no moment, no order and no damage is lost over that."""

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from framesrv import History
from framesrv.camera.policy import Policy
from framesrv.camera.sources.decoding import Decoding
from framesrv.camera.sources.rtsp import connection
from framesrv.camera.sources.rtsp.clock import CameraClock
from framesrv.camera.sources.rtsp.connection import Connection, EndedError, Incoming
from framesrv.camera.sources.rtsp.message import Response
from framesrv.camera.sources.rtsp.rtcp import SenderReport
from framesrv.camera.sources.rtsp.stream import Stream
from framesrv.codec.damage import Damage
from framesrv.codec.presentation import Presentation
from framesrv.history.writer import HistoryWriter
from tests.camera.rtsp.feed import STEP, Track, coded, packets, payloads
from tests.camera.test_sources import turns
from tests.support.footage import footage, read_code
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts

ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n"
LONG = 60_000_000_000  # ns


def interleaved(data: bytes, channel: int = 0) -> bytes:
    return struct.pack(">BBH", connection.DOLLAR, channel, len(data)) + data


class Ends:
    """A connection, and the camera's end of it, which sends the next piece once the one before has been taken in."""

    def __init__(self, pieces: list[bytes]) -> None:
        ours, self.camera = socket.socketpair()
        self.one = Connection(ours)
        self.one.patience(1000.0)
        self.sent: list[int] = []  # monotonic ns
        self._pieces = iter(pieces)
        self._send()

    def may_wait(self) -> bool:
        """Asked whenever a piece has come: the next one is sent, and waited for."""
        return self._send()

    def _send(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self.sent.append(time.monotonic_ns())
        if piece:
            self.camera.sendall(piece)
        else:
            self.camera.shutdown(socket.SHUT_WR)
        return True


@pytest.fixture
def ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits does so as long as it may."""
    monkeypatch.setattr(connection, "GATHER", LONG)


@pytest.mark.usefixtures("ever")
def test_what_waits_is_given_in_order_with_the_moment_at_which_it_came() -> None:
    whole = (
        interleaved(b"first")
        + interleaved(b"second", 1)
        + ANSWER
        + interleaved(b"third" * 1000)
        + interleaved(b"fourth")
    )
    cuts = [0, 3, 9, 30, 60, 1000, len(whole)]
    ends = Ends([whole[begin:end] for begin, end in itertools.pairwise(cuts)])
    ends.one.gather(ends.may_wait)
    given: list[Incoming] = []
    for one in ends.one.incoming:
        if one is None:
            break  # there is a turn after it
        given.append((one[0], [memoryview(bytes(it)) for it in one[1]], one[2]) if isinstance(one, tuple) else one)
    came = [one for one in given if isinstance(one, tuple)]
    assert [(one[0], list(map(bytes, one[1]))) for one in came] == [
        (0, [b"first"]),
        (1, [b"second"]),
        (0, [b"third" * 1000, b"fourth"]),
    ]
    assert [isinstance(one, Response) for one in given] == [False, False, True, False]
    # a packet has come when its last byte has: with the third piece, and so on; each before the next was sent
    until = [*ends.sent[1:], time.monotonic_ns()]
    for (_, _, arrived), piece in zip(came, (1, 2, 5), strict=True):
        assert ends.sent[piece] <= arrived <= until[piece]
    assert ends.one.newest == came[-1][2] > came[0][2]


@pytest.mark.usefixtures("ever")
def test_what_waits_is_given_before_the_connection_is_told_to_have_ended() -> None:
    ends = Ends([interleaved(b"first"), interleaved(b"second"), b""])
    ends.one.gather(ends.may_wait)
    given = [one[1] for one in itertools.islice(ends.one.incoming, 2) if isinstance(one, tuple)]
    assert given == [[b"first"], [b"second"]]
    assert next(ends.one.incoming) is None
    with pytest.raises(EndedError):
        next(ends.one.incoming)


@pytest.mark.usefixtures("ever")
def test_no_more_waits_than_there_is_room_for() -> None:
    ours, camera = socket.socketpair()
    one = Connection(ours)
    one.gather(lambda: True)
    threading.Thread(target=camera.sendall, args=(interleaved(b"x" * 60_000) * 20,), daemon=True).start()
    given = (data for it in one.incoming if isinstance(it, tuple) for data in it[1])
    assert [len(it) for it in itertools.islice(given, 20)] == [60_000] * 20
    one.close()
    camera.close()


def test_what_comes_alone_does_not_wait_for_ever() -> None:
    ends = Ends([interleaved(b"first")])
    ends.one.gather(lambda: True)
    one = next(ends.one.incoming)  # though nothing follows it
    assert isinstance(one, tuple)
    assert one[1] == [b"first"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    with RtspServer({"cam": footage(width=320, height=240, frames=100, gop=25, number=5)}, tmp_path) as running:
        yield running


def test_idle_camera_is_looked_at_for_many_pictures_at_once_and_shows_the_newest_when_asked(
    server: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GATHER", 1_500_000_000)
    counts = Counts()
    playing = turns(server.url("cam"), counts, decode="demand")
    number = 0
    while counts.packets < 60:
        assert next(playing) is None
        number += 1
    assert number < counts.packets / 2
    assert counts.counters["decode"] == 0
    asked: list[int] = []

    def ask() -> None:
        asked.append(time.monotonic_ns())
        counts.demanded = True

    threading.Timer(1.2, ask).start()  # as pictures of so many seconds wait
    shown = next(picture for picture in playing if picture is not None)
    code = read_code(shown.planes[0])
    assert code is not None
    assert shown.stamp.arrived_ns > asked[0] - 500_000_000
    following = [read_code(picture.planes[0]) for picture in itertools.islice(filter(None, playing), 10)]
    assert following == [(5, (code[1] + step) % 100) for step in range(1, 11)]
    assert counts.counters["corrupt"] == 0


@pytest.mark.parametrize("kept", [False, True])
def test_picture_that_has_waited_with_half_of_the_next_one_is_shown_when_somebody_asks(
    prefix: str, kept: bool
) -> None:
    counts = Counts()
    things = contextlib.ExitStack()
    writer = HistoryWriter("cam", 60.0, 1_000_000, prefix=prefix) if kept else None
    if writer is not None:
        things.callback(writer.close)
    codec: Any = av.CodecContext.create("h264", "r")
    stream = Stream(Track("h264"), keeps_order=True)  # type: ignore[arg-type]
    sent = list(packets(payloads(picture, "h264") for picture in coded("h264", 8)))
    with things, Damage() as damage:
        decoding = Decoding(codec, Presentation(), Policy("demand"), damage, counts, history=writer)
        for data in sent[:-1]:
            for packet, arrival in stream.take([memoryview(data)], time.monotonic_ns(), is_rtcp=False):
                assert decoding.frames(packet, arrival, behind=True) == ()
        assert decoding.idle
        counts.demanded = True
        ((frame, _),) = decoding.left_behind()
        assert frame.pts == 6 * STEP
        assert decoding.left_behind() == ()
        if kept:
            with History("cam", prefix=prefix) as history:
                found = history.packets(history.span()[0])
            assert [packet.pts for packet in found] == [index * STEP for index in range(7)]


def test_clock_of_a_camera_is_right_however_late_its_report_is_looked_at() -> None:
    clock = CameraClock(90_000)
    ago = 5_000_000_000
    unix = time.time_ns() - ago
    clock.set(SenderReport(7, unix, 0, 0), time.monotonic_ns() - ago)
    assert clock.ahead == pytest.approx(0, abs=1)
