"""How long this machine keeps programs waiting at a time, beside a test of when things come."""

import time
from collections import deque

from tests.support.background import Background

EVERY = 0.01  # s


class HeldUp(Background):
    """Measures while a block lasts, by a thread that wants to go on every few milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self._late: deque[tuple[float, float]] = deque()  # when, and by how much

    def run(self) -> None:
        """See `Background.run`."""
        before = time.monotonic()
        while not self.stopped.wait(EVERY):
            now = time.monotonic()
            self._late.append((now, now - before - EVERY))
            before = now

    @property
    def seconds(self) -> float:
        """At most at once, or one time after the other within a second."""
        each = [late for _, late in list(self._late)]
        within = int(1 / EVERY)
        return max(
            (sum(one for one in each[at : at + within] if one > EVERY) for at in range(0, len(each), within // 2)),
            default=0.0,
        )

    def since(self, began: float) -> float:
        """All in all from `began` on, a moment of the monotonic clock: by so much may something have come later."""
        time.sleep(2 * EVERY)  # a wait that ends right now is known of by then
        return sum(late for when, late in list(self._late) if when > began and late > EVERY)
