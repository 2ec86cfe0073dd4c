"""A segment's file: where it lies, the space it takes, and how it gets and loses its name.

It is made without a name and gets one when it is whole, so that nobody finds half of it.
"""

import contextlib
import errno
import glob
import mmap
import os
import shutil
import stat
from pathlib import Path

import numpy as np

from framesrv.errors import SegmentError, SegmentFormatError, SegmentSpaceError
from framesrv.segment.layout import HEADER, MAGIC, PAGE, segment_name

SHM_DIRECTORY = "/dev/shm"  # noqa: S108  this is where shm_open(3) keeps segments


TOKEN = 8  # bytes of chance in a name that nobody is to have
BLOCK = 512  # bytes, the unit of st_blocks in stat(2)


class HalfMadeError(SegmentError):
    """The segment is still being made: look again shortly."""


def segment_path(prefix: str, code: str) -> str:
    """Where a camera's segment lies.

    Args:
        prefix: of segment names, as in ``[shm] prefix``.
        code: the camera's code.

    Raises:
        ValueError: where the prefix or the code is none.
    """
    return f"{SHM_DIRECTORY}/{segment_name(prefix, code)}"


def same_file(fd: int, path: str) -> bool:
    """Whether the open file is the one that has the name now."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def space_of(fd: int) -> int:
    """Bytes of an open segment that are there and reserved.

    Raises:
        SegmentFormatError: it is no segment.
        HalfMadeError: it is being made.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise SegmentFormatError("not a framesrv segment: no regular file")
    if status.st_size < PAGE:
        raise HalfMadeError("shorter than a header")
    if not any(os.pread(fd, 8, 0)):
        raise HalfMadeError("its magic number is not written yet")
    # what is not reserved costs memory when it is touched, or a SIGBUS where there is none
    return min(status.st_size, status.st_blocks * BLOCK)


def map_file(fd: int, nbytes: int, access: int) -> mmap.mmap:
    """Maps an open file, through another opening of it: the mapping keeps that one open, and no locks with it.

    Raises:
        ValueError: it is shorter.
    """
    flags = os.O_RDWR if access & mmap.PROT_WRITE else os.O_RDONLY
    own = os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK)
    try:
        return mmap.mmap(own, nbytes, mmap.MAP_SHARED, access)
    finally:
        os.close(own)


def layout_version(path: str) -> int | None:
    """The version of a segment's layout, whether this one can read it or not; None where there is no segment."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # nothing there that has a layout
        return None
    try:
        space_of(fd)
        header = np.frombuffer(os.pread(fd, PAGE, 0), HEADER)
    except (SegmentFormatError, HalfMadeError):
        return None
    finally:
        os.close(fd)
    return int(header["version"][0]) if header["magic"][0] == MAGIC else None


def reserve(fd: int, nbytes: int, name: str, directory: str, saving: str) -> None:
    """Reserves the space of a segment, so that no write to it meets a full file system (SIGBUS).

    Raises:
        SegmentSpaceError: there is not so much; `saving` says how to need less.
    """
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
            raise
        free = shutil.disk_usage(directory).free
        raise SegmentSpaceError(
            f"{name} needs {nbytes} bytes of shared memory, {directory} has {free} bytes free: "
            f"enlarge it (mount -o remount,size=..., or --shm-size for a container) or {saving}"
        ) from error


def give_name(fd: int, directory: str, name: str) -> None:
    """Links an O_TMPFILE into its directory, as open(2) says to."""
    there = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        # Python calls linkat(2), with AT_SYMLINK_FOLLOW, only where it is given a directory
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=there, follow_symlinks=True)
    finally:
        os.close(there)


def give_passing_name(fd: int, path: str) -> str:
    """Links an O_TMPFILE into the directory of `path`, under a hidden name: a rename leaves no name free."""
    passing = _passing(path)
    give_name(fd, *os.path.split(passing))
    return passing


def clear_name(path: str) -> None:
    """Removes whatever has the name: a file, a link, a pipe, a directory with all that is in it.

    Raises:
        OSError: this user may not. FileNotFoundError: nothing has it.
    """
    try:
        os.unlink(path)
    except IsADirectoryError:
        aside = _passing(path)
        os.rename(path, aside)
        shutil.rmtree(aside)


def clear_leftovers(path: str) -> None:
    """Removes what was left under passing names, by processes killed half way; nothing of other users."""
    directory, name = os.path.split(path)
    for leftover in Path(directory).glob(f".{glob.escape(name)}.{'[0-9a-f]' * 2 * TOKEN}"):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            clear_name(str(leftover))


def _passing(path: str) -> str:
    """A hidden name, beside that one, that nobody has."""
    directory, name = os.path.split(path)
    return f"{directory}/.{name}.{os.urandom(TOKEN).hex()}"
