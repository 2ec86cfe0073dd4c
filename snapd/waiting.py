"""Work that waits for its time without keeping a worker: at most so many pieces, the soonest first."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Work = TypeVar("Work")


class WaitingRoom(Generic[Work]):
    """Gives each piece on when its time has come; used by several threads at once.

    Args:
        size: how many pieces there is room for.
        give: takes one whose time has come.
    """

    def __init__(self, size: int, give: Callable[[Work], None]) -> None:
        self._size = size
        self._give = give
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, work: Work, until: float) -> bool:
        """Lets `work` wait until that monotonic time; False where there is no room, or no more."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._size:
                return False
            heapq.heappush(self._waiting, (until, next(self._order), work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waiting", daemon=True)
                self._thread.start()
            self._changed.notify()
            return True

    def close(self, timeout: float) -> list[Work]:
        """Gives nothing on any more; what still waits, in its order."""
        with self._changed:
            self._closed = True
            left = [work for _, _, work in sorted(self._waiting)]
            self._waiting.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)
        return left

    def _run(self) -> None:
        while (work := self._next()) is not None:
            self._give(work)
            work = None  # while it waits for the next, it keeps nothing of this one

    def _next(self) -> Work | None:
        """The piece whose time comes first, when it has come; None at the end."""
        with self._changed:
            while not self._closed:
                remaining = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if remaining is not None and remaining <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(remaining)
        return None
