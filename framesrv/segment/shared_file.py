"""A file of shared memory with one writer: made, adopted from a former writer, attached to by readers, retired.

What lies in it, its kinds say: `mapping.Segment` is that of frames. All begin with the same few words, see `layout`.
A mapping is never unmapped by hand: views of it may outlive the reader that gave them, and the memory goes when the
last of them does. Locks belong to another opening of the file, and go when that is closed, whoever looks on.
"""

import contextlib
import errno
import mmap
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar

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
)
from framesrv.segment.layout import PAGE

NOT_OURS = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO)  # another user's file, or no file

_SEQUENCE, _RETIRED = (layout.OFFSETS[name] // 4 for name in ("sequence", "retired"))


class Form(Protocol):
    """The form of what lies in a file."""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""


F = TypeVar("F", bound=Form)


class SharedFile(ABC, Generic[F]):
    """A mapped file of one kind.

    Attributes:
        magic: the kind's number, which a file begins with.
        saving: what to do where there is no room for it, in words.
        fd: its open file, which owns this side's locks; -1 once it is closed.
        form: of what lies in it; constant for the file's life.
        address: of its first byte in this process.
        guard: what is known of the mapping's end.
    """

    magic: ClassVar[int]
    saving: ClassVar[str]

    def __init__(self, fd: int, form: F, *, writable: bool) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.fd = fd
        self.form = form
        try:
            self.memory = map_file(fd, form.nbytes, access)
        except ValueError as error:  # it has become shorter since it was looked at
            raise SegmentFormatError("damaged: it was cut short") from error
        page = memoryview(self.memory)[:PAGE]
        self.words = page.cast("I")
        self.longs = page.cast("Q")
        self.everything = np.frombuffer(self.memory, np.uint8)
        self.address = self.everything.ctypes.data
        self.guard = truncation.guard(self.memory, self.address, writable=writable)

    @classmethod
    @abstractmethod
    def path_of(cls, prefix: str, code: str) -> str:
        """Where a camera's file of this kind lies; raises ValueError where the prefix or the code is none."""

    @classmethod
    @abstractmethod
    def form_of(cls, fd: int) -> F:
        """The form of an open file, whose space is reserved.

        Raises:
            SegmentFormatError: it is none that this version reads, or damaged.
            HalfMadeError: it is being made.
        """

    @abstractmethod
    def describe(self) -> None:
        """Writes the header of a new file, all but the magic number."""

    @property
    @abstractmethod
    def adoptable(self) -> bool:
        """Whether a next writer can go on with what is in it."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The writer's, as the header has it."""

    @classmethod
    def make(cls, path: str, form: F, mode: int, gid: int | None, replacing: "SharedFile[F] | None" = None) -> Self:
        """A new file, locked by this writer, under its name from the moment it is whole.

        Args:
            path: its name.
            form: of what is to lie in it.
            mode: its permissions.
            gid: its group; this process's own where None.
            replacing: the file that has the name; it is retired as the new one gets that.

        Raises:
            SegmentSpaceError: shared memory is too small.
            FileExistsError: the name is taken.
            SegmentError: the group cannot be given.
        """
        directory, name = os.path.split(path)
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            reserve(fd, form.nbytes, name, directory, cls.saving)
            if not locks.lock_exclusive(fd, layout.WRITER_BYTE):
                raise SegmentError(f"{name}: a new file is locked")
            made = cls(fd, form, writable=True)
            made.describe()
            made.longs[0] = cls.magic
            made.admit(mode, gid)
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
        forking.tell(made)
        return made

    @classmethod
    def adopt(cls, path: str) -> Self | None:
        """The file that a former writer left, locked by this one; None where there is none to adopt.

        What this version cannot use is retired, if it is one of this kind at all, and loses its name. So does what
        another user has made, where this one may take its name away: it is never adopted. A reader that holds the
        writer's lock, which only a writer can hold exclusively, keeps nobody from making a new one.

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
            if error.errno not in NOT_OURS:  # too many open files, say: what lies there may have a live writer
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
                live = f"{Path(path).name} already has a live writer{cls._pid_of(fd)}"
                raise SegmentBusyError(f"{live}: a camera has one decoder at a time")
            elif same_file(fd, path):  # else the former writer removed it between our open and our lock
                return cls._adopted(fd, path)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    @classmethod
    def _adopted(cls, fd: int, path: str) -> Self | None:
        """A former writer's file, if it is whole, this user's, and locked by nobody else; else it is retired."""
        whole = not locks.is_held(fd, layout.WRITER_BYTE, exclusively=False)
        try:
            found = cls(fd, cls.form_of(fd), writable=True)
        except (SegmentFormatError, HalfMadeError):
            cls._retire_foreign(fd)
            clear_name(path)
            os.close(fd)
            return None
        if whole and os.fstat(fd).st_uid == os.geteuid() and not found.retired and found.adoptable:
            forking.tell(found)
            return found
        found.retire(path)
        found.close()
        return None

    @classmethod
    def attach(cls, path: str, user: int | None = None) -> Self:
        """The file as a reader sees it: opened and mapped read-only.

        Args:
            path: its name.
            user: the only one, but root, whose it may be; see `owner.is_trusted` where None.

        Raises:
            FileNotFoundError: there is none.
            HalfMadeError: it is being made.
            SegmentOwnerError: it belongs to somebody who is not trusted.
            SegmentFormatError: it is none, or of another version.
            SegmentError: this user may not read it.
        """
        try:
            # without O_NONBLOCK a named pipe in its place would hold this reader for ever
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
            attached = cls(fd, cls.form_of(fd), writable=False)
        except SegmentFormatError as error:
            os.close(fd)
            raise SegmentFormatError(f"{path}: {error}") from None
        except BaseException:
            os.close(fd)
            raise
        forking.tell(attached)
        return attached

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
    def word(self) -> int:
        """Address of the futex word."""
        return self.address + _SEQUENCE * 4

    @property
    def retired(self) -> bool:
        """Whether this file has ended."""
        return self.words[_RETIRED] != 0

    @property
    def cut(self) -> bool:
        """Whether the file was cut short under its mapping, so that what was read may be zeros."""
        return self.guard.cut

    @property
    def has_writer(self) -> bool:
        """Whether a writer lives that holds this file."""
        return locks.is_held(self.fd, layout.WRITER_BYTE, exclusively=True)

    @classmethod
    def remove_abandoned(cls, prefix: str, code: str) -> None:
        """Removes the file of a camera whose writer was killed; one with a live writer stays."""
        path = cls.path_of(prefix, code)
        with contextlib.suppress(SegmentBusyError):
            left = cls.adopt(path)
            if left is not None:
                left.retire(path)
                left.close()
            clear_leftovers(path)

    def announce(self) -> None:
        """Wakes all who wait: something is new."""
        self.words[_SEQUENCE] = (self.words[_SEQUENCE] + 1) & 0xFFFFFFFF
        futex.wake(self.address + _SEQUENCE * 4)

    def rouse(self) -> None:
        """Wakes all who wait, shortly before something is new: when it comes, they and their caches are awake.

        They find nothing and sleep again.
        """
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
        """Ends the file: readers are told and woken, the name is free."""
        self.words[_RETIRED] = 1
        if same_file(self.fd, path):
            clear_name(path)
        self.announce()

    def cut_short(self) -> None:
        """Gives the memory of a retired file back, whoever looks at it; readers find out, see `cut`."""
        os.ftruncate(self.fd, PAGE)

    def close(self) -> None:
        """Closes the file, and with it gives back all its locks."""
        os.close(self.fd)
        self.fd = -1

    def forked(self) -> None:
        """Leaves the locks to the parent, in a child of fork(2): they are to go when the parent does."""
        if self.fd >= 0:
            self.close()

    @classmethod
    def _pid_of(cls, fd: int) -> str:
        try:
            return f" (pid {cls(fd, cls.form_of(fd), writable=False).pid})"
        except SegmentError:
            return ""

    @classmethod
    def _retire_foreign(cls, fd: int) -> None:
        """Marks a file of another version as retired, so that its readers attach anew."""
        if os.fstat(fd).st_size < PAGE or os.pread(fd, 8, 0) != cls.magic.to_bytes(8, "little"):
            return
        with mmap.mmap(fd, PAGE) as page:
            words = np.frombuffer(page, "<u4", PAGE // 4)
            words[_RETIRED] = 1
            words[_SEQUENCE] += 1
            futex.wake(words.ctypes.data + _SEQUENCE * 4)
            del words


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
