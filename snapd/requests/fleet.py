"""The fleet: the hosts to which requests are routed, and the routers, as they make themselves known in Redis.

Each writes a beat every `BEAT_EVERY` seconds: a field of one hash, of the hosts or of the routers, with the time of
Redis and a digest of its cameras. One that was not heard of for `LEASE` seconds is dead. So one command tells of a
thousand hosts, and their records, which `Presence` keeps, are read only where a digest is another than before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

import msgspec
import redis

from framesrv.settings import NOBODY, StreamSettings

PREFIX = "snap:fleet:"
LEASE = 7.0  # s
BEAT_EVERY = 2.0  # s

Kind = Literal["hosts", "routers"]


@dataclass(frozen=True, slots=True)
class Beat:
    """The newest sign of life of one snapd.

    Attributes:
        host: its host's name.
        consumer: under which it reads the stream of that.
        at: Unix seconds by the clock of Redis.
        digest: of its cameras.
    """

    host: str
    consumer: str
    at: float
    digest: str

    @classmethod
    def parse(cls, member: bytes, text: bytes) -> Self | None:
        """None for what is none."""
        host, _, consumer = member.decode(errors="replace").partition(":")
        milliseconds, _, digest = text.decode(errors="replace").partition(" ")
        return cls(host, consumer, int(milliseconds) / 1000, digest) if milliseconds.isdecimal() else None

    @property
    def member(self) -> str:
        """Its field of the hash."""
        return member_of(self.host, self.consumer)

    def is_alive(self, now: float) -> bool:
        """Whether it counts as alive at `now`, which is as `at`."""
        return now - self.at < LEASE


def member_of(host: str, consumer: str) -> str:
    """The field of one snapd in the hash of beats."""
    return f"{host}:{consumer}"


def of_host(settings: StreamSettings, host: str, consumer: str = "") -> StreamSettings:
    """The section ``[stream]`` as a host has it to which requests are routed."""
    return msgspec.structs.replace(settings, routed=True, host=host, consumer=consumer or settings.consumer)


def shared(settings: StreamSettings, consumer: str) -> StreamSettings:
    """The section as a router has it that reads what the platform writes."""
    return msgspec.structs.replace(settings, routed=False, consumer=consumer)


def key_of(settings: StreamSettings, kind: Kind) -> str:
    """The hash of beats."""
    return f"{PREFIX}{settings.name}:{kind}"


def watched_key(settings: StreamSettings) -> str:
    """The key that says since when routers have looked at signs of life without a gap, and when last."""
    return f"{PREFIX}{settings.name}:watched"


def turn_key(settings: StreamSettings, host: str) -> str:
    """The key of the router that empties the stream of a dead host."""
    return f"{PREFIX}{settings.name}:emptied:{host}"


def kind_of(settings: StreamSettings) -> Kind:
    """What a snapd is that reads as `settings` say."""
    return "routers" if settings.host == NOBODY else "hosts"


def beat(client: redis.Redis, settings: StreamSettings, now: float, digest: str) -> None:
    """Gives a sign of life, of who reads as `settings` say. Raises RedisError."""
    member = member_of(settings.own_host, settings.consumer)
    client.hset(key_of(settings, kind_of(settings)), member, f"{int(now * 1000)} {digest}")


def beats(client: redis.Redis, settings: StreamSettings, kind: Kind) -> list[Beat]:
    """All signs of life, by their hosts' names. Raises RedisError."""
    found: Any = client.hgetall(key_of(settings, kind))
    parsed = (Beat.parse(member, text) for member, text in found.items())
    return sorted((one for one in parsed if one is not None), key=lambda one: one.member)


def without_router(found: Iterable[Beat], now: float, settings: StreamSettings) -> str:
    """In words, that no router of `found` is alive; empty if one is."""
    if any(one.is_alive(now) for one in found):
        return ""
    return f"no router reads {settings.name}: start `snapd route`, or see why it does not run"


def forget(client: redis.Redis, settings: StreamSettings, kind: Kind, gone: Iterable[Beat]) -> None:
    """Removes signs of life. Raises RedisError."""
    if members := [one.member for one in gone]:
        client.hdel(key_of(settings, kind), *members)
