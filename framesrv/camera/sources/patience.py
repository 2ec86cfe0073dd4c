"""How long packets may come without a picture that can be shown, and what is said meanwhile.

A camera whose codec was changed, or that sends nothing but damage, is opened anew: a new connection has a new
description, and usually begins with a key frame. Where it does not, as with groups of a minute that are joined in the
middle, opening again would never reach the key frame. So each time that it did not help the next wait is twice as
long.
"""

import logging
import time

from framesrv.camera.sources import Sink
from framesrv.errors import Cause, SourceError
from framesrv.process.repeats import Repeats

SAY_AFTER = 1.5  # s
SAY_EVERY = 1.0  # s
SOON = 3.0  # s after a loss, at least, before a new connection is tried for its key frame
LONGEST = 600.0  # s

logger = logging.getLogger(__name__)


class Patience:
    """Waits for pictures, over all connections to one camera.

    Args:
        timeout: seconds that the first wait lasts.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._wait = timeout
        self._news = Repeats()
        self._opening: float | None = None  # s from the beginning of a connection to its first picture
        self.begin()

    def begin(self) -> None:
        """A connection begins."""
        self._opened = time.monotonic()
        self._since: float | None = self._opened  # nothing can be shown since then
        self._key: float | None = None  # when the newest key frame came
        self._group: float | None = None  # s between the newest two
        self._damaged = False  # the newest one
        self._said = 0.0

    def key_came(self, *, whole: bool) -> None:
        """A key frame came; `whole`: as far as its packets tell."""
        now = time.monotonic()
        self._group = None if self._key is None else now - self._key
        self._key, self._damaged = now, not whole

    def look(self, sink: Sink, *, intact: bool, complaint: str) -> None:
        """Tells why there is nothing to show, and gives up after a while.

        Args:
            sink: is told.
            intact: what came last can be shown.
            complaint: of the decoder, of the newest picture.

        Raises:
            SourceError: the source is to be opened anew.
        """
        now = time.monotonic()
        if intact:
            self._shown(sink, now)
            return
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited < SAY_AFTER or now - self._said < SAY_EVERY:
            return
        words, cause = self._words(now, complaint)
        if self._news.is_news(cause):
            logger.warning("No picture can be shown: %s", words)
        self._said = now
        sink.describe(error=words, cause=cause)
        if waited >= self._limit(now):
            if self._since == self._opened:
                self._wait = min(2 * self._wait, LONGEST)
            raise SourceError(f"lost: {words}: it is opened anew", cause)

    def _shown(self, sink: Sink, now: float) -> None:
        if self._since is None:
            return
        if self._since == self._opened:
            self._opening = now - self._opened
        self._since, self._wait = None, self._timeout
        if self._said:
            self._said = 0.0
            sink.describe(error="", cause="")

    def _limit(self, now: float) -> float:
        """Seconds to wait: fewer where the next key frame is far away, and a new connection known to bring one."""
        if self._opening is None or self._group is None or self._key is None or self._since == self._opened:
            return self._wait
        due = self._key + self._group - now
        return min(self._wait, max(SOON, self._opening)) if due > max(SOON, self._opening) else self._wait

    def _words(self, now: float, complaint: str) -> tuple[str, Cause]:
        ago = "none has come yet" if self._key is None else f"the last one came {now - self._key:.0f} s ago"
        if complaint or self._damaged:
            said = f': its decoder says "{complaint}"' if complaint else ""
            return f"its pictures come damaged{said}; waits for a key frame, {ago}", "damaged"
        return f"waits for a key frame, {ago}", "no_key_frame"
