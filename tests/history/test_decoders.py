"""A decoder keeps the history of its camera, whatever it decodes; whoever may read frames may read it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framesrv import FrameReader, History, HistoryUnavailableError, camera_status
from framesrv.history.file import history_path
from tests.support.footage import footage, read_code
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp import RtspServer

GOP = 25


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    video = footage(width=320, height=240, frames=100, gop=GOP, number=5)
    with RtspServer({"cam": video}, tmp_path, rtcp="wall") as running:
        yield running


def decoding(tmp_path: Path, prefix: str, source: str, **keys: Any) -> Program:
    camera = {"code": "cam", "source": source, "timeout": 4.0, "history": 2.0, "history_bytes": 2_000_000, **keys}
    sections = {"shm": {"prefix": prefix}, "http": {"listen": ""}}
    config = write_config(tmp_path / "framesrv.toml", sections, [camera])
    return Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "decode.log")


def shown(camera: FrameReader, moment: float) -> tuple[int, float]:
    """Which picture was shown then, and when it was captured."""
    with camera.at(moment) as frame:
        code = read_code(frame.bgr())
        assert code is not None
        assert code[0] == 5
        return code[1], frame.captured_at


@pytest.mark.parametrize("policy", ["all", "keyframes", "fps:2", "demand"])
def test_history_is_kept_whatever_is_decoded_and_its_frames_are_those_that_were_shown(
    policy: str, tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    with (
        decoding(tmp_path, prefix, server.url("cam"), decode=policy) as program,
        FrameReader("cam", prefix=prefix) as camera,
        History("cam", prefix=prefix) as history,
    ):
        wait_for(lambda: camera_status(prefix, "cam").state == "live", "the stream flows")
        seen = {}
        for frame in camera.frames(timeout=10):
            with frame:
                code = read_code(frame.bgr())
                assert code is not None
                seen[frame.captured_at] = code[1]
            if len(seen) >= (3 if policy == "keyframes" else 4 if policy == "fps:2" else 20):
                break
        for at, index in seen.items():
            assert shown(camera, at) == (index, at)  # to the nanosecond, what readers were told
        wait_for(lambda: history.span()[1] - history.span()[0] > 2.5, "there is more than was asked for", timeout=20)
        oldest, newest = history.span()
        assert newest - oldest < 2.0 + GOP / 25 + 0.5
        assert shown(camera, newest - 2.0)[1] <= newest - 2.0
        packets = history.packets(newest - 1.5, newest - 0.5)
        assert packets[0].key
        assert packets[0].captured_at <= newest - 1.5
        assert newest - 0.6 <= packets[-1].captured_at <= newest - 0.5
        with camera.at(ago=1.0) as frame:
            assert 1.0 <= time.time() - frame.captured_at < 2.0
            assert frame.seq == 0
            assert not frame.planes[0].flags.writeable
        with pytest.raises(HistoryUnavailableError) as raised:
            camera.at(ago=60)
        assert raised.value.reason == "before"
        assert raised.value.oldest is not None
        assert os.stat(history_path(prefix, "cam")).st_mode & 0o777 == 0o640
        assert program.stop() == 0
        with pytest.raises(HistoryUnavailableError) as raised:
            camera.at(ago=1.0)
        assert raised.value.reason == "absent"
    assert not Path(history_path(prefix, "cam")).exists()


def test_history_goes_on_over_a_loss_of_the_stream_and_says_where_nothing_came(
    tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    with (
        decoding(tmp_path, prefix, server.url("cam"), decode="demand", history=30.0) as program,
        FrameReader("cam", prefix=prefix) as camera,
        History("cam", prefix=prefix) as history,
    ):
        wait_for(lambda: camera_status(prefix, "cam").state == "live", "the stream flows")
        wait_for(lambda: history.span()[1] - history.span()[0] > 1.0, "something is kept")
        before = history.span()[1] - 0.5
        server.stop()
        wait_for(lambda: camera_status(prefix, "cam").state == "connecting", "it is lost")
        lost = history.span()[1]
        wait_for(lambda: time.time() - lost > 2.0, "it has been so for a while")
        server.start()
        wait_for(lambda: history.span()[1] > lost, "it is back", timeout=20)
        assert shown(camera, before)[1] <= before
        with pytest.raises(HistoryUnavailableError) as raised:
            camera.at(lost + 1.5)
        assert raised.value.reason == "gap"
        assert shown(camera, lost + 0.5)[1] == lost
        with camera.at(lost + 1.5, tolerance=5.0) as frame:
            assert frame.captured_at == lost
        streams = [packet.stream for packet in history.packets(before)]
        assert streams == sorted(streams)
        assert len(set(streams)) == 2
        assert program.stop() == 0


def test_a_moment_of_just_now_is_waited_for(tmp_path: Path, prefix: str, server: RtspServer) -> None:
    with decoding(tmp_path, prefix, server.url("cam"), decode="demand") as program:
        with FrameReader("cam", prefix=prefix) as camera, History("cam", prefix=prefix) as history:
            wait_for(lambda: Path(history_path(prefix, "cam")).exists(), "it is made")
            wait_for(lambda: camera_status(prefix, "cam").state == "live", "the stream flows")
            moment = time.time() + 0.3
            assert moment - 0.1 <= shown(camera, moment)[1] <= moment < history.span()[1]
        assert program.stop() == 0


def test_a_source_without_packets_says_that_it_keeps_no_history(tmp_path: Path, prefix: str) -> None:
    with decoding(tmp_path, prefix, "test:320x240@25") as program:
        with FrameReader("cam", prefix=prefix) as camera:
            camera.latest(timeout=10).release()
            with pytest.raises(HistoryUnavailableError) as raised:
                camera.at(ago=0.0)
            assert raised.value.reason == "no_history"
        assert program.stop() == 0
    assert "No history is kept: test:320x240@25 gives pictures, no packets" in (tmp_path / "decode.log").read_text()


def test_a_reader_of_frames_alone_carries_no_pyav(tmp_path: Path) -> None:
    code = "import sys, framesrv; framesrv.FrameReader('cam'); framesrv.History('cam'); print('av' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"
