"""Streams that FFmpeg plays, other than RTSP: when their pictures come, by the clock of who sends them."""

from itertools import islice, pairwise

import pytest

from framesrv.camera.sources.ffmpeg.pacing import BEHIND, LivePacing
from tests.camera.test_sources import gray, pictures
from tests.support.footage import footage, read_code
from tests.support.hls_server import HlsServer
from tests.support.sink import Counts


def test_live_stream_in_segments_is_given_at_its_own_pace() -> None:
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
    assert min(seconds) > 0.9  # of a second of video
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert sum(pause > 1e9 for pause in pauses) <= 2


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
