"""Tells a host's wrong clock from the ``Date`` of its store's replies: signatures are made by that clock."""

import logging
import threading
import time
from email.utils import mktime_tz, parsedate_tz

from snapd.http.session import Reply

logger = logging.getLogger(__name__)

WRONG = 60.0  # s of difference
RIGHT = 30.0  # s; between the two nothing is said


class ClockSkew:
    """Hears a session's replies; says once that the clock is wrong, and once that it is right again."""

    def __init__(self) -> None:
        self._offset: float | None = None  # of the store's clock from the monotonic one
        self._is_wrong = False
        self._seen = ""
        self._lock = threading.Lock()

    def __call__(self, reply: Reply) -> None:
        """Looks at one reply."""
        date = reply.headers.get("Date", "")
        if date == self._seen:  # that second has been looked at
            return
        self._seen = date
        parsed = parsedate_tz(date)
        if parsed is None:
            return
        try:
            ahead = time.time() - mktime_tz(parsed)
        except (OverflowError, ValueError):
            return
        self._offset = time.time() - ahead - time.monotonic()
        if abs(ahead) > WRONG and self._turn(is_wrong=True):
            logger.error(
                "The clock of this host is %.0f s %s that of the store, which refuses signatures for that; "
                "mend it (NTP) store_date=%r",
                abs(ahead),
                "ahead of" if ahead > 0 else "behind",
                date,
            )
        elif abs(ahead) < RIGHT and self._turn(is_wrong=False):
            logger.info("The clock of this host agrees with that of the store again")

    @property
    def ahead(self) -> float | None:
        """Seconds by which this host's clock is ahead of the store's, by the newest reply; None if not known."""
        return None if self._offset is None else time.time() - time.monotonic() - self._offset

    def _turn(self, *, is_wrong: bool) -> bool:
        """Whether that is news."""
        with self._lock:
            before, self._is_wrong = self._is_wrong, is_wrong
        return before is not is_wrong
