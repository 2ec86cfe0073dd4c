"""snapd as several processes, to whoever supervises it or shows its pages: what `Service` is for one.

Each of them is a whole snapd, with a consumer's name, workers and connections of its own. They share nothing but
Redis: what one that is killed had in hand, it takes up when it is started again, or another does. The process that
keeps them hears the signals, speaks with the service manager, shows the pages and leaves the report, for all.
"""

import asyncio
import concurrent.futures
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from framesrv import ConfigError, __version__, log
from framesrv.process.report import Report
from framesrv.process.unforeseen import Unforeseen
from framesrv.settings import Settings
from snapd.errors import StoreError
from snapd.limits import job_limit, settle
from snapd.processes import channel, together
from snapd.processes.process import LOAD_LIMIT, STORE_LIMIT, Process
from snapd.telemetry.counters import Counters
from snapd.telemetry.trace import Listener

SPARE = 5.0  # s that the event loop may take besides

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class Processes:
    """`settings.snapshot.processes` of them, until `stop` is called.

    Args:
        settings: the configuration.
        on_change: is called when `status` has changed.
        on_answered: as of `Service.open`.
        counters: are told what they count.
        log_format: of their log lines.
        verbose: whether they log every answered request.
        traces: whether `on_answered` is to be told.
    """

    def __init__(
        self,
        settings: Settings,
        on_change: Callable[[], object] = lambda: None,
        on_answered: Listener = lambda _: None,
        counters: Counters | None = None,
        *,
        log_format: log.Format = "auto",
        verbose: bool = False,
        traces: bool = True,
    ) -> None:
        self._settings = settings
        self._began = self._configured_at = time.time()
        self._log_format, self._verbose, self._traces = log_format, verbose, traces
        self._on_change, self._on_answered = on_change, on_answered
        self._counters = counters or Counters()
        self._unforeseen = Unforeseen(logger)
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._all = [self._process(number) for number in range(1, settings.snapshot.processes + 1)]

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._settings

    @property
    def is_ready(self) -> bool:
        """Whether each of them has begun, or been tried."""
        return all(one.told or one.deaths for one in self._all)

    @property
    def hang(self) -> str:
        """What hangs; empty if nothing does."""
        return next(filter(None, (one.hang for one in self._all)), "")

    @property
    def status(self) -> str:
        """How they do, in words."""
        return self._words(self._together())

    @property
    def report(self) -> Report:
        """How they do, for everybody on this host."""
        report = self._together()
        return msgspec.structs.replace(report, status=self._words(report))

    def check_store(self) -> str:
        """Says in a sentence that the store can be reached, or raises StoreError."""
        try:
            answer = self._wait(self._ask_store, STORE_LIMIT + SPARE)
        except (TimeoutError, OSError) as error:
            raise StoreError(f"the store was not asked: {error or 'no answer in time'}", "silent") from error
        if not answer.ok:
            raise StoreError(answer.message, "silent")
        return answer.message

    def reload(self, settings: Settings) -> list[str]:
        """As `Service.reload`, of all of them."""
        settings, fixed = settle(self._settings, settings)
        try:
            problems = self._wait(lambda: self._load(settings), (len(self._all) + 1) * LOAD_LIMIT + SPARE)
        except (TimeoutError, OSError) as error:
            problems = [f"the processes did not load it: {error or 'no answer in time'}"]
        if problems:
            raise ConfigError(problems)
        return fixed

    def stop(self) -> None:
        """Has them take no more requests, and end. For any thread, but not for a signal handler."""
        self._stopped.set()
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stop.set)

    def run(self) -> None:
        """Keeps them in this thread; returns when all have ended after `stop`.

        Raises:
            SystemExit: with the status of one that cannot begin with this configuration, and has said why.
        """
        status = asyncio.run(self._run())
        if status:
            raise SystemExit(status)

    async def _run(self) -> int:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if self._stopped.is_set():
            return 0
        stopped = asyncio.create_task(self._stop.wait())
        kept = [asyncio.create_task(one.keep()) for one in self._all]
        await asyncio.wait([stopped, *kept], return_when=asyncio.FIRST_COMPLETED)
        statuses = [task.result() for task in kept if task.done()]
        for task in (stopped, *kept):
            task.cancel()
        await asyncio.gather(stopped, *kept, return_exceptions=True)
        return next(iter(statuses), 0)

    def _process(self, number: int) -> Process:
        def begin() -> channel.Begin:
            own = channel.own(self._settings, number)
            return channel.Begin(own, self._log_format, self._verbose, self._traces)

        return Process(number, begin, self._heard, self._on_change, job_limit(self._settings))

    def _heard(self, process: Process, told: channel.Told) -> None:
        before = process.told.counts if process.told else {}
        process.told = told
        for kind, counts in told.counts.items():
            for name, number in counts.items():
                if more := number - before.get(kind, {}).get(name, 0):
                    self._counters.add(kind, name, more)
        for trace in told.traces:
            try:
                self._on_answered(trace)
            except Exception as error:  # noqa: BLE001  it is told
                self._unforeseen.tell("Nobody was told of the answer, going on", error)
        if told.changed:
            self._on_change()

    def _together(self) -> Report:
        own = Report(
            os.getpid(),
            __version__,
            self._began,
            hang=self.hang,
            consumer=self._settings.stream.consumer,
            wanted_consumer=self._settings.stream.consumer,
            configured_at=self._configured_at,
            cameras=tuple(stream.code for stream in self._settings.streams),
            processes=tuple(one.account for one in self._all),
        )
        return together.report(own, [said for one in self._all if (said := one.report)])

    def _words(self, report: Report) -> str:
        in_hand = sum(one.told.in_hand for one in self._all if one.told and one.pid)
        words = report.in_words(in_hand, stopping=self._stopped.is_set())
        running, wanted = sum(one.pid != 0 for one in self._all), len(self._all)
        return f"{words}; {wanted} processes" if running == wanted else f"{words}; {running} of {wanted} processes"

    async def _load(self, settings: Settings) -> list[str]:
        """Has the first one that runs try it, then all others take it."""
        before, self._settings = self._settings, settings  # for those that are started meanwhile
        first = next((one for one in self._all if one.pid), None)
        if first and (problems := await first.load()):
            self._settings = before
            return problems
        others = [one for one in self._all if one.pid and one is not first]
        for process, problems in zip(others, await asyncio.gather(*(one.load() for one in others)), strict=True):
            if problems:
                process.kill(f"it alone refuses the configuration: {problems[0]}")
        self._configured_at = time.time()
        return []

    async def _ask_store(self) -> channel.StoreAsked:
        process = next((one for one in self._all if one.report), None)
        if process is None:
            raise ConnectionError("no process runs")
        return await process.ask_store()

    def _wait(self, do: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
        """Does it in the event loop, and waits here. Raises TimeoutError or OSError."""
        if self._loop is None or self._loop.is_closed():
            raise ConnectionError("the processes do not run")

        async def done() -> Answer:
            return await do()

        future = asyncio.run_coroutine_threadsafe(done(), self._loop)
        try:
            return future.result(seconds)
        except concurrent.futures.CancelledError as error:
            raise ConnectionError("the processes have ended") from error
        finally:
            future.cancel()
