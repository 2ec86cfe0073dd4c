"""The router: takes what the platform asks for, and moves each entry to the stream of the host that has the camera.

What no live host has goes to a stream of the routers' own, from which they answer it as a host without cameras would.
So all that waits, waits in Redis: any number of routers share one consumer group, and each can die at any moment. One
thread moves; another looks every second which hosts there are, and empties the streams of those that died.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

import redis

from framesrv.process.notify import Progress
from framesrv.process.unforeseen import Unforeseen
from framesrv.settings import NOBODY, Settings, StreamSettings
from snapd.errors import RedisVersionError
from snapd.requests import fleet
from snapd.requests.cause import explain
from snapd.requests.cluster import RedisClient
from snapd.requests.entry import Entry
from snapd.requests.presence import Presence
from snapd.requests.redis import open_once
from snapd.requests.stream import RequestStream
from snapd.requests.trouble import Refusals
from snapd.routing.leftovers import Leftovers
from snapd.routing.moving import Mover
from snapd.routing.registry import SHOWN, Hosts, Registry, describe_doubled
from snapd.telemetry.counters import Counters

logger = logging.getLogger(__name__)

BATCH = 200  # entries moved at once
CLAIM_AFTER = 5.0  # s after which what another router had is taken from it; moving takes milliseconds
LOOK_EVERY = 1.0  # s between looks at the hosts
ROUND = 90.0  # s that a thread takes at most to come round: 30 of them are for name servers
AGAIN = 1.0  # s after which one goes on when something nobody thought of happened
LAST = 10.0  # s in which both threads end


class Router:
    """Routes between `start` and `stop`.

    Args:
        settings: of which ``[stream]`` is as routers have it.
        client: for every command but those that read.
        counters: counts what is moved.
        refusals: is told what Redis refuses.
        on_change: is called when `words`, or what is counted, has changed.
    """

    def __init__(
        self,
        settings: Settings,
        client: RedisClient,
        counters: Counters,
        refusals: Refusals,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        own = settings.stream
        self._settings = fleet.shared(own, own.consumer)
        self._client = client
        self._counters = counters
        self._on_change = on_change
        self._presence = Presence(client, self._settings, lambda: (), refusals)
        self._stream = RequestStream(
            settings.redis.url,
            self._settings,
            client,
            claim_after=CLAIM_AFTER,
            deadline=settings.snapshot.deadline,
            on_change=on_change,
            counters=counters,
            refusals=refusals,
            presence=self._presence,
        )
        once = open_once(settings.redis.url)
        once.refusals = refusals
        self._mover = Mover(client, once)
        self._now = self._presence.now = self._stream.clock.now
        self._registry = Registry(client, own, self._now)
        self._leftovers = Leftovers(client, own, self._move_on)
        self._stopped = threading.Event()
        self._unforeseen = Unforeseen(logger)
        self._words = ""
        self._routed: Mapping[str, int] = {}  # as it was told last
        self._moving, self._looking = Progress(), Progress()
        self._threads = [
            threading.Thread(target=self._run, args=(step, progress), name=name, daemon=True)
            for name, step, progress in (
                ("moving", self._take, self._moving),
                ("looking", self._look, self._looking),
            )
        ]

    @property
    def away(self) -> str:
        """Why Redis cannot be read; empty if it can."""
        return self._stream.away

    @property
    def strangers(self) -> str:
        """In words, who reads from the same group and is no router; empty if nobody does."""
        return self._presence.strangers

    @property
    def hosts(self) -> Hosts:
        """As of the last look."""
        return self._registry.hosts

    @property
    def words(self) -> str:
        """Where requests go, and what is wrong with that."""
        hosts = self.hosts
        words = [f"{len(hosts.live)} hosts with {len(hosts.cameras)} cameras"]
        if hosts.dead:
            more = f" and {len(hosts.dead) - SHOWN} more" if len(hosts.dead) > SHOWN else ""
            words.append(f"dead: {', '.join(hosts.dead[:SHOWN])}{more}")
        return "; ".join([*words, *filter(None, [describe_doubled(hosts.doubled)])])

    @property
    def hang(self) -> str:
        """What hangs; empty if nothing does."""
        if self._moving.overdue:
            return "the thread that moves requests"
        return "the thread that looks at hosts" if self._looking.overdue else ""

    def start(self) -> None:
        """Routes from now on."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Takes no more. For any thread."""
        self._stopped.set()
        self._stream.stop()

    def end(self) -> None:
        """Waits for what was in hand at `stop`, and leaves the rest to others."""
        for thread in self._threads:
            thread.join(LAST)
        self._stream.hand_over()
        self._stream.close()

    def _run(self, step: Callable[[], None], progress: Progress) -> None:
        while not self._stopped.is_set():
            progress.expect(ROUND)
            try:
                step()
            except Exception as error:  # noqa: BLE001  it is told
                self._unforeseen.tell("Requests could not be routed, going on", error)
                self._stopped.wait(AGAIN)
        progress.expect(float("inf"))

    def _take(self) -> None:
        """Takes entries and moves them."""
        entries = self._stream.take(BATCH)
        if not entries:
            return
        left = {entry.id: "" for entry in entries}
        try:
            left = self._move(self._settings, entries)
        except (redis.RedisError, OSError) as error:
            why = explain(error)
            logger.warning("Requests could not be moved, they stay pending count=%d reason=%r", len(entries), why)
        finally:
            for entry in entries:
                if entry.id in left:
                    self._stream.give_back(entry.id, counts=left[entry.id] != "", why=left[entry.id])
                else:
                    self._stream.settled(entry.id)

    def _move(self, source: StreamSettings, entries: Sequence[Entry]) -> dict[str, str]:
        """Moves entries to where they are to be answered.

        Args:
            source: the section ``[stream]`` as who reads where they are has it.
            entries: pending there.

        Returns:
            Those that are still there, by their ids, and why; empty for those whose host is not known yet.
        """
        hosts = self._registry.hosts
        places = [self._place(entry, hosts) for entry in entries]
        if any(place in {"", NOBODY} for place in places):  # a host may have begun since
            hosts = self._registry.look()
            places = [self._place(entry, hosts) for entry in entries]
        moves = [
            (entry, fleet.of_host(self._settings, place).source)
            for entry, place in zip(entries, places, strict=True)
            if place
        ]
        left = self._mover.move(source, moves, self._now()) if moves else {}
        for why in sorted(set(left.values())):
            logger.warning("Requests could not be moved, they stay pending count=%d reason=%r", len(left), why)
        left |= {entry.id: "" for entry, place in zip(entries, places, strict=True) if not place}
        for entry, place in zip(entries, places, strict=True):
            if entry.id not in left:
                self._counters.add("routed", "nobody" if place == NOBODY else "host")
        return left

    def _place(self, entry: Entry, hosts: Hosts) -> str:
        """The host that is to answer an entry; empty while that is not known."""
        code = entry.fields.get(b"camera_code", b"").decode(errors="replace")
        if not code or entry.tries > self._settings.max_deliveries:
            return NOBODY
        return hosts.host_of(code) or (NOBODY if hosts.sure else "")

    def _move_on(self, entries: Sequence[Entry], source: StreamSettings) -> int:
        """Moves entries that a dead host has left; how many. Raises RedisError."""
        moved = len(entries) - len(self._move(source, entries))
        self._counters.add("moved", number=moved)
        return moved

    def _look(self) -> None:
        """Looks which hosts there are, and at what dead ones have left."""
        try:
            hosts = self._registry.look()
            self._leftovers.empty(hosts.dead, self._stopped)
            if hosts.sure:
                self._leftovers.prune(hosts.beats, self._now())
        except (redis.RedisError, OSError, RedisVersionError) as error:
            logger.debug("Hosts are not known now reason=%r", explain(error))
        else:
            routed = self._counters.counts()["routed"]
            if (words := self.words) != self._words:
                logger.info("Routing to %s", words)
            if (words, routed) != (self._words, self._routed):
                self._words, self._routed = words, routed
                self._on_change()
        self._stopped.wait(LOOK_EVERY)
