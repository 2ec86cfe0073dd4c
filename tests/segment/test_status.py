"""What a header tells of its camera, and what other programs see of a segment."""

import os
import re
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

from framesrv import (
    FrameReader,
    FrameWriter,
    Stamp,
    camera_statuses,
)
from tests.support.segment_programs import HEIGHT, WIDTH, paint, put


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
    writer.describe(decode="all", error="an error", attempts=6)
    writer.via("udp")
    status = camera_statuses(prefix, {})[0]
    assert status.code == "cam"
    assert (status.state, status.width, status.height, status.pixel_format) == ("live", WIDTH, HEIGHT, "yuv420p")
    assert (status.seq, status.fps, status.corrupt, status.reconnects) == (3, 25.0, 4, 5)
    assert (status.pid, status.decode, status.error) == (os.getpid(), "all", "an error")
    assert (status.attempts, status.restarts, status.transport) == (6, 0, "udp")
    assert "error" not in status.to_json()


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
