"""The segment between processes that are stopped and killed at any instant."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, SegmentBusyError
from framesrv.segment.mapping import Segment
from tests.support import segment_programs as programs
from tests.support.segment_programs import HEIGHT, WIDTH, Process, Seen, header, path_of, pinned, put, whole


@contextmanager
def writing(writer: FrameWriter) -> Iterator[threading.Event]:
    """Writes at full speed in a thread; the event that is yielded is set when a write was dropped."""
    stop, dropped = threading.Event(), threading.Event()

    def work() -> None:
        number = writer.frames
        while not stop.is_set():
            number += 1
            if not put(writer, number):
                dropped.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield dropped
    finally:
        stop.set()
        thread.join(20)


def newest(reader: FrameReader) -> tuple[int, int | None] | None:
    """Number and picture of the newest frame; None if there is none at this moment."""
    try:
        with reader.latest(max_age=None, timeout=0) as frame:
            assert whole(frame)
            return frame.seq, frame.stamp.pts
    except FrameUnavailableError:
        return None


def _at_full_speed(start: Callable[..., Process], prefix: str, slots: int, enough: int) -> tuple[int, int]:
    """A writer and four readers, none of whom may see a torn frame; how many were published, and dropped."""
    readers = [start(programs.look, prefix, "cam", seed) for seed in range(4)]
    for reader in readers:
        assert reader.answer() == "ready"
    attempted, published, counted, dropped = start(programs.write, prefix, "cam", slots, 100_000, enough).answer(100)
    for reader in readers:
        seen: Seen = reader.answer()
        assert seen.frames > 0
        assert (seen.torn, seen.disordered) == (0, 0)
    assert published == counted
    assert published + dropped == attempted
    return published, dropped


def test_no_frame_is_torn_and_every_drop_is_counted_with_two_slots_and_four_readers(
    prefix: str, start: Callable[..., Process]
) -> None:
    _, dropped = _at_full_speed(start, prefix, 2, 25_000)
    assert dropped > 0, "two slots cannot be enough for four readers at this speed: the readers did not pin"


def test_no_frame_is_dropped_with_two_slots_more_than_readers(prefix: str, start: Callable[..., Process]) -> None:
    assert _at_full_speed(start, prefix, 6, 100_000) == (100_000, 0)


def test_stopped_reader_that_holds_a_pin_keeps_no_frame_from_being_published(
    prefix: str, start: Callable[..., Process]
) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        holder = start(programs.hold, prefix, "cam")
        assert holder.answer() == 1
        os.kill(holder.pid, signal.SIGSTOP)
        with FrameReader("cam", prefix=prefix) as camera:
            for number in range(2, 1002):
                assert put(writer, number)
                assert newest(camera) == (number, number)
        assert header(prefix, "cam", "frames") == 1001
        assert header(prefix, "cam", "dropped") == 0
        assert header(prefix, "cam", "blocked") == 999  # all but the first went to the only slot left, the newest
        os.kill(holder.pid, signal.SIGCONT)
        holder.pipe.send("still the same?")
        assert holder.answer() is True


def test_readers_killed_while_they_hold_pins_leave_no_trace(prefix: str, start: Callable[..., Process]) -> None:
    chance = random.Random(30)
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", slots=6, prefix=prefix) as writer:
        put(writer, 1)
        with writing(writer) as dropped:
            readers = [start(programs.hold_by_turns, prefix, "cam", seed) for seed in range(4)]
            for seed in range(30):
                victim = readers.pop(chance.randrange(len(readers)))
                assert victim.answer() == "pinned"
                time.sleep(chance.uniform(0, 0.02))  # the instant is what is random here
                victim.kill()
                readers.append(start(programs.hold_by_turns, prefix, "cam", 4 + seed))
            for reader in readers:
                assert reader.answer() == "pinned"
                reader.kill()
            assert not dropped.is_set()
        assert pinned(prefix, "cam") == []
        assert header(prefix, "cam", "dropped") == 0
        blocked = header(prefix, "cam", "blocked")
        for number in range(100):
            assert put(writer, number)
        assert header(prefix, "cam", "blocked") == blocked


def _kill_writers(start: Callable[..., Process], prefix: str, rounds: int, *, resizing: bool) -> list[Seen]:
    """Two long-lived readers follow `rounds` writers that are killed, and one that lives until both have seen it."""
    chance = random.Random(rounds)
    readers = [start(programs.follow, prefix, "cam", rounds, each) for each in (False, True)]
    for reader in readers:
        assert reader.answer() == "ready"
    for source in range(rounds):
        writer = start(programs.write_forever, prefix, "cam", source, resizing)
        if source % 2:  # the others may die while they open the segment
            assert writer.answer() == "writing"
        time.sleep(chance.uniform(0, 0.06))  # the instant is what is random here
        writer.kill()
        assert writer.process.exitcode == -signal.SIGKILL
    start(programs.write_forever, prefix, "cam", rounds, resizing)
    return [reader.answer() for reader in readers]


@pytest.mark.leaves_segment
def test_readers_outlive_two_hundred_killed_writers_and_see_numbers_only_rise(
    prefix: str, start: Callable[..., Process]
) -> None:
    for seen in _kill_writers(start, prefix, 200, resizing=False):
        assert (seen.torn, seen.disordered, seen.late) == (0, 0, 0)
        assert seen.sources > 50, "hardly a writer lived long enough to be seen"


@pytest.mark.leaves_segment
def test_readers_outlive_writers_killed_while_they_change_the_size(
    prefix: str, start: Callable[..., Process]
) -> None:
    for seen in _kill_writers(start, prefix, 50, resizing=True):
        assert (seen.torn, seen.late) == (0, 0)
        assert seen.sources > 10, "hardly a writer lived long enough to be seen"


@pytest.mark.parametrize("blocked", [False, True], ids=["into a free slot", "over the newest frame"])
def test_writer_may_die_at_every_line_of_a_write(prefix: str, start: Callable[..., Process], blocked: bool) -> None:
    """A number never comes twice with different pictures, and what is seen is whole."""
    pictures: dict[int, int | None] = {}
    with FrameReader("cam", prefix=prefix) as camera:
        first = start(programs.write_and_die, prefix, "cam", 1, 1_000_000)
        assert first.join() == programs.SURVIVED
        with camera.latest(max_age=None) as frame:
            other = start(programs.write_and_die, prefix, "cam", 2, 1_000_000)
            assert other.join() == programs.SURVIVED
            if not blocked:
                frame.release()
            last, step, status = 2, 0, None
            while status != programs.SURVIVED:
                victim = start(programs.write_and_die, prefix, "cam", 3 + step, step)
                status = victim.join()
                assert status in (-signal.SIGKILL, programs.SURVIVED)
                seen = newest(camera)
                if seen is None:
                    assert blocked, "the newest frame was overwritten though another slot was free"
                else:
                    number, picture = seen
                    assert number >= last
                    assert pictures.setdefault(number, picture) == picture
                    last = number
                step += 1
            assert step > 20
            if blocked:
                assert whole(frame)
                assert frame.seq == 1
    Segment.remove_abandoned(prefix, "cam")


def test_writer_may_die_at_every_line_of_making_and_replacing_the_segment(
    prefix: str, start: Callable[..., Process]
) -> None:
    with FrameReader("cam", prefix=prefix) as camera:
        step, status = 0, None
        while status != programs.SURVIVED:
            victim = start(programs.open_and_die, prefix, "cam", WIDTH + step % 2 * 16, step)
            status = victim.join()
            assert status in (-signal.SIGKILL, programs.SURVIVED)
            with pytest.raises(FrameUnavailableError) if status != programs.SURVIVED else _nothing():
                camera.latest(max_age=None, timeout=0).release()
            step += 1
        assert step > 50
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            put(writer, 9)
            with camera.latest() as frame:
                assert (frame.stamp.pts, whole(frame)) == (9, True)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_second_writer_is_refused_while_the_first_lives_and_takes_over_when_it_is_killed(
    prefix: str, start: Callable[..., Process]
) -> None:
    first = start(programs.open_writer, prefix, "cam")
    assert first.answer() == first.pid
    with pytest.raises(SegmentBusyError, match=rf"{prefix}\.cam already has a live writer \(pid {first.pid}\)"):
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix)
    with FrameReader("cam", prefix=prefix) as camera, camera.latest(max_age=None) as frame:
        assert frame.seq == 1  # being refused changed nothing
        first.kill()
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            assert header(prefix, "cam", "pid") == os.getpid()
            assert header(prefix, "cam", "restarts") == 1
            put(writer, 2)
            assert newest(camera) == (2, 2)
            assert whole(frame)
            second = start(programs.open_writer, prefix, "cam")
            assert f"(pid {os.getpid()})" in second.answer()
    assert not Path(path_of(prefix, "cam")).exists()


def test_segment_of_a_writer_that_ends_by_itself_is_gone(prefix: str, start: Callable[..., Process]) -> None:
    writer = start(programs.open_writer, prefix, "cam")
    assert writer.answer() == writer.pid
    assert Path(path_of(prefix, "cam")).exists()
    writer.pipe.send("end")
    assert writer.join() == 0
    assert not Path(path_of(prefix, "cam")).exists()
    again = start(programs.open_writer, prefix, "cam")
    again.answer()
    assert header(prefix, "cam", "restarts") == 0, "the one before was told to end"
    again.pipe.send("end")
    again.join()


def test_camera_whose_writer_was_killed_is_down(prefix: str, start: Callable[..., Process]) -> None:
    writer = start(programs.open_writer, prefix, "cam")
    writer.answer()
    writer.kill()
    with FrameReader("cam", prefix=prefix) as camera:
        with camera.latest(max_age=None) as frame:
            assert whole(frame)
        with pytest.raises(FrameUnavailableError, match="its decoder is not running") as caught:
            camera.latest(max_age=0, timeout=0.1)
        assert caught.value.reason == "down"
        assert caught.value.age is not None
    Segment.remove_abandoned(prefix, "cam")
    assert not Path(path_of(prefix, "cam")).exists()


def test_removing_the_segment_of_a_live_writer_does_nothing(prefix: str, start: Callable[..., Process]) -> None:
    writer = start(programs.open_writer, prefix, "cam")
    writer.answer()
    Segment.remove_abandoned(prefix, "cam")
    assert Path(path_of(prefix, "cam")).exists()
    writer.pipe.send("end")
    writer.join()


def test_waiting_reader_is_woken_by_a_write_of_another_process(prefix: str, start: Callable[..., Process]) -> None:
    writer = start(programs.write_when_told, prefix, "cam")
    assert writer.answer() == "ready"
    with FrameReader("cam", prefix=prefix) as camera:
        frames = camera.frames(timeout=20)
        for number in range(1, 21):
            writer.pipe.send(number)
            with next(frames) as frame:
                assert (frame.seq, frame.stamp.pts) == (number, number)
    writer.pipe.send(0)
    assert writer.join() == 0


def test_reader_that_waits_for_an_absent_camera_gets_its_first_frame(
    prefix: str, start: Callable[..., Process]
) -> None:
    got: list[int] = []

    def wait() -> None:
        with FrameReader("cam", prefix=prefix) as camera, camera.latest(timeout=20) as frame:
            got.append(frame.seq)

    thread = threading.Thread(target=wait)
    thread.start()
    writer = start(programs.open_writer, prefix, "cam")
    writer.answer()
    thread.join(20)
    assert got == [1]
    writer.pipe.send("end")
    writer.join()
