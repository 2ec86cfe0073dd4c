"""The pace of a recording, which a file gives as fast as it is read."""

import time

LIMIT = 1.0  # s: a larger step between the times of two packets is a jump of the clock, not a pause


class Pace:
    """Gives a recording's packets out at the times that stand in it."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0
        self._origin = 0.0

    def wait(self, at: float | None) -> None:
        """Sleeps until the packet of time `at` (seconds on the stream's clock) is due."""
        now = time.monotonic()
        if at is None:
            return
        if self._first is None or not 0 <= at - self._last <= LIMIT:
            self._first, self._origin = at, now
        self._last = at
        due = self._origin + at - self._first
        if due > now:
            time.sleep(due - now)
