"""One process that answers requests, as the one sees it that keeps it: started, heard, started again when it dies."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from framesrv.process import children
from framesrv.process.report import ProcessReport, Report
from snapd.processes import channel

SILENT = 20.0  # s without a word after which it hangs; it says something every two
DRAIN = 15.0  # s that it may take to end, beyond what answering a request may
LAST = 2.0  # s after its end for what it said last
LOAD_LIMIT = 10.0  # s in which it must have loaded a configuration
STORE_LIMIT = 12.0  # s in which it must have asked the store

logger = logging.getLogger(__name__)


class Process:
    """For the event loop's thread; what it tells is for any.

    Args:
        number: of it, from 1.
        begin: gives what it is told first.
        heard: is called with whatever it tells of itself.
        changed: is called when it has come or gone.
        limit: seconds that answering one request takes at most.

    Attributes:
        number: as above.
        pid: its own; 0 while it does not run.
        deaths: how often it has died.
        told: what it told last, since it was started; None if nothing yet.
    """

    def __init__(
        self,
        number: int,
        begin: Callable[[], channel.Begin],
        heard: Callable[["Process", channel.Told], object],
        changed: Callable[[], object],
        limit: float,
    ) -> None:
        self.number = number
        self.pid = self.deaths = 0
        self.told: channel.Told | None = None
        self._begin, self._heard, self._changed, self._limit = begin, heard, changed, limit
        self._heard_at = 0.0
        # a wrong configuration is final until one was right
        self._final = {children.USAGE}
        self._child: children.Child | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._loaded: asyncio.Future[channel.Loaded] | None = None
        self._asked: asyncio.Future[channel.StoreAsked] | None = None

    @property
    def hang(self) -> str:
        """What hangs of it; empty if nothing does."""
        if not self.pid:
            return ""
        if self.told and self.told.report.hang:
            return f"{self.told.report.hang} of process {self.number}"
        return f"process {self.number}" if time.monotonic() - self._heard_at > SILENT else ""

    @property
    def report(self) -> Report | None:
        """What it said of itself; None while it does not run."""
        return self.told.report if self.told and self.pid else None

    @property
    def account(self) -> ProcessReport:
        """How it does, for everybody on this host."""
        said = self.report
        if not self.pid:
            trouble = "it does not run yet" if not self.deaths else "it has died, and is started again"
        elif said is None:
            trouble = "it is starting"
        else:
            trouble = said.status if said.away or not said.joined else ""
        return ProcessReport(self.pid, f"{self.hang} hangs" if self.hang else trouble, self.deaths)

    async def keep(self) -> int:
        """Runs it until this task is cancelled, and ends it then; see `children.keep`."""
        try:
            return await children.keep(
                f"process {self.number}", (), start=self._start, final=self._final, grace=self._limit + DRAIN
            )
        finally:
            if self._hearing is not None:
                await asyncio.wait([self._hearing], timeout=LAST)  # for its last words

    async def load(self) -> list[str]:
        """Has it load its configuration anew; what is wrong with that, if anything is.

        One that does not answer is killed: it comes back with the new configuration.
        """
        if self._writer is None:
            return []
        self._loaded = asyncio.get_running_loop().create_future()
        self._send(channel.NewConfiguration(self._begin().settings))
        try:
            return list((await asyncio.wait_for(self._loaded, LOAD_LIMIT)).problems)
        except TimeoutError:
            self.kill("it has not loaded its configuration in time")
        except OSError:  # it has ended meanwhile: likewise
            pass
        return []

    async def ask_store(self) -> channel.StoreAsked:
        """Has it ask the store. Raises TimeoutError, or ConnectionResetError where it ends meanwhile."""
        self._asked = asyncio.get_running_loop().create_future()
        self._send(channel.AskStore())
        return await asyncio.wait_for(self._asked, STORE_LIMIT)

    def kill(self, why: str) -> None:
        """At once; another takes its place."""
        if self._child is not None and self.pid:
            logger.error("Process is killed process=%d pid=%d: %s", self.number, self.pid, why)
            with suppress(ProcessLookupError):
                self._child.kill()

    async def _start(self) -> children.Child:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                command = children.module("snapd.processes", str(self.number), str(theirs.fileno()))
                child = await children.spawn(command, files=[theirs.fileno()])
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=channel.LONGEST)
        except BaseException:
            ours.close()
            raise
        self.pid, self.told, self._heard_at = child.pid, None, time.monotonic()
        self._child, self._writer = child, writer
        self._send(self._begin())
        self._hearing = asyncio.create_task(self._hear(reader, writer))
        self._changed()
        return child

    def _send(self, message: channel.ToProcess) -> None:
        if self._writer is not None:
            self._writer.write(channel.line(message))

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes in what it tells, until it has ended."""
        try:
            while line := await reader.readline():
                self._take(channel.to_keeper.decode(line))
        except OSError:  # it has ended
            pass
        except ValueError as error:  # the end of a line that it did not live to write
            logger.debug("Process was cut short process=%d: %s", self.number, error)
        finally:
            writer.close()
            self._writer, self.pid, self.deaths = None, 0, self.deaths + 1
            lost = ConnectionResetError(f"process {self.number} has ended")
            for waiting in (self._loaded, self._asked):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(lost)
            self._changed()

    def _take(self, message: channel.ToKeeper) -> None:
        self._heard_at = time.monotonic()
        match message:
            case channel.Told():
                self._final.clear()
                self._heard(self, message)
            case channel.Loaded():
                if self._loaded is not None and not self._loaded.done():
                    self._loaded.set_result(message)
            case channel.StoreAsked():
                if self._asked is not None and not self._asked.done():
                    self._asked.set_result(message)
