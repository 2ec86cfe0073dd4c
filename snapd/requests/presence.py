"""Each snapd makes itself known in Redis: who reads under a consumer's name, and which cameras it has.

A key a consumer, ``snap:host:{group}:{consumer}``, says it for `LEASE` seconds, and is written anew before they are
over. So a second snapd of the same name takes a name of its own, and a group that hosts with other cameras share is
noticed: there each host gets requests for the cameras of the others, and can only answer that it has no such camera.

Where requests are routed the key is ``snap:host:{stream}:{host}:{consumer}``, and names the cameras. It stays for a
day, for those who ask what a dead host had; that a snapd is alive is said by its beats, see `fleet`.
"""

import hashlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import msgspec
import orjson
import redis

from framesrv import __version__
from framesrv.process.repeats import Repeats
from framesrv.settings import StreamSettings
from snapd.requests import fleet
from snapd.requests.backlog import waiting
from snapd.requests.cause import explain
from snapd.requests.trouble import Refusals

logger = logging.getLogger(__name__)

PREFIX = "snap:host:"
BOOT_ID = "FRAMESRV_BOOT_ID"  # set by framesrv-snapd.service
LEASE = 30  # s
RENEWED_EVERY = 10.0  # s
KEPT = 86400  # s that what a routed host had is known after it has gone
REMEDY = 'give each host a group of its own, [stream] group, with unknown_camera = "ignore"'
REMEDY_OF_ROUTED = "give each host a name of its own, [stream] host"


@dataclass(frozen=True, slots=True)
class Host:
    """A snapd as it makes itself known.

    Attributes:
        instance: of this process alone.
        name: the host's.
        place: of the process numbers there: the boot and the namespace.
        pid: its number there.
        started: when the process began, in ticks since the boot, see proc(5).
        cameras: how many it has.
        digest: of their codes.
        version: of its software; empty where nothing is routed to it, and so are the next two.
        codes: what requests to it may name.
        left: whether it has ended by itself.
    """

    instance: str
    name: str
    place: str
    pid: int
    started: int
    cameras: int
    digest: str
    version: str = ""
    codes: tuple[str, ...] = ()
    left: bool = False

    @classmethod
    def this(cls, codes: Collection[str]) -> Self:
        """This process, with these cameras."""
        digest, pid = digest_of(codes), os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), _place(), pid, _started(pid) or 0, len(codes), digest)

    @classmethod
    def parse(cls, text: Any) -> Self | None:
        """None for what is none."""
        try:
            fields = orjson.loads(text)
            return cls(**fields | {"codes": tuple(map(str, fields.get("codes", ())))})
        except (ValueError, TypeError, AttributeError):
            return None

    def to_json(self) -> bytes:
        """The form in which it is kept."""
        kept = asdict(self)
        if not self.version:  # what older ones do not know
            kept = {name: value for name, value in kept.items() if name not in ("version", "codes", "left")}
        return orjson.dumps(kept)

    @property
    def has_ended(self) -> bool:
        """Whether its process is known to have: it said so, or was one of this host."""
        return self.left or (self.place == _place() and _started(self.pid) != self.started)


def digest_of(codes: Collection[str]) -> str:
    """A short word for all of them."""
    return hashlib.sha256("\n".join(sorted(codes)).encode()).hexdigest()[:16]


class Presence:
    """This snapd's own key, and what those of others say. For the thread that reads.

    Trouble of Redis with its keys keeps nobody from reading.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        codes: gives the cameras of this host.
        refusals: is told what Redis refuses.
        named: gives what requests to it may name; None: its cameras.

    Attributes:
        consumer: the name to read under.
        now: gives Unix seconds by the clock of Redis, where that is known.
        strangers: in words, the hosts with other cameras that read from the same group; empty if there are none.
        unrouted: in words, that no router runs; empty if one does, or none is needed.
        waiting: how many requests nobody has taken yet, and how many are pending; None where not known.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: StreamSettings,
        codes: Callable[[], Collection[str]],
        refusals: Refusals,
        named: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self.consumer = settings.consumer
        self.now: Callable[[], float] = time.time
        self.strangers = self.unrouted = ""
        self.waiting: tuple[int | None, int | None] = (None, None)
        self._client = client
        self._settings = settings
        self._codes, self._named = codes, named or codes
        self._refusals = refusals
        self._instance = uuid.uuid4().hex
        self._renewed_at: float | None = None
        self._said, self._said_unrouted = Repeats(), Repeats()
        self._missed = False  # whether no router was seen the last time
        self._recorded = ""  # the digest of what the record says

    def settle(self) -> None:
        """Finds a name that no other snapd reads under, the first time."""
        if self._renewed_at is not None:
            return
        wanted = self._settings.consumer
        with self._without_trouble():
            for name in (wanted, f"{wanted}-{socket.gethostname()}", f"{wanted}-{self._instance[:12]}"):
                other = self._take(name)
                if other is None:
                    self.consumer = name
                    if self._settings.routed:  # another must not take it for free
                        self.beat()
                    break
                logger.warning(
                    "Another snapd reads as this consumer, it gets a name of its own consumer=%s host=%s pid=%d: "
                    "give each its own [stream] consumer",
                    name,
                    other.name,
                    other.pid,
                )

    def renew(self) -> bool:
        """Says again that this snapd is there, and looks who else is, if it is time; whether that is news."""
        now = time.monotonic()
        if self._renewed_at is not None and now - self._renewed_at < RENEWED_EVERY:
            return False
        self._renewed_at, before = now, (self.strangers, self.unrouted)
        with self._without_trouble():
            with self._refusals.without("SET"):
                self._client.set(self._key(self.consumer), self._host.to_json(), ex=self._kept)
            others = strangers(self._client, self._settings, self._host, self._refusals)
            self.strangers = describe(others, routed=self._settings.routed)
            with self._refusals.without("XINFO"):
                self.waiting = waiting(self._client, self._settings)
            if self._settings.routed:
                self._look_for_routers()
        if self.strangers and self._said.is_news(self.strangers):
            logger.error("Requests of this group are for other cameras too: %s", self.strangers)
        return (self.strangers, self.unrouted) != before

    def beat(self) -> None:
        """Says by a sign of life that this snapd is there, and by its record what it has, if that is news.

        For one thread, which may be another. Raises RedisError.
        """
        settings: StreamSettings = msgspec.structs.replace(self._settings, consumer=self.consumer)
        digest = digest_of(self._named())
        if digest != self._recorded:
            with self._refusals.without("SET"):
                self._client.set(self._key(self.consumer), self._host.to_json(), ex=KEPT)
                self._recorded = digest
        with self._refusals.without("HSET"):
            fleet.beat(self._client, settings, self.now(), digest)

    def leave(self) -> None:
        """Frees the name."""
        if self._renewed_at is not None:
            with self._without_trouble(), self._refusals.without("SET"):
                if (
                    self._settings.routed
                ):  # its cameras are known on, and it is routed to for as long as it may restart
                    self._client.set(self._key(self.consumer), replace(self._host, left=True).to_json(), ex=KEPT)
                else:
                    self._client.set(self._key(self.consumer), self._host.to_json(), px=1)

    @contextmanager
    def _without_trouble(self) -> Iterator[None]:
        """Goes on behind the block where Redis does not answer as it should: whoever reads finds out why."""
        try:
            yield
        except redis.RedisError as error:
            logger.debug("Not known in Redis now reason=%r", explain(error))

    @property
    def _host(self) -> Host:
        host = replace(Host.this(self._codes()), instance=self._instance)
        if not self._settings.routed:
            return host
        return replace(host, name=self._settings.own_host, version=__version__, codes=tuple(sorted(self._named())))

    @property
    def _kept(self) -> int:
        return KEPT if self._settings.routed else LEASE

    def _look_for_routers(self) -> None:
        """Whether somebody routes requests to this host."""
        with self._refusals.without("HGETALL"):
            found = fleet.beats(self._client, self._settings, "routers")
            words = fleet.without_router(found, self.now(), self._settings)
            self.unrouted, self._missed = (words if self._missed else ""), bool(words)  # Redis may just be back
        if self.unrouted and self._said_unrouted.is_news(self.unrouted):
            logger.error("Requests do not reach this host: %s", self.unrouted)

    def _is_alive(self, other: Host, consumer: str) -> bool:
        """Whether another may be that holds a name."""
        if other.instance == self._instance or other.has_ended:
            return False
        if not self._settings.routed or other.place == _place():
            return True  # its key is its lease, or its process is there
        own, kind, oldest = self._settings, fleet.kind_of(self._settings), self.now() - LEASE
        found = fleet.beats(self._client, own, kind)
        return any(one.at > oldest for one in found if (one.host, one.consumer) == (own.own_host, consumer))

    def _take(self, name: str) -> Host | None:
        """Takes a name; gives who has it, if somebody has who may be alive."""
        key = self._key(name)
        with self._refusals.without("SET"):
            if self._client.set(key, self._host.to_json(), nx=True, ex=self._kept):
                return None
            found = None
            with self._refusals.without("GET"):
                found = Host.parse(self._client.get(key))
            if found is not None and self._is_alive(found, name):
                return found
            self._client.set(key, self._host.to_json(), ex=self._kept)
        return None

    def _key(self, consumer: str) -> str:
        return record_key(self._settings, consumer)


def record_key(settings: StreamSettings, consumer: str) -> str:
    """The key of a snapd that reads as `settings` say, under the name of `consumer`."""
    return f"{PREFIX}{settings.source if settings.routed else settings.group}:{consumer}"


def strangers(client: redis.Redis, settings: StreamSettings, host: Host, refusals: Refusals) -> Iterator[Host]:
    """Those elsewhere that read from the same group as `host` and have other cameras. Raises RedisError."""
    names: list[str] = []
    with refusals.without("XINFO"):
        consumers: Any = client.xinfo_consumers(settings.source, settings.source_group)
        names = [one["name"].decode(errors="replace") for one in consumers]
    with refusals.without("GET"):
        for name in names:
            found = Host.parse(client.get(record_key(settings, name)))
            # what runs here with other cameras has yet to hear of a change
            if found and found.digest != host.digest and found.place != host.place:
                yield found


def describe(found: Iterator[Host], *, routed: bool = False) -> str:
    """In words, with the remedy; empty for none."""
    hosts = sorted({f"{one.name} ({one.cameras} cameras)" for one in found})
    remedy = REMEDY_OF_ROUTED if routed else REMEDY
    return f"{', '.join(hosts)} reads them as well; {remedy}" if hosts else ""


def _place() -> str:
    try:
        # a unit hides all of /proc but processes, and says it so
        boot = os.environ.get(BOOT_ID) or Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        return f"{boot.strip().replace('-', '')}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"unknown:{uuid.uuid4().hex}"  # like no other


def _started(pid: int) -> int | None:
    """None for what runs no more, or waits to be buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    except OSError:
        return None
