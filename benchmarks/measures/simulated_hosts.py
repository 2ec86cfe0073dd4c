"""Hosts that have cameras and take no pictures: real consumers of Redis Streams, hundreds of them in one process.

Each has a connection of its own and waits for entries on it, as snapd does. It answers a request with the commands
that snapd answers one with (a mark, a result under its key, the mark again, the acknowledgement), in two round trips.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import redis.asyncio

from benchmarks.measures.process import SPAWN, BenchmarkError, child
from framesrv.settings import StreamSettings
from snapd.requests import fleet
from snapd.requests.presence import Host, digest_of, record_key

STREAM, GROUP = "edge_snap_request", "edge_snap_group"
BLOCK = 2000  # ms
COUNT = 50  # entries of one read
PATIENCE = 60.0  # s for hundreds of hosts to begin, or to tell


@dataclass(slots=True)
class Told:
    """What hosts have seen since they were last asked.

    Attributes:
        deliveries: entries that were delivered to them.
        answered: nanoseconds from when a request was sent until it was answered, of each that they have answered.
    """

    deliveries: int = 0
    answered: list[int] = field(default_factory=list)


def camera(host: int, number: int) -> str:
    """The code of a host's camera."""
    return f"cam-{host:04}-{number:02}"


class Hosts:
    """Simulated hosts, in several processes. The numbers of those that a process has are its `share`."""

    def __init__(self, pipes: Sequence[Connection], shares: Sequence[Sequence[int]]) -> None:
        self._pipes, self._shares = pipes, shares

    def told(self) -> Told:
        """What they have seen since the last time."""
        whole = Told()
        for pipe in self._pipes:
            one: Told = self._ask(pipe, "tell")
            whole.deliveries += one.deliveries
            whole.answered += one.answered
        return whole

    def kill(self, number: int) -> float:
        """Ends one at once, with what it has in hand; the monotonic time at which that was."""
        for pipe, share in zip(self._pipes, self._shares, strict=True):
            if number in share:
                return float(self._ask(pipe, number))
        raise ValueError(f"there is no host {number}")

    def await_all(self) -> None:
        """Waits until they read."""
        for pipe in self._pipes:
            self._ask(pipe, "begun")

    @staticmethod
    def _ask(pipe: Connection, what: str | int) -> Any:
        pipe.send(what)
        if not pipe.poll(PATIENCE):
            raise BenchmarkError(f"simulated hosts do not answer within {PATIENCE:g} s")
        return pipe.recv()


@contextmanager
def hosts(url: str, count: int, cameras: int, processes: int, *, routed: bool) -> Iterator[Hosts]:
    """`count` hosts with so many cameras each, that requests are routed to, or that read all of them."""
    shares = [range(first, count, processes) for first in range(min(processes, count))]
    pairs = [SPAWN.Pipe() for _ in shares]
    with _children([(url, share, cameras, pair[1], routed) for share, pair in zip(shares, pairs, strict=True)]):
        there = Hosts([pair[0] for pair in pairs], shares)
        there.await_all()
        yield there


@contextmanager
def _children(arguments: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    if not arguments:
        yield
        return
    with child(_run, *arguments[0]), _children(arguments[1:]):
        yield


def _run(url: str, share: Sequence[int], cameras: int, pipe: Connection, routed: bool) -> None:
    asyncio.run(_serve(url, share, cameras, pipe, routed))


async def _serve(url: str, share: Sequence[int], cameras: int, pipe: Connection, routed: bool) -> None:
    told = Told()
    begun = {number: asyncio.Event() for number in share}
    tasks = {
        number: asyncio.create_task((_routed if routed else _reading_all)(url, number, cameras, told, begun[number]))
        for number in share
    }
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[str | int] = asyncio.Queue()
    loop.add_reader(pipe.fileno(), lambda: heard.put_nowait(pipe.recv()))
    while True:
        what = await heard.get()
        if what == "tell":
            pipe.send(told)
            told.deliveries, told.answered = 0, []
        elif what == "begun":
            await asyncio.gather(*(event.wait() for event in begun.values()))
            pipe.send(True)
        else:
            tasks[int(what)].cancel()
            pipe.send(time.monotonic())


async def _routed(url: str, number: int, cameras: int, told: Told, begun: asyncio.Event) -> None:
    settings = fleet.of_host(StreamSettings(), f"host-{number:04}")
    codes = tuple(camera(number, one) for one in range(cameras))
    client = redis.asyncio.Redis.from_url(url)
    await client.xgroup_create(settings.source, settings.source_group, id="0", mkstream=True)
    record = Host(settings.host, settings.host, "simulated", 1, 1, cameras, digest_of(codes), "simulated", codes)
    await client.set(record_key(settings, settings.consumer), record.to_json(), ex=3600)
    beating = asyncio.create_task(_beat(url, settings, record.digest, begun))
    try:
        async for entries in _read(client, settings.source, settings.source_group, settings.consumer):
            told.deliveries += len(entries)
            await _answer(client, settings.source, settings.source_group, entries, told, remove=True)
    finally:
        beating.cancel()


async def _beat(url: str, settings: StreamSettings, digest: str, begun: asyncio.Event) -> None:
    client = redis.asyncio.Redis.from_url(url)
    member = fleet.member_of(settings.host, settings.consumer)
    while True:
        await client.hset(fleet.key_of(settings, "hosts"), member, f"{int(time.time() * 1000)} {digest}")
        begun.set()
        await asyncio.sleep(fleet.BEAT_EVERY)


async def _reading_all(url: str, number: int, cameras: int, told: Told, begun: asyncio.Event) -> None:
    """With a group of its own, as with ``unknown_camera = "ignore"``."""
    group, own = f"group-{number:04}", {camera(number, one).encode() for one in range(cameras)}
    client = redis.asyncio.Redis.from_url(url)
    await client.xgroup_create(STREAM, group, id="$", mkstream=True)
    begun.set()
    async for entries in _read(client, STREAM, group, "edge_snap_worker"):
        told.deliveries += len(entries)
        others = [entry_id for entry_id, fields in entries if fields[b"camera_code"] not in own]
        if others:
            await client.xack(STREAM, group, *others)
        mine = [entry for entry in entries if entry[1][b"camera_code"] in own]
        if mine:
            await _answer(client, STREAM, group, mine, told, remove=False)


async def _read(client: Any, stream: str, group: str, consumer: str) -> Any:
    while True:
        reply = await client.xreadgroup(group, consumer, {stream: ">"}, count=COUNT, block=BLOCK)
        for _, entries in reply:
            yield entries


async def _answer(client: Any, stream: str, group: str, entries: Any, told: Told, *, remove: bool) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        for entry_id, fields in entries:
            name = fields[b"request_id"].decode()
            pipeline.set(f"snap:done:{name}", b'{"state":"taken","entry":"%s"}' % entry_id, nx=True, ex=112)
            pipeline.get(f"snap:done:{name}")
        await pipeline.execute()
    async with client.pipeline(transaction=False) as pipeline:
        for entry_id, fields in entries:
            name = fields[b"request_id"].decode()
            result = b'{"request_id":"%s","status":"ok","url":"http://simulated"}' % fields[b"request_id"]
            pipeline.set(f"snap:result:{name}", result, ex=60)
            pipeline.set(f"snap:done:{name}", b'{"state":"done","entry":"%s"}' % entry_id, ex=3600)
            pipeline.xack(stream, group, entry_id)
            if remove:
                pipeline.xdel(stream, entry_id)
        await pipeline.execute()
    now = time.monotonic_ns()
    told.answered += [now - int(fields[b"sent_ns"]) for _, fields in entries]
