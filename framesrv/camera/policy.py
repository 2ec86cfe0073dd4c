"""What of a stream is decoded: ``all``, ``keyframes``, ``fps:N`` or ``demand``."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

SLACK = 0.1  # of the interval: a camera's own jitter must not cost every other frame
LINGER = 2.0  # s that decoding goes on after the last question, at most
PAUSES = 3  # between the newest questions, of which the longest counts
PATIENT = 1.5  # times that pause: readers have jitter, too


class Policy:
    """A decode policy as the configuration writes it.

    Attributes:
        keyframes: only key frames are decoded.
        demand: nothing is decoded until a reader asks.
        limited: only so many frames a second are published.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.keyframes = text == "keyframes"
        self.demand = text == "demand"
        self.limited = text.startswith("fps:")
        self._interval = int(1e9 / float(text.removeprefix("fps:"))) if self.limited else 0
        self._due = 0

    def is_due(self, arrived: int) -> bool:
        """Whether a frame that arrived at this monotonic time, in nanoseconds, would be published."""
        return arrived + self._interval * SLACK >= self._due

    def wants(self, arrived: int) -> bool:
        """The same, and if so the next one is due an interval later."""
        if not self._interval:
            return True
        if not self.is_due(arrived):
            return False
        # counted from when it was due, so that the rate holds over time; from now, after a pause
        late = arrived - self._due
        self._due = (arrived if late > self._interval else self._due) + self._interval
        return True


class Demanded(Protocol):
    """Who knows whether a reader asks: the segment's writer."""

    @property
    def demanded(self) -> bool:
        """Whether one does at this moment."""


class Demand:
    """Whether readers want frames: while one asks, and until he should have asked again where they do so soon.

    How long is learnt from the pauses between the newest questions. Who asks once is given what he needs, and nothing
    is decoded after that; who reads one frame after the other finds the next one ready.
    """

    def __init__(self, writer: Demanded, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._clock = clock
        self._pauses: deque[float] = deque(maxlen=PAUSES)  # s between questions
        self._asked = -math.inf  # monotonic time at which one last did
        self._asks = False

    def stands(self) -> bool:
        """To be called for every packet."""
        now = self._clock()
        asks, asked = self._writer.demanded, self._asks
        self._asks = asks
        if asks:
            if not asked:
                self._pauses.append(now - self._asked)
            self._asked = now
            return True
        return now - self._asked < self._linger

    @property
    def _linger(self) -> float:
        """Seconds that decoding goes on after the last question."""
        return min(PATIENT * max((pause for pause in self._pauses if pause <= LINGER), default=0.0), LINGER)
