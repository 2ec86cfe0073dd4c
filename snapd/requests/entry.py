"""An entry of the request stream, as Redis gave it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Also = Callable[[Any], object]  # writes something by a client


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream; `deliveries` counts this one."""

    id: str
    fields: dict[bytes, bytes]
    deliveries: int = 1

    @property
    def sent_at(self) -> float:
        """Unix seconds by the clock of Redis at which it came to the stream."""
        return int(self.id.partition("-")[0]) / 1000
