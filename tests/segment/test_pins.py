"""Pins: what a reader looks at stays as it is, and the writer waits for nobody."""

import gc
import os
import threading
import time
from typing import Any, cast

import numpy as np
import pytest

from framesrv import (
    FrameReader,
    FrameUnavailableError,
    FrameWriter,
)
from framesrv.segment import locks
from tests.segment.observing import fail_half_way, in_thread, newest, numbers
from tests.support.segment_programs import HEIGHT, WIDTH, header, pinned, put, shows, whole


def test_pinned_frame_survives_a_thousand_writes(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    with camera.latest() as frame:
        for number in range(2, 1002):
            assert put(writer, number)
            assert shows(frame.planes, 1)
        assert numbers(frame) == (1, 1)
    assert newest(camera) == (1001, 1001)


def test_writer_fills_the_newest_slot_only_when_readers_have_pinned_all_others(
    prefix: str, camera: FrameReader
) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", slots=3, prefix=prefix) as writer:
        put(writer, 1)
        with camera.latest():
            put(writer, 2)
            put(writer, 3)
            assert header(prefix, "cam", "blocked") == 0
            with camera.latest():
                put(writer, 4)
                assert header(prefix, "cam", "blocked") == 0
                put(writer, 5)
                assert header(prefix, "cam", "blocked") == 1
                assert newest(camera) == (5, 5)


def test_newest_frame_stays_readable_while_the_next_is_written(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    put(writer, 2)
    with writer.next() as slot:
        assert slot is not None
        for plane in slot.planes:
            plane[:] = 99
        assert newest(camera) == (2, 2)
        slot.stamp = None


def test_reader_that_is_overtaken_while_it_pins_takes_the_newer_frame(
    writer: FrameWriter, camera: FrameReader, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(writer, 1)
    lock, waiting = locks.lock_shared, [2, 3, 4]

    def overtaken(fd: int, byte: int) -> bool:
        if waiting:
            put(writer, waiting.pop(0))
        return lock(fd, byte)

    monkeypatch.setattr(locks, "lock_shared", overtaken)
    with camera.latest() as frame:
        assert numbers(frame) == (4, 4)
        assert len(pinned(prefix, "cam")) == 1


def test_frame_is_dropped_and_counted_only_when_every_slot_is_pinned(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    with camera.latest() as first:
        put(writer, 2)
        with camera.latest() as second:
            for number in range(3, 13):
                assert not put(writer, number)
            with writer.next() as slot:
                assert slot is None
            assert (numbers(first), numbers(second)) == ((1, 1), (2, 2))
            assert header(prefix, "cam", "dropped") == 11
            assert header(prefix, "cam", "frames") == writer.frames == 2
        assert put(writer, 13)
        assert newest(camera) == (3, 13)


def test_pins_of_one_thread_survive_the_release_of_anothers(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    mine = camera.latest()
    with in_thread(lambda: camera.latest().release()):
        pass
    assert pinned(prefix, "cam") == [0]
    for number in range(2, 12):
        put(writer, number)
    assert numbers(mine) == (1, 1)
    mine.release()
    mine.release()
    assert pinned(prefix, "cam") == []


def test_threads_that_share_a_reader_see_no_torn_frame(prefix: str, camera: FrameReader) -> None:
    stop = threading.Event()
    chance = np.random.default_rng(4)
    pauses = [float(pause) for pause in chance.uniform(0, 0.002, 64)]

    def read() -> tuple[int, int]:
        seen = torn = 0
        while not stop.is_set():
            with camera.latest(max_age=None, timeout=20) as frame:
                before = whole(frame)
                time.sleep(pauses[seen % 64])
                torn += not (before and whole(frame))
            seen += 1
        return seen, torn

    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", slots=3, prefix=prefix) as writer:
        put(writer, 1)
        with in_thread(read) as one, in_thread(read) as two, in_thread(read) as three:
            for number in range(2, 5000):
                put(writer, number)
            stop.set()
        for seen, torn in (*one, *two, *three):
            assert seen > 0
            assert torn == 0
        assert pinned(prefix, "cam") == []


def test_frame_that_is_forgotten_gives_its_pin_back(writer: FrameWriter, camera: FrameReader, prefix: str) -> None:
    put(writer, 1)
    camera.latest()
    gc.collect()
    assert pinned(prefix, "cam") == []


def test_loop_that_is_left_gives_its_pin_back(writer: FrameWriter, camera: FrameReader, prefix: str) -> None:
    frames = camera.frames(timeout=5)
    put(writer, 1)
    next(frames)
    assert pinned(prefix, "cam") == [0]
    cast("Any", frames).close()
    assert pinned(prefix, "cam") == []


def test_frame_stays_pinned_when_its_reader_is_closed(writer: FrameWriter, prefix: str) -> None:
    put(writer, 1)
    with FrameReader("cam", prefix=prefix) as camera:
        frame = camera.latest()
    for number in range(2, 12):
        put(writer, number)
    assert numbers(frame) == (1, 1)
    frame.release()
    assert pinned(prefix, "cam") == []
    with pytest.raises(ValueError, match="closed"):
        camera.latest()


def test_views_stay_readable_after_everything_has_been_closed(prefix: str) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        with FrameReader("cam", prefix=prefix) as camera, camera.latest() as frame:
            views = frame.planes
        del frame, camera
    del writer
    gc.collect()
    assert shows(views, 1)


def test_closed_reader_and_writer_leave_no_file_open(prefix: str) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        with FrameReader("cam", prefix=prefix) as camera:
            camera.latest().release()
            writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
            put(writer, 2)
            camera.latest().release()
    del writer, camera
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_exception_while_a_slot_is_filled_publishes_nothing(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail_half_way(writer)
        assert newest(camera) == (1, 1)
        assert pinned(prefix, "cam") == []
    assert writer.frames == 1
    put(writer, 2)
    assert newest(camera) == (2, 2)


def test_exception_while_the_newest_slot_is_overwritten_shows_no_half_written_frame(
    writer: FrameWriter, camera: FrameReader
) -> None:
    put(writer, 1)
    with camera.latest():
        put(writer, 2)
        with pytest.raises(ZeroDivisionError):
            fail_half_way(writer)
        with pytest.raises(FrameUnavailableError):
            camera.latest(max_age=None, timeout=0)
        put(writer, 3)
        assert newest(camera) == (3, 3)
