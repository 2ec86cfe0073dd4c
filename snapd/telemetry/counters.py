"""Counts of what went otherwise than it should, by class, for whoever watches the service."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, get_args

from snapd.telemetry.outcomes import Attempts

Kind: TypeAlias = Literal[
    "requests", "redeliveries", "undone", "store_errors", "callback_errors", "removed", "routed", "moved"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Counters:
    """Used by several threads at once.

    Args:
        on_change: is called when uploads or callbacks begin to fail, or no longer do.

    Attributes:
        uploads: to the store.
        callbacks: to the platform.
    """

    def __init__(self, on_change: Callable[[], object] = lambda: None) -> None:
        self.uploads, self.callbacks = Attempts(on_change), Attempts(on_change)
        self._lock = threading.Lock()
        self._counts: dict[Kind, Counter[str]] = {kind: Counter() for kind in KINDS}

    def add(self, kind: Kind, name: str = "", number: int = 1) -> None:
        """Counts `number` more of the class `name`."""
        with self._lock:
            self._counts[kind][name] += number

    def counts(self) -> Mapping[Kind, Mapping[str, int]]:
        """All of them, since the service began."""
        with self._lock:
            return {kind: dict(counter) for kind, counter in self._counts.items()}
