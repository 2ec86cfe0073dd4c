"""When a picture was captured, by the camera's own clock, as its sender reports tell.

While that clock is wrong by more than `CLOCK_OFF`, a picture's time is that of its arrival.
"""

import logging
import time

from framesrv.camera.sources.rtsp.rtcp import SenderReport
from framesrv.segment.status import CLOCK_OFF, difference

SAY_AGAIN = 3600.0  # s

logger = logging.getLogger(__name__)


class CameraClock:
    """The camera's clock.

    Args:
        rate: ticks of RTP a second.

    Attributes:
        ahead: seconds by which it is before the host's; None while the camera has not told it.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._report: SenderReport | None = None
        self._said = 0.0
        self.ahead: float | None = None

    @property
    def wrong(self) -> bool:
        """Whether it is off by so much that somebody should set it."""
        return self.ahead is not None and abs(self.ahead) > CLOCK_OFF

    def set(self, report: SenderReport, arrived: int | None = None) -> None:
        """Takes note of a sender report that arrived at this monotonic time, in nanoseconds; None: now."""
        self._report = report
        if report.unix is None:
            self.ahead = None
            return
        ago = 0 if arrived is None else time.monotonic_ns() - arrived
        self.ahead = (report.unix - (time.time_ns() - ago)) / 1e9
        now = time.monotonic()
        if self.wrong and (not self._said or now - self._said > SAY_AGAIN):
            self._said = now
            logger.warning(
                "The camera's clock is %s: set it, or its time server. Until then pictures carry the time at which "
                "they arrive",
                difference(self.ahead),
            )

    def captured(self, timestamp: int) -> int | None:
        """Unix nanoseconds of what has this time stamp; None where the camera's clock is not known, or wrong."""
        report = self._report
        if report is None or report.unix is None or self.wrong:
            return None
        ticks = (timestamp - report.timestamp + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
        return report.unix + ticks * 10**9 // self._rate
