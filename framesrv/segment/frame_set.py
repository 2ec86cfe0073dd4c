"""`FrameSet`: several cameras at once, whichever has a new frame, or one frame of each in step."""

import errno
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from framesrv.errors import FrameUnavailableError, SegmentError
from framesrv.segment import forking, futex
from framesrv.segment.attachment import Attacher
from framesrv.segment.file import segment_path
from framesrv.segment.frame import Frame
from framesrv.segment.mapping import Segment
from framesrv.segment.owner import named_user
from framesrv.segment.search import LIVENESS, NEVER, Search
from framesrv.segment.word_watch import WATCH, Subscription


@dataclass(frozen=True)
class Batch:
    """One frame a camera, all pinned; use it in a ``with``, or release it.

    Attributes:
        frames: by code, in the order of the set.
        missing: why there is none of a camera that was to have one, by code.
    """

    frames: dict[str, Frame]
    missing: dict[str, FrameUnavailableError | SegmentError] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for frame in self.frames.values():
                stack.push(frame)
            stack.__exit__(kind, error, trace)

    def release(self) -> None:
        """Gives all pins back."""
        for frame in self.frames.values():
            frame.release()


class FrameSet:
    """Reads several cameras from one thread, which sleeps once for all of them.

    It sleeps by futex_waitv(2), on 128 cameras at most. Where the kernel has none (before Linux 5.16), or there are
    more, threads of its own sleep and wake it: one for each camera, or for 127. A camera that is not there, or drops
    out, never keeps the others waiting; it is looked for twice a second.

    Frames are those from now on, and each is given once. Decoders on demand decode from the first frame asked for
    until the set is closed.

    Args:
        codes: the cameras' codes, each once.
        prefix: as of `FrameReader`.
        owner: as of `FrameReader`.

    Raises:
        ValueError: there is no code, or one twice, or one that is none; or no such prefix or user.
    """

    def __init__(self, codes: Sequence[str], *, prefix: str = "framesrv", owner: str | int = "") -> None:
        if not codes or len(set(codes)) < len(codes) or isinstance(codes, str):
            raise ValueError(f"codes {codes!r}: expected some, each once")
        user = named_user(owner)
        self.codes = tuple(codes)
        self._attachers = [Attacher(code, segment_path(prefix, code), user) for code in codes]
        self._searches = [Search(attacher) for attacher in self._attachers]
        self._sleep = Sleep()
        self._next = 0  # whose turn it is
        self._checked = -LIVENESS
        self._missing: dict[str, FrameUnavailableError | SegmentError] = {}
        self._check(math.inf)
        for search in self._searches:
            if (frame := self._look(search)) is not None:
                frame.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detaches. Frames that are still pinned stay valid until they are released."""
        self._sleep.close()
        for search, attacher in zip(self._searches, self._attachers, strict=True):
            search.close()
            attacher.close()

    @property
    def missing(self) -> dict[str, FrameUnavailableError | SegmentError]:
        """The cameras that are not live, by code, and why, as of the last wait: at most half a second ago."""
        self._check(time.monotonic())
        return dict(self._missing)

    def frames(self, timeout: float = 5.0) -> Iterator[tuple[str, Frame]]:
        """Every new frame of any camera with its code, pinned for the body of the loop; cameras take turns.

        Args:
            timeout: seconds to wait for the next of any camera.

        Raises:
            FrameUnavailableError: none came of any in time. A camera that drops out alone is among `missing`.
        """
        while True:
            deadline = time.monotonic() + timeout
            while (found := self._any()) is None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise self._unavailable()
                self._wait(remaining)
            with found[1]:
                yield found

    def batch(self, n: int | None = None, timeout: float = 2.0, in_step: float = 0.02) -> Batch:
        """One new frame each of `n` cameras, which arrived within `in_step` seconds of each other.

        Cameras that are not live are not waited for. If there are not enough frames in time, those are given that are
        most in step, perhaps none.

        Args:
            n: of how many cameras; of all, where None.
            timeout: seconds to wait for them.
            in_step: seconds, by the time of arrival at this host: cameras' own clocks are seldom as good.

        Raises:
            ValueError: `n` is below 1, or above the number of cameras.
        """
        if n is not None and not 1 <= n <= len(self.codes):
            raise ValueError(f"a batch of {n}: expected 1 to {len(self.codes)} cameras")
        deadline = time.monotonic() + timeout
        held: dict[str, Frame] = {}
        while True:
            now = time.monotonic()
            self._check(now)
            self._ask()
            for search in self._searches:
                if (frame := self._look(search)) is not None:
                    held[search.code] = frame
            chosen = _in_step(held, in_step)
            expected = [code for code in self.codes if code not in self._missing or code in chosen]
            is_enough = 0 < min(n or len(expected), len(expected)) <= len(chosen)
            if is_enough or now >= deadline:
                break
            self._wait(deadline - now)
        if not is_enough:
            self._check(math.inf)  # it may be something else by now
        missing = {code: error for code, error in self._missing.items() if code not in chosen}
        if not is_enough:
            for search in self._searches:
                if search.code not in chosen and search.code not in missing:
                    missing[search.code] = _late(search, held.get(search.code), in_step)
        return Batch({code: held[code] for code in self.codes if code in chosen}, missing)

    def _any(self) -> tuple[str, Frame] | None:
        self._check(time.monotonic())
        self._ask()
        turns = self._searches[self._next :] + self._searches[: self._next]
        for turn, search in enumerate(turns, self._next + 1):
            if (frame := self._look(search)) is not None:
                self._next = turn % len(turns)
                return search.code, frame
        return None

    def _look(self, search: Search) -> Frame | None:
        try:
            return search.look() if search.is_changed else None
        except SegmentError as error:
            self._missing[search.code] = error
            return None

    def _check(self, now: float) -> None:
        """Looks at what wakes nobody, `LIVENESS` seconds after the last time."""
        if now - self._checked < LIVENESS:
            return
        self._checked = time.monotonic()
        self._missing = {}
        for search in self._searches:
            try:
                search.check()
                if search.reason != "stale":
                    self._missing[search.code] = search.unavailable()
            except SegmentError as error:
                self._missing[search.code] = error

    def _ask(self) -> None:
        for search in self._searches:
            search.ask()

    def _wait(self, timeout: float) -> None:
        until_check = self._checked + LIVENESS - time.monotonic()
        self._sleep.sleep(self._searches, max(0.0, min(timeout, until_check)))

    def _unavailable(self) -> FrameUnavailableError:
        self._check(math.inf)
        missing = [self._missing.get(search.code) or search.unavailable() for search in self._searches]
        errors = [error for error in missing if isinstance(error, FrameUnavailableError)]
        ages = [error.age for error in errors if error.age is not None]
        reason = errors[0].reason if errors else "down"
        sentences = "; ".join(map(str, missing))
        return FrameUnavailableError(", ".join(self.codes), reason, sentences, min(ages, default=None))


class Sleep:
    """Sleeps until the futex word of one of several segments has changed."""

    def __init__(self) -> None:
        self._subscriptions: dict[Segment, Subscription] = {}
        self._event = threading.Event()
        forking.tell(self)

    def sleep(self, searches: Sequence[Search], timeout: float) -> None:
        """Returns when there may be something new for one of them, or after `timeout` seconds; perhaps before."""
        words = {
            one.attachment.segment: one.sequence
            for one in searches
            if one.attachment is not None and one.sequence != NEVER
        }
        if not words:
            time.sleep(timeout)
        elif len(words) <= futex.MOST and futex.waits_for_many():
            try:
                futex.wait_any([(segment.word, sequence) for segment, sequence in words.items()], timeout)
            except OSError as error:
                if error.errno != errno.EFAULT:  # a segment was cut short: a look at it marks it
                    raise
        else:
            self._subscribe(words)
            self._event.wait(timeout)
            self._event.clear()  # before the looks that follow

    def close(self) -> None:
        """Ends what sleeps."""
        self._subscribe({})

    def forked(self) -> None:
        """Begins anew in a child of fork(2), where nothing sleeps for it."""
        self._subscriptions = {}
        self._event = threading.Event()

    def _subscribe(self, words: dict[Segment, int]) -> None:
        for segment in self._subscriptions.keys() - words.keys():
            WATCH.end(self._subscriptions.pop(segment))
        for segment in words.keys() - self._subscriptions.keys():
            self._subscriptions[segment] = WATCH.subscribe(segment, words[segment], self._tell)

    def _tell(self) -> None:
        self._event.set()


def _in_step(held: dict[str, Frame], seconds: float) -> set[str]:
    """The most frames that arrived within so many seconds of each other; the newest of such groups."""
    best: set[str] = set()
    for newest in sorted((frame.stamp.arrived_ns for frame in held.values()), reverse=True):
        group = {code for code, one in held.items() if 0 <= newest - one.stamp.arrived_ns <= seconds * 1e9}
        best = max(best, group, key=len)
    return best


def _late(search: Search, frame: Frame | None, in_step: float) -> FrameUnavailableError:
    """Why a camera that is live is not in a batch."""
    if frame is None:
        return search.unavailable()
    words = f"camera {search.code}: no frame came within {in_step:g} s of the others' in time"
    return FrameUnavailableError(search.code, "stale", words, frame.age)
