"""What is said again and again, said once an hour."""

import time

HOURLY = 3600.0  # s
KEPT = 64  # different sentences


class Repeats:
    """Remembers what was said of one thing, so that nobody fills the log with it.

    Args:
        every: seconds after which a sentence is news again.
    """

    def __init__(self, every: float = HOURLY) -> None:
        self._every = every
        self._said: dict[str, float] = {}

    def is_news(self, sentence: str) -> bool:
        """Whether that is to be said now, as it was not of late; it counts as said then."""
        now = time.monotonic()
        if now - self._said.get(sentence, -self._every) < self._every:
            return False
        self._said.pop(sentence, None)
        self._said[sentence] = now
        if len(self._said) > KEPT:
            del self._said[next(iter(self._said))]
        return True

    def forget(self) -> None:
        """All is well: whatever comes is news."""
        self._said.clear()
