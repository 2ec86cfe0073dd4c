"""An entry of the request stream, as Redis gave it.

One that was routed carries, in fields of the router's, what it was before: its id on the stream that the platform
writes to, which says when it was sent and which entry it is, and how often hosts that died meanwhile had it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

Also = Callable[[Any], object]  # writes something by a client

ORIGIN = b"routed:entry"
TRIES = b"routed:tries"
OWN = b"routed:"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream.

    Attributes:
        id: on the stream that it was read from.
        fields: as the platform wrote them.
        deliveries: there, this one included.
        origin: its id on the stream that the platform writes to.
        before: its deliveries on the streams of other hosts.
    """

    id: str
    fields: dict[bytes, bytes]
    deliveries: int = 1
    origin: str = ""
    before: int = 0

    @classmethod
    def read(cls, entry_id: str, fields: dict[bytes, bytes], deliveries: int = 1, *, routed: bool) -> Self:
        """What Redis gave; `routed`: on a stream to which routers write, and nobody else."""
        kept = {name: value for name, value in fields.items() if not name.startswith(OWN)}
        if not routed:
            return cls(entry_id, kept, deliveries, entry_id)
        origin, before = fields.get(ORIGIN, b"").decode(errors="replace"), fields.get(TRIES, b"0")
        return cls(
            entry_id,
            kept,
            deliveries,
            origin if _is_id(origin) else entry_id,
            int(before) if before.isdigit() else 0,
        )

    @classmethod
    def read_all(cls, reply: Any, *, routed: bool) -> list[Self]:
        """What XREADGROUP has given of new entries."""
        return [
            cls.read(entry_id.decode(), fields or {}, routed=routed)
            for _, found in reply or []
            for entry_id, fields in found
        ]

    @property
    def tries(self) -> int:
        """How often it was delivered to whoever answers, this time included."""
        return self.before + self.deliveries


def _is_id(text: str) -> bool:
    milliseconds, _, number = text.partition("-")
    return text.isascii() and milliseconds.isdigit() and number.isdigit()
