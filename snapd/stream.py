"""The request stream: one consumer of one group, with a connection of its own for reading.

That connection is never retried blindly, because an entry delivered to a dying socket is then this
consumer's own and pending: after every read error, as at the start, the pending entries are read first,
without those that are in hand.
"""

import logging
import random
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from framesrv.settings import Stream as StreamSettings

logger = logging.getLogger(__name__)

BLOCK = 2.0  # s that one read waits for entries
READ_TIMEOUT = 5.0  # s, well above BLOCK
CONNECT_TIMEOUT = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # s between attempts to reconnect
RETURN_AFTER = 5.0  # s after which an entry that could not be answered is read again
MIN_VERSION = (6, 2)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream."""

    id: str
    fields: dict[bytes, bytes]


def open_client(url: str) -> redis.Redis:
    """A pooled client for short commands that may be repeated; it tries each three times."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        protocol=2,
        socket_timeout=READ_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )
    return client


class RequestStream:
    """Takes entries, and acknowledges them when they are done.

    `take` is for one thread; the other methods are for any.

    Args:
        url: of Redis.
        settings: the section ``[stream]``.
        client: for acknowledgements.
    """

    def __init__(self, url: str, settings: StreamSettings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._url = url
        self._connection: redis.Redis | None = None
        self._stopped = threading.Event()
        self._in_hand: set[str] = set()
        self._answered: set[str] = set()  # but not yet acknowledged
        self._failures = 0
        self._pending_from: str | None = None  # where own pending entries are read on; None: they are not
        self._return_at: float | None = None  # monotonic time at which to read them again

    def take(self, count: int, *, wait: bool = True) -> list[Entry]:
        """Up to `count` entries; none if none came for `BLOCK` seconds, Redis is away or `stop` was called.

        Args:
            count: at least 1.
            wait: for entries, if there are none.
        """
        if self._stopped.is_set():
            return []
        try:
            connection = self._connection or self._connect()
            entries = [] if self._stopped.is_set() else self._read(connection, count, wait)
        except (redis.RedisError, OSError) as error:
            self._lost(error)
            return []
        self._failures = 0
        self._in_hand.update(entry.id for entry in entries)
        return entries

    def acknowledge(self, entry_id: str) -> None:
        """The entry has been answered and is to be forgotten."""
        self._answered.add(entry_id)
        try:
            self._client.xack(self._settings.name, self._settings.group, entry_id)
        except redis.RedisError as error:
            logger.warning("Answer not acknowledged yet entry=%s reason=%r", entry_id, str(error))
            self._return_at = time.monotonic() + RETURN_AFTER
        else:
            self._answered.discard(entry_id)
        self._in_hand.discard(entry_id)

    def give_back(self, entry_id: str) -> None:
        """The entry could not be answered; it stays pending and is read again later."""
        self._in_hand.discard(entry_id)
        self._return_at = time.monotonic() + RETURN_AFTER

    def stop(self) -> None:
        """Makes `take` return at once, now and from now on."""
        self._stopped.set()
        connection = self._connection
        sock = getattr(connection and connection.connection, "_sock", None)
        if sock is not None:
            with suppress(OSError):
                # Not SSLSocket's own, which is not made for another thread; what has arrived is still read.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the reading connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> redis.Redis:
        """Connects, makes the group if it does not exist, and plans to read own pending entries first."""
        connection: redis.Redis = redis.Redis.from_url(
            self._url,
            protocol=2,
            single_connection_client=True,
            socket_timeout=READ_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        self._connection = connection
        name, group = self._settings.name, self._settings.group
        try:
            connection.xgroup_create(name, group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            logger.info("Made the consumer group stream=%s group=%s", name, group)
        if self._failures:
            logger.warning("Redis is back after=%d attempts", self._failures)
        self._pending_from = "0"
        return connection

    def _read(self, connection: redis.Redis, count: int, wait: bool) -> list[Entry]:
        if self._return_at is not None and time.monotonic() >= self._return_at:
            self._return_at, self._pending_from = None, "0"
        if self._pending_from is not None:
            entries = self._read_pending(connection, count)
            if entries or self._pending_from is not None:
                return entries
        block = int(BLOCK * 1000) if wait else None
        return [Entry(*entry) for entry in self._xreadgroup(connection, ">", count, block)]

    def _read_pending(self, connection: redis.Redis, count: int) -> list[Entry]:
        """The next own pending entries that nobody works on."""
        # Before the read: what is acknowledged while it is under way is then still known to be in hand.
        in_hand = self._in_hand.copy()
        entries = [Entry(*entry) for entry in self._xreadgroup(connection, self._pending_from or "0", count)]
        self._pending_from = entries[-1].id if entries else None
        fresh = []
        for entry in entries:
            if entry.id in in_hand:
                continue
            if entry.id in self._answered or not entry.fields:  # no fields: trimmed away
                self.acknowledge(entry.id)
                continue
            fresh.append(entry)
        if fresh:
            logger.warning("Took up pending entries count=%d", len(fresh))
        return fresh

    def _xreadgroup(
        self, connection: redis.Redis, start: str, count: int, block: int | None = None
    ) -> Iterable[tuple[str, dict[bytes, bytes]]]:
        settings = self._settings
        reply: Any = connection.xreadgroup(
            settings.group, settings.consumer, {settings.name: start}, count=count, block=block
        )
        return [(entry_id.decode(), fields or {}) for _, entries in reply or [] for entry_id, fields in entries]

    def _lost(self, error: Exception) -> None:
        """Gets ready for another attempt, after a pause that grows with every failure."""
        self.close()
        if self._stopped.is_set():
            return
        if str(error).startswith("NOGROUP"):
            logger.warning("The consumer group is gone and will be made again group=%s", self._settings.group)
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1)  # noqa: S311
        self._failures += 1
        logger.warning("Redis cannot be read, trying again in=%.1fs reason=%r", pause, str(error))
        self._stopped.wait(pause)
