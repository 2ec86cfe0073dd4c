"""VP9 over RTSP, whose key frames nobody flags."""

import itertools
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from framesrv import SourceError
from tests.camera.test_sources import gray, pictures, turns
from tests.support.footage import draw_code, read_code
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vp9") / "vp9.webm"
    with av.open(str(path), "w") as container:
        options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}
        stream: Any = container.add_stream("libvpx-vp9", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 640, 360, "yuv420p", 25
        stream.time_base, stream.bit_rate = Fraction(1, 25), 2_000_000
        for index in range(100):
            bgr = np.full((360, 640, 3), 128, np.uint8)
            bgr[200:, 4 * index : 4 * index + 100] = 40
            draw_code(bgr, 8, index)
            frame = av.VideoFrame.from_ndarray(bgr, "bgr24").reformat(format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_key_frames_that_nobody_flags_are_begun_with(transport: str, video: Path, tmp_path: Path) -> None:
    counts = Counts()
    with RtspServer({"cam": video}, tmp_path) as server:
        playing = pictures(server.url("cam"), counts, transport=transport)
        taken = [read_code(gray(picture)) for picture in itertools.islice(playing, 40)]
    first = taken[0]
    assert first is not None
    assert taken == [(8, first[1] + step) for step in range(40)]
    assert counts.transport == transport


def test_demand_is_served_without_flags(video: Path, tmp_path: Path) -> None:
    counts = Counts()
    counts.demanded = True
    with RtspServer({"cam": video}, tmp_path) as server:
        codes = [
            read_code(gray(one)) for one in itertools.islice(pictures(server.url("cam"), counts, decode="demand"), 5)
        ]
    assert all(code is not None and code[0] == 8 for code in codes)


def test_stream_without_a_key_frame_says_what_is_waited_for(video: Path, tmp_path: Path) -> None:
    """It was never live, without a word."""
    joined = tmp_path / "joined.mp4"
    with av.open(str(video)) as source, av.open(str(joined), "w") as container:
        out = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size and not packet.is_keyframe:
                packet.stream = out
                container.mux(packet)
    counts = Counts()
    with (
        RtspServer({"cam": joined}, tmp_path) as server,
        pytest.raises(SourceError, match="waits for a key frame, none has come yet: it is opened anew") as error,
    ):
        list(pictures(server.url("cam"), counts, timeout=3.0))
    assert error.value.cause in ("no_key_frame", "damaged")  # the decoder may have a word of its own for it
    assert "waits for a key frame, none has come yet" in counts.waiting


def test_camera_on_demand_that_nobody_looks_at_is_not_taken_for_one_that_waits(video: Path, tmp_path: Path) -> None:
    counts = Counts()
    began = time.monotonic()
    with RtspServer({"cam": video}, tmp_path) as server:
        for _ in turns(server.url("cam"), counts, decode="demand", timeout=2.0):
            if time.monotonic() - began > 5:
                break
    assert not counts.waiting
    assert counts.idle_form == (640, 360, "yuv420p")


def test_loss_holds_back_pictures_until_one_that_needs_no_other(video: Path, tmp_path: Path) -> None:
    counts = Counts()
    with RtspServer({"cam": video}, tmp_path) as server:
        server.fault("lose")
        codes = [read_code(gray(one)) for one in itertools.islice(turns(server.url("cam"), counts), 200) if one]
    assert codes
    assert all(code is not None and code[0] == 8 for code in codes)
