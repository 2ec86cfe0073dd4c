"""What dead hosts have left on their streams: taken, to be moved to whoever can answer it now.

That is what they had not read yet, and what they had read and not answered. A router that dies over it leaves it
pending, and another takes it up.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from framesrv.settings import StreamSettings
from snapd.requests import fleet
from snapd.requests.backlog import groups
from snapd.requests.cluster import RedisClient
from snapd.requests.entry import Entry
from snapd.requests.fleet import Beat
from snapd.requests.pending import claim
from snapd.requests.presence import KEPT, record_key
from snapd.requests.returned import Returned
from snapd.requests.trouble import Refusals

logger = logging.getLogger(__name__)

PAGE = 100  # entries moved at once
IDLE = 2.0  # s for which nobody must have heard of a pending entry: another router may be moving it
LONGEST = 10.0  # s at one host, before others have their turn

MoveOn = Callable[[Sequence[Entry], StreamSettings], None]


class Leftovers:
    """For one thread.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        refusals: is told what Redis refuses.
        move_on: moves entries of a host's stream; gets the section as that host has it.
    """

    def __init__(self, client: RedisClient, settings: StreamSettings, refusals: Refusals, move_on: MoveOn) -> None:
        self._client = client
        self._settings = settings
        self._refusals = refusals
        self._move_on = move_on

    def empty(self, hosts: Sequence[str], consumer: str, stopped: threading.Event) -> None:
        """Has everything moved that these hosts have left. Raises RedisError.

        Args:
            hosts: the dead.
            consumer: the name of this router.
            stopped: ends it.
        """
        for host, length in zip(hosts, self._lengths(hosts), strict=True):
            if length and not stopped.is_set():
                self._empty(fleet.of_host(self._settings, host, consumer), stopped)

    def prune(self, beats: Sequence[Beat], now: float) -> None:
        """Forgets hosts that were not heard of for a day and have left nothing. Raises RedisError."""
        old = [beat for beat in beats if now - beat.at > KEPT]
        if not old:
            return
        alive = {beat.host for beat in beats} - {beat.host for beat in old}
        for beat, length in zip(old, self._lengths([beat.host for beat in old]), strict=True):
            own = fleet.of_host(self._settings, beat.host)
            if beat.host not in alive:
                if length:
                    continue
                self._client.delete(own.source)
            self._client.delete(record_key(own, beat.consumer))
            fleet.forget(self._client, self._settings, "hosts", [beat])
            logger.info("Forgot a host that was not heard of for a day host=%s", beat.host)

    def _lengths(self, hosts: Sequence[str]) -> list[int]:
        streams = [fleet.of_host(self._settings, host).source for host in hosts]
        lengths = self._client.batch([("XLEN", stream) for stream in streams]) if streams else []
        for length in lengths:
            if isinstance(length, Exception):
                raise length
        return lengths

    def _empty(self, host: StreamSettings, stopped: threading.Event) -> None:
        if not groups(self._client, host.source):  # it died before it had one
            self._client.xgroup_create(host.source, host.source_group, id="0", mkstream=True)
        until, count = time.monotonic() + LONGEST, 0
        while not stopped.is_set() and time.monotonic() < until:
            entries = self._pending(host) or self._new(host)
            if not entries:
                break
            self._move_on(entries, host)
            count += len(entries)
        if count:
            logger.warning("Moved what a dead host had left host=%s count=%d", host.own_host, count)

    def _pending(self, host: StreamSettings) -> list[Entry]:
        idle = int(IDLE * 1000)
        page: Any = self._client.xpending_range(host.source, host.source_group, "-", "+", PAGE, idle=idle)
        counts = {row["message_id"].decode(): int(row["times_delivered"]) for row in page}
        return claim(self._client, host, counts, idle, Returned(), self._refusals) if counts else []

    def _new(self, host: StreamSettings) -> list[Entry]:
        reply: Any = self._client.xreadgroup(host.source_group, host.consumer, {host.source: ">"}, count=PAGE)
        return Entry.read_all(reply, routed=True)
