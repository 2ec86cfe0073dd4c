"""What Redis answers in place of what it was asked for: what passes by itself, and what it refuses.

What passes is waited out: a server that is away, starts, is a replica for the moment, or has no memory left. What it
refuses (a right that the user lacks, a command that a proxy does not have) is told in one line, which names the
command and says what snapd does without it; the rest of the service goes on.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import redis

logger = logging.getLogger(__name__)

TELL_EVERY = 3600.0  # s between lines about one command

PASSING = (
    redis.ConnectionError,  # that it loads its data is one too
    redis.TimeoutError,
    OSError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,  # and MOVED: followed as far as it leads, the cluster has not agreed yet
)
PASSING_WORDS = ("MISCONF", "NOREPLICAS", "BUSY ", "MASTERDOWN", "CLUSTERDOWN", "LOADING", "READONLY", "OOM ")

_REFUSED = re.compile(r"unknown (sub)?command|no permissions|not (supported|allowed)|disabled", re.IGNORECASE)
_NAMED = re.compile(r"(?:run the|unknown command:?|command) [`']([a-z]+)[^`']*[`']", re.IGNORECASE)

# What is done without a command. docs/operating.md has the same table.
WITHOUT: Mapping[str, str] = {
    "XREADGROUP": "no request is read; it is tried again until it is allowed",
    "XACK": "answers stay pending; they are acknowledged when it is allowed",
    "XPENDING": "what a dead snapd has left waits; what is given back here is taken again from memory",
    "XCLAIM": "what a dead snapd has left waits; what is given back here is taken again from memory",
    "XGROUP": "the consumer group is not made; somebody else must make it",
    "XLEN": "entries passed over are not counted, and the page does not know the queue",
    "XINFO": "the page, the metrics and `snapd queue` do not know the queue",
    "XRANGE": "dead letters are not looked for before one is made; entries trimmed away stay pending",
    "XADD": "no dead letter is made; its entry stays pending",
    "XDEL": "what was routed here and answered stays in this host's stream for a day",
    "HSET": "no router knows of this host; nothing is routed to it",
    "HGETALL": "it is not known whether a router runs",
    "SET": "answers are remembered by this process alone, and none goes to its key",
    "GET": "only this process knows what it has answered",
    "INFO": "the version of Redis is not checked",
    "TIME": "the clock of this host dates requests",
    "CLUSTER": "the slots of the cluster are learnt one by one",
}


def is_passing(error: BaseException) -> bool:
    """Whether the same command may succeed later, nobody having mended anything."""
    return isinstance(error, PASSING) or str(error).startswith(PASSING_WORDS)


def is_refusal(error: BaseException) -> bool:
    """Whether the user may not do that, or the server cannot."""
    if is_passing(error):  # of which some say "not allowed" too
        return False
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        isinstance(error, redis.ResponseError) and bool(_REFUSED.search(str(error)))
    )


class Refusals:
    """Tells what is refused, once for each command and again after an hour; used by several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def tell(self, command: str, error: Exception) -> None:
        """Redis has refused `command`, unless its answer names another."""
        named = _NAMED.search(str(error))
        if named and named[1].upper() in WITHOUT:
            command = named[1].upper()
        with self._lock:
            now = time.monotonic()
            if now - self._told.get(command, -TELL_EVERY) < TELL_EVERY:
                return
            self._told[command] = now
        logger.error("Redis refuses %s: %s reason=%r", command, WITHOUT[command], str(error))

    @contextmanager
    def without(self, command: str) -> Iterator[None]:
        """Goes on behind the block if Redis refuses what that does, and tells."""
        try:
            yield
        except redis.ResponseError as error:
            if is_passing(error) or not is_refusal(error):
                raise
            self.tell(command, error)
