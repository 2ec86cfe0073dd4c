"""One of several processes that answer requests: ``python -m snapd.processes NUMBER CHANNEL``, started by snapd.

It ends at a SIGTERM, when what it had in hand is done, and at once when the other end of CHANNEL, a socket, is
closed, in whatever way the process that keeps it has ended.
"""

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence

from framesrv import ConfigError, FramesrvError, log
from framesrv.process.hang import Hang
from framesrv.process.signals import Signals
from framesrv.process.unforeseen import Unforeseen
from framesrv.settings import Settings
from snapd.processes import channel
from snapd.service import Service
from snapd.telemetry.counters import Counters
from snapd.telemetry.trace import Trace

FIGURES_EVERY = 0.2  # s between two words of which only figures differ
BEAT = 2.0  # s after which something is said in any case
KEPT = 10_000  # traces that wait to be told
LAST = 5.0  # s that the last word may take

logger = logging.getLogger("snapd")


class Channel:
    """This end of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._rest = b""

    def fileno(self) -> int:
        """For select(2)."""
        return self._connection.fileno()

    def send(self, message: channel.ToKeeper) -> None:
        """For any thread. Raises OSError when the other end is closed."""
        with self._lock:
            self._connection.sendall(channel.line(message))

    def hear(self) -> list[channel.ToProcess]:
        """What has come whole; waits for a part of it. Raises OSError when the other end is closed."""
        part = self._connection.recv(1 << 20)
        if not part:
            raise ConnectionResetError
        *lines, self._rest = (self._rest + part).split(b"\n")
        return [channel.to_process.decode(line) for line in lines]


class Worker:
    """The thread that hears and speaks, while the main thread and others answer requests."""

    def __init__(self, connection: Channel, signals: Signals, *, traces: bool) -> None:
        self._channel, self._signals = connection, signals
        self._is_told_traces = traces
        self._traces: deque[Trace] = deque(maxlen=KEPT)
        self._counters = Counters(self.changed)
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._changed, self._has_figures = True, False
        self._told_at = 0.0
        self._stopping, self._ended = False, False
        self._hanging, self._unforeseen = Hang(logger), Unforeseen(logger)
        self._thread: threading.Thread | None = None

    @property
    def counters(self) -> Counters:
        """Those of the service."""
        return self._counters

    def changed(self) -> None:
        """The service's status has. For any thread."""
        self._changed = True
        os.eventfd_write(self._woken, 1)

    def answered(self, trace: Trace) -> None:
        """A request was. For any thread."""
        if self._is_told_traces:
            self._traces.append(trace)
        if not self._has_figures:
            self._has_figures = True
            os.eventfd_write(self._woken, 1)

    def begin(self, service: Service, heard: Sequence[channel.ToProcess]) -> None:
        """Starts the thread; something may have been heard before."""
        self._thread = threading.Thread(target=self._run, args=(service, heard), name="channel", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Says the last word."""
        self._ended = True
        self.changed()
        if self._thread:
            self._thread.join(LAST)

    def _run(self, service: Service, heard: Sequence[channel.ToProcess]) -> None:
        for message in heard:
            self._obey(service, message)
        while not (self._ended and not self._changed):
            try:
                self._advance(service)
            except OSError:
                logger.warning("Ends at once: the process that keeps this one has ended")
                os._exit(1)
            except Exception as error:  # noqa: BLE001  outermost: whatever it is, signals are still heard
                self._unforeseen.tell("Supervision failed, going on", error)
                self._told_at = time.monotonic()

    def _advance(self, service: Service) -> None:
        pause = FIGURES_EVERY if self._has_figures else BEAT
        if self._changed or time.monotonic() - self._told_at >= pause:
            self._tell(service)
            return
        timeout = self._told_at + pause - time.monotonic()
        signals, told = self._signals.fileno(), self._channel.fileno()
        ready, _, _ = select.select([signals, self._woken, told], [], [], max(0.0, timeout))
        if self._woken in ready:
            os.eventfd_read(self._woken)
        if signals in ready:
            self._heed(service, self._signals.wait(0))
        if told in ready:
            for message in self._channel.hear():
                self._obey(service, message)

    def _tell(self, service: Service) -> None:
        changed, self._changed = self._changed, False
        self._has_figures = False
        self._told_at = time.monotonic()
        report = service.report
        self._hanging.tell(f"Service hangs, {report.hang}" if report.hang else "")
        traces = []
        while self._traces:
            traces.append(self._traces.popleft())
        in_hand = service.in_hand
        self._channel.send(channel.Told(report, in_hand, self._counters.counts(), tuple(traces), changed))

    def _heed(self, service: Service, heard: int | None) -> None:
        if heard and not self._stopping:  # a manager may end all processes of a unit, and the keeper this one, too
            self._stopping = True
            service.stop()
            self._changed = True

    def _obey(self, service: Service, message: channel.ToProcess) -> None:
        match message:
            case channel.NewConfiguration(settings=settings):
                self._channel.send(channel.Loaded(() if self._stopping else _load(service, settings)))
                self._changed = True
            case channel.AskStore():
                threading.Thread(target=self._ask_store, args=(service,), name="store", daemon=True).start()

    def _ask_store(self, service: Service) -> None:
        try:
            answer = channel.StoreAsked(True, service.check_store())
        except FramesrvError as error:
            answer = channel.StoreAsked(False, log.mask(str(error)))
        self._channel.send(answer)


def _load(service: Service, settings: Settings) -> tuple[str, ...]:
    try:
        service.reload(settings)
    except ConfigError as error:
        return tuple(error.problems)
    except FramesrvError as error:
        return (str(error),)
    return ()


def main() -> None:
    """The process."""
    number, descriptor = sys.argv[1:3]
    signals = Signals(signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which is for the one that keeps this one
    connection = Channel(socket.socket(fileno=int(descriptor)))
    try:
        while not (heard := connection.hear()):
            pass
    except OSError:
        sys.exit(1)  # nobody keeps it any more
    begin, *more = heard
    if not isinstance(begin, channel.Begin):
        raise TypeError(f"expected the configuration first, not {type(begin).__name__}")
    level = logging.DEBUG if begin.verbose else logging.INFO
    log.setup(begin.log_format, level=level, process=number, quiet=channel.LIBRARIES)
    worker = Worker(connection, signals, traces=begin.traces)
    try:
        service = Service.open(
            begin.settings, on_change=worker.changed, on_answered=worker.answered, counters=worker.counters
        )
    except FramesrvError as error:
        log.complain("snapd", error)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    worker.begin(service, more)
    try:
        service.run()
    finally:
        worker.end()


if __name__ == "__main__":
    main()
