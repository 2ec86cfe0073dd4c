"""What the service manager is told: the datagrams of sd_notify(3). Without ``$NOTIFY_SOCKET`` there are none.

These lines are our own: of the packages for it `sdnotify` is no longer kept up, and `cysystemd` needs the C library.

The watchdog is tied to work that is done, not to a thread that only says so: who works notes in a `Progress` how
long its next step may take, and ``WATCHDOG=1`` is sent only while that is not exceeded.
"""

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Mapping

from framesrv.log import shown

TIMEOUT = 2.0  # s that the manager may take to make room for a datagram
STATUS_EVERY = 3.0  # s between two statuses that differ in their figures alone

logger = logging.getLogger(__name__)


class Progress:
    """Whether a thread goes on: it says how long its next step may take, another thread looks."""

    def __init__(self) -> None:
        self._until = math.inf

    def expect(self, seconds: float) -> None:
        """The thread has gone on, and will again within so many seconds, unless it hangs."""
        self._until = time.monotonic() + seconds

    @property
    def overdue(self) -> float:
        """Seconds by which it is late, 0 if it is not."""
        return max(0.0, time.monotonic() - self._until)


class Notifier:
    """The way to the service manager, for several threads.

    Attributes:
        interval: seconds between two calls of `alive`, half of what the manager allows; None without a watchdog.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            logger.warning("Service manager not told anything: NOTIFY_SOCKET=%s is no Unix socket", address)
            address = ""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._lock = threading.Lock()
        self._status = ""
        self._status_at = -math.inf
        self._failing = False
        self.interval = _interval(environment) if address else None
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(TIMEOUT)

    @property
    def listens(self) -> bool:
        """Whether anybody does."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """The service serves; after `reloading`: it has reloaded."""
        self._send(["READY=1"], status)

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends that."""
        self._send(["RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"])

    def stopping(self, status: str) -> None:
        """The service ends."""
        self._send(["STOPPING=1"], status)

    def status(self, text: str) -> None:
        """One line for people, sent if it has changed."""
        if text != self._status:
            self._send([], text)

    def alive(self, status: str) -> None:
        """Keeps the watchdog quiet, if there is one, and now and then tells a changed status."""
        if self.interval is None:
            return
        other = status.partition(" ")[0] != self._status.partition(" ")[0]
        due = status != self._status and (other or time.monotonic() - self._status_at >= STATUS_EVERY)
        self._send(["WATCHDOG=1"], status if due else "")

    def _send(self, fields: list[str], status: str = "") -> None:
        if self._socket is None:
            return
        with self._lock:
            if status:
                self._status, self._status_at = status, time.monotonic()
                fields = [*fields, f"STATUS={shown(' '.join(status.split()))}"]
            try:
                self._socket.sendto("\n".join(fields).encode(), self._address)
            except OSError as error:
                if not self._failing:  # once: it would be said again every few seconds
                    logger.warning("Service manager cannot be told fields=%s reason=%s", fields, error)
                self._failing = True
            else:
                self._failing = False


def _interval(environment: Mapping[str, str]) -> float | None:
    """See sd_watchdog_enabled(3): another process may be meant."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) else None
