"""The pages as snapd has them: it listens, starts the process that answers, tells it what happens, starts it anew.

One thread does all of this. Nothing here can hold a request up: who answers one leaves its trace in a queue with a
limit. An address that is taken, and a process that dies, are tried again for as long as snapd runs, ever more rarely.
"""

import logging
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from framesrv import FramesrvError, log
from framesrv.process.report import Report
from framesrv.process.retry import Backoff
from framesrv.process.unforeseen import Unforeseen
from framesrv.settings import HttpSettings, Settings
from snapd.pages import channel
from snapd.telemetry.counters import Counters
from snapd.telemetry.trace import Trace
from snapd.wire.messages import UPLOAD_FAILED, word_of

KEPT = 1000  # traces that wait to be told
BACKLOG = 128  # connections that wait to be taken
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # s before another try
SOUND = 60.0  # s that a process must have run for its end to count as a first one
SEND_TIMEOUT = 5.0  # s in which the process must have taken what it is told
END_TIMEOUT = 2.0  # s in which it must have ended
ASKED_AGAIN = 5.0  # s after which the store is asked again

logger = logging.getLogger(__name__)


class Served(Protocol):
    """What the pages show: the service."""

    @property
    def settings(self) -> Settings:
        """Those in force."""

    @property
    def report(self) -> Report:
        """How it does."""

    @property
    def hang(self) -> str:
        """What hangs; empty if nothing does."""

    def check_store(self) -> str:
        """Says in a sentence that the store can be reached, or raises StoreError."""


class Launcher:
    """Shows `service` at an address.

    Args:
        http: checked; its `listen` is not empty.
        log_format: of the process.
        counters: the service's; answered requests are counted there too.
        on_change: is called when `problem` has changed.

    Attributes:
        problem: why nothing is shown; empty if that is not so.
        address: where the pages are, as a URL; empty until they are.
    """

    def __init__(
        self,
        http: HttpSettings,
        log_format: log.Format = "auto",
        counters: Counters | None = None,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        self.problem = ""
        self.address = ""
        self._http = http
        self._log_format = log_format
        self._counters = counters or Counters()
        self._on_change = on_change
        self._traces: deque[Trace] = deque(maxlen=KEPT)
        self._store: channel.StoreAnswer | None = None
        self._told: channel.Condition | None = None
        self._is_new = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._began = 0.0
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._unforeseen = Unforeseen(logger)

    def start(self, service: Served) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, args=(service,), name="pages", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Something that is shown has. For any thread."""
        os.eventfd_write(self._wake, 1)

    def reload(self) -> None:
        """The service's settings have changed."""
        self._is_new = True
        self.changed()

    def answered(self, trace: Trace) -> None:
        """A request was; for any thread."""
        self._counters.add("requests", reason(trace))
        if trace.message == UPLOAD_FAILED:
            self._store = channel.StoreAnswer(False, "", time.monotonic())
        elif any(name == "uploading" for name, _ in trace.stages):
            self._store = channel.StoreAnswer(True, "the last upload succeeded", time.monotonic())
        self._traces.append(trace)
        self.changed()

    def stop(self) -> None:
        """Ends every connection and the process, at once. For any thread."""
        self._stopped.set()
        self.changed()

    def join(self) -> None:
        """Waits for that."""
        if self._thread is not None:
            self._thread.join(2 * END_TIMEOUT)

    def _run(self, service: Served) -> None:
        try:
            while not self._stopped.is_set():
                pause: float | None = None
                try:
                    pause = self._advance(service)
                except OSError as error:  # the process is gone, or does not listen
                    pause = self._lost(str(error))
                except Exception as error:  # noqa: BLE001  it is told
                    self._unforeseen.tell("Pages failed, going on", error)
                    pause = self._lost("an unforeseen error")
                self._sleep(pause)
        finally:
            self._end()
            if self._listener is not None:
                self._listener.close()

    def _advance(self, service: Served) -> float | None:
        """Does what is to be done now; gives the seconds after which to come again, None if only when woken."""
        if self._listener is None:
            try:
                self._listen()
            except OSError as error:
                return self._refused(error)
        if self._channel is None:
            self._begin()
            self._told, self._is_new = None, True
        self._tell(service)
        self._hear(service)
        return None

    def _sleep(self, pause: float | None) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._channel is not None:
            poll.register(self._channel, select.POLLIN)
        until = None if pause is None else time.monotonic() + pause
        while not self._stopped.is_set():
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            ready = poll.poll(left)
            if any(fd == self._wake for fd, _ in ready):
                os.eventfd_read(self._wake)
            if not ready or until is None:
                return

    def _listen(self) -> None:
        family, kind, _, _, address = socket.getaddrinfo(
            self._http.host, self._http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        host = f"[{self._http.host}]" if ":" in self._http.host else self._http.host
        self.address = f"http://{host}:{listener.getsockname()[1]}/"
        self._backoff.reset()
        self._say("")
        if self._http.token:
            logger.info("Pages listen address=%s access=token", self.address)
        elif self._http.is_local:
            logger.info("Pages listen address=%s access=this-host", self.address)
        else:
            logger.warning("Pages are shown to everybody who reaches this host address=%s", self.address)

    def _refused(self, error: OSError) -> float:
        reason = f"pages cannot listen on {self._http.listen}: {error.strerror or error}"
        if reason != self.problem:
            logger.error("P%s; trying again, snapshots are served all the same", reason[1:])
        self._say(reason)
        return self._backoff.pause()

    def _begin(self) -> None:
        """Starts the process."""
        if self._listener is None:
            raise ValueError("nothing listens")
        ours, theirs = socket.socketpair()
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FRAMESRV_", "OTEL_", "NOTIFY_", "WATCHDOG_"))  # secrets, and others' affairs
        }
        with theirs:
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "snapd.pages", str(self._listener.fileno())),
                    *(str(theirs.fileno()), self._log_format),
                ],
                pass_fds=(self._listener.fileno(), theirs.fileno()),
                stdin=subprocess.DEVNULL,
                env={"MALLOC_ARENA_MAX": "2", **environment},
                start_new_session=True,  # a Ctrl-C is snapd's affair
            )
        ours.settimeout(SEND_TIMEOUT)
        self._channel, self._began = ours, time.monotonic()

    def _tell(self, service: Served) -> None:
        """Tells the process all that is new."""
        if self._channel is None:
            return
        if self._is_new:
            self._is_new = False
            self._channel.sendall(channel.line(channel.NewConfiguration(channel.shown(service.settings))))
        while self._traces:
            self._channel.sendall(channel.line(channel.RequestAnswered(self._traces.popleft())))
        report = service.report
        store = self._store
        if store and not store.ok and not store.message:
            words = report.uploads.in_words("the last upload failed") or "an upload failed"
            store = channel.StoreAnswer(False, words, store.at)
        condition = channel.Condition(
            re.sub(r"(, |; )\d+ in hand", "", report.status),  # which changes all the time
            report.joined,
            report.away,
            report.hang,
            self._counters.counts(),
            report.strangers,
            store,
            report.uploads,
            report.callbacks,
            report.configured_at,
            report.free_bytes,
            report.size_bytes,
            report.unrouted,
            report.processes,
        )
        if condition != self._told:
            self._channel.sendall(channel.line(condition))
            self._told = condition

    def _hear(self, service: Served) -> None:
        """Asks the store, which is all that the process can want. Raises ConnectionError when it has ended."""
        if self._channel is None or not select.select([self._channel], [], [], 0)[0]:
            return
        heard = self._channel.recv(4096)
        if not heard:
            raise ConnectionResetError(f"its process has ended {self._ending()}")
        if self._store is None or time.monotonic() - self._store.at > ASKED_AGAIN:
            try:
                ok, message = True, service.check_store()
            except FramesrvError as error:
                ok, message = False, str(error)
            self._store = channel.StoreAnswer(ok, log.mask(message), time.monotonic())
        self._told = None
        self._tell(service)

    def _ending(self) -> str:
        """How the process ended, in words."""
        if self._child is None:
            return "in no known way"
        try:
            status = self._child.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            return "its connection, and hangs"
        return f"by signal {-status}" if status < 0 else f"with status {status}"

    def _lost(self, reason: str) -> float | None:
        """The process is not there any more; gives the seconds after which to start another one."""
        self._end()
        if self._stopped.is_set():
            return None
        if time.monotonic() - self._began > SOUND:
            self._backoff.reset()
        pause = self._backoff.pause()
        logger.error("Pages are started anew reason=%r in=%.1fs", reason, pause)
        return pause

    def _end(self) -> None:
        """Ends the process."""
        if self._channel is not None:
            self._channel.close()  # it ends by itself at that
            self._channel = None
        if self._child is not None:
            try:
                self._child.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_change()


def reason(trace: Trace) -> str:
    """The outcome as a word; empty if it is ok."""
    return "" if trace.outcome == "ok" else word_of(trace.message)
