"""Redis as a run has it, in real processes: one server; one with a replica and three sentinels; a cluster.

What is killed is started again with its data. What has a replica loses what that had not heard; so a new fault waits
until everything is whole, as nobody promises anything for two at once.
"""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import redis

from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinels import Sentinels
from tests.support.redis_server import RedisServer

Kind: TypeAlias = Literal["one", "sentinel", "cluster"]

STREAM = "edge_snap_request"
TIMEOUT = 2.0  # s for an answer of Redis
PATIENCE = 15.0  # s for a replica to take over; then the dead master is started again all the same


class Backing(ABC):
    """Redis, up and running for the length of a block.

    Attributes:
        replicas: how many must have heard a write before its sender relies on it.
        port: of the one server, where there is one.
    """

    replicas = 0
    port: int | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """For snapd."""

    @abstractmethod
    def holder(self) -> RedisServer:
        """Who has the stream now. Raises RedisError if nobody says."""

    @abstractmethod
    def masters(self) -> list[RedisServer]:
        """All that have keys of their own."""

    @abstractmethod
    def begin(self, kind: str) -> bool:
        """Makes a fault happen; whether it did."""

    @abstractmethod
    def end(self, kind: str) -> None:
        """Mends what it broke."""

    @abstractmethod
    def tend(self) -> None:
        """Starts again what is due. To be called often."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OneServer(Backing):
    """One, with an append-only file."""

    def __init__(self, directory: Path) -> None:
        self._server = RedisServer(directory, appendonly=True)
        self.port = self._server.port

    @property
    def url(self) -> str:
        return self._server.url

    def holder(self) -> RedisServer:
        return self._server

    def masters(self) -> list[RedisServer]:
        return [self._server]

    def begin(self, kind: str) -> bool:
        if kind == "stop":
            self._server.signal(signal.SIGSTOP)
        else:
            self._server.kill()
        return True

    def end(self, kind: str) -> None:
        if kind == "stop":
            self._server.signal(signal.SIGCONT)
        else:
            self._server.start()

    def tend(self) -> None:
        pass

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.kill()


class Replicated(Backing):
    """Servers each of which has a replica that takes its place.

    | fault | |
    |-------|-|
    | failover | the master that has the stream is killed |
    | other    | a master is killed that has it not, if there is one |
    | freeze   | the master that has the stream is stopped, and comes back believing that it is one |
    | undo     | its replica hears nothing for a while; then the master is killed, and the replica takes its place |
    | replica  | the replica of that master is killed |
    | cut      | every client is cut off |
    """

    replicas = 1

    def __init__(self, servers: Sentinels | RedisCluster) -> None:
        self._servers = servers
        self._hit: RedisServer | None = None
        self._lost: RedisServer | None = None
        self._replaced: tuple[RedisServer, float] | None = None  # a dead master, and when it died

    @property
    def url(self) -> str:
        return self._servers.url

    @abstractmethod
    def replica(self) -> RedisServer | None:
        """The replica of who has the stream."""

    def begin(self, kind: str) -> bool:
        if self._replaced or not self._servers.is_whole():
            return False
        master, replica = self.holder(), self.replica()
        if replica is None:
            return False
        others = [one for one in self.masters() if one is not master]
        self._hit = replica if kind == "replica" else others[0] if kind == "other" and others else master
        if kind == "freeze":
            master.signal(signal.SIGSTOP)
        elif kind == "cut":
            for one in self.masters():
                _cut_off(one, "normal")
        elif kind == "undo":
            self._lost = replica
            replica.signal(signal.SIGSTOP)
            _cut_off(master, "replica")
        else:
            self._hit.kill()
        return True

    def end(self, kind: str) -> None:
        hit, self._hit = self._hit, None
        if hit is None:
            return
        if kind == "freeze":
            hit.signal(signal.SIGCONT)
        elif kind == "undo" and self._lost is not None:
            hit.kill()
            self._lost.signal(signal.SIGCONT)
            self._lost = None
            self._replaced = hit, time.monotonic()
        elif kind != "cut":
            hit.start()

    def tend(self) -> None:
        if self._replaced is None:
            return
        dead, since = self._replaced
        with suppress(redis.RedisError):
            if self.holder() is dead and time.monotonic() - since < PATIENCE:
                return
            dead.start()
            self._replaced = None

    def __enter__(self) -> Self:
        self._servers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.__exit__(kind, error, trace)


class WithSentinels(Replicated):
    """A master, a replica and three sentinels."""

    def __init__(self, directory: Path) -> None:
        self._sentinels = Sentinels(directory)
        super().__init__(self._sentinels)

    def holder(self) -> RedisServer:
        return self._sentinels.master

    def replica(self) -> RedisServer | None:
        return self._sentinels.replica

    def masters(self) -> list[RedisServer]:
        return [self._sentinels.master]


class Cluster(Replicated):
    """Three masters and a replica of each."""

    def __init__(self, directory: Path) -> None:
        self._cluster = RedisCluster(directory)
        super().__init__(self._cluster)

    def holder(self) -> RedisServer:
        return self._cluster.owner(STREAM)

    def replica(self) -> RedisServer | None:
        return self._cluster.replica_of(self.holder())

    def masters(self) -> list[RedisServer]:
        return [one for one in self._cluster.running() if _is_master(one)]


BACKINGS: dict[Kind, Callable[[Path], Backing]] = {
    "one": OneServer,
    "sentinel": WithSentinels,
    "cluster": Cluster,
}


class StreamClient:
    """A client of who has the stream, made anew after each failure; for one thread."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._client: redis.Redis | None = None

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The client; says at once, by a RedisError, when Redis does not answer."""
        try:
            if self._client is None:
                self._client = self._backing.holder().client(timeout=TIMEOUT)
            yield self._client
        except (redis.RedisError, OSError):
            self.close()
            raise

    def close(self) -> None:
        """Closes it; the next use opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _cut_off(server: RedisServer, kind: str) -> None:
    with server.client(timeout=TIMEOUT) as client, suppress(redis.RedisError):
        client.execute_command("CLIENT", "KILL", "TYPE", kind)


def _is_master(server: RedisServer) -> bool:
    with server.client(timeout=TIMEOUT) as client, suppress(redis.RedisError):
        found: Any = client.info("replication")
        return bool(found["role"] == "master")
    return False
