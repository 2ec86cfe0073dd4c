"""How long this machine keeps programs waiting at a time, beside a test of when things come."""

import time
from collections import deque

from tests.support.background import Background

EVERY = 0.01  # s


class HeldUp(Background):
    """Measures while a block lasts, by a thread that wants to go on every few milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self._late: deque[float] = deque([0.0])

    def run(self) -> None:
        """See `Background.run`."""
        before = time.monotonic()
        while not self.stopped.wait(EVERY):
            now = time.monotonic()
            self._late.append(now - before - EVERY)
            before = now

    @property
    def seconds(self) -> float:
        """At most at once, or one time after the other within a second."""
        each = list(self._late)
        within = int(1 / EVERY)
        return max(
            sum(one for one in each[at : at + within] if one > EVERY) for at in range(0, len(each), within // 2)
        )
