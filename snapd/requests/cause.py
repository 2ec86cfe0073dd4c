"""Why Redis does not do what it is asked, in words that lead to the remedy.

redis-py raises few classes; what the server said, and what the system did below them, tell the rest. Where a
connection ends or hangs without a word, a look at the port says whether TLS was spoken to who does not, or the other
way round.
"""

import re
import socket

import redis
from redis.sentinel import MasterNotFoundError

from framesrv import ConfigError
from framesrv.process import reaching
from snapd.errors import RedisVersionError
from snapd.requests.url import ClusterUrl, SentinelUrl

PORT = 6379

_PLACE = re.compile(r"(?:connecting to|reading from) (\[?[^\s\]]+\]?):(\d+)")
_SENTINEL = re.compile(r"host=([^,]+),port=(\d+)")  # as redis-py prints a client
_REFUSED = "{} refuses the user or the password: see redis.url"
_UNASKED = "{} has no password, and redis.url gives one: remove it, or set requirepass"
_SAID = {  # how an answer begins, without the word that redis-py takes off, and what it means; {} is who answers
    "Authentication required": "{} wants a password, and redis.url has none: put it there",
    "invalid username-password pair": _REFUSED,
    "invalid password": _REFUSED,
    "AUTH <password> called without any": _UNASKED,
    "Client sent AUTH, but no password": _UNASKED,
    "DB index is out of range": "{} has no database of that number: see the end of redis.url",
    "DENIED": "{} is in protected mode, for its own host alone: give it a password (requirepass)",
    "max number of clients reached": "{} takes no more clients: raise its maxclients, or see CLIENT LIST",
    "MISCONF": "{} takes no writes, as it cannot save them: see its log and its disk",
    "WRONGTYPE": "a key is no stream: another name for stream.name or stream.dead, or remove the key",
}
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (redis.exceptions.BusyLoadingError, "{} is loading its data, and serves when that is done"),
    (
        redis.exceptions.ReadOnlyError,
        "{} is a replica, which takes no writes: name the master, or Sentinel, in redis.url",
    ),
    (redis.exceptions.OutOfMemoryError, "{} has no memory left: raise its maxmemory"),
    (redis.exceptions.InvalidResponse, "what answers at {} is no Redis: see the host and the port in redis.url"),
)


def explain(error: BaseException, url: str = "") -> str:
    """A sentence for an error of Redis.

    Args:
        error: what was raised.
        url: that was asked; empty where nobody knows it.
    """
    if isinstance(error, RedisVersionError):
        return str(error)
    if isinstance(error, MasterNotFoundError):
        return _without_master(error)
    host, port = _place(error, url)
    where = f"{host}:{port}" if host else "Redis"
    if known := reaching.explain(error, host or "of Redis", port):
        return known[1]
    if untrusted := reaching.untrusted(error, where):
        return untrusted
    said = str(error)
    if words := _known(said, where):
        return words
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"{where} does not allow it: {said}: give that user the rights in docs/operating.md"
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words.format(where)
    return _without_words(error, host, port, secure=url.startswith("rediss")) or said or type(error).__name__


def _without_words(error: BaseException, host: str, port: int, *, secure: bool) -> str:
    """Of a connection that ends or hangs; empty for what is something else."""
    where = f"{host}:{port}" if host else "Redis"
    if isinstance(error, redis.TimeoutError | TimeoutError):
        if secure and host and _answer(host, port).startswith(("+", "-")):
            return reaching.no_tls(where, "redis")
        reading = "reading" in str(error) or "writing" in str(error)
        return f"{where} has taken the connection, and does not answer" if reading else f"{where} does not answer"
    if "wrong version number" in str(error).lower().replace("_", " "):
        return reaching.no_tls(where, "redis")
    if isinstance(error, redis.ConnectionError) and re.search(
        r"closed by server|reset by peer|Broken pipe", str(error)
    ):
        if not secure and host:
            # redis-py hears an answer to its greeting no more than the end that follows
            if words := _known(_answer(host, port).removeprefix("-").removeprefix("ERR "), where):
                return words
            if reaching.speaks_tls(host, port):
                return reaching.only_tls(where, "rediss")
        return f"{where} ends the connection: it ends itself, or is no Redis"
    return ""


def _known(said: str, where: str) -> str:
    return next((words.format(where) for start, words in _SAID.items() if said.startswith(start)), "")


def _answer(host: str, port: int) -> str:
    """What is answered there without TLS, its beginning."""
    try:
        with socket.create_connection((host, port), reaching.PATIENCE) as connection:
            connection.settimeout(reaching.PATIENCE)
            connection.sendall(b"PING\r\n")
            return connection.recv(100).decode("ascii", "replace")
    except OSError:
        return ""


def _without_master(error: Exception) -> str:
    """Of sentinels that do not know the master, or do not answer."""
    name, _, rest = str(error).removeprefix("No master found for ").partition(" : ")
    places = ", ".join(f"{host}:{port}" for host, port in dict.fromkeys(_SENTINEL.findall(rest)))
    if "AuthenticationError" in rest:
        return f"the sentinels refuse the password ({places}): see sentinel_password in redis.url"
    if places:
        return f"no sentinel says where the master {name} is, as they do not answer ({places}): see redis.url"
    return f"no sentinel knows a master {name}: see the name behind the hosts in redis.url"


def _place(error: BaseException, url: str) -> tuple[str, int]:
    """Who was asked: whom the error names, else the first of the URL; empty and 0 where nobody knows."""
    if match := _PLACE.search(str(error)):
        return match[1], int(match[2])
    try:
        if "+sentinel://" in url:
            return SentinelUrl.parse(url).hosts[0]
        first = ClusterUrl.parse(url).nodes[0] if "+cluster://" in url else url
        options = redis.ConnectionPool.from_url(first).connection_kwargs
    except (ConfigError, ValueError):
        return "", 0
    if "path" in options:
        return "", 0
    return str(options.get("host", "localhost")), int(options.get("port", PORT))
