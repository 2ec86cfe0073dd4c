"""Which host has which camera, and which hosts are dead, as Redis says it.

What is kept here is a copy of what is there. A host counts as dead when its lease is over, and a camera as nobody's;
but not before Redis has answered routers for as long without a break. While it was away nobody could give a sign of
life, and it may have forgotten who did: until then all are taken for alive, and who is not known is waited for. Since
when it has answered is kept in Redis too, so a router that has just begun knows it from the others.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from framesrv.settings import StreamSettings
from snapd.requests import fleet
from snapd.requests.cluster import RedisClient
from snapd.requests.fleet import LEASE, Beat
from snapd.requests.presence import Host, digest_of, record_key

SHOWN = 3  # cameras on several hosts that are named
GAP = 3.0  # s between two looks, of whichever router, after which nobody knows what was in between
KEPT = 3600  # s


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts at one moment.

    Attributes:
        sure: whether Redis has answered for so long that who is missing is gone.
        cameras: the live hosts that have a camera, by its code; the first is the one that answers.
        live: the names of those.
        dead: the names of the others.
        beats: every sign of life.
    """

    sure: bool
    cameras: dict[str, tuple[str, ...]]
    live: tuple[str, ...]
    dead: tuple[str, ...]
    beats: tuple[Beat, ...]

    @classmethod
    def of(cls, beats: Iterable[Beat], now: float, codes: Callable[[Beat], Iterable[str]], *, sure: bool) -> "Hosts":
        """What signs of life say."""
        beats = tuple(beats)
        fresh = {beat.host for beat in beats if beat.is_alive(now)}
        live = sorted(
            {beat.host for beat in beats if not sure or beat.host in fresh},
            key=lambda host: (host not in fresh, host),
        )
        order = {host: place for place, host in enumerate(live)}
        cameras: dict[str, set[str]] = {}
        for beat in beats:
            if beat.host in order and (beat.is_alive(now) or not sure):
                for code in codes(beat):
                    cameras.setdefault(code, set()).add(beat.host)
        dead = tuple(sorted({beat.host for beat in beats} - order.keys()))
        ordered = {code: tuple(sorted(hosts, key=order.__getitem__)) for code, hosts in cameras.items()}
        return cls(sure, ordered, tuple(live), dead, beats)

    def host_of(self, code: str) -> str | None:
        """Who answers for a camera; None: nobody can."""
        return next(iter(self.cameras.get(code, ())), None)

    @property
    def doubled(self) -> dict[str, tuple[str, ...]]:
        """The cameras that several hosts have, as far as is sure."""
        if not self.sure:
            return {}
        return {code: hosts for code, hosts in sorted(self.cameras.items()) if len(hosts) > 1}


def describe_doubled(doubled: Mapping[str, Sequence[str]]) -> str:
    """In words, which cameras several hosts have, and who answers; empty for none."""
    words = [f"camera {code} is on {' and '.join(hosts)}, {hosts[0]} answers" for code, hosts in doubled.items()]
    more = f" (and {len(words) - SHOWN} more cameras are on several hosts)" if len(words) > SHOWN else ""
    return "; ".join(words[:SHOWN]) + more


class Registry:
    """Used by several threads at once.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        now: gives Unix seconds by the clock of Redis.
    """

    def __init__(self, client: RedisClient, settings: StreamSettings, now: Callable[[], float]) -> None:
        self._client = client
        self._settings = settings
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}  # the digest and the codes of each snapd
        self._hosts = Hosts(False, {}, (), (), ())

    @property
    def hosts(self) -> Hosts:
        """As of the last look."""
        return self._hosts

    def look(self) -> Hosts:
        """Asks Redis. Raises RedisError."""
        with self._lock:
            beats = fleet.beats(self._client, self._settings, "hosts")
            self._read_records([beat for beat in beats if self._known.get(beat.member, ("",))[0] != beat.digest])
            members = {beat.member for beat in beats}
            self._known = {member: known for member, known in self._known.items() if member in members}
            now = self._now()
            self._hosts = Hosts.of(beats, now, self._codes, sure=now - self._watched_since(now) >= LEASE)
            return self._hosts

    def _watched_since(self, now: float) -> float:
        """Since when routers have looked, without a gap; Unix seconds, as `now`."""
        key = fleet.watched_key(self._settings)
        since = last = now
        with suppress(ValueError):
            since, last = map(float, (self._client.get(key) or b"").split())
        if abs(now - last) > GAP:  # what two routers take for the time of Redis differs by milliseconds
            since = last = now
        self._client.set(key, f"{since:.3f} {max(now, last):.3f}", ex=KEPT)
        return since

    def _codes(self, beat: Beat) -> tuple[str, ...]:
        return self._known.get(beat.member, ("", ()))[1]

    def _read_records(self, beats: list[Beat]) -> None:
        keys = [record_key(fleet.of_host(self._settings, beat.host), beat.consumer) for beat in beats]
        found = self._client.batch([("GET", key) for key in keys]) if keys else []
        for beat, text in zip(beats, found, strict=True):
            if isinstance(text, Exception):
                raise text
            if (host := Host.parse(text)) is not None:
                self._known[beat.member] = digest_of(host.codes), host.codes
