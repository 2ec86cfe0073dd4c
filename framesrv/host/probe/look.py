"""Plays a source for a while, by the code that a decoder plays it with, and tells what was seen."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median

from framesrv.camera.policy import Policy
from framesrv.camera.sources import Facts, Source, SourceFrame, open_source
from framesrv.codec.shape import Shape
from framesrv.errors import Cause, SourceError
from framesrv.segment.layout import PixelFormat
from framesrv.segment.stamp import SQUARE
from framesrv.settings import Camera

AGAIN = ("timeout", "lost")  # causes after which a decoder tries another transport or track
TRIES = 2
RESOLVING = 30.0  # s that name servers take at most, see resolv.conf(5)
MOST = 20_000  # pictures that are remembered

Tell = Callable[[float | None], None]


class HangError(SourceError):
    """A source does not come back; the process can only be ended around it."""


@dataclass
class Seen:
    """What was seen of a source.

    Attributes:
        first_after: seconds from the beginning to the first picture.
        seconds: from then on.
        width: pixels of the newest picture, as a reader gets it; so is `height`.
        sample_aspect_ratio: of its pixels, width by height.
        rotated: degrees clockwise by which it was turned.
        matrix: of its colours.
        full_range: of those.
        facts: of the stream.
        ahead: seconds by which the camera's clock is before the host's; None where it does not tell.
        transport: which way packets of RTP come; empty if not known, or not RTSP.
        received: bytes of packets, after the first picture.
        corrupt: pictures and packets found damaged and held back, after the first picture.
        processor: seconds of processor time, after the first picture.
        times: nanoseconds of each picture on the stream's clock, or of its arrival.
        keys: the same of key frames.
        failed: why earlier attempts failed.
    """

    first_after: float = 0.0
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    sample_aspect_ratio: Fraction = SQUARE
    rotated: int = 0
    matrix: str = ""
    full_range: bool = False
    facts: Facts = field(default_factory=Facts)
    ahead: float | None = None
    transport: str = ""
    received: int = 0
    corrupt: int = 0
    processor: float = 0.0
    times: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def fps(self) -> float:
        """Pictures a second, as most of them come; 0 if there was one alone."""
        steps = [after - before for before, after in pairwise(self.times) if after > before]
        return 1e9 / median(steps) if steps else 0.0

    @property
    def group(self) -> float | None:
        """The most seconds between two key frames; None where fewer than two came."""
        return max((after - before for before, after in pairwise(self.keys)), default=0) / 1e9 or None

    @property
    def cost(self) -> float:
        """The share of a processor core that it took."""
        return self.processor / self.seconds if self.seconds else 0.0


class _Listener:
    """What a source tells, added up. It is a `Sink`."""

    demanded = True

    def __init__(self) -> None:
        self.counters = dict.fromkeys(("corrupt", "bytes", "decode"), 0)
        self.transport = self.waiting = ""
        self.cause: Cause = ""
        self.ahead: float | None = None

    def count(self, counter: str, number: int = 1) -> None:
        self.counters[counter] += number

    def active(self) -> None:
        """Nobody waits for it."""

    def clock(self, ahead: float | None) -> None:
        self.ahead = ahead

    def via(self, transport: str) -> None:
        self.transport = transport

    def idle(self, width: int, height: int, pixel_format: PixelFormat) -> None:
        """It never idles: it is `demanded`."""

    def describe(self, *, error: str, cause: Cause) -> None:
        self.waiting, self.cause = error, cause


def look(camera: Camera, seconds: float, tell: Tell) -> Seen:
    """Plays a camera's source for so long after its first picture.

    All of it is decoded, whatever the camera's policy: else nobody could say what that costs.

    Args:
        camera: the one.
        seconds: to look.
        tell: is told about once a second for how long it has been looked at; None: there is no picture yet.

    Raises:
        SourceUsageError: the source string is none that can work.
        SourceError: it does not work. Of these, HangError: a thread of this process still plays it.
    """
    source = open_source(camera, Policy("all"))
    work = _Work(source, Shape(camera.presentation), seconds)
    limit = seconds + TRIES * (RESOLVING + 6 * camera.timeout)
    # in a thread of its own: a library may hang in a call that no signal ends
    thread = threading.Thread(target=work.run, name="probe", daemon=True)
    thread.start()
    deadline = time.monotonic() + limit
    while thread.is_alive() and time.monotonic() < deadline:
        tell(work.looked)
        thread.join(1.0)
    if thread.is_alive():
        raise HangError(f"it hangs in a library, for {limit:.0f} s now", "timeout")
    if work.failure is not None:
        raise work.failure
    return work.seen


class _Work:
    """The thread that plays.

    Attributes:
        seen: so far.
        looked: seconds since the first picture; None before it.
        failure: what ended it.
    """

    def __init__(self, source: Source, shape: Shape, seconds: float) -> None:
        self.seen = Seen()
        self.looked: float | None = None
        self.failure: Exception | None = None
        self._source, self._shape, self._seconds = source, shape, seconds

    def run(self) -> None:
        for left in range(TRIES - 1, -1, -1):
            listener = _Listener()
            try:
                self._play(listener)
            except SourceError as error:
                if error.cause in AGAIN and left:
                    self.seen.failed.append(str(error))
                    continue
                self.failure = error
            except Exception as error:  # noqa: BLE001  the thread's outermost: whoever waits for it raises it
                self.failure = error
            return

    def _play(self, listener: _Listener) -> None:
        seen = self.seen = Seen(failed=self.seen.failed)
        first, processor, before = 0.0, 0.0, dict(listener.counters)
        began = time.monotonic()
        with closing(self._source.frames(listener)) as frames:  # type: ignore[type-var]  # a generator, of all kinds
            for frame in frames:
                now = time.monotonic()
                if frame is not None:
                    if not seen.times:
                        first, processor, before = now, time.thread_time(), dict(listener.counters)
                    _add(seen, self._shape.applied(frame))
                if first:
                    self.looked = seen.seconds = now - first
                if seen.seconds >= self._seconds or len(seen.times) >= MOST:
                    break
            seen.facts = self._source.facts()
        if not seen.times:
            raise SourceError(listener.waiting or "there is no picture in it", listener.cause or "format")
        seen.processor = time.thread_time() - processor
        seen.first_after = first - began
        seen.transport, seen.ahead = listener.transport, listener.ahead
        seen.received = listener.counters["bytes"] - before["bytes"]
        seen.corrupt = listener.counters["corrupt"] - before["corrupt"]


def _add(seen: Seen, frame: SourceFrame) -> None:
    stamp = frame.stamp
    moment = stamp.arrived_ns if stamp.pts is None else stamp.pts
    seen.times.append(moment)
    if stamp.key_frame:
        seen.keys.append(moment)
    seen.width, seen.height = frame.width, frame.height
    seen.sample_aspect_ratio, seen.rotated = stamp.sample_aspect_ratio, stamp.rotated
    seen.matrix, seen.full_range = stamp.matrix, stamp.full_range
