"""What snapd needs outside itself, tried one thing after the other and told in words."""

from typing import Any

import redis
from msgspec.structs import replace

from framesrv import ConfigError
from framesrv.process.finding import Finding
from framesrv.settings import NOBODY, Settings, StreamSettings
from snapd.errors import EncoderError, RedisVersionError, StoreError
from snapd.pictures.encoder import Encoder
from snapd.requests import fleet
from snapd.requests.cause import explain
from snapd.requests.cluster import RedisClient
from snapd.requests.presence import Host, describe, strangers
from snapd.requests.redis import check_version, open_client
from snapd.requests.trouble import WITHOUT, Refusals, is_refusal
from snapd.routing.overview import look
from snapd.routing.registry import describe_doubled
from snapd.stores.store import open_store

NEEDED = {"XREADGROUP", "XACK", "SET"}  # of Redis; the others make things better


def findings(settings: Settings) -> list[Finding]:
    """Looks at everything, in the order in which one would mend things."""
    return [_encoder(settings), *_redis(settings), *_store(settings), _pages(settings)]


def findings_of_router(settings: Settings) -> list[Finding]:
    """The same for a router, which needs neither encoder nor store."""
    stream = settings.stream
    shared = replace(settings, stream=fleet.shared(stream, stream.consumer), cameras=())
    own = replace(shared, stream=fleet.of_host(stream, NOBODY))
    client = open_client(settings.redis.url)
    try:
        version = _version(client)
        reached = Finding("redis", 0, f"{settings.redis.url} answers, version {version or 'unknown'}")
        found = [reached, _group(shared, client), _rights(own, client), *_strangers(shared, client)]
        found += _hosts(stream, client)
    except (RedisVersionError, redis.RedisError, OSError) as error:
        found = [Finding("redis", 1, explain(error, settings.redis.url))]
    finally:
        client.close()
    return [*found, _pages(replace(settings, http=replace(settings.http, listen=settings.route.listen)))]


def _encoder(settings: Settings) -> Finding:
    try:
        Encoder.of(settings.snapshot)
    except EncoderError as error:
        return Finding("encoder", 1, str(error))
    return Finding("encoder", 0, f"{settings.snapshot.encoder}, quality {settings.snapshot.quality}")


def _redis(settings: Settings) -> list[Finding]:
    client = open_client(settings.redis.url)
    try:
        version = _version(client)
        reached = Finding("redis", 0, f"{settings.redis.url} answers, version {version or 'unknown'}")
        return [
            reached,
            _group(settings, client),
            _rights(settings, client),
            *_strangers(settings, client),
            *_fleet(settings, client),
        ]
    except (RedisVersionError, redis.RedisError, OSError) as error:
        return [Finding("redis", 1, explain(error, settings.redis.url))]
    finally:
        client.close()


def _version(client: redis.Redis) -> str:
    try:
        return check_version(client)
    except redis.ResponseError as error:
        if not is_refusal(error):
            raise
        return ""


def _group(settings: Settings, client: redis.Redis) -> Finding:
    stream = settings.stream
    try:
        groups: Any = client.xinfo_groups(stream.source)
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return Finding("group", 0, f"stream {stream.source} does not exist yet; snapd will make it")
        return Finding("group", 1, f"stream {stream.source}: {explain(error, settings.redis.url)}")
    for group in groups:
        if group["name"] == stream.source_group.encode():
            return Finding("group", 0, f"{stream.source_group} on {stream.source}, {group['pending']} pending")
    return Finding("group", 0, f"{stream.source_group} on {stream.source} does not exist yet; snapd will make it")


def _rights(settings: Settings, client: redis.Redis) -> Finding:
    """Whether the user may do what snapd does; by commands that are refused, or else change nothing."""
    stream, key = settings.stream, f"{settings.result.key_prefix}check"
    nobody = "framesrv-check"  # a group that does not exist
    refused: dict[str, str] = {}
    for command in (
        ("XREADGROUP", "GROUP", nobody, nobody, "COUNT", 1, "STREAMS", stream.source, ">"),
        ("XACK", stream.source, nobody, "0-0"),
        ("SET", key, "", "XX"),
        ("GET", key),
        ("XPENDING", stream.source, nobody),
        ("XCLAIM", stream.source, nobody, nobody, 0, "0-0"),
        ("XADD", stream.dead, "NOMKSTREAM", "0-0", "no", "letter"),
        *([("XDEL", stream.source, "0-0"), ("HGETALL", fleet.key_of(stream, "routers"))] if stream.routed else []),
    ):
        try:
            client.execute_command(*command)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if is_refusal(error):
                refused[str(command[0])] = explain(error, settings.redis.url)
    if not refused:
        return Finding("rights", 0, "snapd may do in Redis what it needs")
    words = "; ".join(f"without {name} {WITHOUT[name]}" for name in refused)
    return Finding("rights", int(not NEEDED.isdisjoint(refused)), f"{next(iter(refused.values()))}; {words}")


def _strangers(settings: Settings, client: redis.Redis) -> list[Finding]:
    """Hosts with other cameras that read from the same group."""
    host = Host.this([camera.code for camera in settings.cameras])
    try:
        words = describe(strangers(client, settings.stream, host, Refusals()), routed=settings.stream.routed)
    except redis.ResponseError:  # there is no group yet, as is said
        return []
    return [Finding("group", 1, words)] if words else []


def _hosts(stream: StreamSettings, client: RedisClient) -> list[Finding]:
    """Whom requests are routed to."""
    found = look(client, stream)
    dead = [one.host for one in found.hosts if one.state == "dead"]
    live = len(found.hosts) - len(dead)
    hosts = Finding("hosts", int(bool(dead)), f"{live} live" + (f", dead: {', '.join(dead)}" if dead else ""))
    doubled = describe_doubled(found.doubled)
    return [hosts, *([Finding("cameras", 1, doubled)] if doubled else [])]


def _fleet(settings: Settings, client: RedisClient) -> list[Finding]:
    """Whether requests are brought here, and not to others with the same cameras."""
    if not settings.stream.routed:
        return []
    try:
        found = look(client, settings.stream)
    except redis.ResponseError as error:
        return [Finding("router", 1, explain(error, settings.redis.url))]
    live = [one.router for one in found.routers if one.state == "live"]
    if live:
        router = Finding("router", 0, f"{', '.join(live)} on {settings.stream.name}")
    else:
        router = Finding("router", 1, fleet.without_router((), 0.0, settings.stream))
    own = {stream.code for stream in settings.streams}
    doubled = describe_doubled({code: hosts for code, hosts in found.doubled.items() if code in own})
    return [router, *([Finding("cameras", 1, doubled)] if doubled else [])]


def _store(settings: Settings) -> list[Finding]:
    try:
        store = open_store(settings.store, connections=1)
    except ConfigError as error:
        return [Finding("store settings", 2, problem) for problem in error.problems]
    complete = Finding("store settings", 0, f'complete for kind "{settings.store.kind}"')
    try:
        return [complete, Finding("store", 0, store.check())]
    except StoreError as error:
        return [complete, Finding("store", 1, str(error))]


def _pages(settings: Settings) -> Finding:
    http = settings.http
    try:
        http.check()
    except ConfigError as error:
        return Finding("pages", 2, str(error))
    if not http.listen:
        return Finding("pages", 0, "turned off")
    access = "to those who have the token" if http.token else "to this host" if http.is_local else "to everybody"
    return Finding("pages", 0, f"shown {access} at http://{http.listen}/")
