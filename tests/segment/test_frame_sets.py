"""Several cameras at once: whichever has a frame, and one of each in step; who drops out keeps nobody waiting."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from framesrv import (
    Batch,
    Frame,
    FrameSet,
    FrameUnavailableError,
    FrameWriter,
    SegmentFormatError,
    Stamp,
    camera_status,
)
from framesrv.segment import futex
from tests.segment.observing import begin_again_and_again, in_thread, wait_until
from tests.support import segment_programs as programs
from tests.support.segment_programs import HEIGHT, WIDTH, Process, paint, path_of, pinned, put, whole

CODES = ("one", "two", "three")


@pytest.fixture(params=[True, False], ids=["one sleep", "a thread each"])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels with futex_waitv, and without; no camera stands still because this host is slow."""
    monkeypatch.setattr("framesrv.segment.mapping.STALL", 1000)
    if not request.param:
        monkeypatch.setattr(futex, "waits_for_many", lambda: False)
        monkeypatch.setattr("framesrv.segment.word_watch.IDLE", 0.05)
    elif not futex.waits_for_many():
        pytest.skip("this kernel has no futex_waitv")


pytestmark = pytest.mark.usefixtures("many")


@pytest.fixture
def writers(prefix: str) -> Iterator[list[FrameWriter]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix)) for code in CODES]


@pytest.fixture
def cameras(prefix: str, writers: list[FrameWriter]) -> Iterator[FrameSet]:
    for writer in writers:
        put(writer, 1)
    with FrameSet(CODES, prefix=prefix) as opened:
        yield opened


def put_at(writer: FrameWriter, number: int, arrived: int) -> None:
    """Publishes a picture that arrived then, in monotonic nanoseconds."""
    with writer.next() as slot:
        assert slot is not None
        paint(slot.planes, number)
        slot.stamp = Stamp.now(HEIGHT)._replace(pts=number, arrived_ns=arrived)


@contextmanager
def writing(*writers: FrameWriter, pause: float = 0.005) -> Iterator[None]:
    """Frames of these cameras, one after the other, while the block runs."""
    stop = threading.Event()

    def write() -> None:
        number = 100
        while not stop.wait(pause):
            number += 1
            for writer in writers:
                put(writer, number)

    with in_thread(write):
        try:
            yield
        finally:
            stop.set()


def seen(found: tuple[str, Frame]) -> tuple[str, int | None]:
    code, frame = found
    assert whole(frame)
    return code, frame.stamp.pts


def test_whichever_camera_has_a_new_frame_gives_it_and_none_twice(
    writers: list[FrameWriter], cameras: FrameSet, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framesrv.segment.frame_set.LIVENESS", 1000)  # a frame wakes, not a look twice a second
    with closing(cameras.frames(timeout=10)) as frames:  # type: ignore[type-var]
        for number, index in enumerate((1, 0, 2, 2, 1), 2):
            with in_thread(lambda: seen(next(frames))) as found:
                wait_until(lambda: all(writer.demanded for writer in writers))
                put(writers[index], number)
            assert found == [(CODES[index], number)]
        for writer in writers:
            put(writer, 9)
        assert {seen(next(frames)) for _ in CODES} == {(code, 9) for code in CODES}
    assert [pinned(prefix, code) for code in CODES] == [[], [], []]
    quick = cameras.frames(timeout=0.1)
    with pytest.raises(FrameUnavailableError, match=r"camera one: no new frame.*camera two.*camera three") as caught:
        next(quick)
    assert (caught.value.code, caught.value.reason) == ("one, two, three", "stale")


def test_wait_for_any_goes_on_until_its_deadline_while_frames_are_begun(
    writers: list[FrameWriter], cameras: FrameSet
) -> None:
    frames = cameras.frames(timeout=0.2)
    while True:
        try:
            next(frames)
        except FrameUnavailableError:
            break
    began = time.monotonic()
    with in_thread(lambda: next(cameras.frames(timeout=0.2))) as ended:
        begin_again_and_again(writers[1], ended)
    assert isinstance(ended[0], FrameUnavailableError)
    assert time.monotonic() - began >= 0.2


def test_cameras_take_turns_where_all_have_frames(writers: list[FrameWriter], cameras: FrameSet) -> None:
    frames, given = cameras.frames(timeout=10), []
    for number in range(2, 11):
        for writer in writers:
            put(writer, number)
        given.append(next(frames)[0])
    assert set(given[:3]) == set(CODES)
    assert given == given[:3] * 3


def test_set_asks_decoders_until_it_is_closed(writers: list[FrameWriter], cameras: FrameSet) -> None:
    assert not any(writer.demanded for writer in writers)
    assert cameras.batch(timeout=0.01).frames == {}
    assert all(writer.demanded for writer in writers)
    cameras.close()
    assert not any(writer.demanded for writer in writers)
    with pytest.raises(ValueError, match="closed"):
        cameras.batch(timeout=1)


def test_batch_has_a_frame_of_each_camera_within_the_time_that_is_given(
    writers: list[FrameWriter], cameras: FrameSet, prefix: str
) -> None:
    now = time.monotonic_ns()

    def take() -> dict[str, tuple[int, int | None]]:
        with cameras.batch(timeout=20, in_step=0.02) as batch:
            assert not batch.missing
            assert all(map(whole, batch.frames.values()))
            return {code: (frame.seq, frame.stamp.pts) for code, frame in batch.frames.items()}

    with in_thread(take) as taken:
        wait_until(lambda: all(writer.demanded for writer in writers))
        for number, index, milliseconds in ((2, 0, 0), (3, 1, 21), (4, 2, 23)):
            put_at(writers[index], number, now + milliseconds * 1_000_000)
            wait_until(lambda index=index: pinned(prefix, CODES[index]))  # type: ignore[misc]
        assert not taken
        put_at(writers[0], 5, now + 40_000_000)
    assert taken == [{"one": (3, 5), "two": (2, 3), "three": (2, 4)}]
    assert [pinned(prefix, code) for code in CODES] == [[], [], []]


def test_batch_of_fewer_cameras_waits_for_no_more(writers: list[FrameWriter], cameras: FrameSet) -> None:
    put(writers[0], 2)
    put(writers[2], 2)
    with cameras.batch(2, timeout=20, in_step=10) as batch:
        assert (list(batch.frames), batch.missing) == (["one", "three"], {})
    for wrong in (0, 4):
        with pytest.raises(ValueError, match="expected 1 to 3 cameras"):
            cameras.batch(wrong)


def test_batch_that_comes_short_tells_who_is_late_and_who_is_out_of_step(
    writers: list[FrameWriter], cameras: FrameSet
) -> None:
    now = time.monotonic_ns()
    put_at(writers[0], 2, now - 500_000_000)
    put_at(writers[1], 2, now)
    with cameras.batch(timeout=0.05) as batch:
        assert list(batch.frames) == ["two"]
        assert {code: error.reason for code, error in reasons(batch).items()} == {"one": "stale", "three": "stale"}
        assert "camera one: no frame came within 0.02 s of the others' in time" in str(batch.missing["one"])
        assert "camera three: no new frame came in time" in str(batch.missing["three"])


def reasons(batch: Batch) -> dict[str, FrameUnavailableError]:
    return {code: error for code, error in batch.missing.items() if isinstance(error, FrameUnavailableError)}


@pytest.mark.leaves_segment
def test_cameras_that_drop_out_are_told_and_keep_nobody_waiting(
    writers: list[FrameWriter], prefix: str, start: Callable[..., Process]
) -> None:
    for writer in writers:
        put(writer, 1)
    killed = start(programs.write_forever, prefix, "killed", 0, False)
    wait_until(lambda: camera_status(prefix, "killed").state == "live")
    codes = [*CODES, "killed", "absent"]
    deadline = time.monotonic() + 30
    with writing(*writers), FrameSet(codes, prefix=prefix) as cameras:
        batch = Batch({})
        while list(batch.frames) != [*CODES, "killed"]:  # a camera may be taken for one that stands still at first
            assert time.monotonic() < deadline
            with cameras.batch(timeout=20, in_step=10) as batch:
                assert reasons(batch)["absent"].reason == "absent"
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
        deadline = time.monotonic() + 30
        while reasons(batch).keys() != {"killed", "absent"}:
            assert time.monotonic() < deadline
            with cameras.batch(timeout=20, in_step=10) as batch:
                assert set(CODES) <= set(batch.frames)
        assert reasons(batch)["killed"].reason == "down"
        assert cameras.missing.keys() == {"killed", "absent"}
        with FrameWriter("absent", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as late, writing(late):
            frames = cameras.frames(timeout=10)
            while next(frames)[0] != "absent":
                assert time.monotonic() < deadline
        os.unlink(path_of(prefix, "one"))
        Path(path_of(prefix, "one")).write_bytes(b"no segment" * 1000)  # keeps nobody waiting either
        while not isinstance(cameras.missing.get("one"), SegmentFormatError):
            assert time.monotonic() < deadline
            cameras.batch(timeout=20, in_step=10).release()


def test_set_follows_segments_that_are_replaced_or_lose_their_name(
    writers: list[FrameWriter], cameras: FrameSet, prefix: str
) -> None:
    frames = cameras.frames(timeout=20)
    with in_thread(lambda: seen(next(frames))) as found:
        wait_until(lambda: writers[1].demanded)
        writers[1].resize(WIDTH + 64, HEIGHT, "yuv420p")
        put(writers[1], 5)
    assert found == [("two", 5)]
    os.unlink(path_of(prefix, "three"))
    with (
        FrameWriter("three", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as other,
        in_thread(lambda: seen(next(frames))) as found,
    ):
        wait_until(lambda: other.demanded)
        put(other, 6)
    assert found == [("three", 6)]


def test_codes_that_make_no_set_are_refused(prefix: str) -> None:
    for codes in ((), ("one", "one"), "one"):
        with pytest.raises(ValueError, match="expected some, each once"):
            FrameSet(codes, prefix=prefix)


@pytest.mark.leaves_segment
def test_set_outlives_writers_that_are_killed_and_gives_frames_of_the_others_meanwhile(
    writers: list[FrameWriter], prefix: str, start: Callable[..., Process]
) -> None:
    put(writers[0], 1)
    with FrameSet(["one", "killed"], prefix=prefix) as cameras, writing(writers[0]):
        frames, sources = cameras.frames(timeout=10), set()
        for source in range(8):
            victim = start(programs.write_forever, prefix, "killed", source, source % 2 == 1)
            deadline, given = time.monotonic() + 20, dict.fromkeys(("one", "killed"), 0)
            while not all(given.values()) or source not in sources:
                assert time.monotonic() < deadline
                code, frame = next(frames)
                assert whole(frame)
                given[code] += 1
                if code == "killed":
                    sources.add((frame.stamp.pts or 0) >> 32)
            victim.kill()
