"""Cameras with two streams: a segment and a decoder for each, and none that takes the other with it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framesrv import CameraStatus, FrameReader, camera_status
from tests.support.footage import footage, read_code
from tests.support.processes import Program, alive, descendants, run, wait_for, write_config
from tests.support.rtsp import RtspServer
from tests.support.service_manager import Manager

CODES = ("cam", "cam.sub")
SIZES = {"cam": (640, 360), "cam.sub": (320, 240)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    files = {
        "large": footage(width=640, height=360, gop=25, number=5),
        "small": footage(width=320, height=240, gop=25, number=6),
    }
    with RtspServer(files, tmp_path_factory.mktemp("rtsp")) as one:
        yield one


def configure(directory: Path, prefix: str, server: RtspServer, **keys: Any) -> Path:
    camera = {"code": "cam", "source": server.url("large"), "substream": server.url("small"), "timeout": 2.0} | keys
    return write_config(directory / "framesrv.toml", {"shm": {"prefix": prefix}}, [camera])


def started(directory: Path, config: Path, environment: dict[str, str] | None = None) -> Program:
    return Program("framesrv", "decode", "cam", "--config", config, log=directory / "log", environment=environment)


def status(prefix: str, code: str) -> CameraStatus:
    return camera_status(prefix, code)


def is_live(prefix: str, code: str) -> bool:
    now = status(prefix, code)
    return now.state == "live" and now.seq > 0


def wait_live(prefix: str, *codes: str) -> None:
    wait_for(lambda: all(is_live(prefix, code) for code in codes or CODES), "live")


def segments(prefix: str) -> list[str]:
    return sorted(name for name in os.listdir("/dev/shm") if name.startswith(f"{prefix}."))


def test_each_stream_has_a_segment_and_is_listed_with_its_own_policy(
    tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    config = configure(tmp_path, prefix, server, decode="demand", substream_decode="fps:5")
    with started(tmp_path, config) as program:
        wait_for(lambda: all(status(prefix, code).state == "live" for code in CODES), "live")
        for code, number in (("cam", 5), ("cam.sub", 6)):
            with FrameReader(code, prefix=prefix) as reader, reader.latest(timeout=10.0, max_age=5.0) as frame:
                assert (frame.width, frame.height) == SIZES[code]
                read = read_code(frame.bgr())
                assert read is not None
                assert read[0] == number
        lines = run("framesrv", "ls", "--config", config).stdout.splitlines()[1:]
        assert [line.split()[0] for line in lines] == ["cam", "cam.sub"]
        assert [status(prefix, code).decode for code in CODES] == ["demand", "fps:5"]
        below = descendants(program.pid)
        assert len(below) == 2
        assert program.stop() == 0
        assert segments(prefix) == []
        assert not any(map(alive, below))


@pytest.mark.parametrize(("killed", "other"), [CODES, CODES[::-1]])
def test_decoder_of_one_stream_that_dies_does_not_touch_the_other(
    tmp_path: Path, prefix: str, server: RtspServer, killed: str, other: str
) -> None:
    with started(tmp_path, configure(tmp_path, prefix, server)) as program:
        wait_live(prefix)
        pid, before = status(prefix, killed).pid, status(prefix, other)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: status(prefix, killed).pid not in (None, pid) and is_live(prefix, killed), "it is back")
        after = status(prefix, other)
        assert (after.pid, after.started_at, after.reconnects) == (before.pid, before.started_at, 0)
        assert after.seq > before.seq
        assert program.stop() == 0


def test_stream_that_is_not_there_does_not_keep_the_other_from_being_live(
    tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    config = configure(tmp_path, prefix, server, substream=server.url("nothing"))
    with started(tmp_path, config) as program:
        wait_live(prefix, "cam")
        wait_for(lambda: "404" in status(prefix, "cam.sub").error, "the reason")
        done = run("framesrv", "retry", "cam", "--config", config)
        assert (done.returncode, done.stdout) == (0, "camera cam: tried again now\ncamera cam.sub: tried again now\n")
        assert program.stop() == 0


def test_service_manager_hears_of_both_once_there_are_segments(
    tmp_path: Path, prefix: str, server: RtspServer
) -> None:
    config = configure(tmp_path, prefix, server)
    with Manager(tmp_path / "notify", 0.5) as manager, started(tmp_path, config, manager.environment) as program:
        manager.wait("READY")
        assert segments(prefix) == [f"{prefix}.{code}" for code in CODES]
        manager.wait_status(lambda text: text == "live 640x360; substream live 320x240", "live")
        manager.wait("WATCHDOG", 3)
        assert program.stop() == 0


def test_one_stream_alone_is_decoded_where_that_is_asked_for(tmp_path: Path, prefix: str, server: RtspServer) -> None:
    config = configure(tmp_path, prefix, server)
    command = ("framesrv", "decode", "cam.sub", "--config", config)
    with Program(*command, log=tmp_path / "log") as program:
        wait_live(prefix, "cam.sub")
        assert segments(prefix) == [f"{prefix}.cam.sub"]
        assert descendants(program.pid) == []
        assert program.stop() == 0


def test_decoders_end_with_the_process_that_keeps_them(tmp_path: Path, prefix: str, server: RtspServer) -> None:
    with started(tmp_path, configure(tmp_path, prefix, server)) as program:
        wait_live(prefix)
        below = descendants(program.pid)
        program.process.kill()
        wait_for(lambda: not any(map(alive, below)), "they have ended")
        wait_for(lambda: segments(prefix) == [], "with their segments")
