"""Keeps a service that has fallen silent from holding every thread that asks it.

After some tries in a row got no answer, further ones fail at once, but for one at a time that finds out whether
the service is back. Any answer, be it an error, shows that.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snapd.errors import StoreError
from snapd.http.session import reason

logger = logging.getLogger(__name__)

FAILURES = 4  # in a row,
SILENT_FOR = 6.0  # s, or at least two in as long a time: with few threads four would take too long
PATIENCE = 3.5  # s of silence that a try bears
# A probe has less, so that it is over soon after the service is back; every second one has as much as any
# other try, or else a service that has become slow would never pass.
PROBE_PATIENCE = (2.0, PATIENCE)
PAUSE = 0.5  # s between a probe and the next
HEADSTART = 0.3  # s from a probe's begin in which others wait for its outcome: a service that is back answers in that


class Breaker:
    """For one service, used by several threads.

    Args:
        name: of the service, for the log.
        is_silence: whether an exception means that there was no answer.
    """

    def __init__(self, name: str, is_silence: Callable[[BaseException], bool]) -> None:
        self._name = name
        self._is_silence = is_silence
        self._changed = threading.Condition()
        self._failures = 0
        self._silent_since = 0.0
        self._era = 0  # counts openings and closings: a try says nothing of a later era
        self._opened_at: float | None = None
        self._refused = 0
        self._probes = 0
        self._probing = False
        self._probe_began = 0.0
        self._next_probe = 0.0

    @contextmanager
    def attempt(self) -> Iterator[float]:
        """One try. Gives the seconds of silence after which it is to be given up.

        Raises:
            StoreError: the service is silent and is not asked.
        """
        began = time.monotonic()
        era, patience = self._enter()
        try:
            yield patience
        except BaseException as error:
            self._leave(began, era, error if self._is_silence(error) else None)
            raise
        self._leave(began, era, None)

    @property
    def is_open(self) -> bool:
        """Whether tries fail at once."""
        return self._opened_at is not None

    def _enter(self) -> tuple[int, float]:
        with self._changed:
            if self._probing:
                left = self._probe_began + HEADSTART - time.monotonic()
                self._changed.wait_for(lambda: not self._probing, max(0.0, left))
            if self._opened_at is None:
                return self._era, PATIENCE
            if self._probing or time.monotonic() < self._next_probe:
                self._refused += 1
                raise StoreError(f"{self._name} is silent and is not asked now", "silent", told=True)
            self._probing = True
            self._probe_began = time.monotonic()
            self._probes += 1
            return self._era, PROBE_PATIENCE[(self._probes - 1) % 2]

    def _leave(self, began: float, era: int, silence: BaseException | None) -> None:
        with self._changed:
            if silence is None:
                self._failures = 0
                if self._opened_at is not None:
                    self._close(self._opened_at)
            elif era == self._era:
                if self._opened_at is not None:
                    self._probing = False
                    self._next_probe = time.monotonic() + PAUSE
                    self._changed.notify_all()
                    return
                self._silent_since = self._silent_since if self._failures else began
                self._failures += 1
                silent_for = time.monotonic() - self._silent_since
                if self._failures >= FAILURES or (self._failures > 1 and silent_for >= SILENT_FOR):
                    self._open(silence)

    def _open(self, silence: BaseException) -> None:
        now = time.monotonic()
        self._opened_at, self._next_probe = now, now + PAUSE
        self._era += 1
        self._refused = self._probes = 0
        logger.error(
            "%s is silent; uploads fail at once until it answers failures=%d reason=%r",
            self._name,
            self._failures,
            reason(silence),
        )

    def _close(self, opened_at: float) -> None:
        self._opened_at, self._probing, self._failures = None, False, 0
        self._era += 1
        self._changed.notify_all()
        after = time.monotonic() - opened_at
        logger.info("%s answers again after=%.1fs refused=%d", self._name, after, self._refused)
