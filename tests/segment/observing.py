"""What tests of this room do to segments, and see of them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from framesrv import (
    Frame,
    FrameReader,
    FrameUnavailableError,
    FrameWriter,
)
from framesrv.segment.layout import HEADER
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, put, whole


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


def begin_again_and_again(writer: FrameWriter, until: list[Any], times: int = 10**6) -> None:
    """Frames that are begun and never published, until the list has something or there were so many."""
    for _ in range(times):
        if until:
            return
        with suppress(ZeroDivisionError):
            fail_half_way(writer)
        time.sleep(0.001)


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
