"""The thread that hears signals and speaks with the service manager: reloading, draining, how the service does."""

import logging
import math
import os
import signal
import threading
from pathlib import Path
from typing import Protocol

import msgspec

from framesrv import ConfigError, FramesrvError
from framesrv.process import report
from framesrv.process.hang import Hang
from framesrv.process.notify import Notifier
from framesrv.process.signals import Signals
from framesrv.process.unforeseen import Unforeseen
from framesrv.settings import Settings, load
from snapd.pages.launcher import Launcher

logger = logging.getLogger(__name__)

REPORTED_EVERY = 10.0  # s, where nothing but figures has changed

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervised(Protocol):
    """A service, of one process or several."""

    @property
    def is_ready(self) -> bool:
        """Whether it has begun."""

    @property
    def status(self) -> str:
        """How it does, in words."""

    @property
    def report(self) -> report.Report:
        """The same, for everybody on this host."""

    @property
    def hang(self) -> str:
        """What hangs; empty if nothing does."""

    def reload(self, settings: Settings) -> list[str]:
        """Goes on with `settings`; gives the keys that need a restart. Raises FramesrvError."""

    def stop(self) -> None:
        """Takes no more requests."""


class Supervision:
    """Drains the service at the first SIGTERM or SIGINT, ends it at once at the second; reloads it at SIGHUP.

    Made by the main thread. SIGHUP from a terminal that has gone is what it always was: a SIGTERM.

    Args:
        config: the configuration's place, as it was given to the first `load`.
    """

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._signals = Signals(*HEARD)
        self._notifier = Notifier()
        self._terminal = os.isatty(0)
        self._is_ready = self._stopping = False
        self._hang = ""
        self._hanging = Hang(logger)
        self._unforeseen = Unforeseen(logger)
        self._note = ""
        self._refused = False
        self._pages: Launcher | None = None
        self._place = report.place()
        self._reported: report.Report | None = None
        self._unreported = ""
        self._interval = min(self._notifier.interval or math.inf, REPORTED_EVERY if self._place else math.inf)

    def changed(self) -> None:
        """The service's status has. For any thread."""
        self._signals.wake()

    def begin(self, service: Supervised, pages: Launcher | None = None) -> None:
        """Starts the thread. `pages` are told of changes too, and what is wrong with them is told."""
        self._pages = pages
        threading.Thread(target=self._run, args=(service,), name="supervision", daemon=True).start()

    def _run(self, service: Supervised) -> None:
        self._greet(service)
        self._report(service)
        while True:
            heard = self._signals.wait(None if self._interval == math.inf else self._interval)
            try:
                self._heed(service, heard)
            except Exception as error:  # noqa: BLE001  outermost: whatever it is, signals are still heard
                self._unforeseen.tell("Supervision failed, going on", error)

    def _greet(self, service: Supervised) -> None:
        """Says once that it serves, also without Redis: what comes after it at boot must not wait for that."""
        if not self._is_ready and service.is_ready:
            self._is_ready = True
            self._notifier.ready(self._words(service))

    def _heed(self, service: Supervised, heard: int | None) -> None:
        if heard == signal.SIGHUP and not (self._terminal and not os.isatty(0)):
            self._reload(service)
        elif heard:
            self._stop(service, signal.Signals(heard).name)
        self._tell(service, changed=heard is not None)

    def _stop(self, service: Supervised, name: str) -> None:
        if self._stopping:
            logger.warning("Ended before all was done signal=%s", name)
            os._exit(1)
        self._stopping = True
        logger.info("Stopping signal=%s", name)
        if self._pages:
            self._pages.stop()
        service.stop()
        self._notifier.stopping(service.status)

    def _reload(self, service: Supervised) -> None:
        """Reads the configuration again. One that is wrong changes nothing."""
        if self._stopping:
            return
        self._notifier.reloading()
        self._note, self._refused = "; the changed configuration is wrong, see the log", True
        try:
            settings = load(self._config)
            fixed = service.reload(settings)
        except FramesrvError as error:
            for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
                logger.error("Configuration not reloaded: %s", problem)  # noqa: TRY400  it is a sentence
        else:
            self._note, self._refused = "", False
            if self._pages:
                self._pages.reload()
            logger.info("Reloaded cameras=%d store=%s", len(settings.cameras), settings.store.kind)
            if fixed:
                logger.warning("Changed keys that need a restart keys=%s", ",".join(fixed))
        finally:  # whatever happened: the manager waits for it
            self._notifier.ready(self._words(service))

    def _tell(self, service: Supervised, *, changed: bool) -> None:
        """Tells the service manager how the service does; and that it does, unless a thread of it hangs."""
        self._greet(service)
        hang = service.hang
        self._hanging.tell(f"Service hangs, {hang}" if hang else "")
        if self._pages and (changed or hang != self._hang):
            self._pages.changed()
        self._hang = hang
        if changed or hang:
            self._notifier.status(f"{hang} hangs" if hang else self._words(service))
        if not hang:
            self._notifier.alive(self._words(service))
        self._report(service)

    def _report(self, service: Supervised) -> None:
        """Leaves word for everybody on this host, if there is news."""
        if self._place is None:
            return
        problem = self._pages.problem if self._pages else ""
        now = msgspec.structs.replace(service.report, refused=self._refused, pages=problem)
        if now == self._reported:
            return
        try:
            report.write(self._place, now)
            self._reported, self._unreported = now, ""
        except OSError as error:
            if str(error) != self._unreported:
                logger.warning("How snapd does cannot be told path=%s reason=%s", self._place, error.strerror)
            self._unreported = str(error)

    def _words(self, service: Supervised) -> str:
        problem = self._pages.problem if self._pages else ""
        return service.status + self._note + (f"; {problem}" if problem else "")
