"""What dead hosts have left on their streams, moved to whoever can answer it now.

That is what they had not read yet, and what they had read and not acknowledged. None of it is claimed for that:
moving is one step, so a router that dies over it leaves each entry where it was or where it belongs.
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
from snapd.requests.presence import KEPT, record_key

logger = logging.getLogger(__name__)

PAGE = 100  # entries moved at once
LONGEST = 10.0  # s at one host, before others have their turn
TURN = 2000  # ms for which one router alone empties the stream of a host

MoveOn = Callable[[Sequence[Entry], StreamSettings], int]


class Leftovers:
    """For one thread.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        move_on: moves entries of a host's stream; gets the section as that host has it, and says how many it moved.
    """

    def __init__(self, client: RedisClient, settings: StreamSettings, move_on: MoveOn) -> None:
        self._client = client
        self._settings = settings
        self._move_on = move_on

    def empty(self, hosts: Sequence[str], stopped: threading.Event) -> None:
        """Has everything moved that these hosts have left. Raises RedisError.

        Args:
            hosts: the dead.
            stopped: ends it.
        """
        for host, length in zip(hosts, self._lengths(hosts), strict=True):
            if length and not stopped.is_set() and self._has_turn(host):
                self._empty(fleet.of_host(self._settings, host), stopped)

    def prune(self, beats: Sequence[Beat], now: float) -> None:
        """Forgets hosts that were not heard of for a day and have left nothing. Raises RedisError."""
        old = [beat for beat in beats if now - beat.at > KEPT]
        if not old:
            return
        others = {beat.host for beat in beats if beat not in old}
        for beat in old:
            own = fleet.of_host(self._settings, beat.host)
            if beat.host not in others:
                if self._left(own):
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

    def _has_turn(self, host: str) -> bool:
        """Whether no other router empties the stream of a host just now; where no script does it they would twice."""
        return bool(self._client.set(fleet.turn_key(self._settings, host), b"", nx=True, px=TURN))

    def _empty(self, host: StreamSettings, stopped: threading.Event) -> None:
        until, count = time.monotonic() + LONGEST, 0
        while not stopped.is_set() and time.monotonic() < until:
            entries = self._left(host)
            moved = self._move_on(entries, host) if entries else 0
            if not moved:
                break
            count += moved
        if count:
            logger.warning("Moved what a dead host had left host=%s count=%d", host.own_host, count)

    def _left(self, host: StreamSettings) -> list[Entry]:
        """A page of what a host has not answered. What it has, and had no time to remove, does not count."""
        found = groups(self._client, host.source)
        group = next((one for one in found if one["name"] == host.source_group.encode()), None)
        if group is None:
            return self._new(host, "0-0")
        return self._pending(host) or self._new(host, group["last-delivered-id"].decode())

    def _pending(self, host: StreamSettings) -> list[Entry]:
        """A page of those that it had read."""
        page: Any = self._client.xpending_range(host.source, host.source_group, "-", "+", PAGE)
        counts = {row["message_id"].decode(): int(row["times_delivered"]) for row in page}
        ranges = self._client.batch([("XRANGE", host.source, entry_id, entry_id) for entry_id in counts])
        entries, gone = [], []
        for (entry_id, times), found in zip(counts.items(), ranges, strict=True):
            if isinstance(found, Exception):
                raise found
            if found:
                entries.append(Entry.read(entry_id, found[0][1], times + 1, routed=True))
            else:
                gone.append(entry_id)
        if gone:
            self._client.xack(host.source, host.source_group, *gone)
        return entries

    def _new(self, host: StreamSettings, seen: str) -> list[Entry]:
        """A page of those that it had not."""
        found: Any = self._client.xrange(host.source, f"({seen}", "+", count=PAGE)
        return [Entry.read(entry_id.decode(), fields, routed=True) for entry_id, fields in found]
