"""What is said, and done, while packets come and nothing can be shown."""

import io
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import pytest

from framesrv import FrameWriter, SourceError
from framesrv.camera.policy import Policy
from framesrv.camera.sources import Source, open_source, patience
from framesrv.camera.sources.patience import Patience
from framesrv.segment.status import camera_status
from framesrv.settings import Camera
from tests.camera.test_sources import gray
from tests.support.footage import Codec, footage, read_code
from tests.support.ports import free_port
from tests.support.rtsp import RtspServer
from tests.support.side_by_side import side_by_side
from tests.support.sink import Counts

CELL = 188  # bytes of a transport stream's packet
SIZE: dict[str, Any] = {"width": 640, "height": 360}


def source_of(url: str, **keys: Any) -> Source:
    camera = Camera(code="cam", source=url, **({"timeout": 2.0} | keys))
    return open_source(camera, Policy(camera.decode))


def numbers(source: Source, sink: Counts | FrameWriter) -> Iterator[int]:
    """The number of the footage that each picture is of."""
    for picture in source.frames(sink):
        if picture is not None:
            code = read_code(gray(picture))
            assert code is not None
            yield code[0]


def test_camera_whose_codec_changes_is_opened_anew(tmp_path: Path) -> None:
    codecs: tuple[Codec, Codec] = ("h264", "hevc")
    one, other = ([footage(codec=codec, number=number, **SIZE) for codec in codecs] for number in (1, 2))
    with RtspServer({"h264": [one[0], other[1]], "hevc": [one[1], other[0]]}, tmp_path) as server:
        side_by_side({codec: partial(codec_changes, codec, server) for codec in codecs})


def codec_changes(before: Codec, server: RtspServer) -> None:
    source, sink = source_of(server.url(before)), Counts()
    playing = numbers(source, sink)
    assert list(islice(playing, 5)) == [1] * 5
    server.fault("switch", before)
    with pytest.raises(SourceError, match=f"what comes is no {before}.*opened anew") as caught:
        assert set(playing) <= {1}
    assert caught.value.cause == "damaged"
    assert next(numbers(source, sink)) == 2


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_camera_whose_size_changes_goes_on_from_its_next_key_frame(codec: Any, tmp_path: Path) -> None:
    files = [footage(codec=codec, number=1, **SIZE), footage(codec=codec, number=2, width=320, height=240)]
    with RtspServer({"cam": files}, tmp_path) as server:
        playing = numbers(source_of(server.url("cam")), Counts())
        assert next(playing) == 1
        server.fault("switch")
        found = list(islice(playing, 60))
    assert found == sorted(found)
    assert found[-1] == 2


def until_lost(source: Source, writer: FrameWriter, server: RtspServer, prefix: str) -> tuple[int, list[str], str]:
    """Loses packets after ten pictures, until a key frame is waited for; gives pictures, reasons, the end's words."""
    shown, reasons = 0, []
    try:
        for picture in source.frames(writer):
            if picture is not None:
                shown += 1
                writer.resize(picture.width, picture.height, picture.pixel_format)
                writer.write(picture.planes, picture.stamp)
                if shown == 10:
                    server.fault("lose")
            status = camera_status(prefix, "cam")
            if status.cause == "no_key_frame":
                server.fault("run")
                assert status.state == "live"
                reasons.append(status.reason)
    except SourceError as error:
        return shown, reasons, str(error)
    raise AssertionError("the stream has no end")


def test_ls_says_that_a_key_frame_is_waited_for_and_since_when(tmp_path: Path, prefix: str) -> None:
    """The key frames of this camera are a minute apart; packets are lost in between."""
    video = footage(frames=1500, gop=1500, number=3, **SIZE)
    with (
        RtspServer({"cam": video}, tmp_path) as server,
        FrameWriter("cam", 0, 0, "yuv420p", prefix=prefix) as writer,
    ):
        source = source_of(server.url("cam"), timeout=4.0)
        shown, reasons, words = until_lost(source, writer, server, prefix)
        assert re.search(r"waits for a key frame, the last one came ([4-9]|[1-5]\d) s ago: it is opened anew", words)
        assert reasons
        assert all("waits for a key frame, the last one came" in reason for reason in reasons)
        assert 10 <= shown < 1400
        picture = next(picture for picture in source.frames(writer) if picture is not None)
        assert read_code(gray(picture)) is not None


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    monkeypatch.setattr(patience, "time", found)
    return found


def waits(one: Patience, watch: Watch, sink: Counts) -> float:
    """Seconds until it gives up."""
    began = watch.now
    while True:
        watch.now += 0.5
        try:
            one.look(sink, intact=False, complaint="")
        except SourceError:
            return watch.now - began


def test_connections_that_bring_no_key_frame_are_given_ever_more_time(watch: Watch) -> None:
    one, sink = Patience(10.0), Counts()
    took = []
    for _ in range(8):
        one.begin()
        took.append(waits(one, watch, sink))
    assert took == pytest.approx([10, 20, 40, 80, 160, 320, 600, 600], abs=1.0)
    one.begin()
    one.key_came(whole=True)
    one.look(sink, intact=True, complaint="")
    one.begin()
    assert waits(one, watch, sink) == pytest.approx(10, abs=1.0)


@pytest.mark.parametrize(("group", "expected"), [(60.0, patience.SOON), (4.0, 10.0)])
def test_new_connection_is_tried_soon_where_the_next_key_frame_is_far_away(
    group: float, expected: float, watch: Watch
) -> None:
    one, sink = Patience(10.0), Counts()
    one.begin()
    for passed in (0.1, group):
        watch.now += passed
        one.key_came(whole=True)
        one.look(sink, intact=True, complaint="")
    assert waits(one, watch, sink) == pytest.approx(expected, abs=1.0)


def test_what_is_waited_for_is_said_while_it_lasts(watch: Watch) -> None:
    one, sink = Patience(10.0), Counts()
    one.begin()
    watch.now += 2
    one.look(sink, intact=False, complaint="")
    assert sink.waiting == "waits for a key frame, none has come yet"
    one.key_came(whole=False)
    watch.now += 3
    one.look(sink, intact=False, complaint="error while decoding MB 1 2")
    assert sink.waiting.startswith('its pictures come damaged: its decoder says "error while decoding MB 1 2"; waits')
    one.look(sink, intact=True, complaint="")
    assert sink.waiting == ""


def transport_stream(video: Path) -> bytes:
    """The video as a transport stream in which all that is coded is spoilt."""
    file = io.BytesIO()
    with av.open(str(video)) as source, av.open(file, "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cells = bytearray(file.getvalue())
    for start in range(0, len(cells), CELL):
        programme = cells[start + 1] & 0x1F or cells[start + 2] not in (0, 0x11)
        begins = cells[start + 1] & 0x40
        if programme and not begins and cells[start + 3] & 0x10:
            cells[start + 100 : start + 140] = bytes(range(40))
    return bytes(cells)


def send(data: bytes, port: int, ended: threading.Event) -> None:
    """Sends it again and again, at some 4 Mb/s."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        while True:
            for start in range(0, len(data), 7 * CELL):
                one.sendto(data[start : start + 7 * CELL], ("127.0.0.1", port))
                if ended.wait(0.0025):
                    return


def test_stream_through_ffmpeg_that_shows_nothing_says_so_and_is_opened_anew() -> None:
    video = footage(width=640, height=360, frames=50, gop=25, number=8, noisy=True)
    port = free_port(socket.SOCK_DGRAM)
    ended = threading.Event()
    sender = threading.Thread(target=send, args=(transport_stream(video), port, ended))
    sender.start()
    try:
        sink = Counts()
        with pytest.raises(SourceError, match=r"its pictures come damaged.*: it is opened anew"):
            assert not [one for one in source_of(f"udp://127.0.0.1:{port}").frames(sink) if one is not None]
        assert "its pictures come damaged" in sink.waiting
    finally:
        ended.set()
        sender.join()
