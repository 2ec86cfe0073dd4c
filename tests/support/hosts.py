"""Hosts of a fleet for tests: some run in threads of the test, others have died and left what is to be left."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from framesrv.settings import Settings, StreamSettings
from snapd.requests import fleet
from snapd.requests.presence import Host, digest_of, record_key
from snapd.route import RouteService
from tests.support.edge import Edge, Fields, Running, wait_until


def settings_of(edge: Edge, host: str, codes: list[str], **sections: dict[str, Any]) -> Settings:
    """The configuration of a host that has these cameras, of those that the edge has."""
    stream = {"routed": True, "host": host} | sections.pop("stream", {})
    whole = edge.settings(stream=stream, **sections)
    return msgspec.structs.replace(whole, cameras=tuple(camera for camera in whole.cameras if camera.code in codes))


@contextmanager
def host(edge: Edge, name: str, codes: list[str], **sections: dict[str, Any]) -> Iterator[Running]:
    """One that runs, and has said so."""
    stream = edge.settings().stream
    with Running(settings_of(edge, name, codes, **sections)) as running:
        wait_until(lambda: any(one.host == name for one in fleet.beats(edge.redis, stream, "hosts")))
        yield running


def router(edge: Edge, **sections: dict[str, Any]) -> Running:
    """One that runs."""
    return Running(edge.settings(**sections), kind=RouteService)


def wait_for_hosts(running: Running, cameras: int) -> None:
    """Until a router knows so many cameras."""
    wait_until(lambda: f"with {cameras} cameras" in running.service.status)


def died(edge: Edge, name: str, codes: list[str], *, ago: float = 60.0) -> StreamSettings:
    """A host that died; its section ``[stream]``."""
    stream = fleet.of_host(edge.settings().stream, name)
    edge.redis.xgroup_create(stream.source, stream.source_group, id="0", mkstream=True)
    beat(edge, stream, codes, ago=ago)
    return stream


def beat(edge: Edge, stream: StreamSettings, codes: list[str], *, ago: float = 0.0) -> None:
    """A sign of life of a host, and its record."""
    record = Host("x", stream.host, "another boot", 1, 1, len(codes), digest_of(codes), "0.0.1", tuple(codes))
    edge.redis.set(record_key(stream, stream.consumer), record.to_json(), ex=60)
    fleet.beat(edge.redis, stream, time.time() - ago, record.digest)


def route_by_hand(edge: Edge, stream: StreamSettings, fields: Fields, origin: str = "", tries: int = 0) -> str:
    """Adds an entry to a host's stream as a router does; its id on the stream of the platform."""
    origin = origin or f"{int(time.time() * 1000)}-{uuid.uuid4().int % 1000}"
    edge.redis.xadd(stream.source, fields | {"routed:entry": origin} | ({"routed:tries": tries} if tries else {}))
    return origin


def take_by_hand(edge: Edge, stream: StreamSettings, count: int = 10) -> None:
    """Reads entries of a host's stream and leaves them unanswered."""
    edge.redis.xreadgroup(stream.source_group, stream.consumer, {stream.source: ">"}, count=count)


def stream_of(edge: Edge, name: str) -> StreamSettings:
    """The section ``[stream]`` of a host."""
    return fleet.of_host(edge.settings().stream, name)


def left_on(edge: Edge, stream: StreamSettings) -> int:
    """Entries on a host's stream: what is answered is removed."""
    return int(edge.redis.xlen(stream.source))
