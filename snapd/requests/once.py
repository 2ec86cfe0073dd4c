"""Exactly once, where it can be: what became of each `request_id` lately, under ``snap:done:{request_id}``.

A key says which entry took the request, then the result while that is handed over, then that it was. An entry
that is delivered again goes on from there, and is silent once it was answered. Another entry with the same
`request_id`, a request that was sent again, waits for the first to end and gets the same result, without another
picture. Redis trouble with these keys costs that guarantee, never an answer.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import orjson
import redis

from snapd.requests.entry import Also
from snapd.wire.request import Request
from snapd.wire.result import Result

logger = logging.getLogger(__name__)

PREFIX = b"snap:done:"
KEPT = 3600  # s that a result is remembered
MOST_ENTRIES = 16  # that are remembered of one request; each was sent again
COMPLAIN_EVERY = 60.0  # s between log lines about the same trouble

State = Literal["taken", "result", "done"]


class Turn(Enum):
    """What is to be done with an entry."""

    GO = "go"  # answer it
    WAIT = "wait"  # another entry with its request_id is in work
    DONE = "done"  # it was answered


@dataclass(frozen=True, slots=True)
class Decision:
    """Whose turn it is.

    Attributes:
        result: of an earlier delivery or entry, which has still to be handed over.
        remembered: whether there is a key for it; not if Redis could not be asked.
        earlier: the entries that were answered with `result` before.
    """

    turn: Turn
    result: Result | None = None
    remembered: bool = True
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """What a key holds: the newest state of a request, the entry that has it, and those answered before."""

    state: State
    entry_id: str
    result: Result | None = None
    earlier: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: bytes) -> "Mark | None":
        """None for what no mark is."""
        try:
            fields = orjson.loads(text)
            state, entry_id, result = fields["state"], str(fields["entry"]), fields.get("result")
            if state not in {"taken", "result", "done"}:
                return None
            earlier = tuple(map(str, fields.get("earlier", ())))
            return cls(state, entry_id, Result.parse(orjson.dumps(result)) if result else None, earlier)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def to_json(self) -> bytes:
        """The form in which it is kept."""
        result = orjson.Fragment(self.result.to_json()) if self.result else None
        return orjson.dumps({"state": self.state, "entry": self.entry_id, "result": result, "earlier": self.earlier})


def done_key(request_id: bytes | str) -> bytes:
    """The key of a request."""
    return PREFIX + (request_id.encode() if isinstance(request_id, str) else request_id)


class IdempotencyKeys:
    """The marks of requests; used by several threads at once.

    Args:
        client: for every command.
        is_pending: whether an entry is still being worked on, by anyone; may raise RedisError.
        taken_for: seconds that a request counts as taken if nothing else is heard of it; may be changed.
    """

    def __init__(self, client: redis.Redis, is_pending: Callable[[str], bool], taken_for: float) -> None:
        self._client = client
        self._is_pending = is_pending
        self.taken_for = taken_for
        self._complained_at = -COMPLAIN_EVERY

    def begin(self, requests: Sequence[Request]) -> list[Decision]:
        """Takes these requests, in one round trip; for each, whether to answer it."""
        if not requests:
            return []
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for request in requests:
                    key = done_key(request.request_id)
                    pipeline.set(key, Mark("taken", request.entry_id).to_json(), nx=True, ex=int(self.taken_for))
                    pipeline.get(key)
                replies = pipeline.execute()
            return [
                Decision(Turn.GO) if was_set else self._judge(request, found)
                for request, was_set, found in zip(requests, replies[::2], replies[1::2], strict=True)
            ]
        except redis.RedisError as error:
            self._complain(error)
            return [Decision(Turn.GO, remembered=False)] * len(requests)

    def keep(self, request: Request, result: Result) -> None:
        """This is the result, and it is about to be handed over."""
        try:
            self._set(self._client, Mark("result", request.entry_id, result), request, KEPT)
        except redis.RedisError as error:
            self._complain(error)

    def done(self, request: Request, result: Result, decision: Decision) -> Also:
        """It was handed over, to be said together with the acknowledgement."""
        mark = Mark("done", request.entry_id, result, decision.earlier[-MOST_ENTRIES:])
        return lambda pipeline: self._set(pipeline, mark, request, KEPT)

    def _judge(self, request: Request, found: bytes | None) -> Decision:
        mark = Mark.parse(found) if found else None
        if mark is not None:
            entries = (*mark.earlier, mark.entry_id)
            if mark.state == "done":
                if mark.result is None or request.entry_id in entries:
                    return Decision(Turn.DONE)
                return Decision(Turn.GO, mark.result, earlier=entries)
            if mark.entry_id == request.entry_id:
                return Decision(Turn.GO, mark.result)
            if self._is_pending(mark.entry_id):
                return Decision(Turn.WAIT)
        # Rubbish, or left by an entry that ended without an answer.
        result = mark.result if mark else None
        own = Mark("result" if result else "taken", request.entry_id, result)
        if not self._replace(request, found, own):
            return Decision(Turn.WAIT)  # the other entry ended just now; what it left is seen next time
        return Decision(Turn.GO, own.result)

    def _replace(self, request: Request, found: bytes | None, mark: Mark) -> bool:
        """Writes `mark` where `found` still stands; False if that has changed."""
        with self._client.pipeline() as pipeline:
            try:
                pipeline.watch(done_key(request.request_id))  # type: ignore[no-untyped-call]
                if pipeline.get(done_key(request.request_id)) != found:
                    return False
                pipeline.multi()
                self._set(pipeline, mark, request, int(self.taken_for))
                pipeline.execute()
            except redis.WatchError:
                return False
        return True

    @staticmethod
    def _set(where: Any, mark: Mark, request: Request, seconds: int) -> None:
        where.set(done_key(request.request_id), mark.to_json(), ex=seconds)

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.warning("Answers are not remembered, some may come twice reason=%r", str(error))
