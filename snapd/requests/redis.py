"""Connections to Redis: what the URL means, how long things may take, and the clock of the server.

Four kinds: `open_client` for short commands that may be repeated, `open_once` for those that must not be,
`open_short` for those that only look, and `open_reader` for the one connection that waits for entries and is never
retried blindly. All of them find the master anew through Sentinel when they connect, and the node that has a key in a
cluster.
"""

import random
import re
import socket
import time
from contextlib import suppress
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import MovedError, ReadOnlyError
from redis.retry import Retry
from redis.sentinel import Sentinel

from framesrv import ConfigError
from snapd.errors import RedisVersionError
from snapd.requests.cluster import MOST_MOVES, RedisClient, open_node
from snapd.requests.trouble import Refusals
from snapd.requests.url import ClusterUrl, SentinelUrl

MIN_VERSION = (6, 2)
CONNECT_TIMEOUT = 2.0  # s
COMMAND_TIMEOUT = 3.0  # s; a command of `open_client` is tried twice
LOOK_TIMEOUT = 1.0  # s; a command of `open_short` is tried once
READ_TIMEOUT = 5.0  # s, well above what a blocking read waits
COMMAND_LIMIT = 2 * COMMAND_TIMEOUT + 0.5  # s that a command of `open_client` takes at most

CLOSING = [redis.ConnectionError, redis.TimeoutError, ReadOnlyError]  # after these a connection is opened anew


def open_client(url: str) -> RedisClient:
    """A pooled client for short commands that may be repeated; it tries each twice."""
    return _open(
        url,
        socket_timeout=COMMAND_TIMEOUT,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
    )


def open_once(url: str) -> RedisClient:
    """A pooled client for short commands that must not be repeated: it tries each once."""
    client = _open(url, socket_timeout=COMMAND_TIMEOUT, retry=Retry(NoBackoff(), 0))
    client.repeats = False
    return client


def open_short(url: str) -> RedisClient:
    """A pooled client for looking only: nothing is tried twice, and nothing waited for long."""
    client = _open(url, socket_timeout=LOOK_TIMEOUT, socket_connect_timeout=LOOK_TIMEOUT, retry=Retry(NoBackoff(), 0))
    client.patience = 0.0
    return client


def open_reader(url: str, key: str, refusals: Refusals) -> redis.Redis:
    """A client of one connection to who has `key`, whose commands are tried once; not for use by several threads."""
    client: redis.Redis = _open_single(url)
    try:
        for _ in range(MOST_MOVES):
            try:
                with refusals.without("XLEN"):
                    client.xlen(key)
                break
            except MovedError as error:
                here, client = client, open_node(client, (error.host or _host(client), error.port), single=True)
                here.close()
    except BaseException:
        client.close()
        raise
    return client


def interrupt(reader: redis.Redis) -> None:
    """Ends what another thread waits for with a client of `open_reader`; what has arrived is still read."""
    sock = getattr(reader.connection, "_sock", None)
    if sock is not None:
        with suppress(OSError):
            # Not SSLSocket's own, which is not made for another thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _open(url: str, **options: Any) -> RedisClient:
    options = _COMMON | options
    if "+sentinel://" in url:
        sentinel, where = _sentinel(url)
        client: RedisClient = sentinel.master_for(where.service, RedisClient, **where.options, **options)
        return client
    first, *others = ClusterUrl.parse(url).nodes if "+cluster://" in url else [url]
    try:
        client = RedisClient.from_url(first, **options)  # type: ignore[assignment]
        for other in others:
            found = redis.ConnectionPool.from_url(other).connection_kwargs
            client.seeds.append((found["host"], found.get("port", 6379)))
    except ValueError as error:
        raise ConfigError([f"redis.url: {error}"]) from error
    return client


def _open_single(url: str) -> redis.Redis:
    options: dict[str, Any] = _COMMON | {"socket_timeout": READ_TIMEOUT, "retry": Retry(NoBackoff(), 0)}
    if "+sentinel://" in url:
        sentinel, where = _sentinel(url)
        host, port = sentinel.discover_master(where.service)
        return redis.Redis(host, port, single_connection_client=True, **where.options, **options)
    nodes = ClusterUrl.parse(url).nodes if "+cluster://" in url else [url]
    for node in random.sample(nodes, len(nodes)):
        try:
            return redis.Redis.from_url(node, single_connection_client=True, **options)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            away = error
    raise away


_COMMON: dict[str, Any] = {
    "protocol": 2,  # not every server and proxy knows HELLO
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "retry_on_error": CLOSING,
}


def _sentinel(url: str) -> tuple[Any, SentinelUrl]:
    where = SentinelUrl.parse(url)
    asking: dict[str, Any] = {"socket_timeout": COMMAND_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    asking |= {"protocol": 2, "retry": Retry(NoBackoff(), 0)}  # there are other sentinels
    return Sentinel(where.hosts, sentinel_kwargs=where.sentinel_options | asking), where  # type: ignore[no-untyped-call]


def _host(client: redis.Redis) -> str:
    return str(client.connection_pool.connection_kwargs.get("host", "127.0.0.1"))


def check_version(client: redis.Redis) -> str:
    """The server's version; empty if it does not say one.

    Raises:
        RedisVersionError: it is too old.
        redis.RedisError: it cannot be reached, or does not let this user ask.
    """
    server: Any = client.info("server")
    version = str(server.get("redis_version", ""))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise RedisVersionError(f"Redis {version} is too old: {needed} or newer is needed")
    return version


class ServerClock:
    """The time of Redis, by which entries are dated, from this host's monotonic clock: no clock here counts.

    Until it is first read, and where the server does not tell, it guesses by the wall clock.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._read_at: float | None = None

    def read(self, client: redis.Redis, refusals: Refusals) -> None:
        """Asks the server; from then on `now` is its time, or this host's if it does not tell."""
        began = ended = time.monotonic()
        offset = time.time() - began
        with refusals.without("TIME"):
            seconds, microseconds = client.time()
            ended = time.monotonic()
            offset = seconds + microseconds / 1e6 - (began + ended) / 2
        self._offset, self._read_at = offset, ended

    @property
    def ahead(self) -> float | None:
        """Seconds by which the clock of this host is ahead of that of Redis; None while that has not told."""
        return None if self._read_at is None else time.time() - self.now()

    def is_older_than(self, seconds: float) -> bool:
        """Whether the server was last asked longer ago."""
        return self._read_at is None or time.monotonic() - self._read_at > seconds

    def now(self) -> float:
        """Unix seconds, as Redis would say."""
        return time.monotonic() + self._offset
