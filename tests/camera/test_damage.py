"""Pictures over a connection that loses packets, measured against the ones that were sent."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from framesrv import SourceError
from framesrv.segment import colour
from framesrv.segment.layout import Pixels
from tests.camera.test_sources import turns
from tests.support.footage import footage
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts

WIDTH, HEIGHT, FPS, GOP = 640, 360, 25, 25
SECONDS = 60
VIDEOS: dict[str, Any] = {
    "h264": {"codec": "h264"},
    "hevc": {"codec": "hevc"},
    "h264-open": {"codec": "h264", "structure": "open", "bframes": 2},
    "hevc-open": {"codec": "hevc", "structure": "open", "bframes": 2},
    "h264-refresh": {"codec": "h264", "structure": "refresh"},
}
FLOOR = 30.0  # dB; what is below shows its damage


def luma(video: Path) -> list[Pixels]:
    with av.open(str(video)) as container:
        return [luma_of(frame) for frame in container.decode(video=0)]


def luma_of(frame: av.VideoFrame) -> Pixels:
    return colour.planes_of(frame)[0].copy()


def psnr(picture: Pixels, source: Pixels) -> float:
    error = float(np.mean((picture.astype(np.int16) - source) ** 2.0))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def likeness(pictures: Iterator[tuple[Pixels, float]], sources: list[Pixels]) -> list[float]:
    """PSNR of each picture of which the second on the stream's clock is known: it tells which frame it should be."""
    return [psnr(picture, sources[round(at * FPS) % len(sources)]) for picture, at in pictures]


def bare(url: str, seconds: float) -> Iterator[tuple[Pixels, float]]:
    """What PyAV makes of the stream without any guard."""
    until = time.monotonic() + seconds
    with av.open(url, options={"rtsp_transport": "tcp"}) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            if time.monotonic() > until:
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            yield from ((luma_of(frame), frame.time or 0.0) for frame in frames)


def guarded(url: str, seconds: float, counts: Counts, policy: str, asked: int = 1) -> Iterator[tuple[Pixels, float]]:
    """What we give. On demand a reader asks at one packet in `asked`."""
    until = time.monotonic() + seconds
    while True:  # a camera that shows nothing for a while is opened anew
        with suppress(SourceError):
            for number, picture in enumerate(turns(url, counts, decode=policy)):
                counts.demanded = number % asked == 0
                if time.monotonic() > until:
                    return
                if picture is not None:
                    yield picture.planes[0], (picture.stamp.pts or 0) / 1e9


@pytest.mark.timeout(SECONDS + 60)
def test_no_damaged_picture_is_given_while_two_percent_of_the_packets_are_lost(tmp_path: Path) -> None:
    videos = {
        name: footage(width=WIDTH, height=HEIGHT, frames=150, gop=GOP, **options) for name, options in VIDEOS.items()
    }
    sources = {name: luma(video) for name, video in videos.items()}
    # the last one asks so rarely that a loss may lie anywhere in what is kept meanwhile
    policies = [("all", 1), ("keyframes", 1), ("fps:5", 1), ("demand", 1), ("demand", 90)]
    kinds = [(name, *policy) for name in ("h264", "hevc") for policy in policies]
    kinds += [(name, "all", 1) for name in ("h264-open", "hevc-open", "h264-refresh")]
    kinds += [("hevc-open", "demand", 90), ("h264-refresh", "demand", 1)]
    counts = {kind: Counts() for kind in kinds}
    names = {kind: "-".join(map(str, kind)).replace(":", "") for kind in kinds}
    bare_ones = ("h264", "hevc")
    cameras = {names[kind]: videos[kind[0]] for kind in kinds} | {f"bare-{name}": videos[name] for name in bare_ones}
    with RtspServer(cameras, tmp_path) as server, ThreadPoolExecutor(len(cameras)) as threads:
        server.fault("lose")
        given = {
            kind: threads.submit(
                likeness,
                guarded(server.url(names[kind]), SECONDS, counts[kind], policy=kind[1], asked=kind[2]),
                sources[kind[0]],
            )
            for kind in kinds
        }
        unguarded = {
            name: threads.submit(likeness, bare(server.url(f"bare-{name}"), SECONDS), sources[name])
            for name in bare_ones
        }
    for kind, found in given.items():
        assert found.result(), kind
        assert min(found.result()) >= FLOOR, kind
        assert counts[kind].counters["corrupt"] > 0, kind
    for name in bare_ones:
        assert len(given[(name, "all", 1)].result()) > SECONDS  # some still come
        assert counts[(name, "all", 1)].counters["corrupt"] > SECONDS
        # there was something to guard against
        assert sum(value < FLOOR for value in unguarded[name].result()) > 10
