"""Survival of a mapped file that is cut short.

Whoever may write a file may cut it, and the kernel answers a touch of a page beyond its end with SIGBUS, which kills.
For mappings that are guarded here, zeros are mapped in place of what is gone, and the mapping is marked. What is read
from then on is worth nothing: whoever has read asks for the mark.

The handler is ctypes': Python's own run later, between two instructions of the interpreter, and the one that touched
the page would never end. It is called where the page was touched, by the thread that did.
"""

import ctypes
import logging
import mmap
import os
import signal
import threading
import weakref

logger = logging.getLogger(__name__)

_ADDRESS_ERROR = 2  # si_code BUS_ADRERR: beyond the end of the file
_CODE, _ADDRESS = 8, 16  # offsets in siginfo_t, 64 bits
_SIGINFO, _ONSTACK, _NODEFER = 0x4, 0x08000000, 0x40000000  # flags of sigaction(2)
_FIXED = 0x10
_NO_HANDLER = (None, 0, 1)  # SIG_DFL, SIG_IGN

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Sigaction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Guard:
    """What is known of one mapping.

    Attributes:
        cut: whether its file was cut short, and zeros were read in place of what was there.
    """

    def __init__(self, address: int, nbytes: int, protection: int) -> None:
        self.begin, self.end = address, address + nbytes
        self.protection = protection
        self.cut = False


_guards: dict[int, Guard] = {}  # by the address of their mapping
_mutex = threading.Lock()
_installed: list[object] = []  # the handler, which must live as long as the process
_former = _Sigaction()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def guard(memory: mmap.mmap, address: int, *, writable: bool) -> Guard:
    """Guards a mapping that begins at `address`, for as long as it lives."""
    with _mutex:
        if not _installed:
            _install()
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        made = _guards[address] = Guard(address, len(memory), protection)
        weakref.finalize(memory, _forget, address, made).atexit = False
    return made


def _in_child() -> None:
    global _mutex
    _mutex = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_in_child)


def _forget(address: int, made: Guard) -> None:
    if _guards.get(address) is made:  # the address may be another mapping's already
        del _guards[address]


def _install() -> None:
    try:
        handler = _Handler(_on_bus_error)
    except (MemoryError, OSError) as error:  # where the host allows no memory that can be executed
        logger.warning("A segment that is cut short while it is read will end this process: %s", error)
        _installed.append(None)
        return
    action = _Sigaction(handler=ctypes.cast(handler, ctypes.c_void_p).value, flags=_SIGINFO | _ONSTACK | _NODEFER)
    if _libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(_former)):
        raise OSError(ctypes.get_errno(), "sigaction(2) refused a handler of SIGBUS")
    _installed.append(handler)


def _on_bus_error(number: int, info: int, context: int) -> None:
    """Maps zeros where a guarded mapping was touched; leaves all else to whoever handled the signal before."""
    if ctypes.c_int.from_address(info + _CODE).value == _ADDRESS_ERROR:
        address = ctypes.c_uint64.from_address(info + _ADDRESS).value
        for found in list(_guards.values()):
            if found.begin <= address < found.end:
                page = address - address % mmap.PAGESIZE
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED
                if _libc.mmap(page, found.end - page, found.protection, flags, -1, 0) == page:
                    found.cut = True
                    return
    if _former.handler in _NO_HANDLER:
        _libc.sigaction(signal.SIGBUS, ctypes.byref(_former), None)  # the touch is tried again, and kills
    else:
        _Handler(_former.handler)(number, info, context)
