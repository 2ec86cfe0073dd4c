"""Open-file-description byte-range locks, one byte each: who looks, who writes.

They belong to the open file (fcntl(2), "Open file description locks"), so the kernel drops them when the last
process that has it open dies, however it dies. Two holders through one open file never conflict: whoever shares
a descriptor between threads counts for itself.
"""

import fcntl
import struct
from collections.abc import Callable
from functools import cache


def lock_shared(fd: int, byte: int) -> bool:
    """Takes a shared lock without waiting; False if somebody holds an exclusive one."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, byte))
    except (BlockingIOError, PermissionError):  # EAGAIN, EACCES
        return False
    return True


def lock_exclusive(fd: int, byte: int) -> bool:
    """Takes an exclusive lock without waiting; False if anybody else holds one. Needs a writable `fd`."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, byte))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(fd: int, byte: int) -> None:
    """Gives a lock back."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, byte))


def is_held(fd: int, byte: int, *, exclusively: bool) -> bool:
    """Whether another open file holds an exclusive lock on the byte, or (not `exclusively`) any lock."""
    wanted = fcntl.F_RDLCK if exclusively else fcntl.F_WRLCK
    answer: bytes = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(wanted, byte))
    return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)


def query(fd: int, byte: int) -> Callable[[], bool]:
    """What `is_held` asks, of any lock on one byte, for whoever asks it all the time: prepared as far as can be."""
    flock, free = _flock(fcntl.F_WRLCK, byte), _flock(fcntl.F_UNLCK, byte)[:2]
    return lambda: fcntl.fcntl(fd, fcntl.F_OFD_GETLK, flock)[:2] != free


@cache
def _flock(kind: int, byte: int) -> bytes:
    """``struct flock`` of 64-bit Linux; l_pid must be 0 for these locks."""
    return struct.pack("hhqqi4x", kind, 0, byte, 1, 0)
