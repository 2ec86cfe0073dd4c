"""Where the time of one request went: six stages, one after the other, from its entry to its result handed over.

The worker takes the times with a `Stopwatch`; a `Trace` is what is shown of them: to whoever listens to the service
(the page, metrics, spans), to a sender who asks for it (under ``snap:trace:{request_id}``), on a terminal.

queued      from XADD, by the clock of Redis, until a worker had the request
waiting     for a frame, and for the picture where another request's is shared
converting  its colours and size, under the pin
encoding    the JPEG
uploading   to the store
callback    until the result was handed over: remembering it, its place in line, the call itself or the key

A stage that did not take place is left out: of a shared picture the encoding belongs to the request that took it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import orjson
import redis

from snapd.wire.request import Request
from snapd.wire.result import Result

STAGES = ("queued", "waiting", "converting", "encoding", "uploading", "callback")
CALLBACK_PARTS = ("keep", "place", "deliver")  # remembering the result, its place in line, the call or the key
PREFIX = "snap:trace:"
KEPT = 60  # s
WIDTH = 48  # columns of the bars; with what stands before them a line has less than 80
BAR = "█"


class Stopwatch:
    """How long each stage of answering one request took; for the thread that has the request in hand."""

    def __init__(self) -> None:
        self._parts: dict[str, float] = {}
        self._last = time.perf_counter()

    def add(self, name: str, seconds: float) -> None:
        """A stage that was measured elsewhere, or a part of it."""
        self._parts[name] = self._parts.get(name, 0.0) + max(0.0, seconds)

    def restart(self) -> None:
        """The next stage begins now."""
        self._last = time.perf_counter()

    def end(self, name: str, *, less: float = 0.0) -> None:
        """A stage, or a part of ``callback``, that began where the last one ended.

        Args:
            name: of `STAGES`, or of `CALLBACK_PARTS`.
            less: seconds of it that belong to others.
        """
        now = time.perf_counter()
        self.add(name, now - self._last - less)
        self._last = now

    def stages(self) -> tuple[tuple[str, float], ...]:
        """The stages that took place, in their order, and the seconds of each."""
        parts = self._parts | {"callback": sum(self._parts.get(part, 0.0) for part in CALLBACK_PARTS)}
        # Every request was queued, though two clocks may say for no time at all.
        return tuple((name, parts.get(name, 0.0)) for name in STAGES if parts.get(name) or name == "queued")

    def __str__(self) -> str:
        """The stages as the ``key=value`` of a log line, in milliseconds; in place of the last one, its parts."""
        times = {name: seconds for name, seconds in self.stages() if name != "callback"}
        times |= {name: self._parts[name] for name in CALLBACK_PARTS if name in self._parts}
        return " ".join(f"{name}_ms={seconds * 1000:.1f}" for name, seconds in times.items())


@dataclass(frozen=True, slots=True)
class Trace:
    """One answered request.

    Attributes:
        request_id: the sender's.
        camera_code: as in the request, not necessarily one of this host's.
        entry_id: of its entry in the stream.
        received_at: Unix seconds, by the clock of Redis, at which that came; the first stage begins there, and each
            of the others where the one before ends.
        stages: those that took place, of `STAGES` and in their order, with the seconds that each took.
        outcome: the result's status.
        message: the result's, empty if it is ok.
        traceparent: W3C trace context that came with the request, unchecked; empty if none did.
    """

    request_id: str
    camera_code: str
    entry_id: str
    received_at: float
    stages: tuple[tuple[str, float], ...]
    outcome: Literal["ok", "error"]
    message: str = ""
    traceparent: str = ""

    @classmethod
    def of(cls, request: Request, result: Result, stopwatch: Stopwatch) -> Self:
        """The trace of a request that was answered with `result`."""
        return cls(
            request.request_id,
            request.camera_code,
            request.entry_id,
            request.sent_at,
            stopwatch.stages(),
            result.status,
            result.message,
            request.traceparent,
        )

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """The trace that `to_json` wrote. For anything else ValueError, KeyError, TypeError or AttributeError."""
        fields = orjson.loads(text)
        stages = tuple((str(name), float(seconds)) for name, seconds in fields.pop("stages").items())
        return cls(stages=stages, **fields)

    def to_json(self) -> bytes:
        """The wire form: `stages` is an object, in their order; without the trace context, which the sender knows."""
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "camera_code": self.camera_code,
            "entry_id": self.entry_id,
            "received_at": self.received_at,
            "stages": {name: round(seconds, 6) for name, seconds in self.stages},
            "outcome": self.outcome,
            "message": self.message,
        }
        return orjson.dumps(fields)

    @property
    def seconds(self) -> float:
        """From the first stage's beginning to the last one's end."""
        return sum(seconds for _, seconds in self.stages)


def waterfall(trace: Trace) -> Iterator[str]:
    """The stages as lines of text: a name, its milliseconds, a bar that begins where the one before ends."""
    columns = WIDTH / trace.seconds if trace.seconds else 0.0
    began = 0.0
    for name, seconds in trace.stages:
        first = min(int(began * columns), WIDTH - 1)
        last = max(first + 1, round((began + seconds) * columns))
        yield f"{name:10}  {seconds * 1000:9.1f} ms  {' ' * first}{BAR * (last - first)}"
        began += seconds
    yield f"{'total':10}  {trace.seconds * 1000:9.1f} ms"


Listener: TypeAlias = Callable[[Trace], object]


def keep(client: redis.Redis, trace: Trace) -> None:
    """Lets the sender see it, for a minute. Raises RedisError."""
    client.set(PREFIX + trace.request_id, trace.to_json(), ex=KEPT)


def find(client: redis.Redis, request_id: str) -> Trace | None:
    """The trace that was kept; None if there is none, or none that can be read. Raises RedisError."""
    content: Any = client.get(PREFIX + request_id)
    try:
        return None if content is None else Trace.parse(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
