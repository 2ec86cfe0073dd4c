"""How fast the frames of a camera come, for whoever reads its segment.

A slow camera's newest frame is as fresh as can be until the next one is due, however old it is by then.
"""

import time

from framesrv.segment import layout

SLOW = 500_000_000  # ns between frames, above which a camera is slow
LATE = 1.5  # times that between frames, after which the next one is overdue

_ACTIVITY, _INTERVAL = (layout.OFFSETS[name] // 8 for name in ("activity", "interval"))


class Pace:
    """Keeps it in the header of a segment."""

    def __init__(self) -> None:
        self._previous = 0  # arrival of the frame before, monotonic nanoseconds
        self._pause = 0  # between the newest two packets

    def begin(self) -> None:
        """The next frame is the first of a stream."""
        self._previous = 0

    def packet(self, longs: memoryview) -> None:
        """A packet has come from the source."""
        now = time.monotonic_ns()
        self._pause = now - longs[_ACTIVITY]
        longs[_ACTIVITY] = now

    def idle(self, longs: memoryview) -> None:
        """Packets come, and are not decoded: only of a slow camera they tell its pace."""
        self._previous = 0
        longs[_INTERVAL] = self._pause if self._pause > SLOW else 0

    def frame(self, longs: memoryview, arrived: int) -> None:
        """A frame is published; the mean is over about the last sixteen.

        Where the stream has B frames, a frame may have arrived before the one published last.
        """
        mean = longs[_INTERVAL]
        if self._previous:
            interval = max(0, arrived - self._previous)
            longs[_INTERVAL] = interval if not mean else (mean * 15 + interval) // 16
        longs[_ACTIVITY] = max(longs[_ACTIVITY], arrived)
        self._previous = max(self._previous, arrived)


def due_after(interval: int) -> float:
    """Seconds after a frame in which the next one may come, of a slow camera; 0 of any other.

    Args:
        interval: nanoseconds between its frames, as the header has it.
    """
    return LATE * interval / 1e9 if interval > SLOW else 0.0
