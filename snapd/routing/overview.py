"""The fleet as people and programs are shown it: hosts, what they have and how they keep up, and the routers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import redis

from framesrv.settings import StreamSettings
from snapd.requests import fleet
from snapd.requests.backlog import count_after, server_time
from snapd.requests.cluster import RedisClient
from snapd.requests.fleet import Beat
from snapd.requests.presence import Host, record_key
from snapd.routing.registry import Hosts


@dataclass(frozen=True, slots=True)
class HostSeen:
    """One host.

    Attributes:
        state: ``dead`` where none of its snapds has given a sign of life for `fleet.LEASE` seconds.
        cameras: what requests to it may name.
        versions: of its snapds.
        lag: requests on its stream that it has not taken yet; None: not told.
        pending: those taken and not answered; None: not told.
        heard_s: seconds since the newest sign of life.
    """

    host: str
    state: Literal["live", "dead"]
    cameras: tuple[str, ...]
    versions: tuple[str, ...]
    lag: int | None
    pending: int | None
    heard_s: float


@dataclass(frozen=True, slots=True)
class RouterSeen:
    """One router."""

    router: str
    state: Literal["live", "dead"]
    heard_s: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of it.

    Attributes:
        stream: that the platform writes to.
        lag: requests there that no router has taken yet, and so on.
        hosts: by name.
        doubled: the live hosts of each camera that several have; the first answers.
    """

    stream: str
    lag: int | None
    pending: int | None
    hosts: tuple[HostSeen, ...]
    routers: tuple[RouterSeen, ...]
    doubled: dict[str, tuple[str, ...]]


def look(client: RedisClient, settings: StreamSettings) -> Fleet:
    """The fleet now. Raises RedisError."""
    now = server_time(client)
    beats = fleet.beats(client, settings, "hosts")
    records = _records(client, settings, beats)
    found = Hosts.of(beats, now, lambda beat: _codes(records.get(beat.member)), sure=True)
    names = (*found.live, *found.dead)
    shared = fleet.shared(settings, settings.consumer)
    (lag, pending), *waiting = _waiting(client, [shared, *(fleet.of_host(settings, name) for name in names)])
    hosts = [
        _host(name, name in found.live, [one for one in beats if one.host == name], records, now, *counts)
        for name, counts in zip(names, waiting, strict=True)
    ]
    routers = [
        RouterSeen(one.consumer, "live" if one.is_alive(now) else "dead", _seconds(now - one.at))
        for one in fleet.beats(client, settings, "routers")
    ]
    return Fleet(
        settings.name,
        lag,
        pending,
        tuple(sorted(hosts, key=lambda one: one.host)),
        tuple(routers),
        found.doubled,
    )


def lines(fleet_: Fleet) -> Iterator[str]:
    """It as a table."""
    live = [one for one in fleet_.routers if one.state == "live"]
    yield f"{fleet_.stream}: {_number(fleet_.lag)} waiting, {_number(fleet_.pending)} being routed"
    names = ", ".join(one.router for one in live)
    yield f"routers: {len(live)} ({names})" if live else "routers: none is alive; start `snapd route`"
    if not fleet_.hosts:
        yield "no host has [stream] routed = true"
        return
    rows = [("HOST", "STATE", "CAMERAS", "LAG", "PENDING", "HEARD OF", "VERSION")]
    rows += [
        (
            one.host,
            one.state,
            str(len(one.cameras)),
            _number(one.lag),
            _number(one.pending),
            f"{one.heard_s:.1f} s",
            ", ".join(one.versions),
        )
        for one in fleet_.hosts
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, second, *numbers, version = row
        cells = [first.ljust(widths[0]), second.ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(numbers, widths[2:], strict=False)]
        yield "  ".join([*cells, version]).rstrip()
    for code, hosts in fleet_.doubled.items():
        yield f"camera {code} is on {' and '.join(hosts)}: {hosts[0]} answers"


def _host(
    name: str,
    live: bool,
    beats: list[Beat],
    records: dict[str, Host],
    now: float,
    lag: int | None,
    pending: int | None,
) -> HostSeen:
    alive = [beat for beat in beats if beat.is_alive(now)] or beats
    own = [records[beat.member] for beat in alive if beat.member in records]
    codes = sorted({code for record in own for code in record.codes})
    versions = sorted({record.version for record in own})
    heard = _seconds(now - max(beat.at for beat in beats))
    return HostSeen(name, "live" if live else "dead", tuple(codes), tuple(versions), lag, pending, heard)


def _records(client: RedisClient, settings: StreamSettings, beats: Iterable[Beat]) -> dict[str, Host]:
    beats = list(beats)
    keys = [record_key(fleet.of_host(settings, beat.host), beat.consumer) for beat in beats]
    texts = _all(client.batch([("GET", key) for key in keys]) if keys else [])
    found = {beat.member: Host.parse(text) for beat, text in zip(beats, texts, strict=True)}
    return {member: host for member, host in found.items() if host is not None}


def _codes(record: Host | None) -> tuple[str, ...]:
    return record.codes if record else ()


def _waiting(client: RedisClient, readers: list[StreamSettings]) -> list[tuple[int | None, int | None]]:
    """Lag and pending entries of each."""
    found: list[tuple[int | None, int | None]] = []
    for reader, groups in zip(readers, client.batch([("XINFO GROUPS", one.source) for one in readers]), strict=True):
        if isinstance(groups, Exception):
            if not isinstance(groups, redis.ResponseError):
                raise groups
            found.append((0, 0) if "no such key" in str(groups) else (None, None))
            continue
        group = next((one for one in groups if one["name"] == reader.source_group.encode()), None)
        if group is None:
            found.append((None, None))
            continue
        lag = group.get("lag")
        if lag is None:
            lag = count_after(client, reader.source, group["last-delivered-id"].decode())
        found.append((lag, group["pending"]))
    return found


def _all(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _seconds(seconds: float) -> float:
    return round(max(0.0, seconds), 1)


def _number(number: int | None) -> str:
    return "?" if number is None else str(number)
