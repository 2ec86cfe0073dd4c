"""Segments that somebody cuts short, with readers and a writer that have them mapped."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, SegmentError, SegmentFormatError, camera_status
from framesrv.segment.layout import PAGE
from tests.segment.observing import newest
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, put


@pytest.mark.parametrize("length", [0, PAGE, 3 * PAGE])
def test_reader_survives_and_is_told_that_its_frame_is_gone(
    writer: FrameWriter, camera: FrameReader, prefix: str, length: int
) -> None:
    put(writer, 1)
    put(writer, 2)
    pixels = 0

    def use_a_frame() -> None:
        nonlocal pixels
        with camera.latest(max_age=None) as frame:
            os.truncate(path_of(prefix, "cam"), length)
            pixels = sum(np.array(plane).size for plane in frame.planes)

    with pytest.raises(SegmentFormatError, match="frame 2 is gone: its segment was cut short"):
        use_a_frame()
    assert pixels == WIDTH * HEIGHT * 3 // 2, "every one was read"
    with pytest.raises((SegmentError, FrameUnavailableError)):
        camera.latest(max_age=None, timeout=0.2)
    assert camera_status(prefix, "cam").state == "down"


def test_a_picture_of_a_frame_that_is_gone_is_not_given(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    frame = camera.latest(max_age=None)
    os.truncate(path_of(prefix, "cam"), PAGE)
    with pytest.raises(SegmentFormatError, match="frame 1 is gone"):
        frame.bgr(width=64)
    frame.release()


def test_waiting_reader_survives_the_loss_of_the_word_that_it_waits_on(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    assert newest(camera) == (1, 1)
    os.truncate(path_of(prefix, "cam"), 0)
    with pytest.raises((SegmentError, FrameUnavailableError)):
        camera.latest(max_age=0, timeout=1.0)


def test_writer_goes_on_in_a_new_segment_and_readers_follow(
    writer: FrameWriter, camera: FrameReader, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(writer, 1)
    assert newest(camera) == (1, 1)
    os.truncate(path_of(prefix, "cam"), PAGE)
    put(writer, 2)
    assert writer.keep_name()
    assert not writer.keep_name()
    put(writer, 3)
    assert newest(camera) == (3, 3)
    assert writer.frames == 3
    assert "was cut short and is made anew" in caplog.text


def test_writer_whose_segment_was_removed_makes_it_anew(
    writer: FrameWriter, camera: FrameReader, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(writer, 1)
    assert newest(camera) == (1, 1)
    assert not writer.keep_name()
    os.unlink(path_of(prefix, "cam"))
    assert writer.keep_name()
    put(writer, 2)
    assert newest(camera) == (2, 2)
    assert writer.geometry.width == WIDTH
    assert "was removed and is made anew" in caplog.text


CUT = """
import mmap, os, sys
from framesrv import FrameReader
with FrameReader("cam", prefix=sys.argv[1]) as camera:
    camera.latest(max_age=None).release()  # from here on mappings are guarded
file = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)
os.ftruncate(file, 4096)
memory = mmap.mmap(file, 4096)
os.ftruncate(file, 0)
print("touches", flush=True)
memory[0]
print("survives", flush=True)
"""


@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"]])
def test_other_mappings_end_a_program_as_they_did(writer: FrameWriter, prefix: str, options: list[str]) -> None:
    put(writer, 1)
    done = subprocess.run(
        [sys.executable, *options, "-c", CUT, prefix], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "touches\n")
    assert ("Fatal Python error: Bus error" in done.stderr) is bool(options)


def test_writer_of_other_frames_goes_on(prefix: str) -> None:
    """Several segments in one process, of which one is cut."""
    with (
        FrameWriter("one", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as one,
        FrameWriter("two", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as two,
        FrameReader("two", prefix=prefix) as camera,
    ):
        os.truncate(path_of(prefix, "one"), PAGE)
        put(one, 1)
        put(two, 1)
        assert newest(camera) == (1, 1)
