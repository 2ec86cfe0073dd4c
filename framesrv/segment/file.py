"""A segment's file: where it lies, the space it takes, and how it gets and loses its name.

It is made without a name and gets one when it is whole, so that nobody finds half of it.
"""

import errno
import os
import shutil
import stat

from framesrv.errors import SegmentError, SegmentFormatError, SegmentSpaceError
from framesrv.segment.layout import PAGE, segment_name

SHM_DIRECTORY = "/dev/shm"  # noqa: S108  this is where shm_open(3) keeps segments


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


def size_of(fd: int) -> int:
    """Bytes of an open segment.

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
    return status.st_size


def reserve(fd: int, nbytes: int, name: str, directory: str) -> None:
    """Reserves the space of a segment, so that no write to it meets a full file system (SIGBUS).

    Raises:
        SegmentSpaceError: there is not so much.
    """
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
            raise
        free = shutil.disk_usage(directory).free
        raise SegmentSpaceError(
            f"{name} needs {nbytes} bytes of shared memory, {directory} has {free} bytes free: "
            "enlarge it (mount -o remount,size=..., or --shm-size for a container) or use fewer slots"
        ) from error


def give_name(fd: int, directory: str, name: str) -> None:
    """Links an O_TMPFILE into its directory, as open(2) says to."""
    there = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        # Python calls linkat(2), with AT_SYMLINK_FOLLOW, only where it is given a directory
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=there, follow_symlinks=True)
    finally:
        os.close(there)
