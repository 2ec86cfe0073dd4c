"""Streams that FFmpeg plays, other than RTSP: when their pictures come, by the clock of who sends them."""

import contextlib
import datetime
import errno
import itertools
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import cast

import av
import pytest

from framesrv import SourceError
from framesrv.camera.sources import SourceFrame
from framesrv.camera.sources.ffmpeg.cause import explain
from framesrv.camera.sources.ffmpeg.dates import Dates
from framesrv.camera.sources.ffmpeg.pacing import BEHIND, LivePacing
from framesrv.camera.sources.ffmpeg.packets import BUFFERED, Wait
from framesrv.codec.arrival import Packet
from tests.camera.test_damage import FLOOR, luma, psnr
from tests.camera.test_sources import gray, pictures
from tests.support.footage import Codec, footage, read_code
from tests.support.held_up import HeldUp
from tests.support.hls_server import HlsServer
from tests.support.ports import free_port
from tests.support.rtsp_track import Track
from tests.support.sender import Sender
from tests.support.side_by_side import side_by_side
from tests.support.sink import Counts
from tests.support.users import ALICE, as_user, needs_root

CODECS: tuple[Codec, ...] = ("h264", "hevc")


def test_live_stream_in_segments_is_given_at_its_own_pace(held_up: HeldUp) -> None:
    """Each segment was given as fast as it was read, and then nothing until the next."""
    video = footage(width=320, height=240, frames=1000, gop=25, number=4)
    moments: list[int] = []
    codes: list[int] = []
    counts = Counts()
    with HlsServer(video, seconds=2) as server:
        for picture in islice(pictures(server.source, counts), 250):
            moments.append(picture.stamp.arrived_ns)
            code = read_code(gray(picture))
            assert code is not None
            codes.append(code[1])
        first = server.asked[0]
    assert codes == list(range(codes[0], codes[0] + 250))  # although each segment counts its packets anew
    assert counts.counters["corrupt"] == 0
    assert first == "/3.ts"  # the newest at that time
    seconds = [(later - earlier) / 1e9 for earlier, later in zip(moments, moments[25:], strict=False)]
    assert min(seconds) > 0.9 - held_up.seconds  # of a second of video
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert sum(pause / 1e9 > 1 + held_up.seconds for pause in pauses) <= 2


@pytest.mark.parametrize(
    ("playlist", "zone"), [("live", datetime.UTC), ("master", datetime.timezone(datetime.timedelta(hours=8)))]
)
def test_pictures_in_segments_are_dated_as_their_playlist_says(playlist: str, zone: datetime.tzinfo) -> None:
    """FFmpeg passes its dates over: they were dated by when they came, a segment or two later."""
    began = time.time() - 10

    def date(seconds: float) -> str:
        return datetime.datetime.fromtimestamp(began + seconds, zone).isoformat(timespec="milliseconds")

    video = footage(width=320, height=240, frames=1000, gop=25, number=4)
    with HlsServer(video, seconds=1, date=date) as server:
        for picture in islice(pictures(server.source.replace("live", playlist)), 30):
            code = read_code(gray(picture))
            assert code is not None
            assert picture.stamp.clock == "camera"
            assert picture.stamp.captured_ns / 1e9 == pytest.approx(began + code[1] / 25, abs=0.002)


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("2000-01-01T00:00:00Z", ""),  # which no clock of this time says
        ("2000-01-01T00:00:00", "2000-01-01T00:00:00 has no time zone"),
        ("yesterday", "Invalid isoformat string: 'yesterday'"),
    ],
)
def test_dates_that_cannot_be_right_are_passed_over(date: str, words: str, caplog: pytest.LogCaptureFixture) -> None:
    video = footage(width=320, height=240, frames=1000, gop=25, number=4)
    with HlsServer(video, seconds=1, date=lambda _: date) as server:
        assert {picture.stamp.clock for picture in islice(pictures(server.source), 3)} == {"arrival"}
    assert words in caplog.text
    assert bool(words) == ("The dates of its playlist are not known" in caplog.text)


def test_date_that_jumps_with_the_clock_of_the_stream_is_not_believed() -> None:
    now = time.time()
    dates = Dates((1 << 33) - 90_000, now)
    packet = av.Packet(b"x")
    packet.time_base = Fraction(1, 90_000)
    given = []
    for ticks in ((1 << 33) - 45_000, 45_000, 45_000 + 90_000 * 11, 45_000 + 90_000 * 11 + 3600):
        packet.pts = ticks
        given.append(dates.of(cast(Packet, packet)))
    assert given[2:] == [None, None]
    assert [one and one / 1e9 - now for one in given[:2]] == pytest.approx([0.5, 1.5])  # around its end


def test_damage_in_a_segment_is_noticed() -> None:
    side_by_side({codec: partial(damage_in_a_segment, codec) for codec in CODECS})


def damage_in_a_segment(codec: Codec) -> None:
    video, counts = footage(codec=codec, width=640, height=360, frames=500, gop=25, number=4), Counts()
    sources = luma(video)
    with HlsServer(video, seconds=2, damaged=True) as server:
        for picture in islice(pictures(server.source, counts), 75):
            code = read_code(gray(picture))
            assert code is not None
            assert psnr(picture.planes[0], sources[code[1]]) > FLOOR
    assert counts.counters["corrupt"] > 10


def test_live_pacing_makes_up_for_long_waits_alone_and_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("framesrv.camera.sources.ffmpeg.pacing.time.monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("framesrv.camera.sources.ffmpeg.pacing.time.sleep", sleep)
    pacing, at = LivePacing(), 0.0

    def played(seconds: float) -> float:
        nonlocal at
        began = now[0]
        for _ in range(int(seconds * 25)):
            at += 0.04
            pacing.wait(at, 0.04)
        return now[0] - began

    played(4.0)
    now[0] += 3.0  # a segment is late
    assert played(100.0) == pytest.approx(100.0, abs=0.1)
    now[0] += BEHIND
    assert 98.9 < played(100.0) < 99.1
    played(1000.0)
    assert played(100.0) == pytest.approx(100.0, abs=0.1)


def lags(given: Iterator[SourceFrame], number: int, sent: Callable[[], dict[int, int]]) -> list[tuple[float, float]]:
    """Seconds from when each picture was sent to when it came, and to when it says that it came."""
    found = []
    for picture in islice(given, number):
        now, code = time.monotonic_ns(), read_code(gray(picture))
        assert code is not None
        moment = sent()[code[1]]
        found.append(((now - moment) / 1e9, (picture.stamp.arrived_ns - moment) / 1e9))
    return found


def test_packet_that_a_busy_host_gave_late_was_there_all_the_same() -> None:
    """It counted as new then, as did all that had come while the stream was opened."""
    began, wait = time.monotonic_ns(), Wait()
    while time.monotonic_ns() - began < 2 * BUFFERED:
        pass
    assert not wait.happened(0.0)
    wait = Wait()
    time.sleep(BUFFERED / 1e10)
    began = time.monotonic_ns()
    while time.monotonic_ns() - began < 2 * BUFFERED:
        pass
    assert not wait.happened(0.0)  # it waited, but not for so long
    wait = Wait()
    time.sleep(2 * BUFFERED / 1e9)
    assert wait.happened(0.0)
    assert not wait.happened(1.0)  # it waited for a lock


def test_pictures_by_rtmp_come_when_they_are_sent_and_say_so(tmp_path: Path) -> None:
    """Its first pictures counted as new, and it was played as a recording of no length, a group behind for ever."""
    side_by_side({codec: partial(by_rtmp, codec, tmp_path / codec) for codec in CODECS})


def by_rtmp(codec: Codec, tmp_path: Path) -> None:
    video = footage(codec=codec, width=320, height=240, frames=250, gop=25, number=4)
    url = f"rtmp://127.0.0.1:{free_port()}/live/cam"
    with HeldUp() as held_up, Sender(tmp_path, video, url, "flv", rate=10) as sender:
        given = pictures(url, ffmpeg_options={"rtmp_listen": 1}, timeout=20.0)
        found = lags(given, 60, sender.sent)
    assert max(claimed for _, claimed in found) < 0.3 + held_up.seconds  # none is older than it says
    assert statistics.median(lag for lag, _ in found[30:]) < 0.05 + held_up.seconds
    assert statistics.median(claimed for _, claimed in found[30:]) > -0.05


def test_pictures_in_a_transport_stream_say_when_they_came(tmp_path: Path) -> None:
    """FFmpeg gives them two pictures late."""
    side_by_side({codec: partial(in_a_transport_stream, codec, tmp_path / codec) for codec in CODECS})


def in_a_transport_stream(codec: Codec, tmp_path: Path) -> None:
    video = footage(codec=codec, width=320, height=240, frames=250, gop=25, number=4)
    port = free_port(socket.SOCK_DGRAM)
    url = f"udp://127.0.0.1:{port}?pkt_size=1316"
    with HeldUp() as held_up, Sender(tmp_path, video, url, "mpegts", rate=10) as sender:
        found = lags(pictures(f"udp://127.0.0.1:{port}", timeout=20.0), 60, sender.sent)
    assert max(claimed for _, claimed in found) < 0.3 + held_up.seconds
    assert 0.1 < statistics.median(lag for lag, _ in found[30:]) < 0.3 + held_up.seconds
    assert abs(statistics.median(claimed for _, claimed in found[30:])) < 0.05 + held_up.seconds


class Relay:
    """Passes datagrams on to a port of this host, but for one in `every`."""

    def __init__(self, port: int, every: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._to, self._every = ("127.0.0.1", port), every
        threading.Thread(target=self._pass, daemon=True).start()

    def _pass(self) -> None:
        with self._socket as one, contextlib.suppress(OSError):
            for count in itertools.count():
                data = one.recv(65536)
                if not data:
                    return
                if count % self._every != self._every - 1:
                    one.sendto(data, self._to)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"", ("127.0.0.1", self.port))


def test_damage_of_a_transport_stream_is_noticed(tmp_path: Path) -> None:
    side_by_side({codec: partial(damage_of_a_transport_stream, codec, tmp_path / codec) for codec in CODECS})


def damage_of_a_transport_stream(codec: Codec, tmp_path: Path) -> None:
    video = footage(codec=codec, width=640, height=360, frames=250, gop=25, number=4)
    port, counts = free_port(socket.SOCK_DGRAM), Counts()
    with contextlib.closing(Relay(port, 40)) as relay:
        url = f"udp://127.0.0.1:{relay.port}?pkt_size=1316"
        sources = luma(video)
        with Sender(tmp_path, video, url, "mpegts"):
            bad = []
            for picture in islice(pictures(f"udp://127.0.0.1:{port}", counts, timeout=20.0), 50):
                code = read_code(gray(picture))
                bad.append(code is None or psnr(picture.planes[0], sources[code[1]]) < FLOOR)
    assert counts.counters["corrupt"] > 10
    assert sum(bad) == 0


def test_description_in_a_file_is_played_as_the_stream_that_it_is(tmp_path: Path) -> None:
    """It is no recording: it has no end, and is neither paced nor begun anew."""
    track = Track(footage(width=640, height=360, number=6))
    port = free_port(socket.SOCK_DGRAM) & ~1  # RTP takes an even one
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        file = tmp_path / "cam.sdp"
        file.write_text(
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=video {port} RTP/AVP 96\r\n{track.sdp}"
        )
        ended = threading.Event()
        sent: list[float] = []

        def send() -> None:
            """Twice as fast as the time stamps say."""
            number = ticks = 0
            while not ended.is_set():
                for unit in track.units:
                    ticks += track.step
                    sent.append(time.monotonic())
                    for payload, marker in unit.payloads:
                        head = bytes([0x80, 96 | marker << 7]) + (number & 0xFFFF).to_bytes(2, "big")
                        stamp = ticks.to_bytes(4, "big")
                        with contextlib.suppress(ConnectionRefusedError):
                            sender.sendto(head + stamp + b"\0\0\0\1" + payload, ("127.0.0.1", port))
                        number += 1
                    if ended.wait(track.interval / 2):
                        return

        sending = threading.Thread(target=send)
        sending.start()
        try:
            ages: list[float] = []
            first = None
            for number, picture in enumerate(islice(pictures(str(file), timeout=3.0), 300)):
                first = read_code(gray(picture)) if first is None else first
                assert first is not None
                ages.append(time.monotonic() - sent[first[1] + number])
                if number > 100 and ages[-1] < 1:
                    break
            assert min(ages[100:]) < 1
        finally:
            ended.set()
            sending.join()


def test_srt_is_refused_with_the_way_to_have_it() -> None:
    with pytest.raises(SourceError, match="FFmpeg knows no protocol srt:; GStreamer does: opencv:srtsrc uri=srt:"):
        next(pictures("srt://127.0.0.1:9"))


def test_device_of_this_host_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"cannot be opened: there is no device {tmp_path}/video0: see whether"):
        next(pictures(f"V4L2:{tmp_path}/video0"))
    with pytest.raises(SourceError, match="cannot be opened: /dev/null is no capture device: a camera often"):
        next(pictures("v4l2:/dev/null"))


@needs_root
def test_device_that_another_user_may_not_open_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "video0"
    device.touch(0)

    def opened() -> str:
        try:
            next(pictures(f"v4l2:{device.name}"))
        except SourceError as error:
            return f"{error.cause}: {error}"
        return ""

    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # which others cannot reach from the root
    assert as_user(ALICE, opened).startswith("unauthorized: cannot be opened: this user may not open video0: see its")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EBUSY, "another program uses /dev/video0: fuser /dev/video0 says which"),
        (errno.ENODEV, "/dev/video0 is no capture device"),
        (errno.EINVAL, "/dev/video0 does not know that form or size"),
    ],
)
def test_device_that_is_in_use_or_no_camera_is_said(number: int, words: str) -> None:
    """As FFmpeg tells of it; there is no such device where this is tested."""
    assert words in str(explain(OSError(number, os.strerror(number)), [], "v4l2:/dev/video0"))
