"""`FrameReader`: the newest frames of one camera, for any process on the host that may read its segment.

It attaches by itself, at first use and whenever the segment has been replaced. Every wait sleeps on the segment's
futex word (or on the directory, while there is no segment) and has a deadline.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from framesrv.errors import FrameUnavailableError, Reason
from framesrv.segment import forking
from framesrv.segment.attachment import Attachment, DemandLock
from framesrv.segment.file import SHM_DIRECTORY, HalfMadeError, same_file, segment_path
from framesrv.segment.frame import Frame
from framesrv.segment.inotify import DirectoryWatch
from framesrv.segment.mapping import Segment
from framesrv.segment.owner import named_user

LIVENESS = 0.5  # s between looks at what cannot wake a waiter: a writer killed, a file removed by hand


class FrameReader:
    """Reads the frames of one camera. Several threads may use one reader at once.

    A child of fork(2) may use its parent's reader: there it attaches anew. What its parent has pinned stays the
    parent's. It may be pickled, for a process that is spawned, and is there a new reader of the same camera.

    Args:
        code: the camera's code.
        prefix: of segment names, as in ``[shm] prefix``.
        owner: the user, by name or number, that the decoder runs as, as in ``[shm] owner``. Where empty, that is this
            process's own, root, or the one that the camera's unit has under systemd. A segment of anybody else is
            not read: whoever has a login can make a file of that name.

    Raises:
        ValueError: the code or the prefix is none, or there is no such user.
    """

    def __init__(self, code: str, *, prefix: str = "framesrv", owner: str | int = "") -> None:
        self.code = code
        self._prefix = prefix
        self._owner = named_user(owner)
        self._path = segment_path(prefix, code)
        self._mutex = threading.Lock()
        self._attachment: Attachment | None = None
        self._closed = False
        forking.tell(self)

    def __reduce__(self) -> tuple[Callable[..., "FrameReader"], tuple[str, str, str | int]]:
        return _reader, (self.code, self._prefix, "" if self._owner is None else self._owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def due_after(self) -> float:
        """Seconds after a frame in which the next one may come, of a slow camera; 0 of any other, or if unknown."""
        attachment = self._attached()
        return 0.0 if attachment is None else attachment.due_after

    def close(self) -> None:
        """Detaches. Frames that are still pinned stay valid until they are released."""
        with self._mutex:
            self._closed = True
            self._detach()

    def forked(self) -> None:
        """Leaves the segment to the parent, in a child of fork(2)."""
        self._mutex = threading.Lock()
        self._attachment = None

    def latest(self, max_age: float | None = 1.0, timeout: float = 2.0) -> Frame:
        """The newest frame, pinned: use it in a ``with``, or release it.

        While it waits, a decoder on demand is asked to decode. It takes the next packet for that: with a `timeout`
        of 0 such a camera gives nothing.

        Args:
            max_age: seconds; an older frame is not given but a new one waited for. 0: one that arrives after the
                call. None: any age will do. Of a camera that gives less than two frames a second, half a second or
                more means until half as long again as usual has passed without the next.
            timeout: seconds to wait for such a frame; 0 does not wait.

        Raises:
            FrameUnavailableError: no such camera, or no frame in time; its `reason` says which.
            SegmentError: the segment is damaged, of another version, or not for this user to read.
        """
        return self._next(time.monotonic() + timeout, max_age, None, 0)[0]

    def frames(self, timeout: float = 5.0) -> Iterator[Frame]:
        """Every frame from now on, the newest each time, pinned for the body of the loop.

        A body slower than the camera misses frames (a gap in `Frame.seq`), but never gets one twice or out of
        order. The numbers begin anew where the camera's decoder was stopped and started again. A decoder on demand
        decodes every frame from the first one asked for until the iterator is closed.

        Args:
            timeout: seconds to wait for each.

        Raises:
            FrameUnavailableError: none came in time.
            SegmentError: as `latest`.
        """
        attachment, last = self._attached(), 0
        if attachment is not None:
            newest = attachment.newest()
            if newest is not None:
                with newest:
                    last = newest.seq
        return self._frames(timeout, attachment, last)

    def _frames(self, timeout: float, attachment: Attachment | None, last: int) -> Iterator[Frame]:
        with DemandLock() as demand:
            while True:
                frame, attachment = self._next(time.monotonic() + timeout, None, attachment, last, demand)
                with frame:
                    last = frame.seq
                    yield frame

    def _next(
        self,
        deadline: float,
        max_age: float | None,
        origin: Attachment | None,
        after: int,
        demand: DemandLock | None = None,
    ) -> tuple[Frame, Attachment]:
        """A frame fresh enough and, if it is of the attachment `origin`, numbered above `after`."""
        began = time.monotonic_ns()
        age: float | None = None
        with ExitStack() as stack:
            watch: DirectoryWatch | None = None
            while True:
                attachment = self._attached()
                remaining = deadline - time.monotonic()
                if attachment is None:
                    if remaining <= 0:
                        raise self._unavailable("absent", None)
                    if watch is None:
                        watch = stack.enter_context(DirectoryWatch(SHM_DIRECTORY))
                    else:
                        watch.wait(min(LIVENESS, remaining))
                    continue
                sequence = attachment.segment.sequence
                frame = attachment.newest()
                if frame is not None:
                    age = frame.age
                    seen = attachment is origin and frame.seq <= after
                    fresh = max_age is None or age <= attachment.fresh_for(max_age)
                    if not seen and (fresh or frame.stamp.arrived_ns > began):
                        return frame, attachment
                    frame.release()
                if remaining <= 0:
                    raise self._unavailable(_reason(attachment), age, attachment, max_age)
                if demand is None:
                    demand = stack.enter_context(DemandLock())
                demand.to(attachment)
                if not attachment.segment.wait(sequence, min(LIVENESS, remaining)):
                    self._look_for_another(attachment)

    def _attached(self) -> Attachment | None:
        """The camera's segment; None while there is none."""
        with self._mutex:
            if self._closed:
                raise ValueError(f"the reader of camera {self.code} is closed")
            if self._attachment is not None and (self._attachment.segment.retired or self._attachment.segment.cut):
                self._detach()
            if self._attachment is None:
                try:
                    segment = Segment.attach(self._path, self._owner)
                except (FileNotFoundError, HalfMadeError):
                    return None
                if segment.retired:  # its writer is between marking and unlinking it
                    segment.close()
                    return None
                self._attachment = Attachment(segment, self._path)
            return self._attachment

    def _look_for_another(self, attachment: Attachment) -> None:
        """Detaches from a segment that has lost its name without being retired."""
        with self._mutex:
            if self._attachment is attachment and not same_file(attachment.segment.fd, self._path):
                self._detach()

    def _detach(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = None

    def _unavailable(
        self,
        reason: Reason,
        age: float | None,
        attachment: Attachment | None = None,
        max_age: float | None = None,
    ) -> FrameUnavailableError:
        error = "" if attachment is None else attachment.segment.error
        sentence = {
            "absent": f"there is no {self._path}: its decoder was never started, or has been stopped",
            "down": "its decoder is not running",
            "connecting": "its decoder has no picture yet",
            "stalled": "its stream stands still",
            "stale": f"no {f'frame younger than {max_age} s' if max_age else 'new frame'} came in time",
        }[reason]
        newest = "" if age is None else f"; the newest frame is {age:.1f} s old"
        because = f" ({error})" if error else ""
        cause = "" if attachment is None else attachment.segment.cause
        words = f"camera {self.code}: {sentence}{because}{newest}"
        return FrameUnavailableError(self.code, reason, words, age, cause)


def _reason(attachment: Attachment) -> Reason:
    state = attachment.state
    return "stale" if state == "live" else state


def _reader(code: str, prefix: str, owner: str | int) -> FrameReader:
    return FrameReader(code, prefix=prefix, owner=owner)
