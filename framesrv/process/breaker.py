"""A circuit breaker: keeps what fails for long from holding up everybody who asks for it.

Closed, it lets every call through. After some failures in a row it opens: calls are refused, but for a probe now and
then, one at a time. Whatever call succeeds closes it.
"""

import math
import threading
import time
from dataclasses import dataclass
from typing import Literal

Change = Literal["opened", "closed", "none"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the breaker has judged it.

    Attributes:
        refused: it is better not made, or not waited for.
        probe: the number of this probe since the breaker opened, from 1; 0 for a call that is none.
        began: monotonic seconds.
        era: how often the breaker had opened and closed by then.
    """

    refused: bool
    probe: int
    began: float
    era: int


class Breaker:
    """For one thing that may fail, called by several threads.

    Args:
        failures: in a row that open it,
        within: or at least two in a row over as many seconds: with few callers more would take too long.
        pause: seconds between the end of a probe and the next one.
        headstart: seconds from a probe's beginning in which others wait for its outcome.

    Attributes:
        failures: calls that failed in a row.
        refusals: calls that were refused since it opened, or while it was open the last time.
        open_for: seconds that it was open the last time.
    """

    def __init__(self, *, failures: int = 1, within: float = math.inf, pause: float, headstart: float = 0.0) -> None:
        self.failures = self.refusals = 0
        self.open_for = 0.0
        self._limit = failures
        self._within = within
        self._pause = pause
        self._headstart = headstart
        self._changed = threading.Condition()
        self._failing_since = 0.0
        self._era = 0  # a call says nothing of a later era
        self._opened_at: float | None = None
        self._probes = 0
        self._probing_since: float | None = None
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused."""
        return self._opened_at is not None

    def begin(self) -> Call:
        """Judges a call that is about to be made; `end` must follow, unless it is refused and not made."""
        with self._changed:
            if self._probing_since is not None:
                left = self._probing_since + self._headstart - time.monotonic()
                self._changed.wait_for(lambda: self._probing_since is None, max(0.0, left))
            now = time.monotonic()
            if self._opened_at is None:
                return Call(False, 0, now, self._era)
            if self._probing_since is not None or now < self._next_probe:
                self.refusals += 1
                return Call(True, 0, now, self._era)
            self._probing_since = now
            self._probes += 1
            return Call(False, self._probes, now, self._era)

    def end(self, call: Call, *, failed: bool) -> Change:
        """The call has ended; says whether that has opened or closed the breaker."""
        with self._changed:
            if not failed:
                return self._succeeded()
            if call.era != self._era:
                return "none"
            now = time.monotonic()
            if self._opened_at is not None:
                if call.probe:
                    self._probing_since = None
                    self._next_probe = now + self._pause
                    self._changed.notify_all()
                return "none"
            self._failing_since = self._failing_since if self.failures else call.began
            self.failures += 1
            if self.failures < self._limit and (self.failures < 2 or now - self._failing_since < self._within):
                return "none"
            self._opened_at, self._next_probe = now, now + self._pause
            self._era += 1
            self.refusals = self._probes = 0
            return "opened"

    def _succeeded(self) -> Change:
        self.failures = 0
        if self._opened_at is None:
            return "none"
        self.open_for = time.monotonic() - self._opened_at
        self._opened_at = self._probing_since = None
        self._era += 1
        self._changed.notify_all()
        return "closed"
