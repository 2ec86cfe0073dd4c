"""Exactly once, where it can be: what became of each `request_id` lately, under ``snap:done:{request_id}``.

A key says which entry took the request, then the result while that is handed over, then that it was. An entry
that is delivered again goes on from there, and is silent once it was answered. So is one that came to a host twice,
or to two hosts, as where a router in a cluster died between adding it there and acknowledging it: entries are told
apart by their ids on the stream that the platform writes to, and by where they are. Another entry with the same
`request_id`, a request that was sent again, waits for the first to end and gets the same result, without another
picture. Redis trouble with these keys costs that guarantee, never an answer.

No command has more than one key, and none is part of a transaction: a cluster or a proxy takes them as a single Redis
does. The mark that a request was answered is written before its entry is acknowledged, so whoever finds an entry
acknowledged finds the mark. An entry that ended without one has one successor, who is named once, by SET NX, under
``snap:next:{request_id}:{entry}``. And each process remembers what it answered itself, should Redis forget it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, Self, get_args

import orjson
import redis

from snapd.requests.cause import explain
from snapd.requests.cluster import Command, RedisClient
from snapd.requests.entry import Also
from snapd.requests.memory import Memory
from snapd.requests.trouble import Refusals, is_passing
from snapd.telemetry.counters import Counters
from snapd.wire.request import Request
from snapd.wire.result import Result

logger = logging.getLogger(__name__)

PREFIX = b"snap:done:"
NEXT = b"snap:next:"
KEPT = 3600  # s that a result is remembered
MOST_ENTRIES = 16  # that are remembered of one request; each was sent again
COMPLAIN_EVERY = 60.0  # s between log lines about the same trouble

State = Literal["taken", "result", "done", "again"]
How = Literal["callback", "key", "dead letter"]  # a request has ended
STATES: tuple[State, ...] = get_args(State)


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
        refused: whether that is so because Redis does not let snapd.
        earlier: the entries that were answered with `result` before.
    """

    turn: Turn
    result: Result | None = None
    remembered: bool = True
    earlier: tuple[str, ...] = ()
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """What a key holds: the newest state of a request, the entry that has it and where, and those answered before.

    ``again`` is for a dead letter that was put back: what was answered before does not count. Its entry is
    the letter.
    """

    state: State
    entry_id: str
    result: Result | None = None
    earlier: tuple[str, ...] = ()
    at: str = ""

    @classmethod
    def of(cls, state: State, request: Request, result: Result | None = None, earlier: tuple[str, ...] = ()) -> Self:
        """That of a request whose entry has the turn."""
        return cls(state, request.entry_id, result, earlier, request.at)

    @classmethod
    def parse(cls, text: bytes) -> "Mark | None":
        """None for what no mark is."""
        try:
            fields = orjson.loads(text)
            state, entry_id, result = fields["state"], str(fields["entry"]), fields.get("result")
            if state not in STATES:
                return None
            earlier = tuple(map(str, fields.get("earlier", ())))
            known = Result.parse(orjson.dumps(result)) if result else None
            return cls(state, entry_id, known, earlier, str(fields.get("at", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def entries(self) -> tuple[str, ...]:
        """All that it knows of."""
        return (*self.earlier, self.entry_id)

    @property
    def name(self) -> bytes:
        """Of the entry that has the turn."""
        return name_of(self.entry_id, self.at)

    def is_of(self, request: Request) -> bool:
        """Whether it is that request's entry, and none that is the same elsewhere."""
        return (self.entry_id, self.at) == (request.entry_id, request.at)

    def to_json(self) -> bytes:
        """The form in which it is kept."""
        result = orjson.Fragment(self.result.to_json(reason=True)) if self.result else None
        fields = {"state": self.state, "entry": self.entry_id, "result": result, "earlier": self.earlier}
        return orjson.dumps(fields | {"at": self.at} if self.at else fields)


def name_of(entry_id: str, at: str) -> bytes:
    """An entry's name among those of its request."""
    return f"{entry_id} {at}".strip().encode()


def again(client: redis.Redis, request_id: bytes, letter_id: str) -> None:
    """Forgets what a request was answered: a dead letter of it is put back. Raises RedisError."""
    client.set(done_key(request_id), Mark("again", letter_id).to_json(), ex=KEPT)


def done_key(request_id: bytes | str) -> bytes:
    """The key of a request."""
    return PREFIX + (request_id.encode() if isinstance(request_id, str) else request_id)


class IdempotencyKeys:
    """The marks of requests; used by several threads at once.

    Args:
        client: for every command.
        is_pending: whether an entry, of an id and in a place, is still being worked on, by anyone; may raise
            RedisError.
        taken_for: seconds that a request counts as taken if nothing else is heard of it; may be changed.
        refusals: is told what Redis refuses.
        counters: counts answers that Redis had forgotten.
    """

    def __init__(
        self,
        client: RedisClient,
        is_pending: Callable[[str, str], bool],
        taken_for: float,
        refusals: Refusals | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._client = client
        self._is_pending = is_pending
        self.taken_for = taken_for
        self._refusals = refusals or Refusals()
        self._counters = counters or Counters()
        self._memory: Memory[Mark] = Memory()
        self._noted: Memory[bool] = Memory()  # which of those that are done Redis has been told
        self._told_at: dict[str, float] = {}

    def begin(self, requests: Sequence[Request]) -> list[Decision]:
        """Takes these requests, in one round trip; for each, whether to answer it."""
        commands: list[Command] = []
        noted = [self._noted.get(request.request_id) is True for request in requests]  # before marks are read
        for request in requests:
            key, mark = done_key(request.request_id), Mark.of("taken", request)
            commands += [("SET", key, mark.to_json(), "NX", "EX", int(self.taken_for)), ("GET", key)]
        replies = self._client.batch(commands) if commands else []
        return [
            self._decide(request, was_set, found, noted=was_noted)
            for request, was_set, found, was_noted in zip(requests, replies[::2], replies[1::2], noted, strict=True)
        ]

    def keep(self, request: Request, result: Result, decision: Decision) -> bool:
        """This is the result, and it is about to be handed over; False if that is another host's by now.

        As where this one was stopped, or cut off, for so long that its entry was moved to another.
        """
        if request.at and decision.remembered and self._is_of_another_place(request):
            return False
        mark = Mark.of("result", request, result, decision.earlier)
        refused = decision.refused
        if decision.remembered:  # else Redis has just failed to, and would cost time again
            try:
                self._set(self._client, mark, request, KEPT)
            except redis.RedisError as error:
                self._complain("SET", error)
                refused = not is_passing(error)
        if not refused:  # that may last: by then a new picture is better than this one
            self._memory.put(request.request_id, mark)
        return True

    def done(self, request: Request, result: Result, decision: Decision, how: How = "callback") -> Also:
        """It was handed over; to be written before its entry is acknowledged.

        What failovers undo is done again: of results by key the key was lost too, and so was a dead letter. So of the
        first the result alone is remembered here, and of the other nothing.
        """
        mark = Mark.of("done", request, result, decision.earlier[-MOST_ENTRIES:])
        if how != "dead letter":
            own = mark if how == "callback" else replace(mark, state="result")
            self._memory.put(request.request_id, own)

        def note(client: Any) -> None:
            self._set(client, mark, request, KEPT)
            self._noted.put(request.request_id, True)

        return note

    def _is_of_another_place(self, request: Request) -> bool:
        """Whether the same entry is in work elsewhere, or was answered there."""
        try:
            found: Any = self._client.get(done_key(request.request_id))
        except redis.RedisError as error:
            self._complain("GET", error)
            return False
        mark = Mark.parse(found) if found is not None else None
        return mark is not None and mark.entry_id == request.entry_id and mark.at != request.at

    def _decide(self, request: Request, was_set: Any, found: Any, *, noted: bool) -> Decision:
        """Whose turn it is, by the answers of Redis and what is remembered here.

        `noted`: whether Redis had been told before it answered that the request was.
        """
        own = self._memory.get(request.request_id)
        remembered, refused = True, False
        for command, reply in (("SET", was_set), ("GET", found)):
            if isinstance(reply, Exception):
                self._complain(command, reply)
                remembered, refused = False, refused or not is_passing(reply)
        if was_set is not True and isinstance(found, bytes):
            return self._judge(request, found, own, noted=noted)
        if own is None:
            return Decision(Turn.GO, remembered=remembered, refused=refused)
        return self._recall(request, own, noted=noted, remembered=remembered)

    def _judge(self, request: Request, found: bytes, own: Mark | None, *, noted: bool) -> Decision:
        """By the mark that there is."""
        mark = Mark.parse(found)
        if own and own.state == "done" and request.entry_id in own.entries:
            return Decision(Turn.DONE)
        if mark is None or mark.state == "again":
            return self._succeed(request, found, mark)
        if mark.state == "done":
            if mark.result is None or request.entry_id in mark.entries:
                return Decision(Turn.DONE)
            return Decision(Turn.GO, mark.result, earlier=mark.entries)
        if own and own.result and mark.entry_id in own.entries:  # Redis does not know yet, or no more
            return self._recall(request, own, noted=noted)
        if mark.is_of(request):
            return Decision(Turn.GO, mark.result, earlier=mark.earlier)
        if self._may_be_pending(mark):
            return Decision(Turn.WAIT)
        return self._succeed(request, found, mark)

    def _recall(self, request: Request, own: Mark, *, noted: bool, remembered: bool = True) -> Decision:
        """By what this process remembers, which Redis does not."""
        if own.state == "done":
            if noted:  # else that is still on its way
                self._counters.add("undone")
                if self._may_tell("forgotten"):
                    logger.warning("Redis had forgotten answers, they are known here entry=%s", request.entry_id)
            if request.entry_id not in own.entries:
                return Decision(Turn.GO, own.result, remembered, own.entries)
            try:
                self._set(self._client, own, request, KEPT)
            except redis.RedisError as error:
                self._complain("SET", error)
            return Decision(Turn.DONE)
        if not own.is_of(request) and self._may_be_pending(own):
            return Decision(Turn.WAIT)
        return Decision(Turn.GO, own.result, remembered, own.earlier)

    def _may_be_pending(self, mark: Mark) -> bool:
        try:
            return self._is_pending(mark.entry_id, mark.at)
        except redis.RedisError as error:
            self._complain("XPENDING", error)
            return True  # asked again when its own entry's turn comes again

    def _succeed(self, request: Request, found: bytes, mark: Mark | None) -> Decision:
        """Takes over from an entry that ended without an answer, or from what is no mark; one entry may."""
        result = mark.result if mark else None
        own = Mark.of("result" if result else "taken", request, result)
        try:
            is_next = self._is_next(request, mark.name if mark else b"")
            # The other entry may have ended just now: it left its mark before it was acknowledged.
            if not is_next or self._client.get(done_key(request.request_id)) != found:
                return Decision(Turn.WAIT)
            self._set(self._client, own, request, int(self.taken_for))
        except redis.RedisError as error:
            self._complain("SET", error)
            return Decision(Turn.WAIT) if is_passing(error) else Decision(Turn.GO, result, False, refused=True)
        return Decision(Turn.GO, result)

    def _is_next(self, request: Request, before: bytes) -> bool:
        """Whether this entry is the successor of that of a name, or of its successor where that has ended as well."""
        name = name_of(request.entry_id, request.at)
        for _ in range(MOST_ENTRIES):
            key = NEXT + request.request_id.encode() + b":" + before
            if self._client.set(key, name, nx=True, ex=int(self.taken_for)):
                return True
            other: Any = self._client.get(key)
            if other is None or other == name:
                return other is not None
            entry_id, _, at = other.decode(errors="replace").partition(" ")
            if not at or self._is_pending(entry_id, at):
                return False
            before = other
        return False

    @staticmethod
    def _set(where: Any, mark: Mark, request: Request, seconds: int) -> None:
        where.set(done_key(request.request_id), mark.to_json(), ex=seconds)

    def _complain(self, command: str, error: Exception) -> None:
        if not is_passing(error):
            self._refusals.tell(command, error)
            return
        if self._may_tell("not remembered"):
            logger.warning("Answers are not remembered, some may come twice reason=%r", explain(error))

    def _may_tell(self, what: str) -> bool:
        """Whether that was not told for a while; it counts as told then."""
        now = time.monotonic()
        if now - self._told_at.get(what, -COMPLAIN_EVERY) < COMPLAIN_EVERY:
            return False
        self._told_at[what] = now
        return True
