"""inotify(7) on the directory of segments: sleep until a segment appears or is finished.

A user may have so many instances of it (128 by default, see /proc/sys/fs/inotify). Where there is none left, the
directory is looked at twice a second instead.
"""

import ctypes
import logging
import os
import select
import time
from types import TracebackType
from typing import Self

_CREATE, _MOVED_TO, _ATTRIB, _MODIFY = 0x100, 0x80, 0x4, 0x2

LOOK = 0.5  # s between looks without inotify

_libc = ctypes.CDLL(None, use_errno=True)
_warned = False

logger = logging.getLogger(__name__)


class DirectoryWatch:
    """Watches one directory from the moment it is made: look after making it, then wait."""

    def __init__(self, directory: str) -> None:
        self._fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = _CREATE | _MOVED_TO | _ATTRIB | _MODIFY
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask) < 0:
            _warn(os.strerror(ctypes.get_errno()), directory)
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when something has changed; -1 where there is no inotify."""
        return self._fd

    def close(self) -> None:
        """Watches no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def wait(self, timeout: float) -> None:
        """Returns when something has changed since the last call, or after `timeout` seconds; perhaps before."""
        if self._fd < 0:
            time.sleep(max(0.0, min(timeout, LOOK)))
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(max(0.0, timeout) * 1000):
            os.read(self._fd, 65536)


def _warn(reason: str, directory: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        logger.warning("%s is looked at twice a second: no inotify for it: %s", directory, reason)
