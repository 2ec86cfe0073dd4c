"""Pictures for viewers: each frame is encoded once for each size, by a few threads, whoever asks how often.

A camera is looked at when somebody asks, and its segment let go at once. Who finds no frame that is fresh enough
waits for one, all together in one thread a camera; a camera on demand is asked in that way, and only then.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from framesrv import Frame, FrameReader, FrameUnavailableError
from framesrv.settings import Settings
from snapd.pictures.clip import Clip
from snapd.pictures.clips import GRACE, Clips
from snapd.pictures.encoder import Encoder
from snapd.wire.form import Form
from snapd.wire.moment import Span

ENCODERS = 2  # threads
QUEUE = 64  # pictures that wait for them
WAITERS = 32  # threads; each waits for one camera's next frame
KEPT = 128  # pictures,
KEPT_BYTES = 16 * 1024 * 1024  # at most

Value = TypeVar("Value")


class BusyError(Exception):
    """Too many want pictures at once: a sentence for them."""

    def __init__(self, message: str = "Too many want pictures at once; try again.") -> None:
        super().__init__(message)


class FrameId(NamedTuple):
    """Which frame: monotonic nanoseconds of its arrival, its number, and Unix nanoseconds of its capture."""

    arrived_ns: int
    seq: int
    captured_ns: int

    @classmethod
    def of(cls, frame: Frame) -> "FrameId":
        """That of `frame`."""
        return cls(frame.stamp.arrived_ns, frame.seq, frame.stamp.captured_ns)

    @property
    def age(self) -> float:
        """Seconds since it arrived."""
        return (time.monotonic_ns() - self.arrived_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG, and the frame that it shows."""

    jpeg: bytes
    frame: FrameId


@dataclass(frozen=True, slots=True)
class NewestFrame:
    """What a look at a camera has shown: its newest frame, and how large that is to be shown."""

    frame: FrameId
    size: tuple[int, int]


class Pictures:
    """Used by the event loop's thread alone."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.encoded = 0
        self._encoder = Encoder.of(settings.snapshot)
        self._encoders = ThreadPoolExecutor(ENCODERS, "encoder")
        self._waiters = ThreadPoolExecutor(WAITERS, "waiter")
        self._past_looks = ThreadPoolExecutor(ENCODERS, "past")
        self._queued = self._looking_back = 0
        self._clips = Clips(settings.shm, settings.snapshot.wait)
        self._kept: OrderedDict[tuple[str, Form], tuple[FrameId, asyncio.Future[Picture]]] = OrderedDict()
        self._waits: dict[str, asyncio.Future[NewestFrame]] = {}

    def configure(self, settings: Settings) -> None:
        """Makes pictures as `settings` say from now on."""
        if settings.snapshot != self.settings.snapshot:
            self._encoder = Encoder.of(settings.snapshot)
            self._kept.clear()
        self.settings = settings

    async def look(self, code: str, max_age: float) -> NewestFrame:
        """The newest frame of a camera; waits for it as a snapshot would if the camera is there.

        Raises:
            FrameUnavailableError: there is none that is fresh enough.
            SegmentError: the segment is unusable.
            BusyError: too many wait.
        """
        try:
            return self._now(code, max_age, 0)
        except FrameUnavailableError as error:
            if error.reason != "stale":
                raise
        wait = self._waits.get(code)
        if wait is None:
            if len(self._waits) >= 2 * WAITERS:
                raise BusyError
            wait = self._in(self._waiters, lambda: self._now(code, 0, self.settings.snapshot.wait))
            self._waits[code] = wait
            wait.add_done_callback(lambda _: self._waits.pop(code, None))
        return await asyncio.shield(wait)

    async def past(self, code: str, form: Form, moment: float) -> Picture:
        """The picture of what was shown at a moment, in Unix seconds.

        Raises:
            HistoryUnavailableError, SegmentError: it is not there.
            CropError: the part that is wanted does not lie within it.
            BusyError: too many want one.
        """
        return await self._looked_back(lambda: self._past(code, form, moment))

    async def clip(self, code: str, moment: float, span: Span) -> Clip:
        """The clip around a moment, in Unix seconds, when that has gone by.

        Raises:
            HistoryUnavailableError, SegmentError: it is not there.
            ClipError: it cannot be made.
            BusyError: too many want one.
        """
        await asyncio.sleep(max(0.0, moment + span.after + GRACE - time.time()))
        return await self._looked_back(lambda: self._clips.make(code, moment, span))

    async def _looked_back(self, what: Callable[[], Value]) -> Value:
        if self._looking_back >= QUEUE:
            raise BusyError
        self._looking_back += 1
        try:
            return await self._in(self._past_looks, what)
        finally:
            self._looking_back -= 1

    async def picture(self, code: str, form: Form, frame: FrameId) -> Picture:
        """The picture of `frame`, or of a newer one if that has come.

        Raises:
            FrameUnavailableError, SegmentError: the camera has gone meanwhile.
            BusyError: too many want one.
        """
        key = (code, form)
        kept = self._kept.get(key)
        if kept is None or kept[0] < frame or (kept[1].done() and kept[1].exception()):
            if self._queued >= QUEUE:
                raise BusyError
            self._queued += 1
            kept = (frame, self._in(self._encoders, lambda: self._encode(code, form)))
            kept[1].add_done_callback(lambda made: self._made(key, made))
            self._kept[key] = kept
        self._kept.move_to_end(key)
        return await asyncio.shield(kept[1])

    def _now(self, code: str, max_age: float, timeout: float) -> NewestFrame:
        with (
            FrameReader(code, prefix=self.settings.shm.prefix, owner=self.settings.shm.owner) as reader,
            reader.latest(max_age=max_age, timeout=timeout) as frame,
        ):
            return NewestFrame(FrameId.of(frame), frame.display_size)

    def _past(self, code: str, form: Form, moment: float) -> Picture:
        snapshot = self.settings.snapshot
        with FrameReader(code, prefix=self.settings.shm.prefix, owner=self.settings.shm.owner) as reader:
            frame = reader.at(moment, tolerance=snapshot.max_age, timeout=snapshot.wait)
            identity = FrameId.of(frame)
            return Picture(self._encoder.jpeg(frame, code, form).content, identity)

    def _encode(self, code: str, form: Form) -> Picture:
        with FrameReader(code, prefix=self.settings.shm.prefix, owner=self.settings.shm.owner) as reader:
            frame = reader.latest(max_age=None, timeout=0)
            identity = FrameId.of(frame)
            return Picture(self._encoder.jpeg(frame, code, form).content, identity)

    def _made(self, key: tuple[str, Form], made: asyncio.Future[Picture]) -> None:
        self._queued -= 1
        if made.cancelled() or made.exception():
            return
        self.encoded += 1
        kept = self._kept.get(key)
        if kept is not None and kept[1] is made:  # it may show a newer frame than was asked for
            self._kept[key] = (made.result().frame, made)
        while len(self._kept) > 1 and (len(self._kept) > KEPT or self._nbytes > KEPT_BYTES):
            self._kept.popitem(last=False)

    @property
    def _nbytes(self) -> int:
        return sum(len(one.result().jpeg) for _, one in self._kept.values() if one.done() and not one.exception())

    @staticmethod
    def _in(pool: ThreadPoolExecutor, what: Callable[[], Value]) -> "asyncio.Future[Value]":
        future: asyncio.Future[Value] = asyncio.get_running_loop().run_in_executor(pool, what)
        return future
