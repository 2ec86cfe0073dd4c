"""The pace of what comes as fast as it is read: a recording, or a live stream in segments."""

import time

LIMIT = 1.0  # s: a larger step between two packets is a jump of the clock, unless the first one lasts that long
USUAL = 0.04  # s that a packet lasts which does not say
BEHIND = 5.0  # s of waits for segments, which are not made up for: they keep the next ones from being waited for
FASTER = 0.01  # of a step, by which what is behind by more goes on


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
        self._due = self._moment(step, now)
        time.sleep(max(0.0, self._due - now))
        self._at, self._lasts = at, lasts or USUAL

    def _moment(self, step: float, now: float) -> float:
        """When a packet is due that comes so many seconds after the one before it."""
        due = self._due + step
        # whoever takes the frames is slower, or was stopped: that is not made up for
        return now if due < now - LIMIT else due


class LivePacing(Pacing):
    """The same for a live stream that comes a segment at a time, each some time after the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self._behind = 0.0

    def _moment(self, step: float, now: float) -> float:
        if self._behind > BEHIND:
            self._behind -= step * FASTER
            step -= step * FASTER
        due = self._due + step
        self._behind += max(0.0, now - due)
        return max(due, now)
