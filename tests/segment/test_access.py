"""Who may read a segment, that a reader cannot write, and that space is reserved."""

import errno
import mmap
import os
from pathlib import Path

import pytest

from framesrv import (
    FrameReader,
    FrameWriter,
    SegmentError,
)
from framesrv.segment import layout, locks
from framesrv.segment.layout import PAGE
from framesrv.segment.mapping import Segment
from tests.segment.observing import leave
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, put, whole
from tests.support.users import ALICE, BOB, READERS, as_user, needs_root


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


@needs_root
def test_writer_outside_the_readers_group_admits_it_and_nobody_else(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framesrv.segment.access.group_id", lambda _: READERS)
    path = path_of(prefix, "cam")

    def write() -> None:
        writer = FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix, group="readers")
        writer.resize(WIDTH * 2, HEIGHT, "yuv420p")
        put(writer, 1)  # and dies with its segment in place

    def opens(flags: int) -> bool:
        try:
            os.close(os.open(path, flags))
        except PermissionError:
            return False
        return True

    as_user(ALICE, write)
    try:
        assert os.stat(path).st_uid == ALICE
        assert as_user(ALICE, lambda: opens(os.O_RDWR))
        for groups, may_read in ((), False), ((READERS,), True):
            assert as_user(BOB, lambda: opens(os.O_RDONLY), groups) is may_read
            assert not as_user(BOB, lambda: opens(os.O_RDWR), groups)
    finally:
        os.unlink(path)


def test_writer_that_cannot_open_the_segment_leaves_it_to_the_one_that_lives(
    writer: FrameWriter, camera: FrameReader, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(writer, 1)
    opened = os.open

    def out_of_files(path: str, *arguments: int, **options: int) -> int:
        if path == path_of(prefix, "cam"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr("os.open", out_of_files)
        with pytest.raises(SegmentError, match="cannot be opened for writing: Too many open files"):
            FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix)
    assert os.path.exists(path_of(prefix, "cam"))
    with camera.latest(max_age=None) as frame:
        assert whole(frame)


def test_unknown_group_is_named(prefix: str) -> None:
    with pytest.raises(SegmentError, match="no group 'no-such-group'"):
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix, group="no-such-group")


def test_space_is_reserved_before_anything_is_written(writer: FrameWriter, prefix: str) -> None:
    status = os.stat(path_of(prefix, "cam"))
    assert status.st_size == writer.geometry.nbytes
    assert status.st_blocks * 512 >= writer.geometry.nbytes
