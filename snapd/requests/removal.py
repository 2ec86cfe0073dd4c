"""What snapd keeps in Redis for good, and its removal, when a host is taken out of service.

That is the consumer group, with what is pending in it, and the dead letters. The keys of requests, of results and of
snapd itself expire by themselves, and the stream belongs to who writes to it.
"""

from dataclasses import dataclass
from typing import Any

import redis

from framesrv.settings import StreamSettings
from snapd.requests.backlog import groups
from snapd.requests.presence import PREFIX, Host


@dataclass(frozen=True, slots=True)
class Kept:
    """What there is.

    Attributes:
        pending: requests that were taken and not answered; None if there is no group.
        dead: dead letters that are nobody else's.
        readers: the hosts whose snapd reads from the group now.
    """

    pending: int | None
    dead: int
    readers: list[str]


def look(client: redis.Redis, settings: StreamSettings) -> Kept:
    """What there is now. Raises RedisError."""
    redis_: Any = client
    found = groups(redis_, settings.name)
    own = next((one for one in found if one["name"] == settings.group.encode()), None)
    alone = all(one is own for one in found)  # else another host's dead letters are there too
    dead = redis_.xlen(settings.dead) if alone else 0
    if own is None:
        return Kept(None, dead, [])
    consumers = [
        one["name"].decode(errors="replace") for one in redis_.xinfo_consumers(settings.name, settings.group)
    ]
    hosts = [Host.parse(client.get(f"{PREFIX}{settings.group}:{name}")) for name in consumers]
    readers = sorted({host.name for host in hosts if host is not None and not host.has_ended})
    return Kept(own["pending"], dead, readers)


def remove(client: redis.Redis, settings: StreamSettings, kept: Kept) -> None:
    """Removes it. Raises RedisError."""
    if kept.pending is not None:
        client.xgroup_destroy(settings.name, settings.group)
    if kept.dead:
        client.delete(settings.dead)
