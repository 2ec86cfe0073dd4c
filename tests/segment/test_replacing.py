"""A segment in the place of another, and readers that look for one: where room, inotify or a number runs short."""

import logging
import math
import os
import time
from typing import Any

import numpy as np
import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, SegmentSpaceError, Stamp, camera_status
from framesrv.segment import file, inotify
from framesrv.segment.mapping import Segment
from tests.segment.observing import in_thread, newest, wait_until
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, put


def test_old_segment_has_its_name_until_the_new_one_is_whole(
    writer: FrameWriter, camera: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(writer, 1)
    seen: list[Any] = []
    reserve = file.reserve

    def look(*arguments: Any) -> None:
        seen.append(newest(camera))
        reserve(*arguments)

    monkeypatch.setattr("framesrv.segment.shared_file.reserve", look)
    assert writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
    assert seen == [(1, 1)]


def test_segment_that_is_replaced_while_it_is_attached_is_no_reason_to_wait(
    writer: FrameWriter, camera: FrameReader, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = [Segment.attach(path_of(prefix, "cam"))]
    writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
    attach = Segment.attach
    monkeypatch.setattr(Segment, "attach", lambda *arguments: met.pop() if met else attach(*arguments))
    writer.resize(WIDTH * 3, HEIGHT, "yuv420p")
    attachment = camera._attacher.attached()
    assert not met
    assert attachment is not None
    assert attachment.segment.geometry.width == WIDTH * 3


def no_room(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
    """Segments of these slots cannot be reserved: the first time, or each time for -1."""
    reserve, left = file.reserve, list(sizes)

    def fail(fd: int, nbytes: int, name: str, directory: str, saving: str) -> None:
        if nbytes > 4096 and left and left[0]:
            left[0] -= 1
            raise SegmentSpaceError(f"{name} needs {nbytes} bytes of shared memory, {directory} has 1 bytes free")
        reserve(fd, nbytes, name, directory, saving)

    monkeypatch.setattr("framesrv.segment.shared_file.reserve", fail)


def test_new_size_for_which_there_is_room_only_without_the_old_one_replaces_it(
    writer: FrameWriter, camera: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(writer, 1)
    no_room(monkeypatch, 1)
    assert writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
    assert writer.write([np.zeros(view.shape, np.uint8) for view in writer._segment.planes[0]])
    with camera.latest(timeout=5) as frame:
        assert (frame.width, frame.seq) == (WIDTH * 2, 2)


def test_new_size_for_which_there_is_no_room_is_said_and_can_be_tried_again(
    writer: FrameWriter, camera: FrameReader, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(writer, 1)
    no_room(monkeypatch, -1)
    with pytest.raises(SegmentSpaceError, match="bytes of shared memory"):
        writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
    status = camera_status(prefix, "cam")
    assert (status.state, status.seq, "bytes of shared memory" in status.error) == ("connecting", 1, True)
    with pytest.raises(FrameUnavailableError, match="bytes of shared memory") as caught:
        camera.latest(timeout=0.1)
    assert caught.value.reason == "connecting"
    monkeypatch.undo()
    assert writer.resize(WIDTH, HEIGHT, "yuv420p")
    put(writer, 2)
    assert newest(camera) == (2, 2)


def test_reader_does_not_sleep_on_a_segment_that_ended_between_two_looks(
    writer: FrameWriter, camera: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept for half a second: the word that it remembered was read after everybody had been woken."""
    put(writer, 1)
    newest(camera)
    attachment = camera._attacher._attachment
    assert attachment is not None
    writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
    monkeypatch.setattr("framesrv.segment.futex.wait", lambda *_: pytest.fail("it sleeps"))
    assert attachment.segment.wait(attachment.segment.sequence, 30)


@pytest.mark.parametrize("pts", [2**63, -(2**64), math.nan, math.inf, -(2**63) - 1])
def test_time_that_no_number_holds_costs_the_frame_its_time_alone(
    writer: FrameWriter, camera: FrameReader, pts: Any
) -> None:
    stamp = Stamp.now(HEIGHT)._replace(pts=pts)
    assert writer.write([np.zeros(view.shape, np.uint8) for view in writer._segment.planes[0]], stamp)
    with camera.latest(timeout=5) as frame:
        assert frame.pts is None


def test_without_inotify_a_camera_is_found_all_the_same_and_one_line_says_so(
    prefix: str, camera: FrameReader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Exhausted:
        def inotify_init1(self, _: int) -> int:
            return -1

    monkeypatch.setattr(inotify, "_libc", Exhausted())
    monkeypatch.setattr(inotify, "_warned", False)
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        with pytest.raises(FrameUnavailableError, match="there is no"):
            camera.latest(timeout=0.1)
    with in_thread(lambda: newest(camera)) as outcome:
        time.sleep(0.1)
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            put(writer, 1)
            wait_until(lambda: outcome)
    assert outcome == [(1, 1)]
    assert len([record for record in caplog.records if "twice a second" in record.getMessage()]) == 1


def test_look_that_does_not_wait_makes_no_watch(camera: FrameReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framesrv.segment.reader.DirectoryWatch", lambda _: pytest.fail("a watch was made"))
    with pytest.raises(FrameUnavailableError):
        camera.latest(timeout=0)


class DiedError(Exception):
    """Stands for SIGKILL at that line."""


@pytest.mark.parametrize("moved", [False, True], ids=["before the new segment has the name", "behind that"])
def test_writer_that_dies_as_the_name_changes_hands_leaves_no_reader_with_the_old_frame(
    prefix: str, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    rename = os.rename

    def die(old: str, new: str) -> None:
        if moved:
            rename(old, new)
        raise DiedError

    with FrameReader("cam", prefix=prefix) as camera:
        first = FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix)
        put(first, 1)
        assert newest(camera) == (1, 1)
        with monkeypatch.context() as patched:
            patched.setattr("os.rename", die)
            with pytest.raises(DiedError):
                first.resize(WIDTH * 2, HEIGHT, "yuv420p")
        first._segment.close()
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as second:
            put(second, 7)
            with camera.latest(max_age=None, timeout=0) as frame:
                assert frame.stamp.pts == 7
