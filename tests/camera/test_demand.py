"""Cameras that are decoded when somebody looks: through the reader, through snapd, and beside a reader that dies."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import simplejpeg

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, camera_status, segment_path
from framesrv.camera.policy import LINGER
from framesrv.segment import layout, locks
from tests.camera.test_sources import turns
from tests.support.cos import CosServer
from tests.support.footage import footage, read_code
from tests.support.processes import ROOT, Program, wait_for, write_config
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer, Sent
from tests.support.sink import Counts
from tests.support.wvp import WvpServer

GOP = 50
SETTLED = LINGER + 0.3  # s after which decoding has ended
FILL_FOR_A_WHILE = """
import sys, time
from framesrv import FrameReader
with FrameReader("cam", prefix=sys.argv[1]) as camera:
    print(camera.latest(max_age=0, timeout=20).seq, flush=True)
    for frame in camera.frames(timeout=20):
        time.sleep(0)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    with RtspServer({"cam": footage(width=640, height=360, frames=150, gop=GOP)}, tmp_path) as running:
        yield running


def configure(tmp_path: Path, prefix: str, source: str, **sections: Any) -> Path:
    given = {"shm": {"prefix": prefix}, "http": {"listen": ""}, **sections}
    return write_config(
        tmp_path / "framesrv.toml", given, [{"code": "cam", "source": source, "decode": "demand", "timeout": 4.0}]
    )


@pytest.fixture
def decoder(tmp_path: Path, prefix: str, server: RtspServer) -> Iterator[Program]:
    config = configure(tmp_path, prefix, server.url("cam"))
    with Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "decode.log") as program:
        wait_for(lambda: camera_status(prefix, "cam").state == "live", "the stream flows")
        yield program
        assert program.stop() == 0


def sent_at(sent: list[Sent], index: int, before: float) -> float:
    """When the camera last sent that frame, until the moment `before`."""
    return max(one.time for one in sent if one.index == index and one.time <= before)


def spent(prefix: str) -> int:
    """Nanoseconds of decoding so far."""
    from framesrv.segment.mapping import Segment

    segment = Segment.attach(segment_path(prefix, "cam"))
    try:
        return int(segment.header["decode"][0])
    finally:
        segment.close()


def rests(prefix: str) -> bool:
    """Whether nothing is decoded for a second."""
    before = spent(prefix)
    time.sleep(1)
    return spent(prefix) == before


def test_nothing_is_decoded_until_a_reader_asks(prefix: str, decoder: Program) -> None:
    idle = camera_status(prefix, "cam")
    assert (idle.state, idle.width, idle.height, idle.seq, idle.age_s, idle.fps) == ("live", 640, 360, 0, None, 0.0)
    assert spent(prefix) == 0
    with FrameReader("cam", prefix=prefix) as reader:
        with pytest.raises(FrameUnavailableError) as caught:
            reader.latest(timeout=0)
        assert caught.value.reason == "stale"
        with reader.latest(timeout=10) as frame:
            assert read_code(frame.planes[0]) is not None
    assert spent(prefix) > 0


def test_frame_that_was_asked_for_has_arrived_after_the_question(
    prefix: str, server: RtspServer, decoder: Program
) -> None:
    with FrameReader("cam", prefix=prefix) as reader:
        for pause in (0.0, 0.3, SETTLED, SETTLED + 0.7):
            time.sleep(pause)
            asked = time.time()
            with reader.latest(max_age=0, timeout=10) as frame:
                code = read_code(frame.planes[0])
                assert frame.captured_at >= asked
            assert code is not None
            # the server notes a frame just before it sends it
            assert sent_at(server.sent(), code[1], time.time()) > asked - 0.02


def test_every_frame_comes_to_one_who_goes_on_asking(prefix: str, decoder: Program) -> None:
    with FrameReader("cam", prefix=prefix) as reader:
        taken = [(frame.seq, read_code(frame.planes[0])) for frame in islice(reader.frames(), int(SETTLED * 25) + 40)]
    shown = [(seq, code[1]) for seq, code in taken if code is not None]
    assert len(shown) == len(taken)
    # The first ones come as fast as they are decoded. A reader may miss some frames, the decoder leaves out none.
    assert all(
        (index - before) % 150 == seq - seq_before for (seq_before, before), (seq, index) in pairwise(shown[25:])
    )


def test_decoding_ends_when_nobody_asks_and_the_camera_stays_live(prefix: str, decoder: Program) -> None:
    with FrameReader("cam", prefix=prefix) as reader:
        reader.latest(timeout=10).release()
        wait_for(lambda: rests(prefix), "decoding ends", LINGER + 8)
        before, seq = spent(prefix), camera_status(prefix, "cam").seq
        assert seq > 0
        time.sleep(1)
        assert (spent(prefix), camera_status(prefix, "cam").seq) == (before, seq)
        assert camera_status(prefix, "cam").state == "live"
        with reader.latest(max_age=None) as frame:
            assert frame.age > 1


def test_reader_that_is_killed_stops_asking(prefix: str, decoder: Program) -> None:
    reader = subprocess.Popen(
        [sys.executable, "-c", FILL_FOR_A_WHILE, prefix], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert int(reader.stdout.readline()) > 0
    wait_for(lambda: camera_status(prefix, "cam").fps > 0, "frames flow")
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    reader.stdout.close()
    wait_for(lambda: rests(prefix), "decoding ends", LINGER + 8)


def test_stalled_camera_is_not_live_though_nothing_is_decoded(
    prefix: str, server: RtspServer, decoder: Program
) -> None:
    server.fault("stall")
    wait_for(lambda: camera_status(prefix, "cam").state == "stalled", "it is stalled")
    server.fault("run")
    wait_for(lambda: camera_status(prefix, "cam").state == "live", "it is live")
    with FrameReader("cam", prefix=prefix) as reader:
        reader.latest(max_age=0, timeout=10).release()


def test_camera_comes_back_after_its_connection_was_cut(prefix: str, server: RtspServer, decoder: Program) -> None:
    server.stop()
    wait_for(lambda: camera_status(prefix, "cam").state == "connecting", "it is lost")
    server.start()
    wait_for(lambda: camera_status(prefix, "cam").state == "live", "it is live again")
    assert camera_status(prefix, "cam").reconnects == 1
    with FrameReader("cam", prefix=prefix) as reader:
        reader.latest(max_age=0, timeout=10).release()


def test_asking_is_the_lock_on_the_demand_byte_and_ends_with_the_answer(prefix: str) -> None:
    def demanded() -> bool:
        return writer.demanded

    with (
        FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as writer,
        FrameReader("cam", prefix=prefix) as reader,
        open(f"/dev/shm/{prefix}.cam", "rb") as file,
    ):
        assert not demanded()
        locks.lock_shared(file.fileno(), layout.DEMAND_BYTE)
        assert demanded()
        locks.unlock(file.fileno(), layout.DEMAND_BYTE)
        assert not demanded()
        with pytest.raises(FrameUnavailableError):
            reader.latest(max_age=0, timeout=0.05)
        assert not demanded()
        writer.write([np.zeros(shape, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))])
        assert not demanded()
        with reader.latest(max_age=None):
            assert demanded()  # somebody looks
        assert not demanded()


def test_two_readers_in_one_ask_until_both_have_their_answer(prefix: str) -> None:
    planes = [np.zeros(shape, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))]
    with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as writer, FrameReader("cam", prefix=prefix) as reader:
        writer.write(planes)
        following = reader.frames(timeout=10)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(next, following)
            wait_for(lambda: writer.demanded, "it asks")
            with pytest.raises(FrameUnavailableError):
                reader.latest(max_age=0, timeout=0.05)
            assert writer.demanded  # the other one's question stands
            writer.write(planes)
            waiting.result(10).release()
        assert writer.demanded  # it follows the camera, whether it waits or not
        following.close()  # type: ignore[attr-defined]
        wait_for(lambda: not writer.demanded, "it asks no more")


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_what_was_kept_is_decoded_up_to_the_newest_frame(codec: Any, bframes: int) -> None:
    video = footage(codec=codec, width=320, height=240, frames=100, gop=25, number=5, bframes=bframes)
    counts = Counts()
    playing = turns(video, counts, decode="demand")
    for _ in range(40):
        assert next(playing) is None
    assert counts.idle_form == (320, 240, "yuv420p")
    assert counts.counters["decode"] == 0
    counts.demanded = True
    picture = next(picture for picture in playing if picture is not None)
    code = read_code(picture.planes[0])
    assert code is not None
    # 25 to 40 were kept; with B frames the newest to come out is a few before the newest to go in
    assert code[0] == 5
    assert 40 - 2 * bframes <= code[1] <= 41 + 2 * bframes
    assert counts.counters["corrupt"] == 0


def test_what_is_kept_is_bounded_also_where_key_frames_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    from framesrv.camera.sources import gop as backlog

    monkeypatch.setattr(backlog, "LIMIT", 20_000)
    video = footage(width=320, height=240, frames=100, gop=100, number=6)
    counts = Counts()
    playing = turns(video, counts, decode="demand")
    for _ in range(80):
        assert next(playing) is None
    assert counts.counters["decode"] > 0  # it was decoded rather than kept, or given up
    counts.demanded = True
    picture = next(picture for picture in playing if picture is not None)
    code = read_code(picture.planes[0])
    assert code is not None
    assert code[1] >= 80


@pytest.mark.parametrize("source", ["test:320x240@25", "opencv:{video}"])
def test_other_sources_answer_on_demand_as_well(source: str) -> None:
    counts = Counts()
    video = footage(width=320, height=240, frames=100, gop=25, number=5)
    playing = turns(source.format(video=video), counts, decode="demand")
    assert [next(playing) for _ in range(10)] == [None] * 10
    assert counts.idle_form == (320, 240, "yuv420p")
    counts.demanded = True
    assert next(playing) is not None


def test_snapshot_of_an_idle_camera_shows_what_came_after_the_request(
    tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    with RedisServer(tmp_path / "redis") as redis, CosServer() as cos, WvpServer() as wvp:
        store = {"bucket": cos.bucket, "secret_id": cos.secret_id, "secret_key": cos.secret_key}
        store |= {"domain": cos.domain, "scheme": "http"}
        config = configure(tmp_path, prefix, server.url("cam"), redis={"url": redis.url}, store=store)
        with Program("framesrv", "up", "--config", config, log=tmp_path / "up.log") as up:
            client = redis.client()
            wait_for(lambda: camera_status(prefix, "cam").state == "live", "the stream flows")
            wait_for(lambda: client.exists("edge_snap_request"), "snapd has joined")
            asked = []
            for number, pause in enumerate((0.0, 0.5, SETTLED, SETTLED + 0.9)):
                time.sleep(pause)
                asked.append(time.time())
                fields: dict[Any, Any] = {"request_id": f"r{number}", "camera_code": "cam"}
                client.xadd("edge_snap_request", fields | {"cos_path": f"{number}.jpg", "callback_url": wvp.url})
                wvp.wait(number + 1, timeout=10)
            # the camera is lost and found: the first request after that is answered well
            server.stop()
            wait_for(lambda: camera_status(prefix, "cam").state == "connecting", "it is lost")
            fields = {"request_id": "lost", "camera_code": "cam", "cos_path": "lost.jpg", "callback_url": wvp.url}
            client.xadd("edge_snap_request", fields)
            assert wvp.wait(5, timeout=10)[-1].status == "error"
            server.start()
            wait_for(lambda: camera_status(prefix, "cam").state == "live", "it is live again")
            client.xadd("edge_snap_request", fields | {"request_id": "found", "cos_path": "found.jpg"})
            assert wvp.wait(6, timeout=10)[-1].status == "ok"
            assert up.stop() == 0
        assert [result.status for result in wvp.results[:4]] == ["ok"] * 4
        for result, at in zip(wvp.results[:4], asked, strict=True):
            code = read_code(simplejpeg.decode_jpeg(requests.get(result.url or "", timeout=10).content, "BGR"))
            assert code is not None
            assert sent_at(server.sent(), code[1], result.time) > at - 0.02
