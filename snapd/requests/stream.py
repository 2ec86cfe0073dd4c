"""The request stream: one consumer of one group, with a connection of its own for reading.

That connection is never retried blindly, because an entry delivered to a dying socket is then this
consumer's own and pending: after every read error, as at the start, the pending entries are taken first,
without those that are in hand. Now and then so are those of consumers that seem to be dead. Both are found
by XPENDING, which tells how often an entry was delivered, and taken by XCLAIM, so that what is in hand does
not count as delivered again (reading one's own pending entries by XREADGROUP would, and XAUTOCLAIM does not
tell). The last try of an entry is made with nothing else in hand, so that one which kills the process does
not take others with it among the dead letters. Where Redis refuses to tell of pending entries, those that were
given back here are taken again from memory.

One consumer name is for one process, see `Presence`. Two under one name lose nothing, but some requests are
answered twice.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from framesrv.log import mask
from framesrv.process.retry import Backoff
from framesrv.settings import StreamSettings
from snapd.errors import RedisVersionError
from snapd.requests.acknowledgements import Acknowledgements
from snapd.requests.cause import explain
from snapd.requests.cluster import RedisClient
from snapd.requests.entry import Also, Entry
from snapd.requests.group import make_group
from snapd.requests.memory import Memory
from snapd.requests.pending import claim, is_pending, leave, renew
from snapd.requests.presence import Presence
from snapd.requests.redis import ServerClock, check_version, interrupt, open_reader
from snapd.requests.returned import Returned
from snapd.requests.trouble import Refusals, is_refusal
from snapd.telemetry.counters import Counters

logger = logging.getLogger(__name__)

BLOCK = 2.0  # s that one read waits for entries
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # s between attempts to reconnect
RETURN_AFTER = 5.0  # s after which an entry that was given back is taken again
CLAIM_EVERY = 3.0  # s, about, between looks for entries of dead consumers
CLOCK_EVERY = 30.0  # s between readings of the server's clock
ALONE = 2.0  # s for which an entry's last try keeps others from being taken
LAST = 2.0  # s for acknowledging what has waited, at the end
MOST_WORDS = 300  # characters of why an entry was given back
PAGE = 100  # pending entries looked at in one go


class RequestStream:
    """Takes entries, and acknowledges them when they are done.

    `take` is for one thread; the other methods are for any.

    Args:
        url: of Redis.
        settings: the section ``[stream]``.
        client: for acknowledgements.
        deadline: seconds; entries that are older when the group is made are passed over.
        claim_after: seconds; an entry that another consumer has held for longer is taken from it. More than
            it can take to answer one.
        on_change: is called when `joined` or `away` has changed.
        counters: counts the entries that are delivered again.
        refusals: is told what Redis refuses.
        presence: says under which name to read.

    Attributes:
        joined: whether it has ever been a consumer of the group.
        away: why Redis cannot be read; empty if it can, as far as is known.
    """

    def __init__(
        self,
        url: str,
        settings: StreamSettings,
        client: RedisClient,
        *,
        claim_after: float = 60.0,
        deadline: float = 60.0,
        on_change: Callable[[], object] = lambda: None,
        counters: Counters | None = None,
        refusals: Refusals | None = None,
        presence: Presence | None = None,
    ) -> None:
        self.clock = ServerClock()
        self.joined = False
        self.away = ""
        self._on_change = on_change
        self._counters = counters or Counters()
        self._refusals = refusals or Refusals()
        self._presence = presence
        self._settings = settings
        self._client = client
        self._url = url
        self._claim_after = claim_after
        self._deadline = deadline
        self._connection: redis.Redis | None = None
        self._stopped = threading.Event()
        self._in_hand: dict[str, Entry] = {}
        self._acknowledgements = Acknowledgements(settings, client, self._refusals)
        self._returned = Returned()
        self._causes = Memory[str]()  # why entries were given back
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._reason = ""
        self._answers_errors = False  # what it was lost for the last time: it was there, and would not
        self._pending_from: str | None = None  # where own pending entries are looked at; None: they are not
        self._return_at: float | None = None  # monotonic time at which to look at them again
        self._claim_from, self._claim_at = "-", 0.0
        self._alone_until: float | None = None  # monotonic time until which to take nothing but what is in hand
        self._alone_for = ""  # the entry for which that was

    @property
    def in_hand(self) -> int:
        """How many entries are."""
        return len(self._in_hand)

    def adjust(self, settings: StreamSettings, claim_after: float, deadline: float) -> None:
        """Goes on with other limits; the names in `settings` must be the same."""
        settings = msgspec.structs.replace(settings, consumer=self._settings.consumer)
        self._settings, self._claim_after, self._deadline = settings, claim_after, deadline

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
        except (redis.RedisError, OSError, RedisVersionError) as error:
            self._lost(error)
            return []
        self._is_there()
        return entries

    def acknowledge(self, entry_id: str, also: Also | None = None) -> None:
        """The entry has been answered and is to be forgotten, now or when Redis can.

        Args:
            entry_id: of an entry in hand.
            also: writes its mark; that is done before.
        """
        self._acknowledgements.make(entry_id, also)
        self._in_hand.pop(entry_id, None)

    def give_back(self, entry_id: str, *, counts: bool = True, why: str = "") -> None:
        """The entry could not be answered; it stays pending and is taken again later.

        Args:
            entry_id: of an entry in hand.
            counts: whether that is a delivery more.
            why: in words, where that is known.
        """
        if why:
            self._causes.put(entry_id, mask(why)[:MOST_WORDS])
        if (entry := self._in_hand.get(entry_id)) is not None:
            self._returned.put(entry, counts=counts)
        self._in_hand.pop(entry_id, None)
        self._look_again()

    def renew(self, entry_id: str) -> None:
        """The entry is still in hand: others are not to take it for left behind."""
        try:
            renew(self._client, self._settings, entry_id, self._refusals)
        except redis.RedisError as error:
            logger.warning("An entry may be answered twice entry=%s reason=%r", entry_id, explain(error, self._url))

    def cause(self, entry_id: str) -> str:
        """``, at last: why`` of an entry that was given back here; empty if nobody has said why."""
        why = self._causes.get(entry_id)
        return f", at last: {why}" if why else ""

    def settled(self, entry_id: str) -> None:
        """The entry in hand is acknowledged, by another way than `acknowledge`."""
        self._in_hand.pop(entry_id, None)

    def is_pending(self, entry_id: str, at: str = "") -> bool:
        """Whether an entry has been delivered and not acknowledged, see `pending.is_pending`. Raises RedisError."""
        return is_pending(self._client, self._settings, self._in_hand, entry_id, at, self._refusals)

    def stop(self) -> None:
        """Makes `take` return at once, now and from now on."""
        self._stopped.set()
        if (connection := self._connection) is not None:
            interrupt(connection)

    def hand_over(self) -> None:
        """Lets other consumers take what is pending here and not in hand at once, as if it had long been idle.

        For the end: without it they would have to wait until this consumer can be taken for dead.
        """
        self._acknowledgements.hurry()
        self._acknowledgements.retry(seconds=LAST)
        try:
            leave(self._client, self._settings, self._held, self._claim_after)
            if self._presence:
                self._presence.leave()
        except redis.RedisError as error:
            logger.warning("Pending entries wait until they can be claimed reason=%r", explain(error, self._url))

    def close(self) -> None:
        """Closes the reading connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _held(self) -> set[str]:
        """The entries that are in hand, or answered and not acknowledged yet."""
        return set(self._in_hand) | self._acknowledgements.waiting

    def _connect(self) -> redis.Redis:
        """Connects, makes the group if it does not exist, and plans to take own pending entries first."""
        self._connection = connection = open_reader(self._url, self._settings.source, self._refusals)
        with self._refusals.without("INFO"):
            check_version(connection)
        self.clock.read(connection, self._refusals)
        if self._presence:
            self._presence.settle()
            self._settings = msgspec.structs.replace(self._settings, consumer=self._presence.consumer)
            self._acknowledgements.settings = self._settings
        make_group(connection, self._settings, self._refusals, older_than=self.clock.now() - self._deadline)
        self._pending_from = "-"
        self._acknowledgements.hurry()
        if not self._answers_errors:
            self._is_there(for_sure=False)
        return connection

    def _is_there(self, *, for_sure: bool = True) -> None:
        """Redis can be read; `for_sure` after reading."""
        if self._backoff.failures and (self.away or not self.joined):
            logger.warning("Redis is back after=%d attempts", self._backoff.failures)
        if self.away or not self.joined:
            self.joined, self.away = True, ""
            self._on_change()
        if for_sure:
            self._backoff.reset()
            self._reason, self._answers_errors = "", False

    def _read(self, connection: redis.Redis, count: int, wait: bool) -> list[Entry]:
        if not self._may_take(wait):
            return []
        now = time.monotonic()
        if self.clock.is_older_than(CLOCK_EVERY):
            self.clock.read(connection, self._refusals)
        if self._presence and self._presence.renew():
            self._on_change()
        self._acknowledgements.retry()
        if self._return_at is not None and now >= self._return_at:
            self._return_at, self._pending_from = None, "-"
        while self._pending_from is not None:
            entries, self._pending_from = self._take_up(
                connection, self._pending_from, count, 0, self._settings.consumer
            )
            if entries or self._alone_until is not None:
                return entries
        if now >= self._claim_at:
            entries, following = self._take_up(connection, self._claim_from, count, self._claim_after, None)
            self._claim_from = following or "-"
            if following is None:
                self._claim_at = now + CLAIM_EVERY * random.uniform(0.7, 1.3)  # noqa: S311
            if entries or self._alone_until is not None:
                return entries
        return self._read_new(connection, count, wait)

    def _may_take(self, wait: bool) -> bool:
        """Whether no entry has to be alone now; waits for that for a while."""
        while self._alone_until is not None:
            if not self._in_hand or time.monotonic() >= self._alone_until:
                self._alone_until = None
            elif not wait or self._stopped.wait(0.01):
                return False
        return True

    def _read_new(self, connection: redis.Redis, count: int, wait: bool) -> list[Entry]:
        settings = self._settings
        until = BLOCK if self._return_at is None else min(BLOCK, self._return_at - time.monotonic())
        if (due_in := self._acknowledgements.due_in) is not None:
            until = min(until, due_in)
        block = max(1, int(until * 1000))  # 0 is for ever
        reply: Any = connection.xreadgroup(
            settings.source_group,
            settings.consumer,
            {settings.source: ">"},
            count=count,
            block=block if wait else None,
        )
        entries = Entry.read_all(reply, routed=settings.routed)
        self._in_hand.update((entry.id, entry) for entry in entries)
        return entries

    def _take_up(
        self, connection: redis.Redis, start: str, count: int, idle: float, consumer: str | None
    ) -> tuple[list[Entry], str | None]:
        """Pending entries that nobody works on, and where to go on; None at the end. See `_look_through`."""
        try:
            return self._look_through(connection, start, count, idle, consumer)
        except redis.ResponseError as error:
            if not is_refusal(error):
                raise
            self._refusals.tell("XPENDING", error)
            self._look_again()
            return self._take_returned(count) if consumer else [], None

    def _take_returned(self, count: int) -> list[Entry]:
        """Up to `count` entries that were given back here, as they were then."""
        entries = self._returned.take(count)
        self._in_hand.update((entry.id, entry) for entry in entries)
        return entries

    def _look_through(
        self, connection: redis.Redis, start: str, count: int, idle: float, consumer: str | None
    ) -> tuple[list[Entry], str | None]:
        """A page of pending entries.

        Args:
            connection: to read by.
            start: id of the first to look at, in the form of XPENDING.
            count: at most so many are taken.
            idle: seconds for which nobody must have heard of them.
            consumer: whose they are; None: anybody's.
        """
        settings = self._settings
        # Before the look: what is acknowledged while that is under way is then still known to be in hand.
        in_hand = self._held()
        milliseconds = int(idle * 1000)
        page: Any = connection.xpending_range(
            settings.source, settings.source_group, start, "+", PAGE, consumer, idle=milliseconds or None
        )
        counts: dict[str, int] = {}
        following = f"({page[-1]['message_id'].decode()}" if len(page) == PAGE else None
        for row in page:
            entry_id = row["message_id"].decode()
            if entry_id in in_hand:
                continue
            if len(counts) == count:
                following = entry_id
                break
            last_try = row["times_delivered"] == settings.max_deliveries - 1 and not self._returned.waiting(
                [entry_id]
            )
            if last_try and (counts or (in_hand and self._alone_for != entry_id)):
                following = entry_id
                if not counts:
                    self._alone_for, self._alone_until = entry_id, time.monotonic() + ALONE
                break
            counts[entry_id] = row["times_delivered"]
            if last_try:
                following, self._alone_until = f"({entry_id}", time.monotonic() + ALONE
                break
        return self._claim(connection, counts, milliseconds) if counts else [], following

    def _claim(self, connection: redis.Redis, counts: dict[str, int], milliseconds: int) -> list[Entry]:
        """Makes entries this consumer's own. `counts` is how often each was delivered before."""
        entries = claim(connection, self._settings, counts, milliseconds, self._returned, self._refusals)
        # last: if anything fails, they are still to be taken
        self._in_hand.update((entry.id, entry) for entry in entries)
        again = sum(entry.deliveries > counts[entry.id] for entry in entries)
        if entries:
            self._counters.add("redeliveries", number=again)
            logger.warning("Took up pending entries count=%d", len(entries))
        return entries

    def _look_again(self) -> None:
        """Looks at own pending entries after a while."""
        if self._return_at is None:
            self._return_at = time.monotonic() + RETURN_AFTER * random.uniform(0.8, 1.2)  # noqa: S311

    def _lost(self, error: Exception) -> None:
        """Gets ready for another attempt, after a pause that grows with every failure."""
        self.close()
        if self._stopped.is_set():
            return
        pause = self._backoff.pause()
        failures = self._backoff.failures
        reason = str(error) or type(error).__name__
        words = self.away if reason == self._reason and self.away else explain(error, self._url)
        self._answers_errors = isinstance(error, redis.ResponseError)
        if failures == 1 and reason.startswith(("NOGROUP", "UNBLOCKED")):
            logger.warning("The consumer group is gone and will be made again group=%s", self._settings.source_group)
            return
        if is_refusal(error):
            self._refusals.tell("XREADGROUP", error)
        elif reason != self._reason or failures.bit_count() == 1:  # not a line a second for days
            logger.warning("Redis cannot be read, trying again attempt=%d in=%.1fs reason=%r", failures, pause, words)
        self._reason = reason
        if words != self.away:
            self.away = words
            self._on_change()
        self._stopped.wait(pause)
