"""Waiting for frames: what wakes a reader, and why it is told that there is none."""

import threading
import time

import pytest

from framesrv import (
    FrameReader,
    FrameUnavailableError,
    FrameWriter,
    Stamp,
)
from framesrv.segment import futex
from framesrv.segment.mapping import Segment
from tests.segment.observing import begin_again_and_again, in_thread, leave, newest, numbers, unavailable
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, put


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


def test_readers_are_woken_when_a_frame_is_begun(writer: FrameWriter, prefix: str) -> None:
    put(writer, 1)
    segment = Segment.attach(path_of(prefix, "cam"))
    sequence = segment.sequence
    with in_thread(lambda: futex.wait(segment.word, sequence, 10)) as woken:
        begin_again_and_again(writer, woken)  # the first may come before it sleeps
    assert woken == [True]
    assert segment.sequence == sequence  # nothing was published
    segment.close()


def test_reader_that_is_woken_and_finds_nothing_waits_on(writer: FrameWriter, camera: FrameReader) -> None:
    frames, began = camera.frames(timeout=0.2), time.monotonic()
    with in_thread(lambda: next(frames)) as outcome:
        begin_again_and_again(writer, outcome)
    assert isinstance(outcome[0], FrameUnavailableError)
    assert time.monotonic() - began >= 0.2
    frames = camera.frames(timeout=10)
    with in_thread(lambda: numbers(next(frames))) as outcome:
        begin_again_and_again(writer, outcome, times=20)
        put(writer, 5)
    assert [picture for _, picture in outcome] == [5]


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
            attachment = camera._attacher.attached()
    assert attachment is not None
    attachment.close()
    assert attachment.state == "down"
    assert attachment.newest() is None
