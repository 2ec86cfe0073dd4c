"""futex(2) on a shared 4-byte word: sleep until a writer says that something is new.

FUTEX_WAIT needs no more than a read-only mapping. ctypes releases the GIL for the call.
"""

import ctypes
import errno
import os
import platform

_SYS_FUTEX = {"x86_64": 202}.get(platform.machine(), 98)  # 98: arm64 and all that use asm-generic/unistd.h
_WAIT, _WAKE = 0, 1
_EVERYBODY = 0x7FFFFFFF


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p]


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


def wake(address: int) -> None:
    """Wakes everybody who sleeps on the word at `address`."""
    _syscall(_SYS_FUTEX, address, _WAKE, _EVERYBODY, None)
