"""What this process knows of requests lately, as what it has answered: for when Redis forgets, or may not be told.

A failover undoes what the new master had not heard yet: marks and acknowledgements. The requests come again then, and
who has answered them before knows it.
"""

import threading
import time
from collections import OrderedDict
from typing import Generic, TypeVar

NEWEST = 4000
KEPT = 3600.0  # s

Value = TypeVar("Value")


class Memory(Generic[Value]):
    """The newest values by their keys, for an hour; used by several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def put(self, key: str, value: Value) -> None:
        """This is the newest."""
        with self._lock:
            self._values[key] = time.monotonic(), value
            self._values.move_to_end(key)
            while len(self._values) > NEWEST:
                self._values.popitem(last=False)

    def get(self, key: str) -> Value | None:
        """None for what is unknown, or older than that."""
        with self._lock:
            at, value = self._values.get(key, (0.0, None))
        return value if time.monotonic() - at < KEPT else None
