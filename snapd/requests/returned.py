"""Entries that were given back and have not been taken again: what they held, and whether that was a delivery."""

import threading
from collections.abc import Iterable
from dataclasses import replace

from snapd.requests.entry import Entry

MOST = 10_000  # the oldest are forgotten; Redis still has them


class Returned:
    """Used by several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._waiting: set[str] = set()

    def put(self, entry: Entry, *, counts: bool) -> None:
        """It was given back; `counts`: for a fault of its own, so that this was a delivery."""
        with self._lock:
            self._entries[entry.id] = entry
            (self._waiting.discard if counts else self._waiting.add)(entry.id)
            if len(self._entries) > MOST:
                self._drop(next(iter(self._entries)))

    def waiting(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of `ids` that were given back for no fault of theirs."""
        with self._lock:
            return frozenset(self._waiting.intersection(ids))

    def forget(self, ids: Iterable[str]) -> None:
        """These have been taken again, by whoever."""
        with self._lock:
            for entry_id in ids:
                self._drop(entry_id)

    def take(self, count: int) -> list[Entry]:
        """Up to `count` of them, as they are delivered now."""
        with self._lock:
            found = list(self._entries.values())[:count]
            entries = [replace(one, deliveries=one.deliveries + (one.id not in self._waiting)) for one in found]
            for entry in entries:
                self._drop(entry.id)
            return entries

    def _drop(self, entry_id: str) -> None:
        self._entries.pop(entry_id, None)
        self._waiting.discard(entry_id)
