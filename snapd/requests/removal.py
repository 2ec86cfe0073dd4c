"""What snapd keeps in Redis for good, and its removal, when a host is taken out of service.

That is the consumer group, with what is pending in it, and the dead letters. The keys of requests, of results and of
snapd itself expire by themselves, and the stream belongs to who writes to it.
"""

from dataclasses import dataclass
from typing import Any

import redis

from framesrv.settings import StreamSettings
from snapd.requests import fleet
from snapd.requests.backlog import groups, server_time
from snapd.requests.presence import Host, record_key


@dataclass(frozen=True, slots=True)
class Kept:
    """What there is.

    Attributes:
        pending: requests that were taken and not answered, or wait on a stream of the host's own; None if there is no
            group.
        dead: dead letters that are nobody else's.
        readers: the hosts whose snapd reads from the group now.
    """

    pending: int | None
    dead: int
    readers: list[str]


def look(client: redis.Redis, settings: StreamSettings) -> Kept:
    """What there is now. Raises RedisError."""
    if settings.routed:
        return _look_at_host(client, settings)
    redis_: Any = client
    found = groups(redis_, settings.source)
    own = next((one for one in found if one["name"] == settings.source_group.encode()), None)
    alone = all(one is own for one in found)  # else another host's dead letters are there too
    dead = redis_.xlen(settings.dead) if alone else 0
    if own is None:
        return Kept(None, dead, [])
    consumers = [
        one["name"].decode(errors="replace") for one in redis_.xinfo_consumers(settings.source, settings.source_group)
    ]
    hosts = [Host.parse(client.get(record_key(settings, name))) for name in consumers]
    readers = sorted({host.name for host in hosts if host is not None and not host.has_ended})
    return Kept(own["pending"], dead, readers)


def _look_at_host(client: redis.Redis, settings: StreamSettings) -> Kept:
    """Of a host that requests are routed to: its stream is its own, and routers see to what waits there."""
    redis_: Any = client
    now, beats = server_time(client), fleet.beats(client, settings, "hosts")
    own = [one for one in beats if one.host == settings.own_host]
    alive = sorted({one.host for one in own if one.is_alive(now)})
    length = redis_.xlen(settings.source)
    dead = redis_.xlen(settings.dead) if len(own) == len(beats) else 0
    return Kept(length if own or redis_.exists(settings.source) else None, dead, alive)


def remove(client: redis.Redis, settings: StreamSettings, kept: Kept) -> None:
    """Removes it. Raises RedisError."""
    if settings.routed:
        own = [one for one in fleet.beats(client, settings, "hosts") if one.host == settings.own_host]
        for one in own:
            client.delete(record_key(settings, one.consumer))
        fleet.forget(client, settings, "hosts", own)
        client.delete(settings.source)
    elif kept.pending is not None:
        client.xgroup_destroy(settings.source, settings.source_group)
    if kept.dead:
        client.delete(settings.dead)
