"""Object storage, the platform, and the network to them and to Redis, in one process.

Everything there can be made to fail, by a word down a pipe; every callback that arrives comes back by it.
"""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, cast

from benchmarks.chaos.faults import LINKS, SNAPDS, Fault
from benchmarks.chaos.proxy import Proxy
from benchmarks.measures.cloud import Bucket, Callback, Platform
from benchmarks.measures.process import SPAWN, BenchmarkError, child
from tests.support import http_server

TIMEOUT = 30.0  # s


@dataclass(frozen=True, slots=True)
class ProxiedEndpoints:
    """What a configuration needs to know. `redis`: the port by which each snapd reaches it, if there is a link."""

    redis: Mapping[str, int]
    store: Mapping[str, str]
    callback_url: str


class FaultyCloud:
    """The handle on that process. Orders come from one thread; `callback` is for another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        if not connection.poll(TIMEOUT):
            raise BenchmarkError(f"the stand-ins are not there within {TIMEOUT:g} s")
        self.endpoints: ProxiedEndpoints = connection.recv()

    def begin(self, fault: Fault) -> None:
        """From now on the fault's target has it."""
        self._connection.send((fault.target, fault.kind, fault.amount))

    def end(self, target: str) -> None:
        """From now on nothing is wrong with `target`."""
        self._connection.send((target, "", 0.0))

    def callback(self) -> Callback:
        """The next result, when it comes. Raises EOFError or OSError when none will."""
        return cast(Callback, self._connection.recv())


@contextmanager
def faulty_cloud(redis_port: int | None) -> Iterator[FaultyCloud]:
    """It, for the length of the block; with links to Redis if that has one port."""
    ours, theirs = SPAWN.Pipe()
    with child(_serve, theirs, redis_port):
        theirs.close()
        yield FaultyCloud(ours)


def _serve(connection: Connection, redis_port: int | None) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # requests left hanging keep their sockets
    with Bucket() as cos, Platform(connection) as wvp, Proxy() as proxy:
        servers: dict[str, http_server.FaultyServer] = {"cos": cos, "wvp": wvp}
        redis_links = {
            name: proxy.link(link, redis_port)
            for name, link in zip(SNAPDS, LINKS, strict=False)
            if redis_port is not None
        }
        cos_port, wvp_port = (
            proxy.link(link, server.port) for link, server in zip(LINKS[len(SNAPDS) :], (cos, wvp), strict=True)
        )
        store = {"bucket": cos.bucket, "secret_id": cos.secret_id, "secret_key": cos.secret_key}
        store |= {"scheme": "http", "domain": f"127.0.0.1:{cos_port}"}
        endpoints = ProxiedEndpoints(redis_links, store, f"http://127.0.0.1:{wvp_port}")
        with wvp.changed:  # callbacks are sent under it
            connection.send(endpoints)
        while True:
            target, kind, amount = connection.recv()
            if target in servers:
                servers[target].fault = _http_fault(kind, amount)
            else:
                proxy.set(target, kind or "open", amount)


def _http_fault(kind: str, amount: float) -> http_server.Fault | None:
    if not kind:
        return None
    named: Any = int(kind) if kind.isdigit() else kind
    return http_server.Fault(named, delay=amount)
