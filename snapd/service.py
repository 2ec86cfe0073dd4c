"""The service: one thread reads the stream, `workers` threads answer requests, as many hand the answers over.

So a platform that is slow to hear an answer holds no picture up. An entry is taken only when a worker is free for
it; what cannot be worked on stays in Redis. A request that waits for a later moment leaves its worker to others
meanwhile. It is acknowledged only when its result has been handed over or it is
a dead letter. Nothing that goes wrong with one request ends a thread. A new configuration holds for the requests
that are taken from then on.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Self

from framesrv.log import about
from framesrv.process.notify import Progress
from framesrv.process.report import Report
from framesrv.process.unforeseen import Unforeseen
from framesrv.settings import Settings
from snapd.account import Account
from snapd.answer import find_answer
from snapd.configured import Configured
from snapd.ending import Endings
from snapd.job import Job, longest
from snapd.limits import settle
from snapd.pictures.encoder import Encoder
from snapd.pool import Pool
from snapd.requests.cluster import RedisClient
from snapd.requests.dead_letters import DeadLetters
from snapd.requests.entry import Entry
from snapd.requests.heartbeat import Heartbeat
from snapd.requests.once import IdempotencyKeys, Turn
from snapd.requests.presence import Presence
from snapd.requests.redis import open_client, open_once
from snapd.requests.stream import RequestStream
from snapd.requests.trouble import Refusals
from snapd.stores.store import Store
from snapd.telemetry.counters import Counters
from snapd.telemetry.trace import Listener
from snapd.waiting import WaitingRoom
from snapd.wire.request import Request

logger = logging.getLogger(__name__)

ROUND = 90.0  # s that the reading thread takes at most to come round: 30 of them are for name servers
WAITING = 64  # requests that wait for a later moment without a worker; others keep theirs
RENEW_AFTER = 2.0  # s that a request has been in hand when others are told that it still is
AGAIN = 1.0  # s after which the reading thread goes on when something nobody thought of happened to it


class Service:
    """Answers requests until `stop` is called."""

    def __init__(
        self,
        configured: Configured,
        client: RedisClient,
        on_change: Callable[[], object] = lambda: None,
        on_answered: Listener = lambda _: None,
        counters: Counters | None = None,
    ) -> None:
        settings = configured.settings
        self._counters = counters or Counters()
        self._refusals = Refusals()
        self._configured = configured
        self._client = client
        self._presence = Presence(
            client,
            settings.stream,
            lambda: self._configured.cameras,
            self._refusals,
            lambda: self._configured.codes,
        )
        self._heartbeat = Heartbeat(self._presence, lambda: self.joined and not (self.away or self.hang))
        self._stream = RequestStream(
            settings.redis.url,
            settings.stream,
            client,
            claim_after=configured.limit,
            deadline=settings.snapshot.deadline,
            on_change=on_change,
            counters=self._counters,
            refusals=self._refusals,
            presence=self._presence,
        )
        self._presence.now = self._stream.clock.now
        self._account = Account(self._stream, self._presence, self._counters)
        self._answered = IdempotencyKeys(
            client, self._stream.is_pending, 2 * configured.limit, self._refusals, self._counters
        )
        once = open_once(settings.redis.url)
        client.refusals = once.refusals = self._refusals
        dead = DeadLetters(settings.stream, client, once, self._refusals, self._stream.clock.now)
        self._progress = Progress()
        self._stopped = threading.Event()
        self._unforeseen = Unforeseen(logger)
        self._endings = Endings(
            self._stream, self._answered, dead, client, self._refusals, on_answered, self._unforeseen
        )
        workers = settings.snapshot.workers
        self._answering = Pool("worker", workers, lambda job: self._guard(job, self._answer), longest)
        self._waiting: WaitingRoom[Job] = WaitingRoom(WAITING, self._answering.resume)
        self._handing = Pool("handover", workers, lambda job: self._guard(job, self._endings.hand_over), longest)

    @classmethod
    def open(
        cls,
        settings: Settings,
        encoder: Encoder | None = None,
        on_change: Callable[[], object] = lambda: None,
        on_answered: Listener = lambda _: None,
        counters: Counters | None = None,
    ) -> Self:
        """The service of a configuration.

        Args:
            settings: the configuration.
            encoder: instead of one of its own.
            on_change: is called when `status` or `joined` has changed.
            on_answered: is called once for each request that was answered, after its result was handed over, by
                one of several threads. It must not take long; what it raises is logged.
            counters: counts entries that were delivered again, and what failed with the store and callbacks.

        Raises:
            ConfigError: the store's settings are incomplete.
            EncoderError: the encoder is not on this host.
        """
        client = open_client(settings.redis.url)
        counters = counters or Counters()
        configured = Configured.of(settings, client, counters=counters, encoder=encoder, store=cls.own_store())
        return cls(configured, client, on_change, on_answered, counters)

    @classmethod
    def own(cls, settings: Settings) -> Settings:
        """A configuration as this kind of service has it."""
        return settings

    @classmethod
    def own_store(cls) -> Store | None:
        """The store of this kind of service; None: that of its configuration."""
        return None

    def reload(self, settings: Settings) -> list[str]:
        """Answers the requests that it takes from now on as `settings` say. For any thread.

        Returns:
            The keys whose change needs a restart, and has not been made.

        Raises:
            ConfigError: they cannot be; nothing has changed then.
            EncoderError: the encoder is not on this host; likewise.
        """
        settings, fixed = settle(self._configured.settings, self.own(settings))
        configured = Configured.of(settings, self._client, counters=self._counters, old=self._configured)
        self._stream.adjust(settings.stream, configured.limit, settings.snapshot.deadline)
        self._answered.taken_for = 2 * configured.limit
        before, self._configured = self._configured, configured
        if other_store := before.store is not configured.store:
            before.store.close()
            configured.store.begin()
        self._heartbeat.hurry()
        self._account.reloaded(store=other_store, result=before.settings.result != settings.result)
        return fixed

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._configured.settings

    @property
    def joined(self) -> bool:
        """Whether it has ever been a consumer of the group."""
        return self._stream.joined

    @property
    def away(self) -> str:
        """Why Redis cannot be read; empty if it can, as far as is known."""
        return self._stream.away

    @property
    def is_ready(self) -> bool:
        """Whether it has begun. It has from the start: nothing waits for Redis."""
        return True

    @property
    def in_hand(self) -> int:
        """How many requests it has."""
        return self._stream.in_hand

    def check_store(self) -> str:
        """Says in a sentence that the store can be reached, or raises StoreError."""
        return self._configured.store.check()

    @property
    def status(self) -> str:
        """How it does, in words."""
        return self._account.status(stopping=self._stopped.is_set())

    @property
    def report(self) -> Report:
        """How it does, for everybody on this host."""
        return self._account.report(self._configured, self.status, self.hang)

    @property
    def hang(self) -> str:
        """What hangs, for longer than anything that it waits for can take; empty if nothing does."""
        for name, what in (
            ("the thread that reads requests", self._progress),
            ("a worker", self._answering),
            ("a worker that hands results over", self._handing),
        ):
            if what.overdue:
                return name
        return ""

    def run(self) -> None:
        """Serves in this thread and its workers; returns when what was in hand at `stop` is done."""
        self._configured.store.begin()
        if self.settings.stream.routed:
            self._heartbeat.start()
        try:
            while not self._stopped.is_set():
                self._progress.expect(math.inf)  # for a worker that comes free: workers are looked at themselves
                self._answering.man()
                self._handing.man()
                try:
                    self._take()
                except Exception as error:  # noqa: BLE001  it is told
                    self._unforeseen.tell("Requests could not be taken, going on", error)
                    self._stopped.wait(AGAIN)
        finally:
            self._drain()

    def stop(self) -> None:
        """Takes no more requests. For any thread, but not for a signal handler."""
        self._stopped.set()
        self._heartbeat.stop()
        self._stream.stop()
        self._answering.release()  # the reader may be waiting for a worker

    def _take(self) -> None:
        """Takes as many entries as there are free workers, at least one."""
        self._answering.claim()
        self._progress.expect(ROUND)
        free = 1 + self._answering.claim_free()
        entries: list[Entry] = []
        jobs: list[Job] = []
        try:
            entries += self._stream.take(free)
            # Workers that came free while it waited take the rest of what came together.
            while len(entries) == free and (more := self._answering.claim_free()):
                free += more
                entries += self._stream.take(more, wait=False)
            jobs = self._begin(entries)
        except BaseException:
            for entry in entries:
                self._stream.give_back(entry.id)
            raise
        finally:
            self._answering.release(free - len(jobs))
        # All join before the first can begin: a batch for one camera costs one picture.
        for job in jobs:
            self._answering.give(job)

    def _begin(self, entries: list[Entry]) -> list[Job]:
        configured = self._configured
        jobs = [self._job(entry, configured) for entry in entries]
        told = [job for job in jobs if job.request.request_id and not job.is_of_another_host]
        for job, begun in zip(told, self._answered.begin([job.request for job in told]), strict=True):
            job.begun = begun
            request = job.request
            if (
                begun.turn is Turn.GO
                and begun.result is None
                and not request.problem
                and request.camera_code in configured.codes
                and not self._is_expired(job)
                and job.entry.tries <= configured.settings.stream.max_deliveries
            ):
                job.is_served = True
                if request.is_of_now:
                    job.capture = configured.captures.join(request.camera_code, request.form)
        return jobs

    def _job(self, entry: Entry, configured: Configured) -> Job:
        try:
            return Job.of(entry, configured, ahead=self._stream.clock.ahead or 0.0)
        except Exception as error:  # noqa: BLE001  it is told
            self._unforeseen.tell(f"Entry cannot be read entry={entry.id}", error)
            return Job(entry, Request(entry.origin, "", "", "", ""), configured, is_readable=False)

    def _is_expired(self, job: Job) -> bool:
        return self._stream.clock.now() - job.request.sent_at > job.configured.settings.snapshot.deadline

    def _drain(self) -> None:
        self._progress.expect(math.inf)
        deadline = time.monotonic() + self._configured.limit
        for job in self._waiting.close(self._configured.limit):
            self._stream.give_back(job.entry.id, counts=False)
        left = 0
        for pool in (self._answering, self._handing):  # in this order: the one gives the other work
            pool.end()
            left += pool.join(max(0.0, deadline - time.monotonic()))
        if left:
            logger.warning("Stopped before all was done; it stays pending requests=%d", left)
        self._stream.hand_over()
        self._stream.close()
        self._configured.captures.close()
        self._configured.clips.close()
        self._configured.store.close()

    def _guard(self, job: Job, step: Callable[[Job], None]) -> None:
        """Does a step of a job; whatever happens, the entry is not forgotten."""
        with about(request_id=job.request.request_id, camera=job.request.camera_code, entry=job.entry.id):
            try:
                step(job)
            except Exception as error:  # noqa: BLE001  it is told
                self._unforeseen.tell("Request failed and stays pending", error)
                self._stream.give_back(job.entry.id, why=f"{type(error).__name__}: {error}")
            except BaseException:  # the thread ends, the request does not
                self._stream.give_back(job.entry.id)
                raise

    def _answer(self, job: Job) -> None:
        """Gets the answer and passes it on; or ends the entry, if no answer is due."""
        entry, request = job.entry, job.request
        if job.steps is not None:
            self._go_on(job)
            return
        if not job.is_readable:
            self._endings.bury(job, "cannot be read")
            return
        if job.begun is None:
            if not request.request_id:
                logger.warning("Request without a usable id dropped reason=%s", request.problem)
            self._stream.acknowledge(entry.id)
            return
        if job.begun.turn is Turn.DONE:
            logger.info("Request was answered before")
            self._stream.acknowledge(entry.id)
            return
        if job.begun.turn is Turn.WAIT:
            self._stream.give_back(entry.id, counts=False)
            return
        job.stopwatch.add("queued", self._stream.clock.now() - request.sent_at)
        job.stopwatch.restart()
        if entry.tries > job.configured.settings.stream.max_deliveries:
            words = f"delivered {entry.tries - 1} times without an answer{self._stream.cause(entry.id)}"
            self._endings.bury(job, words)
            return
        job.is_late = self._is_expired(job)
        job.result = job.begun.result
        if job.result is None:
            job.steps = find_answer(job, self._counters, self._unforeseen)
        self._go_on(job)

    def _go_on(self, job: Job) -> None:
        """Takes the next steps to the answer, and passes it on when it is there."""
        while job.steps is not None:
            if time.monotonic() > job.heard_at + RENEW_AFTER:
                self._stream.renew(job.entry.id)
                job.heard_at = time.monotonic()
            try:
                due = next(job.steps)
            except StopIteration as end:
                job.steps = None
                job.result, took_work = end.value
                if took_work and job.begun:  # it is remembered
                    is_ours = self._answered.keep(job.request, job.result, job.begun)
                    job.stopwatch.end("keep")
                    if not is_ours:
                        logger.warning("Another host has taken the request up meanwhile")
                        self._stream.give_back(job.entry.id, counts=False)
                        return
                break
            remaining = due - time.monotonic()
            if remaining > 0 and self._waiting.put(job, due):
                return
            if remaining > 0 and self._stopped.wait(remaining):
                self._stream.give_back(job.entry.id, counts=False)
                return
        self._handing.claim()
        self._handing.give(job)
