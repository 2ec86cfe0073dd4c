"""Cameras whose answers have no end: what their decoders take, and that another camera notices nothing of it."""

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from framesrv import camera_status
from framesrv.camera.attempts import LIMITED
from framesrv.camera.sources.ffmpeg.cost import MEMORY, PROCESSOR, Cost, DataLimit, Processor
from framesrv.errors import SourceError, SourceLimitError
from tests.camera.test_sources import pictures
from tests.support.flood import DESCRIPTION, HEADERS, LINE, PICTURE, PLAYLIST, Flood, FloodServer
from tests.support.footage import footage
from tests.support.processes import Program, wait_for, write_config
from tests.support.trickle import TrickleServer

MAX_PIXELS = 640 * 360
TIMEOUT = 60.0  # s, so that it is not what ends an opening


def peak(pid: int) -> int:
    """Bytes of memory that a process has had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def processor(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Beside:
    """A camera that costs too much, and one beside it.

    Attributes:
        costly: the decoder of the one.
        good: that of the other.
        states: what the other was at each look.
    """

    costly: Program
    good: Program
    states: set[str]


@contextmanager
def beside(tmp_path: Path, prefix: str, source: str, timeout: float = TIMEOUT) -> Iterator[Beside]:
    cameras: list[dict[str, Any]] = [
        {"code": "costly", "source": source, "timeout": timeout, "max_pixels": MAX_PIXELS},
        {"code": "good", "source": str(footage(width=320, height=240, frames=50))},
    ]
    config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, cameras)
    words = ("framesrv", "decode", "--config", config)
    with Program(*words, "good", log=tmp_path / "good.log") as good:
        wait_for(lambda: camera_status(prefix, "good").state == "live", "the other camera is live")
        with Program(*words, "costly", log=tmp_path / "costly.log") as costly:
            found = Beside(costly, good, set())

            def refused() -> bool:
                found.states.add(camera_status(prefix, "good").state)
                return bool(camera_status(prefix, "costly").error)

            wait_for(refused, "the reason is told", 90)
            wait_for(lambda: "next_in=" in costly.output, "and logged, which comes after it")
            yield found
            assert (costly.stop(), good.stop()) == (0, 0)


@pytest.mark.parametrize(
    ("scheme", "flood", "words"),
    [
        pytest.param("rtsp", DESCRIPTION, "its session description", id="rtsp-description"),
        pytest.param("rtsp", HEADERS, "more than 65536 bytes of headers", id="rtsp-headers"),
        pytest.param("http", HEADERS, "processor time", id="http-headers"),
        pytest.param("http", LINE, "processor time", id="http-line"),
        pytest.param("http", PLAYLIST, "max_pixels = 230400 allows", id="http-playlist"),
    ],
)
def test_answer_without_end_costs_no_more_than_its_limit_and_disturbs_nobody(
    tmp_path: Path, prefix: str, scheme: str, flood: Flood, words: str
) -> None:
    with FloodServer(flood) as server, beside(tmp_path, prefix, server.url(scheme)) as two:
        status = camera_status(prefix, "costly")
        assert status.state == "connecting"
        assert words in status.error
        assert peak(two.costly.pid) < peak(two.good.pid) + Cost(MAX_PIXELS, TIMEOUT).memory
        assert processor(two.costly.pid) < 2 * PROCESSOR
        assert two.costly.output.count("no stream") == 1
        assert float(two.costly.output.split("next_in=")[1].split("s")[0]) >= LIMITED[0] / 2
        assert server.connections == 1
        assert two.states == {"live"}


def test_picture_without_end_costs_no_more_than_its_limit(tmp_path: Path, prefix: str) -> None:
    timeout = 3.0
    with FloodServer(PICTURE) as server, beside(tmp_path, prefix, server.url("http"), timeout) as two:
        words = "its picture has no end, more than 33554432 bytes are not taken"
        wait_for(lambda: words in camera_status(prefix, "costly").error, "it is refused", 60)
        assert peak(two.costly.pid) < peak(two.good.pid) + 2 * Cost(MAX_PIXELS, timeout).memory
        line = next(line for line in two.costly.output.splitlines() if words in line)
        assert float(line.split("next_in=")[1].split("s")[0]) >= LIMITED[0] / 2
        assert two.states == {"live"}


def test_camera_is_opened_again_when_its_answers_have_an_end(tmp_path: Path) -> None:
    with FloodServer(DESCRIPTION) as server, pytest.raises(SourceLimitError, match="session description"):
        next(pictures(server.url("rtsp"), timeout=5.0))
    assert next(pictures(footage(width=320, height=240, frames=50))).width == 320


def test_limit_of_memory_is_what_it_was_after_a_stream() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    for _ in zip(range(3), pictures(footage(width=320, height=240, frames=50)), strict=False):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before  # whoever has the picture is not bounded


def test_limit_of_memory_lasts_until_the_last_block_ends() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = DataLimit()
    first, second = limit.within(MEMORY), limit.within(MEMORY)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(MemoryError):
        bytearray(4 * MEMORY)
    second.__exit__(None, None, None)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(bytearray(4 * MEMORY)) == 4 * MEMORY


def test_busy_thread_has_its_new_connections_cut_and_no_others() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    old = socket.create_connection(listener.getsockname())
    kept, _ = listener.accept()
    with Processor(0.2) as watched:
        new = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        new.settimeout(0.01)
        deadline = time.monotonic() + 30
        ended = False
        while not ended and time.monotonic() < deadline:  # busy until it is cut
            with suppress(TimeoutError):
                ended = new.recv(1) == b""
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass
    assert ended
    assert watched.exceeded
    kept.sendall(b"x")
    assert old.recv(1) == b"x"
    for one in (listener, old, kept, new, far):
        one.close()


def test_answer_that_comes_a_byte_at_a_time_is_waited_for_as_long_as_any_other() -> None:
    with (
        TrickleServer(b"RTSP/1.0 200 OK\r\nX-Filling: ", 0.01) as server,
        pytest.raises(SourceError, match="no answer for 1 s"),
    ):
        next(pictures(f"rtsp://{server.domain}/cam", timeout=1.0))


def test_waiting_costs_no_processor_time() -> None:
    with Processor(0.2) as watched:
        threading.Event().wait(1.0)
    assert not watched.exceeded
