"""Turns: a few at a time, in the order in which they were asked for.

Who takes long loses his turn to the next, and goes on all the same; who has waited for long goes on without being
called. So nothing that hangs keeps others for longer than that.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """For any number of threads.

    Args:
        places: turns that are had at a time.
        longest: seconds that one lasts at most.
    """

    def __init__(self, places: int, *, longest: float) -> None:
        self._places = places
        self._longest = longest
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._ends: dict[object, float] = {}  # monotonic times, of those whose turn it is

    @contextmanager
    def turn(self, patience: float) -> Iterator[None]:
        """A turn, for the length of the block.

        Args:
            patience: seconds after which it is waited for no longer.
        """
        ticket = object()
        with self._changed:
            self._wait(ticket, time.monotonic() + patience)
            self._ends[ticket] = time.monotonic() + self._longest
        try:
            yield
        finally:
            with self._changed:
                self._ends.pop(ticket, None)
                self._changed.notify_all()

    def _wait(self, ticket: object, deadline: float) -> None:
        self._waiting.append(ticket)
        try:
            while (now := time.monotonic()) < deadline:
                self._ends = {one: end for one, end in self._ends.items() if end > now}
                is_full = len(self._ends) >= self._places
                if not is_full and self._waiting[0] is ticket:
                    return
                self._changed.wait(min([deadline, *self._ends.values()]) - now)
        finally:
            self._waiting.remove(ticket)
            self._changed.notify_all()  # the next one may have one, too
