"""How much waits on the request stream, and who works on it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from framesrv.settings import StreamSettings
from snapd.requests.trouble import is_refusal

PAGE = 1000  # entries counted in one go, where Redis does not know how many there are


@dataclass(frozen=True, slots=True)
class Consumer:
    """One consumer of the group; `idle_s` are the seconds since it last asked for entries."""

    name: str
    pending: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """The state of the stream.

    Attributes:
        length: entries in the stream, answered ones too: nobody removes those.
        lag: entries that no consumer has taken yet.
        pending: entries taken and not acknowledged.
        oldest_pending_s: the age of the oldest of them in seconds, None if there are none.
        dead: dead letters.
    """

    stream: str
    group: str
    length: int
    lag: int
    pending: int
    oldest_pending_s: float | None
    consumers: list[Consumer]
    dead: int


def waiting(client: redis.Redis, settings: StreamSettings) -> tuple[int | None, int | None]:
    """How many entries nobody has taken yet, and how many are pending; None: not told. Raises RedisError."""
    group: dict[str, int] = next(
        (one for one in groups(client, settings.source) if one["name"] == settings.source_group.encode()), {}
    )
    return group.get("lag"), group.get("pending")


def look(client: redis.Redis, settings: StreamSettings) -> Backlog:
    """The state now; of a group that does not exist, everything is still to be done. Raises RedisError."""
    redis_: Any = client
    length, dead = redis_.xlen(settings.source), redis_.xlen(settings.dead)
    found = groups(redis_, settings.source)
    group = next((one for one in found if one["name"] == settings.source_group.encode()), None)
    if group is None:
        return Backlog(settings.source, settings.source_group, length, length, 0, None, [], dead)
    lag = group.get("lag")  # not before Redis 7, nor where entries were deleted amid the stream
    if lag is None:
        lag = count_after(redis_, settings.source, group["last-delivered-id"].decode())
    consumers = [
        Consumer(one["name"].decode(errors="replace"), one["pending"], one["idle"] / 1000)
        for one in redis_.xinfo_consumers(settings.source, settings.source_group)
    ]
    oldest = redis_.xpending(settings.source, settings.source_group)["min"]
    age = None
    if oldest is not None:
        age = round(max(0.0, server_time(client) - int(oldest.partition(b"-")[0]) / 1000), 3)
    return Backlog(settings.source, settings.source_group, length, lag, group["pending"], age, consumers, dead)


def lines(found: Backlog) -> Iterator[str]:
    """It in words."""
    yield f"{found.stream}, group {found.group}"
    yield f"lag           {found.lag}"
    oldest = "" if found.oldest_pending_s is None else f", the oldest {found.oldest_pending_s:.1f} s old"
    yield f"pending       {found.pending}{oldest}"
    yield f"dead letters  {found.dead}"
    for one in found.consumers:
        yield f"consumer      {one.name}: {one.pending} pending, idle for {one.idle_s:.1f} s"


def groups(client: Any, name: str) -> list[Any]:
    """The consumer groups of a stream, as XINFO GROUPS has them; none where there is no stream. Raises RedisError."""
    try:
        return list(client.xinfo_groups(name))
    except redis.ResponseError as error:
        if "no such key" not in str(error):
            raise
        return []


def server_time(client: Any) -> float:
    """Unix seconds, by the clock of Redis where it tells. Raises RedisError."""
    try:
        seconds, microseconds = client.time()
    except redis.ResponseError as error:
        if not is_refusal(error):
            raise
        return time.time()
    return float(seconds + microseconds / 1e6)


def count_after(client: Any, name: str, entry_id: str) -> int:
    """How many entries a stream has after this one. Raises RedisError."""
    count = 0
    while page := client.xrange(name, f"({entry_id}", "+", count=PAGE):
        count += len(page)
        entry_id = page[-1][0].decode()
    return count
