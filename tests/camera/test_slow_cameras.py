"""Cameras that give a picture every two seconds: each comes at once, and is fresh until the next one is due."""

import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, camera_status
from framesrv.segment import pace
from snapd.pictures.capture import Captures
from snapd.pictures.encoder import Encoder
from tests.support.footage import Codec, footage, read_code
from tests.support.held_up import HeldUp
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp import RtspServer
from tests.support.side_by_side import side_by_side

INTERVAL = 2.0  # s


CODECS: tuple[Codec, ...] = ("h264", "hevc")  # which are the cameras' codes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    quick = {codec: footage(codec=codec, width=320, height=240, frames=20, gop=4, number=6) for codec in CODECS}
    slow: dict[str, Path] = {codec: slowed(video, tmp_path / f"{codec}.mp4") for codec, video in quick.items()}
    with RtspServer(slow, tmp_path) as running:
        yield running


def slowed(video: Path, slow: Path) -> Path:
    """The same pictures, `INTERVAL` seconds apart."""
    with av.open(str(video)) as before, av.open(str(slow), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            steps = [round(ticks * packet.time_base * 25) for ticks in (packet.pts, packet.dts)]
            packet.time_base = Fraction(1, 1000)
            packet.pts, packet.dts = (int(step * INTERVAL * 1000) for step in steps)
            packet.stream = stream
            after.mux(packet)
    return slow


def decoder(tmp_path: Path, prefix: str, server: RtspServer, code: str, **keys: Any) -> Program:
    camera = {"code": code, "source": server.url(code), "timeout": 6.0, **keys}
    config = write_config(tmp_path / f"{code}.toml", {"shm": {"prefix": prefix}}, [camera])
    return Program("framesrv", "decode", code, "--config", config, log=tmp_path / f"{code}.log")


def is_stale(reader: FrameReader) -> bool:
    try:
        reader.latest(max_age=0.5, timeout=0).release()
    except FrameUnavailableError as error:
        return error.reason == "stale"
    return False


def test_each_picture_comes_at_once_and_is_fresh_until_the_next_one_is_due(
    tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    side_by_side({code: partial(each_comes_at_once, tmp_path, prefix, server, code) for code in CODECS})


def each_comes_at_once(tmp_path: Path, prefix: str, server: RtspServer, code: str) -> None:
    with (
        decoder(tmp_path, prefix, server, code) as program,
        FrameReader(code, prefix=prefix) as reader,
        HeldUp() as held_up,
    ):
        wait_for(lambda: camera_status(prefix, code).seq >= 3, "three pictures", 20)
        states, seen = set(), set()
        until = time.monotonic() + 3 * INTERVAL
        while time.monotonic() < until:
            states.add(camera_status(prefix, code).state)
            with reader.latest(max_age=0.5, timeout=0) as frame:  # nothing is fresher
                read = read_code(frame.planes[0])
                assert read is not None
                assert frame.age < pace.LATE * INTERVAL
                if read[1] not in seen:
                    seen.add(read[1])
                    sent = max(
                        (one for one in server.sent() if (one.name, one.index) == (code, read[1])),
                        key=lambda one: one.time,
                    )
                    assert frame.captured_at - sent.time < INTERVAL / 2 + held_up.seconds  # its first byte's arrival
                    assert time.time() - sent.time < INTERVAL / 2 + held_up.seconds
            time.sleep(0.1)
        assert states == {"live"}
        assert len(seen) >= 3
        server.fault("stall", code)
        wait_for(lambda: is_stale(reader), "the next one is overdue", 2 * INTERVAL + held_up.seconds)
        assert program.stop() == 0


def test_snapshot_of_one_on_demand_waits_for_its_next_picture(
    tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    side_by_side({code: partial(snapshot_waits, tmp_path, prefix, server, code) for code in CODECS})


def snapshot_waits(tmp_path: Path, prefix: str, server: RtspServer, code: str) -> None:
    with decoder(tmp_path, prefix, server, code, decode="demand") as program:
        wait_for(lambda: 0 < camera_status(prefix, code).fps < 1, "its pace is known", 20)
        from framesrv.settings import ShmSettings

        captures = Captures(
            Encoder("simplejpeg", 85), shm=ShmSettings(prefix=prefix), max_age=2.0, wait=0.3, on_demand={code}
        )
        try:
            jpeg = captures.take(captures.join(code))
        finally:
            captures.close()
        assert (jpeg.width, jpeg.height) == (320, 240)
        assert program.stop() == 0


def test_what_the_policy_leaves_out_makes_no_camera_slow(prefix: str) -> None:
    for policy, slow in (("all", True), ("demand", True), ("fps:0.5", False), ("keyframes", False)):
        with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as writer:
            writer.describe(decode=policy)
            longs = writer._segment.longs
            longs[pace._INTERVAL] = 4_000_000_000
            with FrameReader("cam", prefix=prefix) as reader:
                assert reader.due_after == (4.0 * pace.LATE if slow else 0.0), policy
