"""Errors that nobody thought of, in loops that go on: a traceback once, then a line, and after an hour again."""

import logging
import threading
import traceback

from framesrv.process.repeats import Repeats


class Unforeseen:
    """Tells them; for several threads. The same error is one of the same class, raised at the same place.

    Args:
        logger: of whoever goes on.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._said = Repeats()

    def tell(self, words: str, error: Exception) -> None:
        """What happened in `words`, and why."""
        *_, frame = traceback.extract_tb(error.__traceback__) or [None]
        place = f"{frame.filename}:{frame.lineno}" if frame else "nowhere"
        with self._lock:
            is_news = self._said.is_news(f"{type(error).__name__} {place}")
        self._logger.error(
            "%s reason='%s: %s' at=%s", words, type(error).__name__, error, place, exc_info=error if is_news else None
        )
