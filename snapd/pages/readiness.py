"""Whether a request that came now would be served: the stream joined, the store reachable a short while ago."""

import asyncio
import time
from collections.abc import Callable

from snapd.pages.overview import Overview

LATELY = 60.0  # s for which a store that was reached counts as reachable
AGAIN = 5.0  # s after which one that was not is asked again
PATIENCE = 12.0  # s that somebody waits for the store's answer


class Readiness:
    """For the event loop's thread.

    Args:
        overview: knows what snapd told.
        ask_store: has snapd ask the store, and tell.
    """

    def __init__(self, overview: Overview, ask_store: Callable[[], object]) -> None:
        self._overview = overview
        self._ask_store = ask_store
        self._told = asyncio.Event()

    def told(self) -> None:
        """Snapd has told how it does."""
        self._told.set()
        self._told = asyncio.Event()

    async def problems(self) -> list[str]:
        """What is wrong, a sentence each; empty if nothing is."""
        condition = self._overview.condition
        found = [f"{condition.hang} hangs"] if condition.hang else []
        if condition.away:
            found.append(f"Redis is away: {condition.away}")
        elif not condition.joined:
            found.append("the stream is not joined yet")
        elif condition.unrouted:
            found.append(condition.unrouted)
        return found + await self._store()

    async def _store(self) -> list[str]:
        if self._is_old():
            self._ask_store()
            try:
                async with asyncio.timeout(PATIENCE):
                    while self._is_old():
                        await self._told.wait()
            except TimeoutError:
                return [f"the store has not answered within {PATIENCE:g} s"]
        store = self._overview.condition.store
        return (
            [] if store and store.ok else [f"the store is not reachable: {store.message if store else 'not asked'}"]
        )

    def _is_old(self) -> bool:
        store = self._overview.condition.store
        return store is None or time.monotonic() - store.at > (LATELY if store.ok else AGAIN)
