"""Readers in C, under sanitizers, against writers and decoders that are real, killed, and change their size."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framesrv import FrameReader, FrameWriter, camera_status
from framesrv.segment.layout import PAGE
from tests.segment.observing import wait_until
from tests.support import c_programs as c
from tests.support import processes
from tests.support import segment_programs as programs
from tests.support.segment_programs import HEIGHT, WIDTH, Process, header, path_of, pinned, put

FRAMES = int(os.environ.get("C_READER_FRAMES", "2500"))  # that each thread takes
SOURCES = 25

sanitized = pytest.mark.parametrize("sanitizer", ["asan", "tsan"])
everywhere = pytest.mark.parametrize("sanitizer", ["plain", "asan", "tsan"])


@pytest.fixture
def reader(sanitizer: str) -> Path:
    return c.compiled(c.READER, sanitizer=sanitizer)


def seen(running: c.Running, timeout: float) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads(running.line(timeout))
    assert running.end() == (0, "")
    return counts


@sanitized
@pytest.mark.leaves_segment
def test_four_threads_of_one_reader_see_no_torn_frame(
    reader: Path, prefix: str, start: Callable[..., Process], start_c: Callable[..., c.Running]
) -> None:
    running = start_c(reader, "look", str(FRAMES))
    assert running.line() == "ready"
    writer = start(programs.write_forever, prefix, "cam", 0, False)
    counts = seen(running, 100 + FRAMES / 100)
    assert (counts["torn"], counts["disordered"], counts["errors"]) == (0, 0, 0)
    assert counts["frames"] == 4 * FRAMES
    writer.kill()
    assert pinned(prefix, "cam") == []


@sanitized
@pytest.mark.parametrize("resizing", [False, True], ids=["same size", "resizing"])
@pytest.mark.leaves_segment
def test_readers_outlive_killed_writers(
    reader: Path, prefix: str, start: Callable[..., Process], start_c: Callable[..., c.Running], resizing: bool
) -> None:
    chance = random.Random(SOURCES)
    running = start_c(reader, "follow", str(SOURCES))
    assert running.line() == "ready"
    for source in range(SOURCES):
        writer = start(programs.write_forever, prefix, "cam", source, resizing)
        if source % 2:  # the others may die while they open the segment
            assert writer.answer() == "writing"
        time.sleep(chance.uniform(0.02, 0.08))  # the instant is what is random here
        writer.kill()
    start(programs.write_forever, prefix, "cam", SOURCES, resizing)
    counts = seen(running, 100)
    assert (counts["torn"], counts["errors"]) == (0, 0)
    assert resizing or counts["disordered"] == 0
    assert counts["sources"] > SOURCES / 5, "hardly a writer lived long enough to be seen"


@everywhere
@pytest.mark.parametrize("length", [0, PAGE, 3 * PAGE])
def test_reader_survives_and_is_told_that_its_frame_is_gone(
    reader: Path, writer: FrameWriter, prefix: str, start_c: Callable[..., c.Running], length: int
) -> None:
    put(writer, 1)
    running = start_c(reader, "hold")
    assert running.line() == f"0 1 {WIDTH}x{HEIGHT} 1 whole"
    os.truncate(path_of(prefix, "cam"), length)
    running.go_on()
    assert running.line() == f"other {c.GONE}"
    assert running.line() == "the frame is gone: its segment was cut short while it was pinned"
    assert int(running.line().split()[0]) == (c.FORMAT if length else c.ABSENT)
    assert running.end() == (0, "")


@everywhere
def test_waiting_reader_survives_the_loss_of_the_word_that_it_waits_on(
    reader: Path, writer: FrameWriter, prefix: str, start_c: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = start_c(reader, "wait")
    assert running.line() == "waits"
    wait_until(lambda: writer.demanded)
    os.truncate(path_of(prefix, "cam"), 0)
    put(writer, 2)  # to nowhere
    assert writer.keep_name()
    put(writer, 3)
    assert running.line().startswith("0 3 ")
    assert running.end() == (0, "")


def test_other_mappings_end_a_program_as_they_did(
    c_reader: Path, writer: FrameWriter, start_c: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = start_c(c_reader, "touch")
    assert running.line() == "touches"
    assert running.end()[0] == -signal.SIGBUS


@sanitized
def test_pinned_frame_is_constant_and_its_pin_ends_with_the_reader(
    reader: Path, writer: FrameWriter, prefix: str, start_c: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = start_c(reader, "hold")
    assert running.line() == f"0 1 {WIDTH}x{HEIGHT} 1 whole"
    for number in range(2, 50):
        assert put(writer, number)
    assert len(pinned(prefix, "cam")) == 1
    running.go_on()
    assert running.line() == f"whole {c.OK}"
    assert running.line() == "all is well"
    assert running.line().startswith("0 49 ")
    wait_until(lambda: pinned(prefix, "cam") == [])
    running.end()
    put(writer, 50)
    other = start_c(reader, "hold")
    assert other.line().startswith("0 50 ")
    other.process.kill()
    other.end()
    assert pinned(prefix, "cam") == []


@sanitized
def test_waiting_reader_asks_for_frames_and_follows_a_new_segment(
    reader: Path, writer: FrameWriter, start_c: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = start_c(reader, "wait")
    assert running.line() == "waits"
    wait_until(lambda: writer.demanded)
    writer.resize(WIDTH + 64, HEIGHT, "bgr24")
    wait_until(lambda: writer.demanded)
    with writer.next() as slot:
        assert slot is not None
        slot.planes[0][:] = 7
    assert running.line() == f"0 2 {WIDTH + 64}x{HEIGHT} 2 other"
    wait_until(lambda: not writer.demanded)
    assert running.end() == (0, "")


def test_waiting_reader_leaves_a_segment_that_lost_its_name(
    c_reader: Path, writer: FrameWriter, prefix: str, start_c: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = start_c(c_reader, "wait")
    assert running.line() == "waits"
    wait_until(lambda: writer.demanded)
    os.unlink(path_of(prefix, "cam"))
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as other:
        wait_until(lambda: other.demanded)
        put(other, 7)
        assert running.line().startswith(f"0 1 {WIDTH}x{HEIGHT} 1 whole")


def test_reader_waits_for_a_camera_that_is_not_there_yet(
    c_reader: Path, prefix: str, start_c: Callable[..., c.Running]
) -> None:
    running = start_c(c_reader, "wait")
    assert running.line() == "waits"
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        wait_until(lambda: writer.demanded)
        put(writer, 1)
        assert running.line().startswith("0 1 ")


@pytest.mark.leaves_segment
def test_frames_of_a_decoder_are_read_after_it_was_killed_and_after_its_camera_changed_size(
    prefix: str, tmp_path: Path
) -> None:
    program = c.compiled(c.READER, sanitizer="asan")
    for source, size in (
        ("test:160x120@25", "160x120"),
        ("test:160x120@25", "160x120"),
        ("test:320x240@25", "320x240"),
    ):
        cameras = [{"code": "cam", "source": source}]
        config = processes.write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, cameras)
        with (
            processes.Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log") as decoder,
            c.Running(program, "wait", prefix, "cam") as running,
        ):
            assert running.line() == "waits"
            words = running.line().split()
            assert (words[0], words[2]) == ("0", size)
            assert running.end() == (0, "")
            with FrameReader("cam", prefix=prefix) as camera, camera.latest(timeout=20) as frame:
                assert frame.seq >= int(words[1])
            decoder.stop(signal.SIGKILL)
        assert c.one(program, prefix)[0] in {c.OK, c.DOWN}
        assert camera_status(prefix, "cam").state == "down"
        assert header(prefix, "cam", "frames") > 0
