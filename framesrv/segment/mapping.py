"""A mapped segment: made, adopted from a former writer, attached to by readers, retired.

`Segment` is the mapping of a writer or a reader. It is never unmapped by hand: views of a frame may
outlive the reader that gave them, and the memory goes when the last of them does. Locks belong to another opening of
the file, and go when that is closed, whoever looks on.
"""

import contextlib
import errno
import mmap
import os
import time
from pathlib import Path
from typing import Literal, Self

import numpy as np

from framesrv.errors import SegmentBusyError, SegmentError, SegmentFormatError, SegmentOwnerError
from framesrv.segment import access, forking, futex, layout, locks, owner, truncation
from framesrv.segment.file import (
    HalfMadeError,
    clear_leftovers,
    clear_name,
    give_name,
    give_passing_name,
    map_file,
    reserve,
    same_file,
    segment_path,
    space_of,
)
from framesrv.segment.layout import HEADER, PAGE, Geometry
from framesrv.segment.planes import views

STALL = 3.0  # s
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO)  # another user's file, or no file
COUNTABLE = 2**62  # no camera has published so many frames: a header that says so is damaged

_SEQUENCE, _NEWEST, _RETIRED = (layout.OFFSETS[name] // 4 for name in ("sequence", "newest", "retired"))

State = Literal["live", "stalled", "connecting", "down"]


class Segment:
    """A mapped segment.

    Attributes:
        fd: its open file, which owns this side's locks; -1 once it is closed.
        header: an array of one `layout.HEADER` over the header page.
        geometry: of its frames; constant for the segment's life.
        address: of the header page in this process.
        guard: what is known of the mapping's end.
        planes: of each slot, the views of its planes; read-only for a reader.
    """

    def __init__(self, fd: int, geometry: Geometry, *, writable: bool) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.fd = fd
        self.geometry = geometry
        try:
            self.memory = map_file(fd, geometry.nbytes, access)
        except ValueError as error:  # it has become shorter since it was looked at
            raise SegmentFormatError("damaged: it was cut short") from error
        page = memoryview(self.memory)[:PAGE]
        self.words = page.cast("I")
        self.longs = page.cast("Q")
        everything = np.frombuffer(self.memory, np.uint8)
        self.header = everything[:PAGE].view(HEADER)
        self.address = everything.ctypes.data
        self.guard = truncation.guard(self.memory, self.address, writable=writable)
        self.planes = [
            views(everything[PAGE + slot * geometry.slot_size :], geometry) for slot in range(geometry.slots)
        ]
        forking.tell(self)

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
            replacing: the segment that has the name; it is retired as the new one gets that.

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
            segment = cls(fd, geometry, writable=True)
            layout.describe(segment.header, geometry)
            segment.header["version"] = layout.VERSION
            segment.header["newest"] = layout.NO_SLOT
            segment.header["magic"] = layout.MAGIC
            segment.admit(mode, gid)
            if replacing is not None and same_file(replacing.fd, path):
                passing = give_passing_name(fd, path)
                # first: were this writer killed behind the rename, nobody would ever tell the readers of the old one
                replacing.words[_RETIRED] = 1
                os.rename(passing, path)
            else:
                give_name(fd, directory, name)
            if replacing is not None:
                replacing.retire(path)
        except BaseException:
            os.close(fd)
            raise
        return segment

    @classmethod
    def adopt(cls, path: str) -> Self | None:
        """The segment that a former writer left, locked by this one; None where there is none to adopt.

        What this version cannot use is retired, if it is a segment at all, and loses its name. So does what another
        user has made, where this one may take its name away: it is never adopted. A reader that holds the writer's
        lock, which only a writer can hold exclusively, keeps nobody from making a new segment.

        Raises:
            SegmentBusyError: the writer is alive.
            SegmentOwnerError: another user has the name.
            SegmentError: the file cannot be opened.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in NOT_OURS:  # too many open files, say: what lies there may be a live segment
                raise SegmentError(f"{path} cannot be opened for writing: {error.strerror}") from error
            _take_away(path)
            return None
        try:
            uid = os.fstat(fd).st_uid
            # of another user that is the decoder's, root gets here, and replaces it
            if uid != os.geteuid() and not owner.is_trusted(uid, layout.code_of(path)):
                _take_away(path)
            elif not locks.lock_exclusive(fd, layout.WRITER_BYTE) and locks.is_held(
                fd, layout.WRITER_BYTE, exclusively=True
            ):
                raise SegmentBusyError(
                    f"{Path(path).name} already has a live writer{_pid_of(fd)}: a camera has one decoder at a time"
                )
            elif same_file(fd, path):  # else the former writer removed it between our open and our lock
                return cls._adopted(fd, path)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    @classmethod
    def _adopted(cls, fd: int, path: str) -> Self | None:
        """A former writer's segment, if it is whole, this user's, and locked by nobody else; else it is retired."""
        whole = not locks.is_held(fd, layout.WRITER_BYTE, exclusively=False)
        try:
            segment = cls(fd, _geometry_of(fd), writable=True)
        except (SegmentFormatError, HalfMadeError):
            _retire_foreign(fd)
            clear_name(path)
            os.close(fd)
            return None
        whole = whole and os.fstat(fd).st_uid == os.geteuid() and not segment.retired
        whole = whole and segment.header["version"][0] == layout.VERSION
        if whole and max(segment.header["seq"][0], segment.header["frames"][0]) < COUNTABLE:
            return segment
        segment.retire(path)
        segment.close()
        return None

    @classmethod
    def attach(cls, path: str, user: int | None = None) -> Self:
        """The segment as a reader sees it: opened and mapped read-only.

        Args:
            path: its name.
            user: the only one, but root, whose segment this may be; see `owner.is_trusted` where None.

        Raises:
            FileNotFoundError: there is none.
            HalfMadeError: it is being made.
            SegmentOwnerError: it belongs to somebody who is not trusted.
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
            uid, code = os.fstat(fd).st_uid, layout.code_of(path)
            if not owner.is_trusted(uid, code, user):
                raise SegmentOwnerError(f"{path} is not read: {owner.distrust(uid, code, user)}")
            return cls(fd, _geometry_of(fd), writable=False)
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
    def slot_bytes(self) -> range:
        """The lock bytes of its slots."""
        return range(layout.SLOT_BYTE, layout.SLOT_BYTE + self.geometry.slots)

    @property
    def all_pinned(self) -> bool:
        """Whether no slot is free for the next frame."""
        return bool(self.geometry.slots) and all(
            locks.is_held(self.fd, byte, exclusively=False) for byte in self.slot_bytes
        )

    @property
    def cut(self) -> bool:
        """Whether the file was cut short under its mapping, so that what was read may be zeros."""
        return self.guard.cut

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

    @property
    def cause(self) -> str:
        """Of that error, one word for programs; empty if it is not known."""
        return bytes(self.header["cause"][0]).decode("utf-8", "replace")

    @classmethod
    def remove_abandoned(cls, prefix: str, code: str) -> None:
        """Removes the segment of a camera whose writer was killed; one with a live writer stays."""
        path = segment_path(prefix, code)
        with contextlib.suppress(SegmentBusyError):
            segment = cls.adopt(path)
            if segment is not None:
                segment.retire(path)
                segment.close()
            clear_leftovers(path)

    def announce(self) -> None:
        """Wakes all who wait: something is new."""
        self.words[_SEQUENCE] = (self.words[_SEQUENCE] + 1) & 0xFFFFFFFF
        futex.wake(self.address + _SEQUENCE * 4)

    def wait(self, sequence: int, timeout: float) -> bool:
        """Sleeps until something is new since `sequence`; False if `timeout` seconds passed."""
        if self.retired:  # perhaps before `sequence` was read: nobody would be woken any more
            return True
        try:
            return futex.wait(self.address + _SEQUENCE * 4, sequence, timeout)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            return self.words[_SEQUENCE] == sequence  # the page is gone: touched, it marks the mapping as cut

    def retire(self, path: str) -> None:
        """Ends the segment: readers are told and woken, the name is free."""
        self.words[_RETIRED] = 1
        if same_file(self.fd, path):
            clear_name(path)
        self.announce()

    def empty(self) -> bool:
        """Gives the memory of a retired segment back, if nobody has a slot pinned; False if somebody has.

        Nobody can pin one from then on: its slots stay locked.
        """
        if not all(locks.lock_exclusive(self.fd, byte) for byte in self.slot_bytes):
            return False
        self.cut_short()
        return True

    def cut_short(self) -> None:
        """Gives the memory of a retired segment back, whoever has a slot pinned; readers find out, see `cut`."""
        os.ftruncate(self.fd, PAGE)

    def close(self) -> None:
        """Closes the file, and with it gives back all its locks."""
        os.close(self.fd)
        self.fd = -1

    def forked(self) -> None:
        """Leaves the locks to the parent, in a child of fork(2): they are to go when the parent does."""
        if self.fd >= 0:
            self.close()


def _pid_of(fd: int) -> str:
    try:
        return f" (pid {int(Segment(fd, _geometry_of(fd), writable=False).header['pid'][0])})"
    except SegmentError:
        return ""


def _geometry_of(fd: int) -> Geometry:
    """The geometry of an open segment, whose space is reserved.

    Raises:
        SegmentFormatError: it is no segment that this version reads, or damaged.
        HalfMadeError: it is being made.
    """
    space = space_of(fd)
    header = np.frombuffer(os.pread(fd, PAGE, 0).ljust(PAGE, b"\0"), HEADER)
    return layout.geometry_of(header, space)


def _take_away(path: str) -> None:
    """Takes the name from what another user has made; raises SegmentOwnerError where this one may not."""
    try:
        uid = os.stat(path, follow_symlinks=False).st_uid
        clear_name(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SegmentOwnerError(
            f"{path} belongs to {owner.user_name(uid)}, and only root can take it away ({error.strerror}): "
            "sudo framesrv units sweep"
        ) from error


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
