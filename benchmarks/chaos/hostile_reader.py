"""A reader that means ill, or forgets what it holds: it takes every lock that a reader can, and keeps it."""

import threading
from contextlib import suppress

from framesrv import FramesrvError, segment_path
from framesrv.segment import layout, locks
from framesrv.segment.mapping import Segment

EVERY = 0.2  # s between looks for a new segment, and for locks that were not to be had


class HostileReader:
    """Of one camera, from `begin` to `end`.

    Args:
        prefix: of segment names.
        code: the camera's.
    """

    def __init__(self, prefix: str, code: str) -> None:
        self._path = segment_path(prefix, code)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Takes locks from now on."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._hold, name="hostile reader", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Gives all of them back."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _hold(self) -> None:
        held: list[Segment] = []
        while not self._ended.wait(EVERY):
            if not held or held[-1].retired:
                with suppress(FileNotFoundError, FramesrvError):
                    held.append(Segment.attach(self._path))
            for segment in held[-1:]:
                for byte in (layout.WRITER_BYTE, layout.DEMAND_BYTE, *segment.slot_bytes):
                    locks.lock_shared(segment.fd, byte)
        for segment in held:
            for byte in segment.slot_bytes:
                locks.unlock(segment.fd, byte)
            segment.close()
