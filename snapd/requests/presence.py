"""Each snapd makes itself known in Redis: who reads under a consumer's name, and which cameras it has.

A key a consumer, ``snap:host:{group}:{consumer}``, says it for `LEASE` seconds, and is written anew before they are
over. So a second snapd of the same name takes a name of its own, and a group that hosts with other cameras share is
noticed: there each host gets requests for the cameras of the others, and can only answer that it has no such camera.
"""

import hashlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson
import redis

from framesrv.process.repeats import Repeats
from framesrv.settings import StreamSettings
from snapd.requests.backlog import waiting
from snapd.requests.cause import explain
from snapd.requests.trouble import Refusals

logger = logging.getLogger(__name__)

PREFIX = "snap:host:"
BOOT_ID = "FRAMESRV_BOOT_ID"  # set by framesrv-snapd.service
LEASE = 30  # s
RENEWED_EVERY = 10.0  # s
REMEDY = 'give each host a group of its own, [stream] group, with unknown_camera = "ignore"'


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
    """

    instance: str
    name: str
    place: str
    pid: int
    started: int
    cameras: int
    digest: str

    @classmethod
    def this(cls, codes: Collection[str]) -> Self:
        """This process, with these cameras."""
        digest = hashlib.sha256("\n".join(sorted(codes)).encode()).hexdigest()[:16]
        pid = os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), _place(), pid, _started(pid) or 0, len(codes), digest)

    @classmethod
    def parse(cls, text: Any) -> Self | None:
        """None for what is none."""
        try:
            return cls(**orjson.loads(text))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """The form in which it is kept."""
        return orjson.dumps(self)

    @property
    def has_ended(self) -> bool:
        """Whether its process is known to have: it was one of this host."""
        return self.place == _place() and _started(self.pid) != self.started


class Presence:
    """This snapd's own key, and what those of others say. For the thread that reads.

    Trouble of Redis with its keys keeps nobody from reading.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        codes: gives the cameras of this host.
        refusals: is told what Redis refuses.

    Attributes:
        consumer: the name to read under.
        strangers: in words, the hosts with other cameras that read from the same group; empty if there are none.
        waiting: how many requests nobody has taken yet, and how many are pending; None where not known.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: StreamSettings,
        codes: Callable[[], Collection[str]],
        refusals: Refusals,
    ) -> None:
        self.consumer = settings.consumer
        self.strangers = ""
        self.waiting: tuple[int | None, int | None] = (None, None)
        self._client = client
        self._settings = settings
        self._codes = codes
        self._refusals = refusals
        self._instance = uuid.uuid4().hex
        self._renewed_at: float | None = None
        self._said = Repeats()

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
                    break
                logger.warning(
                    "Another snapd reads as this consumer, it gets a name of its own consumer=%s host=%s pid=%d: "
                    "give each its own [stream] consumer",
                    name,
                    other.name,
                    other.pid,
                )

    def renew(self) -> None:
        """Says again that this snapd is there, and looks who else is, if it is time."""
        now = time.monotonic()
        if self._renewed_at is not None and now - self._renewed_at < RENEWED_EVERY:
            return
        self._renewed_at = now
        with self._without_trouble():
            with self._refusals.without("SET"):
                self._client.set(self._key(self.consumer), self._host.to_json(), ex=LEASE)
            self.strangers = describe(strangers(self._client, self._settings, self._host, self._refusals))
            with self._refusals.without("XINFO"):
                self.waiting = waiting(self._client, self._settings)
        if self.strangers and self._said.is_news(self.strangers):
            logger.error("Requests of this group are for other cameras too: %s", self.strangers)

    def leave(self) -> None:
        """Frees the name."""
        if self._renewed_at is not None:
            with self._without_trouble(), self._refusals.without("SET"):
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
        return replace(Host.this(self._codes()), instance=self._instance)

    def _take(self, name: str) -> Host | None:
        """Takes a name; gives who has it, if somebody has who may be alive."""
        key = self._key(name)
        with self._refusals.without("SET"):
            if self._client.set(key, self._host.to_json(), nx=True, ex=LEASE):
                return None
            found = None
            with self._refusals.without("GET"):
                found = Host.parse(self._client.get(key))
            if found is not None and found.instance != self._instance and not found.has_ended:
                return found
            self._client.set(key, self._host.to_json(), ex=LEASE)
        return None

    def _key(self, consumer: str) -> str:
        return f"{PREFIX}{self._settings.group}:{consumer}"


def strangers(client: redis.Redis, settings: StreamSettings, host: Host, refusals: Refusals) -> Iterator[Host]:
    """Those elsewhere that read from the same group as `host` and have other cameras. Raises RedisError."""
    names: list[str] = []
    with refusals.without("XINFO"):
        consumers: Any = client.xinfo_consumers(settings.name, settings.group)
        names = [one["name"].decode(errors="replace") for one in consumers]
    with refusals.without("GET"):
        for name in names:
            found = Host.parse(client.get(f"{PREFIX}{settings.group}:{name}"))
            # what runs here with other cameras has yet to hear of a change
            if found and found.digest != host.digest and found.place != host.place:
                yield found


def describe(found: Iterator[Host]) -> str:
    """In words, with the remedy; empty for none."""
    hosts = sorted({f"{one.name} ({one.cameras} cameras)" for one in found})
    return f"{', '.join(hosts)} reads them as well; {REMEDY}" if hosts else ""


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
