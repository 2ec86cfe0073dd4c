"""The URLs of Redis that redis-py has no form for: found through Sentinel, and a cluster by several of its nodes."""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from framesrv import ConfigError

_SENTINEL = re.compile(
    r"(?P<tls>rediss?)\+sentinel://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^/@?#]+)"
    r"/(?P<service>[^/?#]+)(?:/(?P<db>\d{1,4})?)?(?:\?(?P<query>[^#]*))?\Z"
)
_CLUSTER = re.compile(
    r"(?P<tls>rediss?)\+cluster://(?P<user>(?:[^:@/]*(?::[^@/]*)?@)?)(?P<hosts>[^/@?#]+)(?:/0?)?(?P<query>\?[^#]*)?\Z"
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


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """``redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][?OPTIONS]``.

    Attributes:
        nodes: the URL of each node that is named, in a form that redis-py knows.
    """

    nodes: list[str] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "ClusterUrl":
        """Raises ConfigError, without the URL, which may hold a password."""
        match = _CLUSTER.match(url)
        hosts = match["hosts"].split(",") if match else []
        if match is None or not all(_HOST.match(host) for host in hosts):
            raise ConfigError(["redis.url: expected redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]]"])
        return cls([f"{match['tls']}://{match['user']}{host}/0{match['query'] or ''}" for host in hosts])
