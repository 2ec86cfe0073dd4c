"""Dead letters: entries that were delivered too often without an answer, in a stream of their own.

A dead letter has the fields of its entry as they were, and beside them what happened, under names that begin
with ``dead:``. It can be put back as a new entry of the request stream.
"""

import logging
from dataclasses import dataclass
from typing import Any

import redis

from framesrv.settings import StreamSettings
from snapd.errors import DeadLetterError
from snapd.requests.entry import Also, Entry
from snapd.requests.once import done_key

logger = logging.getLogger(__name__)

KEPT = 10_000  # dead letters, about; the oldest go
OWN = b"dead:"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter; times are Unix seconds by the clock of Redis."""

    id: str
    entry_id: str
    reason: str
    deliveries: int
    sent_at: float
    moved_at: float
    fields: dict[bytes, bytes]

    def shown_fields(self, *names: str) -> list[str]:
        """The values of these fields as a person may see them: what is no UTF-8 is replaced."""
        return [self.fields.get(name.encode(), b"").decode(errors="replace") for name in names]

    def shown(self) -> dict[str, Any]:
        """Everything, for printing."""
        own = {
            name: getattr(self, name) for name in ("id", "entry_id", "reason", "deliveries", "sent_at", "moved_at")
        }
        fields = {
            name.decode(errors="replace"): value.decode(errors="replace") for name, value in self.fields.items()
        }
        return own | {"fields": fields}


class DeadLetters:
    """The stream of dead letters.

    Args:
        settings: the section ``[stream]``.
        client: for every command.
    """

    def __init__(self, settings: StreamSettings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client

    def letter(self, entry: Entry, reason: str) -> Also:
        """Makes `entry` a dead letter, as part of the transaction that acknowledges it.

        Raises:
            DeadLetterError: the key is taken by something else, which would fail amid the transaction.
            redis.RedisError: Redis cannot be asked.
        """
        name = self._settings.dead
        kind: Any = self._client.type(name)
        if kind not in {b"none", b"stream"}:
            raise DeadLetterError(f"{name} is no stream but a {kind.decode()}: [stream] dead needs another name")
        fields: dict[Any, Any] = {key: value for key, value in entry.fields.items() if not key.startswith(OWN)}
        fields |= {"dead:entry": entry.id, "dead:reason": reason, "dead:deliveries": entry.deliveries}
        return lambda pipeline: pipeline.xadd(name, fields, maxlen=KEPT, approximate=True)

    def count(self) -> int:
        """How many there are."""
        return int(self._client.xlen(self._settings.dead))

    def all(self) -> list[DeadLetter]:
        """Every dead letter, the oldest first."""
        found: Any = self._client.xrange(self._settings.dead)
        return [_letter(letter_id.decode(), fields) for letter_id, fields in found]

    def replay(self, letter_id: str) -> str:
        """Puts one back on the request stream, to be answered as if it had never been; its new entry's id.

        Raises:
            DeadLetterError: there is none of that id.
            redis.RedisError: Redis cannot be asked.
        """
        dead, stream = self._settings.dead, self._settings.name
        with self._client.pipeline(transaction=True) as pipeline:
            while True:
                pipeline.watch(dead)  # type: ignore[no-untyped-call]
                try:
                    found: Any = pipeline.xrange(dead, letter_id, letter_id)
                except redis.ResponseError as error:
                    raise DeadLetterError(f"{letter_id} is no dead letter of {dead}: {error}") from error
                if not found:
                    raise DeadLetterError(f"there is no dead letter {letter_id} in {dead}; `snapd dead` lists them")
                letter = _letter(letter_id, found[0][1])
                pipeline.multi()
                pipeline.delete(done_key(letter.fields.get(b"request_id", b"")))
                pipeline.xadd(stream, letter.fields or {b"": b""})  # type: ignore[arg-type]
                pipeline.xdel(dead, letter_id)
                try:
                    _, entry_id, _ = pipeline.execute()
                except redis.WatchError:
                    continue
                return str(entry_id.decode())


def _letter(letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    entry_id = fields.get(b"dead:entry", b"0-0").decode()
    return DeadLetter(
        letter_id,
        entry_id,
        fields.get(b"dead:reason", b"").decode(errors="replace"),
        int(fields.get(b"dead:deliveries", b"0")),
        int(entry_id.partition("-")[0]) / 1000,
        int(letter_id.partition("-")[0]) / 1000,
        {key: value for key, value in fields.items() if not key.startswith(OWN)},
    )
