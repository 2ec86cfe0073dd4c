"""The pace of a recording, which a file gives as fast as it is read."""

import time

LIMIT = 1.0  # s: a larger step between two packets is a jump of the clock, unless the first one lasts that long
USUAL = 0.04  # s that a packet lasts which does not say


class Pacing:
    """Gives a recording's packets out at the times that stand in it, one pass after the other."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._lasts = 0.0
        self._due = time.monotonic()

    def again(self) -> None:
        """The next packet is the first one again."""
        self._at = None

    def wait(self, at: float | None, lasts: float | None) -> None:
        """Sleeps until a packet is due.

        Args:
            at: its seconds on the stream's clock; None where it has no time.
            lasts: seconds until the next one; None where it does not say.
        """
        step = self._lasts if at is None or self._at is None else at - self._at
        if not 0 <= step <= max(LIMIT, 2 * self._lasts):
            step = self._lasts
        now = time.monotonic()
        self._due += step
        if self._due < now - LIMIT:  # whoever takes the frames is slower, or was stopped: that is not made up for
            self._due = now
        time.sleep(max(0.0, self._due - now))
        self._at, self._lasts = at, lasts or USUAL
