"""How the service does, put together from its parts: a line for the service manager, a report for this host."""

import os
import time

from framesrv import __version__
from framesrv.process.report import Report
from snapd.configured import Configured
from snapd.requests.presence import Presence
from snapd.requests.stream import RequestStream
from snapd.telemetry.counters import Counters


class Account:
    """For any thread.

    Attributes:
        configured_at: Unix seconds at which the configuration in force was read.
    """

    def __init__(self, stream: RequestStream, presence: Presence, counters: Counters) -> None:
        self._began = self.configured_at = time.time()
        self._stream, self._presence, self._counters = stream, presence, counters

    def reloaded(self, *, store: bool, result: bool) -> None:
        """Another configuration is in force; what became of uploads to another `store` is past, so with `result`."""
        self.configured_at = time.time()
        if store:
            self._counters.uploads.forget()
        if result:
            self._counters.callbacks.forget()

    def status(self, *, stopping: bool) -> str:
        """In words, what matters most first."""
        stream, presence = self._stream, self._presence
        report = Report(
            os.getpid(),
            __version__,
            self._began,
            joined=stream.joined,
            away=stream.away,
            strangers=presence.strangers,
            unrouted=presence.unrouted,
            uploads=self._counters.uploads.outcomes,
            callbacks=self._counters.callbacks.outcomes,
        )
        return report.in_words(stream.in_hand, stopping=stopping)

    def report(self, configured: Configured, status: str, hang: str) -> Report:
        """Everything."""
        facts = configured.store.facts
        lag, pending = (None, None) if self._stream.away else self._presence.waiting
        return Report(
            os.getpid(),
            __version__,
            self._began,
            status,
            self._stream.joined,
            self._stream.away,
            hang,
            self._presence.strangers,
            self._presence.unrouted,
            self._presence.consumer,
            configured.settings.stream.consumer,
            self.configured_at,
            tuple(stream.code for stream in configured.settings.streams),
            uploads=self._counters.uploads.outcomes,
            callbacks=self._counters.callbacks.outcomes,
            lag=lag,
            pending=pending,
            place=facts.place,
            free_bytes=facts.free_bytes,
            size_bytes=facts.size_bytes,
            ahead_of_store=_whole(facts.clock_ahead),
            ahead_of_redis=_whole(self._stream.clock.ahead),
        )


def _whole(seconds: float | None) -> float | None:
    """Whole seconds: fractions would be news all the time."""
    return None if seconds is None else float(round(seconds))
