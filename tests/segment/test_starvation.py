"""Readers that keep what they lock: the writer starts, frames come, and somebody says who it is."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, SegmentFormatError, camera_status
from framesrv.segment import layout, locks, starvation
from framesrv.segment.mapping import Segment
from tests.segment.observing import newest, wait_until
from tests.support import segment_programs as programs
from tests.support.processes import run, write_config
from tests.support.segment_programs import HEIGHT, WIDTH, Process, path_of, put, whole


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a starving writer sees."""
    now = [1000.0]
    monkeypatch.setattr("framesrv.segment.starvation.monotonic", lambda: now[0])
    return now


def grasp(prefix: str) -> Segment:
    """Every lock that a reader can take, of the segment that is there now."""
    segment = Segment.attach(path_of(prefix, "cam"))
    for byte in (layout.WRITER_BYTE, layout.DEMAND_BYTE, *segment.slot_bytes):
        locks.lock_shared(segment.fd, byte)  # the writer's is not to be had while it lives
    return segment


def test_writer_starts_although_a_reader_holds_every_lock(prefix: str, start: Callable[..., Process]) -> None:
    first = FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix)
    put(first, 1)
    first._segment.close()  # as if it were killed
    held = grasp(prefix)
    looking = Segment.attach(path_of(prefix, "cam"))
    assert locks.is_held(looking.fd, layout.WRITER_BYTE, exclusively=False)
    looking.close()
    assert camera_status(prefix, "cam").state == "down"
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        assert put(writer, 2)
        with FrameReader("cam", prefix=prefix) as camera:
            assert newest(camera)[1] == 2
        assert held.retired
        second = start(programs.open_writer, prefix, "cam")
        assert "already has a live writer" in second.answer()
    held.close()


def test_frames_come_again_when_every_slot_stays_pinned(
    writer: FrameWriter, prefix: str, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    put(writer, 1)
    with FrameReader("cam", prefix=prefix) as holding:
        held = [holding.latest(max_age=None)]
        put(writer, 2)
        held.append(holding.latest(max_age=None))
        assert not put(writer, 3)
        status = camera_status(prefix, "cam")
        assert f"pid {os.getpid()} (" in status.pinned
        clock[0] += starvation.STARVED
        assert put(writer, 4)
        assert "frames go to a new segment" in caplog.text
        assert f"pid {os.getpid()}" in caplog.text
        assert camera_status(prefix, "cam").pinned == ""
        with FrameReader("cam", prefix=prefix) as camera:
            assert newest(camera) == (3, 4)
        assert [frame.stamp.pts for frame in held] == [1, 2]
        assert all(whole(frame) for frame in held)
        assert newest(holding) == (3, 4)
        for frame in held:
            frame.release()
    assert writer.frames == 3


def test_memory_of_segments_given_up_is_bounded_and_given_back(
    writer: FrameWriter, prefix: str, clock: list[float]
) -> None:
    put(writer, 1)
    put(writer, 2)
    held: list[Segment] = []
    for number in range(3, 3 + starvation.KEPT):
        held.append(grasp(prefix))
        assert not put(writer, number)
        clock[0] += starvation.STARVED
        assert put(writer, number)
        put(writer, number)
    held.append(grasp(prefix))
    sizes = [os.fstat(segment.fd).st_size for segment in held]
    assert min(sizes) > layout.PAGE
    assert not put(writer, 10)
    clock[0] += starvation.STARVED
    assert not put(writer, 10), "no more than so many are given up at once"
    clock[0] += starvation.HELD
    assert put(writer, 10), "but no reader keeps the newest frames from all others"
    assert os.fstat(held[0].fd).st_size == layout.PAGE
    assert os.fstat(held[1].fd).st_size == sizes[1]
    for segment in held[1:]:
        for byte in segment.slot_bytes:
            locks.unlock(segment.fd, byte)
    assert put(writer, 11)
    assert {os.fstat(segment.fd).st_size for segment in held} == {layout.PAGE}
    for segment in held:
        segment.close()


def test_frame_of_a_segment_that_was_cut_short_is_told_to_be_gone(
    writer: FrameWriter, prefix: str, clock: list[float]
) -> None:
    put(writer, 1)
    with FrameReader("cam", prefix=prefix) as holding:
        frame = holding.latest(max_age=None)
        segments = []
        for number in range(2, 4 + starvation.KEPT):
            put(writer, number)
            segments.append(grasp(prefix))
            put(writer, number)
            clock[0] += starvation.HELD
            put(writer, number)
        with pytest.raises(SegmentFormatError, match="frame 1 is gone"), frame:
            assert frame.planes[0].sum() >= 0
        for segment in segments:
            segment.close()


def test_reader_that_forgets_its_frames_starves_nobody(
    writer: FrameWriter, prefix: str, clock: list[float], start: Callable[..., Process]
) -> None:
    """It takes a frame, never gives it back, and takes the next."""
    leak = start(programs.keep_everything, prefix, "cam")
    assert leak.answer() == "ready"
    published, number = 0, 0
    wait_until(lambda: locks.is_held(writer._segment.fd, layout.DEMAND_BYTE, exclusively=False))
    with FrameReader("cam", prefix=prefix) as camera:
        for _ in range(40):
            number += 1
            published += put(writer, number)
            clock[0] += 2
            try:
                camera.latest(max_age=None, timeout=0.02).release()
            except FrameUnavailableError:
                continue
    assert published > 8


def test_ls_says_who_pins_every_slot(writer: FrameWriter, prefix: str, tmp_path: Path) -> None:
    cameras = [{"code": "cam", "source": "test:64x48@1"}]
    config = write_config(tmp_path / "c.toml", {"shm": {"prefix": prefix}}, cameras)
    put(writer, 1)
    with FrameReader("cam", prefix=prefix) as camera, camera.latest(max_age=None):
        assert "pinned" not in run("framesrv", "ls", "--config", config).stdout
        put(writer, 2)
        with camera.latest(max_age=None):
            said = run("framesrv", "ls", "--config", config).stdout
            assert f"every slot is pinned by pid {os.getpid()} (" in said
            (row,) = json.loads(run("framesrv", "ls", "--json", "--config", config).stdout)
            assert row["pinned"].startswith(f"pid {os.getpid()} (")
