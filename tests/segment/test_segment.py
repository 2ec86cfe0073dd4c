"""The segment, its writer and its readers, within one process."""

import gc
import mmap
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from framesrv import (
    Frame,
    FrameReader,
    FrameUnavailableError,
    FrameWriter,
    SegmentBusyError,
    SegmentError,
    SegmentFormatError,
    Stamp,
    camera_statuses,
)
from framesrv.segment import layout, locks
from framesrv.segment.layout import HEADER, PAGE, Geometry, PixelFormat
from framesrv.segment.mapping import Segment
from tests.conftest import SHM
from tests.support.segment_programs import HEIGHT, WIDTH, header, paint, path_of, pinned, put, shows, whole


@pytest.fixture
def writer(prefix: str) -> Iterator[FrameWriter]:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as opened:
        yield opened


@pytest.fixture
def camera(prefix: str) -> Iterator[FrameReader]:
    with FrameReader("cam", prefix=prefix) as opened:
        yield opened


def numbers(frame: Frame) -> tuple[int, int | None]:
    """The frame's number and that of its picture, when it is whole."""
    assert whole(frame)
    return frame.seq, frame.stamp.pts


def newest(camera: FrameReader) -> tuple[int, int | None]:
    with camera.latest(max_age=None, timeout=5) as frame:
        return numbers(frame)


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.002)


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[list[Any]]:
    """Runs `work` beside the body; the list holds its result, or its exception, once the body has ended."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:  # noqa: BLE001  the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(20)
        assert not thread.is_alive(), "the thread hangs"


def fail_half_way(writer: FrameWriter) -> None:
    with writer.next() as slot:
        assert slot is not None
        slot.planes[0][:] = 99
        raise ZeroDivisionError


def damage(prefix: str, offset: int, value: bytes) -> None:
    fd = os.open(path_of(prefix, "cam"), os.O_RDWR)
    try:
        os.pwrite(fd, value, offset)
    finally:
        os.close(fd)


def offset_of(field: str) -> int:
    assert HEADER.fields is not None
    return int(HEADER.fields[field][1])


def leave(prefix: str, **fields: int) -> None:
    """A segment with one frame that a writer has left behind without closing it, some header fields changed."""
    writer = FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix)
    put(writer, 1)
    for field, value in fields.items():
        writer._segment.header[field] = value
    writer._segment.close()


# Frames


def test_frame_carries_what_its_writer_gave_it(writer: FrameWriter, camera: FrameReader) -> None:
    begun, wall = time.monotonic_ns(), time.time()
    planes = [np.full(shape, value, np.uint8) for shape, value in (((96, 128), 1), ((48, 64), 2), ((48, 64), 3))]
    stamp = Stamp(-1_500_000_000, 1_700_000_000_250_000_000, begun, "bt2020", True, True, "camera")
    assert writer.write(planes, stamp)
    with camera.latest() as frame:
        assert frame.stamp == stamp
        assert (frame.seq, frame.width, frame.height, frame.pixel_format) == (1, 128, 96, "yuv420p")
        assert (frame.pts, frame.key_frame) == (-1.5, True)
        assert frame.captured_at == pytest.approx(1_700_000_000.25, abs=1e-6)
        assert 0 <= frame.age < 60
        for plane, expected in zip(frame.planes, planes, strict=True):
            assert np.array_equal(plane, expected)
    assert writer.write(planes)
    with camera.latest() as frame:
        assert (frame.seq, frame.pts, frame.key_frame) == (2, None, False)
        assert (frame.stamp.matrix, frame.stamp.full_range, frame.stamp.clock) == ("bt601", False, "arrival")
        assert abs(frame.captured_at - wall) < 60


def test_bgr_frame_is_one_array(prefix: str, camera: FrameReader) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (33, 35, 3), np.uint8)
    with FrameWriter("cam", 35, 33, "bgr24", prefix=prefix) as writer:
        assert writer.write([picture])
        with camera.latest() as frame:
            assert len(frame.planes) == 1
            assert np.array_equal(frame.planes[0], picture)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (321, 241), (322, 242), (639, 1)])
def test_planes_of_odd_sizes_are_rounded_up(prefix: str, camera: FrameReader, width: int, height: int) -> None:
    chroma = ((height + 1) // 2, (width + 1) // 2)
    chance = np.random.default_rng(width)
    planes = [chance.integers(0, 256, shape, np.uint8) for shape in ((height, width), chroma, chroma)]
    with FrameWriter("cam", width, height, "yuv420p", prefix=prefix) as writer:
        assert writer.write(planes)
        assert writer.write([255 - plane for plane in planes])
        with camera.latest() as frame:
            for plane, expected in zip(frame.planes, planes, strict=True):
                assert np.array_equal(plane, 255 - expected)


@pytest.mark.parametrize(
    "shapes", [[(96, 128)], [(96, 128), (48, 64), (48, 63)], [(96, 128, 1), (48, 64), (48, 64)], []]
)
def test_planes_of_another_form_are_refused(writer: FrameWriter, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        writer.write([np.zeros(shape, np.uint8) for shape in shapes])
    assert writer.frames == 0


def test_planes_of_another_type_are_refused(writer: FrameWriter, prefix: str) -> None:
    wrong = [np.zeros(shape, np.uint16) for shape in ((96, 128), (48, 64), (48, 64))]
    with pytest.raises(TypeError):
        writer.write(cast("Any", wrong))
    assert writer.frames == 0
    assert pinned(prefix, "cam") == []


# Pins


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


# Readers cannot write


def test_reader_maps_the_segment_read_only(writer: FrameWriter, camera: FrameReader, prefix: str) -> None:
    put(writer, 1)
    with camera.latest() as frame:
        for plane in frame.planes:
            with pytest.raises(ValueError, match="read-only"):
                plane[0, 0] = 1
            with pytest.raises(ValueError, match="WRITEABLE"):
                plane.flags.writeable = True
        maps = [line.split() for line in Path("/proc/self/maps").read_text("ascii").splitlines()]
        # the writer's own mapping was made before the file had a name
        assert {fields[1] for fields in maps if fields[-1] == path_of(prefix, "cam")} >= {"r--s"}
        assert whole(frame)
    segment = Segment.attach(path_of(prefix, "cam"))
    with pytest.raises(ValueError, match="read-only"):
        segment.header["seq"] = 7
    with pytest.raises(TypeError, match="read-only"):
        segment.words[0] = 7
    with pytest.raises(PermissionError):
        mmap.mmap(segment.fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    segment.close()


def test_reader_cannot_lock_anything_exclusively(writer: FrameWriter, prefix: str) -> None:
    segment = Segment.attach(path_of(prefix, "cam"))
    for byte in (layout.WRITER_BYTE, layout.DEMAND_BYTE, layout.SLOT_BYTE, layout.SLOT_BYTE + 1):
        with pytest.raises(OSError, match="Bad file descriptor"):
            locks.lock_exclusive(segment.fd, byte)
    segment.close()
    assert put(writer, 1)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666])
def test_segment_has_the_mode_asked_for_whatever_the_umask(prefix: str, mode: int) -> None:
    umask = os.umask(0o077)
    try:
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix, mode=mode) as writer:
            assert os.stat(path_of(prefix, "cam")).st_mode & 0o777 == mode
            writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
            assert os.stat(path_of(prefix, "cam")).st_mode & 0o777 == mode
    finally:
        os.umask(umask)


def test_adopted_segment_gets_the_mode_asked_for(prefix: str) -> None:
    leave(prefix)
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix, mode=0o600):
        assert os.stat(path_of(prefix, "cam")).st_mode & 0o777 == 0o600


def test_unknown_group_is_named(prefix: str) -> None:
    with pytest.raises(SegmentError, match="no group 'no-such-group'"):
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix, group="no-such-group")


# Space


def test_space_is_reserved_before_anything_is_written(writer: FrameWriter, prefix: str) -> None:
    status = os.stat(path_of(prefix, "cam"))
    assert status.st_size == writer.geometry.nbytes
    assert status.st_blocks * 512 >= writer.geometry.nbytes


# New geometry, and segments that end


def test_readers_go_on_across_a_new_size(prefix: str, camera: FrameReader) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        writer.describe(decode="fps:5", error="lost for a while")
        writer.count("reconnects", 3)
        frames = camera.frames(timeout=10)
        put(writer, 1)
        assert numbers(next(frames)) == (1, 1)
        old = camera.latest()
        assert writer.resize(WIDTH * 2, HEIGHT * 2, "yuv420p")
        assert not writer.resize(WIDTH * 2, HEIGHT * 2, "yuv420p")
        put(writer, 2)
        frame = next(frames)
        assert (frame.width, frame.height) == (WIDTH * 2, HEIGHT * 2)
        assert numbers(frame) == (2, 2)
        assert newest(camera) == (2, 2)
        assert writer.resize(WIDTH, HEIGHT, "bgr24")
        writer.write([np.full((HEIGHT, WIDTH, 3), 7, np.uint8)])
        frame = next(frames)
        assert (frame.seq, frame.pixel_format, frame.planes[0].mean()) == (3, "bgr24", 7)
        assert numbers(old) == (1, 1)
        old.release()
        assert [header(prefix, "cam", field) for field in ("seq", "frames", "reconnects")] == [3, 3, 3]
        status = camera_statuses(prefix, {})[0]
        assert (status.decode, status.error, status.seq) == ("fps:5", "lost for a while", 3)


def test_reader_that_waits_is_woken_when_the_size_changes(prefix: str, camera: FrameReader) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        frames = camera.frames(timeout=10)
        with in_thread(lambda: numbers(next(frames))) as outcome:
            wait_until(lambda: header(prefix, "cam", "frames") == 1)
            writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
            # whether or not the waiter had begun to wait: it gets the frame of the new segment
            for number in range(2, 100):
                put(writer, number)
                if outcome:
                    break
                time.sleep(0.01)
    assert outcome[0] == (outcome[0][1], outcome[0][1])
    assert outcome[0][0] >= 2


def test_writer_may_learn_the_size_later(prefix: str, camera: FrameReader) -> None:
    with FrameWriter("cam", 0, 0, "yuv420p", prefix=prefix) as writer:
        assert writer.geometry.slots == 0
        with pytest.raises(ValueError, match="not known yet"), writer.next():
            pass
        with pytest.raises(FrameUnavailableError) as caught:
            camera.latest(timeout=0)
        assert caught.value.reason == "connecting"
        writer.resize(WIDTH, HEIGHT, "yuv420p")
        put(writer, 1)
        assert newest(camera) == (1, 1)


def test_new_writer_goes_on_where_the_former_one_was_killed(prefix: str, camera: FrameReader) -> None:
    leave(prefix)
    assert newest(camera) == (1, 1)
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        assert newest(camera) == (1, 1)
        put(writer, 2)
        assert newest(camera) == (2, 2)
        assert writer.frames == 2


def test_new_writer_leaves_the_newest_frame_of_the_former_one_alone(prefix: str, camera: FrameReader) -> None:
    leave(prefix)
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        with writer.next() as slot:
            assert slot is not None
            assert newest(camera) == (1, 1)
            paint(slot.planes, 2)
            slot.stamp = Stamp.now(HEIGHT)._replace(pts=2)
        assert newest(camera) == (2, 2)


@pytest.mark.parametrize(("width", "slots"), [(WIDTH * 2, 2), (WIDTH, 4)])
def test_new_writer_of_another_form_replaces_the_segment_and_goes_on_counting(
    prefix: str, camera: FrameReader, width: int, slots: int
) -> None:
    leave(prefix)
    with camera.latest(max_age=None) as old:
        with FrameWriter("cam", width, HEIGHT, "yuv420p", slots=slots, prefix=prefix) as writer:
            put(writer, 2)
            assert newest(camera) == (2, 2)
        assert numbers(old) == (1, 1)


def test_segment_is_gone_and_readers_know_when_the_writer_is_closed(prefix: str, camera: FrameReader) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera) == (1, 1)
    writer.close()
    assert not Path(path_of(prefix, "cam")).exists()
    with pytest.raises(FrameUnavailableError) as caught:
        camera.latest(max_age=None, timeout=0)
    assert caught.value.reason == "absent"


def test_segment_removed_by_hand_is_replaced_by_the_next_writer(prefix: str, camera: FrameReader) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as orphan:
        put(orphan, 1)
        frames = camera.frames(timeout=10)
        os.unlink(path_of(prefix, "cam"))
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            put(writer, 2)
            assert numbers(next(frames)) == (1, 2)
            orphan.close()
            assert Path(path_of(prefix, "cam")).exists()


def test_second_writer_is_refused_by_the_pid_of_the_first(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    for width in (WIDTH, WIDTH * 2, 0):
        with pytest.raises(SegmentBusyError, match=rf"cam already has a live writer \(pid {os.getpid()}\)"):
            FrameWriter("cam", width, HEIGHT if width else 0, "yuv420p", prefix=prefix)
    assert newest(camera) == (1, 1)


@pytest.mark.parametrize(
    ("width", "height", "pixel_format", "slots"),
    [
        (0, 5, "yuv420p", 2),
        (5, -1, "yuv420p", 2),
        (16385, 5, "yuv420p", 2),
        (8, 8, "nv12", 2),
        (8, 8, "bgr24", 1),
        (8, 8, "bgr24", 17),
    ],
)
def test_arguments_out_of_range_make_no_segment(
    prefix: str, width: int, height: int, pixel_format: str, slots: int
) -> None:
    with pytest.raises(ValueError, match="expected"):
        FrameWriter("cam", width, height, cast("PixelFormat", pixel_format), slots=slots, prefix=prefix)


# Waiting


def unavailable(camera: FrameReader, max_age: float | None, timeout: float) -> FrameUnavailableError:
    """The error of `latest`, which must keep its deadline."""
    begun = time.monotonic()
    with pytest.raises(FrameUnavailableError) as caught:
        camera.latest(max_age=max_age, timeout=timeout)
    assert timeout <= time.monotonic() - begun + 0.001
    assert time.monotonic() - begun < timeout + 5
    assert caught.value.code == "cam"
    assert str(caught.value).startswith("camera cam: ")
    return caught.value


@pytest.mark.parametrize("timeout", [0, 0.2, 0.7])
def test_camera_without_a_segment_is_absent(prefix: str, camera: FrameReader, timeout: float) -> None:
    error = unavailable(camera, 1, timeout)
    assert (error.reason, error.age) == ("absent", None)
    assert path_of(prefix, "cam") in str(error)


def test_camera_without_a_frame_is_connecting(writer: FrameWriter, camera: FrameReader) -> None:
    writer.describe(error="connection refused")
    error = unavailable(camera, None, 0.1)
    assert (error.reason, error.age) == ("connecting", None)
    assert "(connection refused)" in str(error)


def test_camera_that_has_lost_its_stream_is_connecting(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    writer.connecting()
    error = unavailable(camera, 0, 0.1)
    assert error.reason == "connecting"
    assert error.age is not None
    put(writer, 2)
    assert unavailable(camera, 0, 0).reason == "stale"


@pytest.mark.parametrize(("seconds", "reason"), [(1.5, "stale"), (600, "stalled")])
def test_camera_whose_newest_frame_is_old_is_stale_and_then_stalled(
    writer: FrameWriter, camera: FrameReader, seconds: float, reason: str
) -> None:
    with writer.next() as slot:
        assert slot is not None
        slot.stamp = Stamp.now(HEIGHT)._replace(arrived_ns=time.monotonic_ns() - int(seconds * 1e9))
    error = unavailable(camera, 1, 0.1)
    assert error.reason == reason
    assert error.age is not None
    assert error.age >= seconds
    assert "s old" in str(error)
    with camera.latest(max_age=None, timeout=0) as frame:
        assert frame.age >= seconds


def test_camera_whose_writer_died_is_down(prefix: str, camera: FrameReader) -> None:
    leave(prefix)
    assert unavailable(camera, 0, 0.7).reason == "down"
    assert newest(camera) == (1, 1)
    with FrameWriter("cam", 0, 0, "yuv420p", prefix=prefix):
        assert unavailable(camera, 0, 0).reason == "connecting"


def test_every_write_wakes_who_waits(writer: FrameWriter, prefix: str) -> None:
    """Not the look at the sequence that waiters take now and then, but the wake-up itself."""
    segment = Segment.attach(path_of(prefix, "cam"))
    for number in range(1, 21):
        sequence, about_to_wait = segment.sequence, threading.Event()

        def wait(sequence: int = sequence, about_to_wait: threading.Event = about_to_wait) -> bool:
            about_to_wait.set()
            return segment.wait(sequence, 10)

        with in_thread(wait) as woken:
            about_to_wait.wait()
            time.sleep(0.005)  # so that most of the twenty do wait; those that do not return at once
            put(writer, number)
        assert woken == [True]
    segment.close()


def test_waiting_reader_gets_the_next_frame_that_is_fresh(writer: FrameWriter, camera: FrameReader) -> None:
    with writer.next() as slot:
        assert slot is not None
        slot.stamp = Stamp.now(HEIGHT)._replace(arrived_ns=time.monotonic_ns() - 10**10)
    with in_thread(lambda: numbers(camera.latest(max_age=5, timeout=10))) as outcome:
        put(writer, 2)
    assert outcome == [(2, 2)]


def test_reader_that_is_closed_while_it_waits_says_so(writer: FrameWriter, camera: FrameReader) -> None:
    frames = camera.frames(timeout=10)
    with in_thread(lambda: next(frames)) as outcome:
        camera.close()
    assert isinstance(outcome[0], ValueError)


def test_frames_come_once_each_and_in_order(writer: FrameWriter, camera: FrameReader) -> None:
    frames = camera.frames(timeout=0.1)
    for number in range(1, 51):
        put(writer, number)
        assert numbers(next(frames)) == (number, number)
    with pytest.raises(FrameUnavailableError, match="no new frame came in time"):
        next(frames)
    frames = camera.frames(timeout=5)
    put(writer, 51)
    put(writer, 52)
    assert numbers(next(frames)) == (52, 52)


def test_frames_begin_with_the_first_that_is_new(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    with pytest.raises(FrameUnavailableError):
        next(camera.frames(timeout=0.1))


def test_thread_in_latest_survives_another_that_finds_the_segment_gone(prefix: str, camera: FrameReader) -> None:
    """A reader closed or detached by another thread at the wrong moment once gave `Bad file descriptor`."""
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        with camera.latest():
            attachment = camera._attached()
    assert attachment is not None
    attachment.close()
    assert attachment.state == "down"
    assert attachment.newest() is None


# Files that are no segment, or damaged


def test_half_made_segment_is_waited_for(prefix: str, camera: FrameReader) -> None:
    leave(prefix, magic=0)
    assert unavailable(camera, None, 0.1).reason == "absent"
    with in_thread(lambda: numbers(camera.latest(max_age=None, timeout=10))) as outcome:
        damage(prefix, 0, b"FRAMESRV")
    assert outcome == [(1, 1)]
    os.unlink(path_of(prefix, "cam"))


def test_magic_number_of_a_new_segment_is_there_with_its_name(prefix: str, camera: FrameReader) -> None:
    """Whoever can open a segment that this writer makes, and remakes, finds it whole."""
    stop = threading.Event()

    def look() -> int:
        looks = 0
        while not stop.is_set():
            try:
                Segment.attach(path_of(prefix, "cam")).close()
                looks += 1
            except FileNotFoundError:
                pass
        return looks

    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer, in_thread(look) as outcome:
        for number in range(200):
            writer.resize(WIDTH + 16 * (number % 2), HEIGHT, "yuv420p")
        stop.set()
    assert isinstance(outcome[0], int), outcome[0]
    assert outcome[0] > 0


@pytest.mark.parametrize("length", [0, 1, 7, 4095])
def test_file_shorter_than_a_header_is_one_that_is_being_made(prefix: str, camera: FrameReader, length: int) -> None:
    Path(path_of(prefix, "cam")).write_bytes(b"x" * length)
    assert unavailable(camera, None, 0).reason == "absent"
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera) == (1, 1)


@pytest.mark.parametrize("length", [4096, 5001, 100_000])
def test_garbage_is_refused_by_readers_and_replaced_by_a_writer(
    prefix: str, camera: FrameReader, length: int
) -> None:
    Path(path_of(prefix, "cam")).write_bytes(np.random.default_rng(length).bytes(length))
    with pytest.raises(SegmentFormatError, match=rf"{prefix}\.cam: not a framesrv segment"):
        camera.latest()
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera) == (1, 1)


def test_segment_of_another_version_is_refused_and_a_writer_retires_it(prefix: str, camera: FrameReader) -> None:
    """Its readers, who have it mapped and wait on its sequence, are woken and told, where all versions have it."""
    leave(prefix)
    theirs = Segment.attach(path_of(prefix, "cam"))
    damage(prefix, 8, (99).to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match="layout is version 99, this framesrv reads version 1"):
        camera.latest()
    sequence = theirs.sequence
    with (
        in_thread(lambda: theirs.wait(sequence, 20)) as woken,
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer,
    ):
        put(writer, 1)
        assert theirs.retired
        assert theirs.sequence != sequence
        assert newest(camera) == (1, 1)
    assert woken == [True]
    theirs.close()


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket", "link to a segment", "dangling link"])
def test_what_is_no_regular_file_is_refused(prefix: str, camera: FrameReader, kind: str) -> None:
    path = Path(path_of(prefix, "cam"))
    with FrameWriter("other", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as other:
        put(other, 1)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        else:
            path.symlink_to(path_of(prefix, "other" if "segment" in kind else "nothing"))
        with in_thread(lambda: camera.latest(timeout=1)) as outcome:
            pass
        assert isinstance(outcome[0], SegmentError)
        assert str(path) in str(outcome[0])
        try:
            FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix).close()
        except SegmentError as error:
            assert str(path) in str(error)  # noqa: PT017  a writer may replace it or refuse it
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        assert other.frames == 1


WRONG = {
    "slots": (0, 1, 3, 17, 0xFFFFFFFF),
    "pixel_format": (0, 2, 3, 0xFFFFFFFF),
    "width": (0, 1, 130, 0x10000, 0xFFFFFFFF),
    "height": (0, 1, 98, 0xFFFFFFFF),
    "slot_offset": (0, 4095, 1 << 63, (1 << 64) - 1),
    "slot_size": (0, 4096, 1 << 40, (1 << 64) - 1),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_damaged_field_is_refused_by_readers_and_replaced_by_a_writer(
    prefix: str, camera: FrameReader, field: str, value: int
) -> None:
    leave(prefix, **{field: value})
    with pytest.raises(SegmentFormatError, match=rf"^{path_of(prefix, 'cam')}: damaged"):
        camera.latest()
    assert camera_statuses(prefix, {})[0].state == "down"
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera)[1] == 1


@pytest.mark.parametrize("width", [1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("pixel_format", [1, 2])
def test_damaged_size_of_a_segment_whose_size_is_not_known_is_refused(
    prefix: str, camera: FrameReader, width: int, pixel_format: int
) -> None:
    """Sizes that overflow the header once ended in an OverflowError."""
    leave(prefix, slots=0, width=width, height=width, pixel_format=pixel_format)
    with pytest.raises(SegmentFormatError, match="damaged"):
        camera.latest()
    os.unlink(path_of(prefix, "cam"))


@pytest.mark.parametrize("plane", range(3))
@pytest.mark.parametrize("word", range(6))
def test_damaged_plane_is_refused(prefix: str, camera: FrameReader, plane: int, word: int) -> None:
    leave(prefix)
    damage(prefix, offset_of("planes") + plane * 24 + word * 4, (0x10001).to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match="damaged: planes"):
        camera.latest()
    os.unlink(path_of(prefix, "cam"))


@pytest.mark.parametrize("value", [2, 15, 16, 0xFFFFFFFE])
def test_damaged_newest_is_refused_until_a_writer_mends_it(prefix: str, camera: FrameReader, value: int) -> None:
    leave(prefix)
    assert newest(camera) == (1, 1)
    damage(prefix, offset_of("newest"), value.to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match=rf"\.cam: damaged: its newest slot is {value} of 2"):
        camera.latest()
    assert camera_statuses(prefix, {})[0].age_s is None
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 2)
        assert newest(camera) == (2, 2)


@pytest.mark.parametrize(("word", "value"), [(32, 0), (32, 7), (44, 2), (44, 0xFFFFFFFF)])
def test_damaged_record_is_refused_and_its_pin_given_back(
    prefix: str, camera: FrameReader, word: int, value: int
) -> None:
    leave(prefix)
    damage(prefix, 2048 + word, value.to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match=r"\.cam: damaged: frame 1 has matrix"):
        camera.latest(max_age=None)
    assert pinned(prefix, "cam") == []
    os.unlink(path_of(prefix, "cam"))


@pytest.mark.parametrize("length", [PAGE, PAGE + 1, PAGE + 4, Geometry(WIDTH, HEIGHT, "yuv420p", 2).nbytes - 1])
def test_truncated_segment_is_refused_and_replaced(prefix: str, camera: FrameReader, length: int) -> None:
    leave(prefix)
    os.truncate(path_of(prefix, "cam"), length)
    with pytest.raises(SegmentFormatError, match=f"{length} bytes long"):
        camera.latest()
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera) == (1, 1)


@pytest.mark.parametrize("offset", range(0, 512, 4))
def test_no_damaged_word_of_the_header_crashes_a_reader(prefix: str, camera: FrameReader, offset: int) -> None:
    for value in (b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0"):
        leave(prefix)
        damage(prefix, offset, value)
        try:
            camera.latest(timeout=0).release()
        except (SegmentFormatError, FrameUnavailableError) as error:
            assert str(error)  # noqa: PT017  either may be right; nothing else may come
        camera_statuses(prefix, {})
        os.unlink(path_of(prefix, "cam"))


def test_error_text_that_is_no_utf8_is_shown_all_the_same(prefix: str) -> None:
    leave(prefix)
    damage(prefix, offset_of("error"), b"\xff" * 256)
    assert camera_statuses(prefix, {})[0].error
    os.unlink(path_of(prefix, "cam"))


def test_long_error_text_is_cut_between_characters(writer: FrameWriter, camera: FrameReader) -> None:
    writer.describe(error="x" + "像" * 100)
    assert f"({'x' + '像' * 85})" in str(unavailable(camera, None, 0))


# Other programs


def test_shared_memory_of_the_standard_library_sees_the_same_bytes(
    writer: FrameWriter, prefix: str, camera: FrameReader
) -> None:
    put(writer, 1)
    name = f"{prefix}.cam"
    if sys.version_info >= (3, 13):
        shared = SharedMemory(name=name, track=False)
    else:
        shared = SharedMemory(name=name)
        resource_tracker.unregister(f"/{name}", "shared_memory")
    with camera.latest() as frame:
        assert shared.buf is not None
        assert bytes(shared.buf[:8]) == b"FRAMESRV"
        assert shared.size == writer.geometry.nbytes
        luma = np.frombuffer(shared.buf, np.uint8, 96 * 128, 4096).reshape(96, 128)
        assert np.array_equal(luma, frame.planes[0])
        del luma
    shared.close()
    assert put(writer, 2)


@pytest.mark.parametrize("code", ["", "a/b", "../cam", "x" * 65, "cam\n", "摄像头", "a b", "\0"])
def test_ill_formed_code_is_refused(code: str, prefix: str) -> None:
    for make in (lambda: FrameReader(code), lambda: FrameWriter(code, 8, 8, "yuv420p")):
        with pytest.raises(ValueError, match=re.escape(f"camera code {code!r}: expected")):
            make()
    with pytest.raises(ValueError, match="prefix"):
        FrameReader("cam", prefix=code)


def test_status_tells_what_the_header_has(writer: FrameWriter, prefix: str) -> None:
    now = time.monotonic_ns()
    for number in range(1, 4):
        with writer.next() as slot:
            assert slot is not None
            paint(slot.planes, number)
            slot.stamp = Stamp.now(HEIGHT)._replace(arrived_ns=now - (3 - number) * 40_000_000)
    for counter, number in (("corrupt", 4), ("reconnects", 5)):
        writer.count(counter, number)
    writer.describe(decode="all", error="an error")
    status = camera_statuses(prefix, {})[0]
    assert status.code == "cam"
    assert (status.state, status.width, status.height, status.pixel_format) == ("live", WIDTH, HEIGHT, "yuv420p")
    assert (status.seq, status.fps, status.corrupt, status.reconnects) == (3, 25.0, 4, 5)
    assert (status.pid, status.decode, status.error) == (os.getpid(), "all", "an error")
    assert "error" not in status.to_json()


@pytest.mark.parametrize("field", ["seq", "frames"])
def test_damaged_counter_that_no_writer_could_go_on_from_is_started_anew(prefix: str, field: str) -> None:
    with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as first:
        first._segment.header[field] = 2**64 - 1
        first._segment.close()  # as if it had been killed
        with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as second:
            assert second.write([np.zeros(view.shape, np.uint8) for view in second._segment.planes[0]])
            assert second.frames == 1
        first._closed = True


def test_resize_whose_name_another_writer_has_taken_is_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Segment.make

    def taken(*arguments: Any) -> Segment:
        rival = make(*arguments)
        monkeypatch.setattr(Segment, "make", make)
        rivals.append(rival)
        return make(*arguments)

    rivals: list[Segment] = []
    writer = FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix)
    monkeypatch.setattr(Segment, "make", taken)
    with pytest.raises(SegmentBusyError, match="another writer has taken the camera"):
        writer.resize(32, 24, "yuv420p")
    writer.close()
    assert (SHM / f"{prefix}.cam").exists()  # the rival's
    rivals[0].retire(str(SHM / f"{prefix}.cam"))


def test_rate_is_right_where_frames_are_shown_in_another_order_than_they_came(
    writer: FrameWriter, prefix: str
) -> None:
    began = time.monotonic_ns()
    for group in range(0, 60, 3):
        for arrival in (group, group + 2, group + 3, group + 1)[group > 0 :]:
            with writer.next() as slot:
                assert slot is not None
                slot.stamp = Stamp.now(HEIGHT)._replace(arrived_ns=began + arrival * 40_000_000)
    status = camera_statuses(prefix, {})[0]
    assert 22 < status.fps < 28
