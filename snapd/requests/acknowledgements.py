"""Acknowledgements: what has been answered is forgotten, first in its mark, then in the stream.

In this order, each with a command of its own: a mark without an acknowledgement costs one look more, an
acknowledgement without its mark a second picture for who asks again. What Redis cannot take now is kept and tried
again, ever more rarely. Until it has, an entry stays pending here, and no other snapd takes it for a dead one's.
"""

import logging
import threading
import time
from typing import Any

import redis

from framesrv.process.retry import Backoff
from framesrv.settings import StreamSettings
from snapd.requests.cause import explain
from snapd.requests.cluster import RedisClient
from snapd.requests.entry import Also
from snapd.requests.trouble import Refusals, is_passing

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # s between attempts
AT_ONCE = 1.0  # s for which those that have waited are acknowledged in one go
HELD_EVERY = 10.0  # s after which entries that wait are made young again
HELD = 1000  # of them at once
MOST = 10_000  # that wait; the oldest are forgotten, and found answered by their marks


class Acknowledgements:
    """Used by several threads at once; `retry` is for one.

    Args:
        settings: the section ``[stream]``; of its names only the consumer's may change.
        client: for every command.
        refusals: is told what Redis refuses.
    """

    def __init__(self, settings: StreamSettings, client: RedisClient, refusals: Refusals) -> None:
        self.settings = settings
        self._client = client
        self._refusals = refusals
        self._lock = threading.Lock()
        self._waiting: dict[str, Also | None] = {}
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._due = 0.0  # monotonic time of the next attempt
        self._held_at = 0.0
        self._most = 0  # that have waited since there was trouble
        self._reason = ""

    @property
    def waiting(self) -> frozenset[str]:
        """Entries that are answered and not acknowledged."""
        with self._lock:
            return frozenset(self._waiting)

    @property
    def due_in(self) -> float | None:
        """Seconds until `retry` is to be called; None if nothing waits."""
        return max(0.0, self._due - time.monotonic()) if self._waiting else None

    def make(self, entry_id: str, also: Also | None = None) -> None:
        """Acknowledges an entry, now or later.

        Args:
            entry_id: the entry's.
            also: writes its mark.
        """
        with self._lock:
            is_trouble = bool(self._waiting)
            if is_trouble:
                self._keep(entry_id, also)
        if is_trouble:
            return
        try:
            self._acknowledge(entry_id, also)
        except redis.RedisError as error:
            with self._lock:
                self._keep(entry_id, also)
            self._failed(error)

    def hurry(self) -> None:
        """Redis is back: the next `retry` tries."""
        self._due = 0.0

    def retry(self, *, seconds: float = AT_ONCE) -> None:
        """Acknowledges what waits, if it is time; stops at the first failure."""
        until = time.monotonic() + seconds
        while self._waiting and self._due <= time.monotonic() < until:
            with self._lock:
                entry_id, also = next(iter(self._waiting.items()))
            try:
                self._acknowledge(entry_id, also)
            except redis.RedisError as error:
                self._failed(error)
                return
            with self._lock:
                self._waiting.pop(entry_id, None)
                is_over = not self._waiting
            if is_over:
                logger.warning("Answers are acknowledged again count=%d", self._most)
                self._backoff.reset()
                self._most, self._reason = 0, ""

    def _acknowledge(self, entry_id: str, also: Also | None) -> None:
        if also is not None:
            try:
                also(self._client)
            except redis.RedisError as error:
                if is_passing(error):
                    raise
                self._refusals.tell("SET", error)
        name, group = self.settings.source, self.settings.source_group
        if not self.settings.routed:
            self._client.xack(name, group, entry_id)
            return
        # nobody else reads this host's own stream
        acknowledged, removed = self._client.batch([("XACK", name, group, entry_id), ("XDEL", name, entry_id)])
        if isinstance(acknowledged, Exception):
            raise acknowledged
        if isinstance(removed, Exception) and not is_passing(removed):
            self._refusals.tell("XDEL", removed)

    def _keep(self, entry_id: str, also: Also | None) -> None:
        self._waiting[entry_id] = also
        if len(self._waiting) > MOST:
            del self._waiting[next(iter(self._waiting))]
        self._most = max(self._most, len(self._waiting))

    def _failed(self, error: redis.RedisError) -> None:
        self._due = time.monotonic() + self._backoff.pause()
        reason = str(error)
        if not is_passing(error):
            self._refusals.tell("XACK", error)
        elif reason != self._reason:
            words = explain(error)
            logger.warning("Answers are not acknowledged yet waiting=%d reason=%r", len(self._waiting), words)
        self._reason = reason
        self._hold()

    def _hold(self) -> None:
        """Makes what waits young again: others would claim it as left by a dead snapd, and answer it."""
        now = time.monotonic()
        if now - self._held_at < HELD_EVERY:
            return
        self._held_at = now
        settings = self.settings
        held: Any = list(self.waiting)[:HELD]
        try:
            # JUSTID: this is no delivery
            self._client.xclaim(settings.source, settings.source_group, settings.consumer, 0, held, justid=True)
        except redis.RedisError as error:
            logger.debug("Answered entries could not be held reason=%r", explain(error))
