"""Connections to Redis: what the URL means, how long things may take, and the clock of the server.

Three kinds: `open_client` for short commands that may be repeated, `open_short` for those that only look, and
`open_reader` for the one connection that waits for entries and is never retried blindly. All of them find the master
anew through Sentinel when they connect.
"""

import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from framesrv import ConfigError
from snapd.errors import RedisVersionError

MIN_VERSION = (6, 2)
CONNECT_TIMEOUT = 2.0  # s
COMMAND_TIMEOUT = 3.0  # s; a command of `open_client` is tried twice
LOOK_TIMEOUT = 1.0  # s; a command of `open_short` is tried once
READ_TIMEOUT = 5.0  # s, well above what a blocking read waits
COMMAND_LIMIT = 2 * COMMAND_TIMEOUT + 0.5  # s that a command of `open_client` takes at most

_SENTINEL = re.compile(
    r"(?P<tls>rediss?)\+sentinel://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^/@?#]+)"
    r"/(?P<service>[^/?#]+)(?:/(?P<db>\d{1,4})?)?(?:\?(?P<query>[^#]*))?\Z"
)
_HOST = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?\Z")
_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """``redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB][?OPTIONS]``.

    User and password are the master's; ``rediss+sentinel`` is TLS to the sentinels and the master. Options:
    ``sentinel_username``, ``sentinel_password``, and ``ssl_...`` as redis-py has them.
    """

    hosts: list[tuple[str, int]]
    service: str
    options: dict[str, Any] = field(repr=False)
    sentinel_options: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "SentinelUrl":
        """Raises ConfigError, without the URL, which may hold a password."""
        match = _SENTINEL.match(url)
        hosts = [_HOST.match(host) for host in match["hosts"].split(",")] if match else []
        if match is None or not all(hosts):
            raise ConfigError(
                ["redis.url: expected redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]]/SERVICE[/DB]"]
            )
        query = dict(parse_qsl(match["query"] or ""))
        secure: dict[str, Any] = {key: value for key, value in query.items() if key.startswith("ssl_")}
        secure["ssl"] = match["tls"] == "rediss"
        options: dict[str, Any] = {"db": int(match["db"] or 0)}
        sentinel_options: dict[str, Any] = {}
        for name in ("username", "password"):
            part = match["user" if name == "username" else name]
            if part:
                options[name] = unquote(part)
            if f"sentinel_{name}" in query:
                sentinel_options[name] = query[f"sentinel_{name}"]
        return cls(
            [(host["host"].strip("[]"), int(host["port"] or _SENTINEL_PORT)) for host in hosts if host],
            unquote(match["service"]),
            secure | options,
            secure | sentinel_options,
        )


def open_client(url: str) -> redis.Redis:
    """A pooled client for short commands that may be repeated; it tries each twice."""
    return _open(
        url,
        socket_timeout=COMMAND_TIMEOUT,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 1),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )


def open_reader(url: str) -> redis.Redis:
    """A client of one connection, whose commands are tried once; not for use by several threads."""
    return _open(url, single=True, socket_timeout=READ_TIMEOUT, retry=Retry(NoBackoff(), 0))


def interrupt(reader: redis.Redis) -> None:
    """Ends what another thread waits for with a client of `open_reader`; what has arrived is still read."""
    sock = getattr(reader.connection, "_sock", None)
    if sock is not None:
        with suppress(OSError):
            # Not SSLSocket's own, which is not made for another thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def open_short(url: str) -> redis.Redis:
    """A pooled client for looking only: nothing is tried twice, and nothing waited for long."""
    return _open(url, socket_timeout=LOOK_TIMEOUT, socket_connect_timeout=LOOK_TIMEOUT, retry=Retry(NoBackoff(), 0))


def _open(url: str, *, single: bool = False, **options: Any) -> redis.Redis:
    options = {"protocol": 2, "socket_connect_timeout": CONNECT_TIMEOUT} | options
    client: redis.Redis
    if "+sentinel://" not in url:
        try:
            client = redis.Redis.from_url(url, single_connection_client=single, **options)
        except ValueError as error:
            raise ConfigError([f"redis.url: {error}"]) from error
        return client
    where = SentinelUrl.parse(url)
    asking: dict[str, Any] = {"socket_timeout": COMMAND_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    asking["retry"] = Retry(NoBackoff(), 0)  # there are other sentinels
    sentinel: Any = Sentinel(where.hosts, sentinel_kwargs=where.sentinel_options | asking)  # type: ignore[no-untyped-call]
    if single:
        host, port = sentinel.discover_master(where.service)
        return redis.Redis(host, port, single_connection_client=True, **where.options, **options)
    client = sentinel.master_for(where.service, **where.options, **options)
    return client


def check_version(client: redis.Redis) -> str:
    """The server's version; empty if it does not tell.

    Raises:
        RedisVersionError: it is too old.
        redis.RedisError: it cannot be reached.
    """
    try:
        server: Any = client.info("server")
    except redis.exceptions.NoPermissionError:
        return ""
    version = str(server.get("redis_version", ""))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise RedisVersionError(f"Redis {version} is too old: {needed} or newer is needed")
    return version


class ServerClock:
    """The time of Redis, by which entries are dated, from this host's monotonic clock: no clock here counts.

    Until it is first read it guesses by the wall clock.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._read_at: float | None = None

    def read(self, client: redis.Redis) -> None:
        """Asks the server; from then on `now` is its time."""
        began = time.monotonic()
        seconds, microseconds = client.time()
        ended = time.monotonic()
        self._offset = seconds + microseconds / 1e6 - (began + ended) / 2
        self._read_at = ended

    def is_older_than(self, seconds: float) -> bool:
        """Whether the server was last asked longer ago."""
        return self._read_at is None or time.monotonic() - self._read_at > seconds

    def now(self) -> float:
        """Unix seconds, as Redis would say."""
        return time.monotonic() + self._offset
