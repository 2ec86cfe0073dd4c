"""`FrameReader`: the newest frames of one camera, for any process on the host that may read its segment.

It attaches by itself, at first use and whenever the segment has been replaced. Every wait sleeps on the segment's
futex word (or on the directory, while there is no segment) and has a deadline.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from framesrv.errors import FrameUnavailableError, Reason, SegmentFormatError
from framesrv.segment import layout, locks, pace, record
from framesrv.segment.file import SHM_DIRECTORY, HalfMadeError, same_file, segment_path
from framesrv.segment.frame import Frame
from framesrv.segment.inotify import DirectoryWatch
from framesrv.segment.mapping import Segment, State
from framesrv.segment.owner import named_user

LIVENESS = 0.5  # s between looks at what cannot wake a waiter: a writer killed, a file removed by hand


class Attachment:
    """One segment as this reader has it, with the pins it holds there.

    Locks belong to the open file, which all threads of this reader share, so pins are counted here: the first one
    takes the lock of its slot, the last gives it back.
    """

    def __init__(self, segment: Segment, path: str) -> None:
        self.segment = segment
        self._path = path
        self._pins = [0] * segment.geometry.slots
        self._asking = 0
        self._mutex = threading.RLock()  # a frame may be finalised, and unpinned, at any point
        self._closing = False

    @property
    def due_after(self) -> float:
        """See `FrameReader.due_after`; what the policy leaves out is not the camera's slowness."""
        header = self.segment.header
        policy = bytes(header["decode_policy"][0])
        return 0.0 if policy.startswith((b"fps:", b"keyframes")) else pace.due_after(int(header["interval"][0]))

    def fresh_for(self, max_age: float) -> float:
        """Seconds for which a frame is fresh to whoever asks for one of at most that age."""
        return max(max_age, self.due_after) if max_age * 1e9 >= pace.SLOW else max_age

    def newest(self) -> Frame | None:
        """The newest frame, pinned; None if there is none yet or the writer is filling its slot."""
        segment = self.segment
        while True:
            slot = segment.newest
            if slot == layout.NO_SLOT or segment.retired:
                return None
            if slot >= len(self._pins):
                raise SegmentFormatError(f"{self._path}: damaged: its newest slot is {slot} of {len(self._pins)}")
            if not self._pin(slot):
                if segment.newest == slot:
                    return None
                continue
            if segment.newest == slot and not segment.retired:
                break
            self.unpin(slot)
        try:
            frame = self._frame(slot)
        except BaseException:
            self.unpin(slot)
            raise
        if segment.cut:  # and what the header said may have been zeros
            if frame is not None:
                frame.release()
            raise SegmentFormatError(f"{self._path}: damaged: it was cut short while it was read")
        return frame

    def unpin(self, slot: int) -> None:
        """Gives one pin back."""
        with self._mutex:
            self._pins[slot] -= 1
            if not self._pins[slot]:
                locks.unlock(self.segment.fd, layout.SLOT_BYTE + slot)
                if self._closing and not any(self._pins):
                    self.segment.close()

    def ask(self) -> None:
        """Asks the decoder for fresher frames, until `unask`."""
        with self._mutex:
            if not self._asking and not self._closed:
                locks.lock_shared(self.segment.fd, layout.DEMAND_BYTE)
            self._asking += 1

    def unask(self) -> None:
        """Takes one `ask` back."""
        with self._mutex:
            self._asking -= 1
            if not self._asking and not self._closed:
                locks.unlock(self.segment.fd, layout.DEMAND_BYTE)

    @property
    def state(self) -> State:
        """How the camera does; ``down`` once this is closed, perhaps by another thread."""
        with self._mutex:
            return "down" if self._closing else self.segment.state

    def close(self) -> None:
        """Closes the segment's file as soon as no frame of it is pinned."""
        with self._mutex:
            if not self._closing and not any(self._pins):
                self.segment.close()
            self._closing = True

    @property
    def _closed(self) -> bool:
        return self._closing and not any(self._pins)

    def _pin(self, slot: int) -> bool:
        with self._mutex:
            if self._closing:
                return False
            if not self._pins[slot] and not locks.lock_shared(self.segment.fd, layout.SLOT_BYTE + slot):
                return False
            self._pins[slot] += 1
            return True

    def _frame(self, slot: int) -> Frame | None:
        try:
            found = record.read(self.segment.memory, slot)
        except SegmentFormatError as error:
            raise SegmentFormatError(f"{self._path}: damaged: {error}") from None
        if found is None:
            self.unpin(slot)
            return None
        seq, stamp = found
        geometry = self.segment.geometry
        return Frame(
            self.segment.planes[slot],
            geometry.width,
            geometry.height,
            geometry.pixel_format,
            seq,
            stamp,
            partial(self.unpin, slot),
            partial(getattr, self.segment, "cut"),
        )


class DemandLock:
    """A reader's wish for fresher frames, on whatever segment the camera has; given up with the block."""

    def __init__(self) -> None:
        self._attachment: Attachment | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._attachment is not None:
            self._attachment.unask()

    def to(self, attachment: Attachment) -> None:
        """Asks that segment's decoder, and no other any more."""
        if self._attachment is not attachment:
            attachment.ask()
            if self._attachment is not None:
                self._attachment.unask()
            self._attachment = attachment


class FrameReader:
    """Reads the frames of one camera. Several threads may use one reader at once.

    Processes made by fork(2) share its locks: make readers after forking, or spawn.

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
        self._owner = named_user(owner)
        self._path = segment_path(prefix, code)
        self._mutex = threading.Lock()
        self._attachment: Attachment | None = None
        self._closed = False

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
