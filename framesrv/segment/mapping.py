"""A mapped segment: made, adopted from a former writer, attached to by readers, retired.

`Segment` is the mapping of a writer or a reader. It is never unmapped by hand: views of a frame may
outlive the reader that gave them, and the memory goes when the last of them does.
"""

import contextlib
import mmap
import os
import time
from pathlib import Path
from typing import Literal, Self

import numpy as np

from framesrv.errors import SegmentBusyError, SegmentError, SegmentFormatError
from framesrv.segment import access, futex, layout, locks
from framesrv.segment.file import HalfMadeError, give_name, reserve, same_file, segment_path, size_of
from framesrv.segment.layout import HEADER, PAGE, Geometry

STALL = 3.0  # s
COUNTABLE = 2**62  # no camera has published so many frames: a header that says so is damaged

_SEQUENCE, _NEWEST, _RETIRED = (layout.OFFSETS[name] // 4 for name in ("sequence", "newest", "retired"))

State = Literal["live", "stalled", "connecting", "down"]


class Segment:
    """A mapped segment.

    Attributes:
        fd: its open file, which owns this side's locks.
        header: an array of one `layout.HEADER` over the header page.
        geometry: of its frames; constant for the segment's life.
        planes: of each slot, the views of its planes; read-only for a reader.
    """

    def __init__(self, fd: int, nbytes: int, *, writable: bool, geometry: Geometry | None = None) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.fd = fd
        self.memory = mmap.mmap(fd, nbytes, mmap.MAP_SHARED, access)
        page = memoryview(self.memory)[:PAGE]  # a damaged file need not be a whole number of words
        self.words = page.cast("I")
        self.longs = page.cast("Q")
        everything = np.frombuffer(self.memory, np.uint8)
        self.header = everything[:PAGE].view(HEADER)
        self._address = everything.ctypes.data
        if geometry is not None:
            layout.describe(self.header, geometry)
            self.header["version"] = layout.VERSION
            self.header["newest"] = layout.NO_SLOT
            self.header["magic"] = layout.MAGIC
        self.geometry = layout.geometry_of(self.header, nbytes)
        self.planes = [
            _views(everything[PAGE + slot * self.geometry.slot_size :], self.geometry)
            for slot in range(self.geometry.slots)
        ]

    @classmethod
    def make(
        cls, path: str, geometry: Geometry, mode: int, gid: int | None, replacing: "Segment | None" = None
    ) -> Self:
        """A new segment, locked by this writer, under its name from the moment it is whole.

        Args:
            path: its name.
            geometry: of its frames.
            mode: its permissions.
            gid: its group; this process's own where None.
            replacing: the segment that has the name, retired when the new one is whole.

        Raises:
            SegmentSpaceError: shared memory is too small.
            FileExistsError: the name is taken.
            SegmentError: the group cannot be given.
        """
        directory, name = os.path.split(path)
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            reserve(fd, geometry.nbytes, name, directory)
            if not locks.lock_exclusive(fd, layout.WRITER_BYTE):
                raise SegmentError(f"{name}: a new file is locked")
            segment = cls(fd, geometry.nbytes, writable=True, geometry=geometry)
            segment.admit(mode, gid)
            if replacing is not None:
                replacing.retire(path)
            give_name(fd, directory, name)
        except BaseException:
            os.close(fd)
            raise
        return segment

    @classmethod
    def adopt(cls, path: str) -> Self | None:
        """The segment that a former writer left, locked by this one; None where there is none to adopt.

        A file that this version cannot use is retired, if it is a segment at all, and unlinked.

        Raises:
            SegmentBusyError: the writer is alive.
            SegmentError: the file cannot be opened.
        """
        name = Path(path).name
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SegmentError(f"{path} cannot be opened for writing: {error.strerror}") from error
        try:
            if not locks.lock_exclusive(fd, layout.WRITER_BYTE):
                raise SegmentBusyError(
                    f"{name} already has a live writer{_pid_of(fd)}: a camera has one decoder at a time"
                )
            if not same_file(fd, path):  # the former writer removed it between our open and our lock
                os.close(fd)
                return cls.adopt(path)
            segment = cls(fd, size_of(fd), writable=True)
            if not segment.retired and max(segment.header["seq"][0], segment.header["frames"][0]) < COUNTABLE:
                return segment
            os.unlink(path)
            segment.close()
        except (SegmentFormatError, HalfMadeError):
            _retire_foreign(fd)
            os.unlink(path)
            os.close(fd)
        except SegmentError:
            os.close(fd)
            raise
        return None

    @classmethod
    def attach(cls, path: str) -> Self:
        """The segment as a reader sees it: opened and mapped read-only.

        Raises:
            FileNotFoundError: there is none.
            HalfMadeError: it is being made.
            SegmentFormatError: it is no segment, or of another version.
            SegmentError: this user may not read it.
        """
        try:
            # without O_NONBLOCK a named pipe in the segment's place would hold this reader for ever
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SegmentError(
                f"{path} cannot be read: {error.strerror}; readers must be in the segment's group"
            ) from error
        try:
            return cls(fd, size_of(fd), writable=False)
        except SegmentFormatError as error:
            os.close(fd)
            raise SegmentFormatError(f"{path}: {error}") from None
        except BaseException:
            os.close(fd)
            raise

    def admit(self, mode: int, gid: int | None) -> None:
        """Sets who may read the segment.

        Raises:
            SegmentError: this user may not give it to that group.
        """
        try:
            access.admit(self.fd, mode, gid)
        except OSError as error:
            raise SegmentError(f"the segment cannot be given to group {gid}: {error.strerror}") from error

    @property
    def sequence(self) -> int:
        """The futex word."""
        return self.words[_SEQUENCE]

    @property
    def newest(self) -> int:
        """The slot of the newest frame, or `layout.NO_SLOT`."""
        return self.words[_NEWEST]

    @property
    def retired(self) -> bool:
        """Whether this segment has ended."""
        return self.words[_RETIRED] != 0

    @property
    def has_writer(self) -> bool:
        """Whether a writer lives that holds this segment."""
        return locks.is_held(self.fd, layout.WRITER_BYTE, exclusively=True)

    @property
    def state(self) -> State:
        """How the camera does, as far as its header and the writer's lock tell.

        ``stalled``: its writer lives, and nothing has come from its source for `STALL` seconds or three times the
        usual interval.
        """
        if not self.has_writer:
            return "down"
        if self.header["state"][0] != layout.LIVE:
            return "connecting"
        silence = time.monotonic_ns() - int(self.header["activity"][0])
        return "stalled" if silence > max(STALL * 1e9, 3 * int(self.header["interval"][0])) else "live"

    @property
    def arrived(self) -> int | None:
        """Monotonic time in nanoseconds at which the newest frame arrived; None where there is none."""
        slot = self.newest
        if slot >= self.geometry.slots:
            return None
        return self.longs[(layout.record_offset(slot) + layout.RECORD_OFFSETS["arrived"]) // 8]

    @property
    def error(self) -> str:
        """The newest error of the writer's source, empty if there was none."""
        return bytes(self.header["error"][0]).decode("utf-8", "replace")

    @classmethod
    def remove_abandoned(cls, prefix: str, code: str) -> None:
        """Removes the segment of a camera whose writer was killed; one with a live writer stays."""
        path = segment_path(prefix, code)
        with contextlib.suppress(SegmentBusyError):
            segment = cls.adopt(path)
            if segment is not None:
                segment.retire(path)
                segment.close()

    def announce(self) -> None:
        """Wakes all who wait: something is new."""
        self.words[_SEQUENCE] = (self.words[_SEQUENCE] + 1) & 0xFFFFFFFF
        futex.wake(self._address + _SEQUENCE * 4)

    def wait(self, sequence: int, timeout: float) -> bool:
        """Sleeps until something is new since `sequence`; False if `timeout` seconds passed."""
        if self.retired:  # perhaps before `sequence` was read: nobody would be woken any more
            return True
        return futex.wait(self._address + _SEQUENCE * 4, sequence, timeout)

    def retire(self, path: str) -> None:
        """Ends the segment: readers are told and woken, the name is free."""
        self.words[_RETIRED] = 1
        if same_file(self.fd, path):
            os.unlink(path)
        self.announce()

    def close(self) -> None:
        """Closes the file, and with it gives back all its locks."""
        for byte in (layout.WRITER_BYTE, layout.DEMAND_BYTE):
            # the mapping holds a duplicate of the descriptor for as long as a view of it lives
            locks.unlock(self.fd, byte)
        os.close(self.fd)


def _views(slot: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, ...]:
    """The planes of a slot as arrays over its memory: H x W each, or H x W x 3 for bgr24."""
    views = []
    for plane in geometry.planes:
        rows = slot[plane.offset : plane.offset + plane.stride * plane.rows].reshape(plane.rows, plane.stride)
        views.append(rows[:, : plane.used])
    if geometry.pixel_format == "bgr24":
        return (views[0].reshape(geometry.height, geometry.width, 3),)
    return tuple(views)


def _pid_of(fd: int) -> str:
    try:
        return f" (pid {int(Segment(fd, size_of(fd), writable=False).header['pid'][0])})"
    except SegmentError:
        return ""


def _retire_foreign(fd: int) -> None:
    """Marks a segment of another version as retired, so that its readers attach anew."""
    if os.fstat(fd).st_size < PAGE or os.pread(fd, 8, 0) != layout.MAGIC.to_bytes(8, "little"):
        return
    with mmap.mmap(fd, PAGE) as page:
        words = np.frombuffer(page, "<u4", PAGE // 4)
        words[_RETIRED] = 1
        words[_SEQUENCE] += 1
        futex.wake(words.ctypes.data + _SEQUENCE * 4)
        del words
