"""What of a stream is decoded: ``all``, ``keyframes``, ``fps:N`` or ``demand``."""

import time
from typing import Protocol

SLACK = 0.1  # of the interval: a camera's own jitter must not cost every other frame
LINGER = 2.0  # s that decoding goes on after the last reader asked


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
    """Whether readers want frames: while one asks, and for `LINGER` seconds after the last one did."""

    def __init__(self, writer: Demanded) -> None:
        self._writer = writer
        self._until = 0.0

    def stands(self) -> bool:
        """To be called for every packet."""
        now = time.monotonic()
        if self._writer.demanded:
            self._until = now + LINGER
        return now < self._until
