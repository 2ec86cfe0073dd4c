"""An entry in hand: what is known of it, and how far it has come."""

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Self

from snapd.configured import Configured
from snapd.limits import LARGE_LIMIT
from snapd.pictures.capture import Capture
from snapd.requests.entry import Entry
from snapd.requests.once import Decision
from snapd.telemetry.trace import Stopwatch
from snapd.wire.moment import NOW
from snapd.wire.request import Request, parse
from snapd.wire.result import Result

Steps = Generator[
    float, None, tuple[Result, bool]
]  # monotonic times at which to go on; the answer, see `find_answer`

LATITUDE = 15.0  # s beyond what a request can take, on a busy host


@dataclass(slots=True)
class Job:
    """An entry in hand.

    Attributes:
        begun: None where nobody can be told a result, or where that is another host's affair.
        asked_at: Unix seconds, by the clock of this host, at which its request came to the stream.
        is_served: whether its camera is asked at all.
        capture: the picture that it shares with others; None for one of a moment of its own.
        is_readable: False if reading it failed in a way nobody thought of.
        is_late: whether it was past its deadline when its turn came.
        steps: what is left to do for the answer, once that was begun.
        result: the answer, once there is one.
        heard_at: monotonic time at which the stream last heard that it is in hand.
    """

    entry: Entry
    request: Request
    configured: Configured
    asked_at: float = 0.0
    begun: Decision | None = None
    is_served: bool = False
    capture: Capture | None = None
    is_readable: bool = True
    is_late: bool = False
    steps: Steps | None = None
    result: Result | None = None
    heard_at: float = field(default_factory=time.monotonic)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @classmethod
    def of(cls, entry: Entry, configured: Configured, *, ahead: float = 0.0) -> Self:
        """That of an entry, answered as one configuration says.

        Args:
            entry: as the stream gave it.
            configured: what it is answered with.
            ahead: seconds by which the clock of this host is ahead of that of Redis.
        """
        settings, stream = configured.settings, configured.settings.stream
        request = parse(
            entry.origin,
            entry.fields,
            key_prefix=settings.store.key_prefix,
            longest=settings.snapshot.deadline,
            at=f"{stream.source} {entry.id}" if stream.routed else "",
        )
        return cls(entry, request, configured, request.sent_at + ahead)

    @property
    def is_of_another_host(self) -> bool:
        """Whether another is to answer it, or nobody."""
        code, ignored = self.request.camera_code, self.configured.settings.stream.unknown_camera == "ignore"
        return ignored and code != "" and code not in self.configured.codes

    @property
    def moment(self) -> float:
        """Unix seconds, by the clock of this host, of what it wants to see."""
        return (self.request.moment or NOW).unix(self.asked_at)


def longest(job: Job) -> float:
    """Seconds after which a worker that still has this job counts as hung."""
    clip = LARGE_LIMIT if job.request.clip else 0.0
    return job.configured.limit + job.request.seconds + clip + LATITUDE
