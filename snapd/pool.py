"""Threads that each do one piece of work at a time, for which a place is claimed before it is given.

Claiming is what bounds the work in hand: who finds no place waits, and what he would have taken stays where it is.
Work that was in hand before, and has waited for its time elsewhere, needs none: it goes on when a thread is free.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Work = TypeVar("Work")


class Pool(Generic[Work]):
    """`size` threads; `man` starts them, and replaces those that died.

    Args:
        name: of the threads.
        size: how many there are, and so how many places.
        do: does one piece of work; an exception that it lets out ends its thread.
        limit: the seconds that one takes at most.
    """

    def __init__(self, name: str, size: int, do: Callable[[Work], None], limit: Callable[[Work], float]) -> None:
        self._name = name
        self._size = size
        self._do = do
        self._limit = limit
        self._until: dict[int, float] = {}  # the monotonic time at which each thread that works is to have done
        self._places = threading.Semaphore(size)
        self._work: queue.SimpleQueue[tuple[Work, bool] | None] = queue.SimpleQueue()  # and whether it has a place
        self._threads: list[threading.Thread] = []

    def man(self) -> None:
        """Sees that there are as many threads as there must be."""
        alive = [thread for thread in self._threads if thread.is_alive()]
        if len(alive) < len(self._threads):
            logger.error(
                "Threads died and are replaced name=%s count=%d", self._name, len(self._threads) - len(alive)
            )
        for _ in range(self._size - len(alive)):
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            alive.append(thread)
        self._threads = alive

    @property
    def overdue(self) -> float:
        """Seconds by which the piece of work that is latest has exceeded its limit, 0 if none has."""
        return max(0.0, time.monotonic() - min(self._until.copy().values(), default=math.inf))

    def claim(self) -> None:
        """Claims a place; waits for one."""
        self._places.acquire()

    def claim_free(self) -> int:
        """Claims every place that is free now, and says how many those are."""
        count = 0
        while self._places.acquire(blocking=False):
            count += 1
        return count

    def release(self, count: int = 1) -> None:
        """Gives claimed places back for which there is no work."""
        if count:
            self._places.release(count)

    def give(self, work: Work) -> None:
        """Work for a claimed place."""
        self._work.put((work, True))

    def resume(self, work: Work) -> None:
        """Work that was in hand before."""
        self._work.put((work, False))

    def end(self) -> None:
        """Lets every thread end when the work that was given is done."""
        for _ in self._threads:
            self._work.put(None)

    def join(self, timeout: float) -> int:
        """Waits for that; how many threads still work after `timeout` seconds."""
        for thread in self._threads:
            thread.join(timeout)
            if thread.is_alive():
                break
        return sum(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        thread = threading.get_ident()
        while (given := self._work.get()) is not None:
            work, has_place = given
            self._until[thread] = time.monotonic() + self._limit(work)
            try:
                self._do(work)
            finally:
                del self._until[thread]
                if has_place:
                    self._places.release()
            del given, work  # while it waits for the next, which may be long, it keeps nothing of this one
