"""Dead letters: entries that were delivered too often without an answer, in a stream of their own.

A dead letter has the fields of its entry as they were, and beside them what happened, under names that begin
with ``dead:``. It can be put back as a new entry of the request stream.

An entry has one letter. Whether a command that Redis did not answer was heard cannot be known: so the one that writes
a letter is never repeated blindly, the letter is looked for first, and its id is chosen here, later than all that
were seen. A command that was stuck on its way and arrives afterwards is refused for its id.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from framesrv.settings import StreamSettings
from snapd.errors import DeadLetterError
from snapd.requests.entry import Entry
from snapd.requests.once import again
from snapd.requests.trouble import Refusals, is_refusal

logger = logging.getLogger(__name__)

KEPT = 10_000  # dead letters, about; the oldest go
OWN = b"dead:"
PAGE = 1000  # letters looked at in one go
SLACK_MS = 3_600_000  # by which the clock that dates letters may lag behind the one that dates entries
ATTEMPTS = 5  # at an id; others write letters too


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
        client: reads.
        once: writes, and never repeats a command by itself.
        refusals: is told what Redis refuses.
        now: Unix seconds, by the clock of Redis if that is known.
    """

    def __init__(
        self,
        settings: StreamSettings,
        client: redis.Redis,
        once: redis.Redis,
        refusals: Refusals | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._client = client
        self._once = once
        self._refusals = refusals or Refusals()
        self._now = now

    def bury(self, entry: Entry, reason: str) -> None:
        """Makes `entry` a dead letter, if it is none yet.

        Raises:
            DeadLetterError: the key is taken by something else.
            redis.RedisError: Redis cannot be asked, or did not say whether it has heard.
        """
        fields: dict[Any, Any] = {key: value for key, value in entry.fields.items() if not key.startswith(OWN)}
        fields |= {"dead:entry": entry.origin, "dead:reason": reason, "dead:deliveries": entry.tries}
        for _ in range(ATTEMPTS):
            found, letter_id = self._look_for(entry)
            if found:
                logger.info("Dead letter was made before letter=%s", letter_id)
                return
            try:
                self._add(fields, letter_id)
            except redis.ResponseError as error:
                if "equal or smaller" not in str(error):  # than the newest: somebody else's, or ours on its way
                    raise
            else:
                return
        self._add(fields, "*")  # the newest was deleted: what is seen does not tell its id

    def _add(self, fields: dict[Any, Any], letter_id: str) -> None:
        name = self._settings.dead
        try:
            self._once.xadd(name, fields, id=letter_id, maxlen=KEPT, approximate=True)
        except redis.ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise DeadLetterError(f"{name} is no stream: [stream] dead needs another name") from error
            if is_refusal(error):
                self._refusals.tell("XADD", error)
            raise

    def _look_for(self, entry: Entry) -> tuple[bool, str]:
        """Whether there is a letter of an entry, and its id; else the id that one may have."""
        sent_ms = int(entry.origin.partition("-")[0])
        newest, start, name = (0, 0), f"{max(0, sent_ms - SLACK_MS)}-0", entry.origin.encode()
        try:
            while page := self._page(start):
                for letter_id, fields in page:
                    if fields.get(b"dead:entry") == name:
                        return True, letter_id.decode()
                milliseconds, _, number = page[-1][0].decode().partition("-")
                newest, start = (int(milliseconds), int(number)), f"({page[-1][0].decode()}"
        except redis.ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return False, "*"  # writing it says so
            if not is_refusal(error):
                raise
            self._refusals.tell("XRANGE", error)
            return False, "*"
        now = int(self._now() * 1000)
        return False, f"{now}-0" if now > newest[0] else f"{newest[0]}-{newest[1] + 1}"

    def _page(self, start: str) -> Any:
        return self._client.xrange(self._settings.dead, start, "+", count=PAGE)

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
        try:
            found: Any = self._client.xrange(dead, letter_id, letter_id)
        except redis.ResponseError as error:
            if is_refusal(error):
                raise
            raise DeadLetterError(f"{letter_id} is no dead letter of {dead}: {error}") from error
        if not found:
            raise DeadLetterError(f"there is no dead letter {letter_id} in {dead}; `snapd dead` lists them")
        letter = _letter(letter_id, found[0][1])
        # In this order nothing is lost: a letter that could not be deleted is there to be put back again.
        if request_id := letter.fields.get(b"request_id"):
            again(self._client, request_id, letter_id)
        entry_id: Any = self._once.xadd(stream, letter.fields or {b"": b""})  # type: ignore[arg-type]
        self._client.xdel(dead, letter_id)
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
