"""The thread that gives signs of life of a snapd to which requests are routed, and of a router.

It is a thread of its own: who reads requests may wait for a worker for longer than a silent host counts as alive.
"""

import logging
import threading
from collections.abc import Callable

import redis

from snapd.requests.cause import explain
from snapd.requests.fleet import BEAT_EVERY
from snapd.requests.presence import Presence

logger = logging.getLogger(__name__)


class Heartbeat:
    """Beats from `start` to `stop`.

    Args:
        presence: beats.
        is_well: whether requests that came now would be answered.
    """

    def __init__(self, presence: Presence, is_well: Callable[[], bool]) -> None:
        self._presence = presence
        self._is_well = is_well
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def hurry(self) -> None:
        """There is news to be told."""
        self._wake.set()

    def stop(self) -> None:
        """No more from now on."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            if self._is_well() and not self._stopped:
                try:
                    self._presence.beat()
                except (redis.RedisError, OSError) as error:  # whoever reads says it aloud
                    logger.debug("No sign of life could be given reason=%r", explain(error))
            self._wake.wait(BEAT_EVERY)
