"""Segments that end: a new size, a new writer, a name that is gone."""

import os
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from framesrv import (
    FrameReader,
    FrameUnavailableError,
    FrameWriter,
    SegmentBusyError,
    Stamp,
    camera_statuses,
)
from framesrv.segment.layout import PixelFormat
from framesrv.segment.mapping import Segment
from tests.conftest import SHM
from tests.segment.observing import in_thread, leave, newest, numbers, wait_until
from tests.support.segment_programs import HEIGHT, WIDTH, header, paint, path_of, put


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


def test_resize_whose_name_another_writer_has_taken_is_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Segment.make

    def taken(*arguments: Any, replacing: Segment) -> Segment:
        replacing.retire(str(SHM / f"{prefix}.cam"))
        rivals.append(make(*arguments))
        monkeypatch.setattr(Segment, "make", make)
        return make(*arguments)

    rivals: list[Segment] = []
    writer = FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix)
    monkeypatch.setattr(Segment, "make", taken)
    with pytest.raises(SegmentBusyError, match="another writer has taken the camera"):
        writer.resize(32, 24, "yuv420p")
    writer.close()
    assert (SHM / f"{prefix}.cam").exists()  # the rival's
    rivals[0].retire(str(SHM / f"{prefix}.cam"))
