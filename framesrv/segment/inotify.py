"""inotify(7) on the directory of segments: sleep until a segment appears or is finished."""

import ctypes
import os
import select
from types import TracebackType
from typing import Self

_CREATE, _MOVED_TO, _ATTRIB, _MODIFY = 0x100, 0x80, 0x4, 0x2

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """Watches one directory from the moment it is made: look after making it, then wait."""

    def __init__(self, directory: str) -> None:
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
        mask = _CREATE | _MOVED_TO | _ATTRIB | _MODIFY
        if _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number), directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def wait(self, timeout: float) -> None:
        """Returns when something has changed since the last call, or after `timeout` seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(max(0.0, timeout) * 1000):
            os.read(self._fd, 65536)
