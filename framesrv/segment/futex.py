"""futex(2) on a shared 4-byte word: sleep until a writer says that something is new.

FUTEX_WAIT needs no more than a read-only mapping. ctypes releases the GIL for the call. futex_waitv(2) sleeps on many
words at once, since Linux 5.16.
"""

import ctypes
import errno
import os
import platform
import struct
import time
from collections.abc import Sequence
from functools import cache, lru_cache

_SYS_FUTEX = {"x86_64": 202}.get(platform.machine(), 98)  # 98: arm64 and all that use asm-generic/unistd.h
_WAIT, _WAKE = 0, 1
_SYS_FUTEX_WAITV = 449  # on every architecture
_32_BITS = 2  # FUTEX2_SIZE_U32; without FUTEX2_PRIVATE the word may be another process's as well
MOST = 128  # words at once
_EVERYBODY = 0x7FFFFFFF


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p]
_bare = ctypes.CDLL(None).syscall  # of what cannot fail
_many = ctypes.CDLL(None, use_errno=True).syscall
_many.restype = ctypes.c_long
_many.argtypes = [ctypes.c_long, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int]


def wait(address: int, expected: int, timeout: float) -> bool:
    """Sleeps while the word at `address` is `expected`, at most `timeout` seconds; False if they passed."""
    if timeout <= 0:
        return False
    limit = _Timespec(int(timeout), int(timeout % 1 * 1e9))
    if _syscall(_SYS_FUTEX, address, _WAIT, expected, ctypes.addressof(limit)) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ETIMEDOUT:
        return False
    if number in (errno.EAGAIN, errno.EINTR):
        return True
    raise OSError(number, os.strerror(number))


@cache
def waits_for_many() -> bool:
    """Whether this kernel, and whatever filters its calls, has futex_waitv(2)."""
    number = 0 if _waitv(None, 0, None) >= 0 else ctypes.get_errno()
    return number == errno.EINVAL  # none are too few; ENOSYS or EPERM where there is no such call


def wait_any(words: Sequence[tuple[int, int]], timeout: float) -> bool:
    """Sleeps while each word, at an address, is as expected; False if `timeout` seconds passed.

    Args:
        words: address and expected value of each; at most `MOST`.
        timeout: seconds.

    Raises:
        OSError: EFAULT, where the memory of a word is gone.
    """
    if timeout <= 0:
        return False
    waiters = _waiters(len(words)).pack(*(item for address, value in words for item in (value, address, _32_BITS, 0)))
    until = time.monotonic_ns() + int(timeout * 1e9)
    if _waitv(waiters, len(words), _Timespec(until // 10**9, until % 10**9)) >= 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ETIMEDOUT:
        return False
    if number in (errno.EAGAIN, errno.EINTR):
        return True
    raise OSError(number, os.strerror(number))


def _waitv(waiters: bytes | None, count: int, until: _Timespec | None) -> int:
    limit = None if until is None else ctypes.addressof(until)
    return int(_many(_SYS_FUTEX_WAITV, waiters, count, 0, limit, time.CLOCK_MONOTONIC))


@cache
def _waiters(count: int) -> struct.Struct:
    """An array of ``struct futex_waitv``: value, address, flags, reserved."""
    return struct.Struct("=" + "QQII" * count)


def wake(address: int) -> None:
    """Wakes everybody who sleeps on the word at `address`."""
    _bare(*_waking(address))


@lru_cache(maxsize=64)  # whoever wakes has no time for making them
def _waking(address: int) -> tuple[ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p]:
    everybody = ctypes.c_uint32(_EVERYBODY)
    return ctypes.c_long(_SYS_FUTEX), ctypes.c_void_p(address), ctypes.c_int(_WAKE), everybody, ctypes.c_void_p()
