"""`FrameWriter`: the one writer of a camera's segment. It never waits for a reader.

A frame is copied once, from the decoder's memory into a slot. The writer fills a slot that nobody has pinned and
that is not the newest; if there is none, the newest; if that is pinned as well, the frame is dropped and counted.
Where readers keep every slot pinned for seconds, a new segment takes the place of theirs.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np

from framesrv.errors import Cause, SegmentBusyError, SegmentSpaceError
from framesrv.segment import access, forking, layout, locks
from framesrv.segment.file import clear_leftovers, same_file, segment_path
from framesrv.segment.layout import Geometry, PixelFormat, Pixels
from framesrv.segment.mapping import Segment
from framesrv.segment.pace import Pace
from framesrv.segment.slot import Slot
from framesrv.segment.stamp import Stamp, write_stamp
from framesrv.segment.starvation import STARVED, Starvation, pinning

logger = logging.getLogger(__name__)

SHORT_LIFE = 60.0  # s
ATTEMPTS = 8  # at a name that other writers take and give up at the same time

# where these fields stand among the words or longs of the segment
_STATE, _NEWEST = (layout.OFFSETS[name] // 4 for name in ("state", "newest"))
_COUNTERS = {name: offset // 8 for name, offset in layout.OFFSETS.items()}
_FRAMES, _SEQ = _COUNTERS["frames"], _COUNTERS["seq"]
_RECORDS = [layout.record_offset(slot) // 8 for slot in range(layout.MAX_SLOTS)]  # each begins with its number


class FrameWriter:
    """Writes the frames of one camera, from one thread. It is its process's own: in a child of fork(2) it is closed.

    Args:
        code: the camera's code.
        width: pixels; 0, with `height` 0, where it is not known yet: see `resize`.
        height: pixels.
        pixel_format: ``yuv420p`` or ``bgr24``.
        slots: 2 (a double buffer) to 16. With two more than there are readers no frame is ever dropped.
        prefix: of segment names.
        mode: permissions of the segment.
        group: its group's name; this process's own where None or empty.

    Raises:
        SegmentBusyError: the camera has a live writer.
        SegmentOwnerError: another user has made a file of the segment's name.
        SegmentSpaceError: shared memory is too small.
        SegmentError: the segment cannot be made; the group is unknown or cannot be admitted.
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        code: str,
        width: int,
        height: int,
        pixel_format: PixelFormat,
        *,
        slots: int = 2,
        prefix: str = "framesrv",
        mode: int = 0o640,
        group: str | None = None,
    ) -> None:
        self.code = code
        self._path = segment_path(prefix, code)
        self._mode = mode
        self._gid = access.group_id(group)
        self._slots = slots
        self._pace, self._closed = Pace(), False
        self._starvation = Starvation()
        wanted = Geometry(width, height, pixel_format, slots) if width or height else None
        self._use(self._claim(wanted or layout.UNKNOWN))
        forking.tell(self)
        try:
            clear_leftovers(self._path)
            self._segment.admit(self._mode, self._gid)
            self._begin()
            self.connecting()
            if wanted is not None:
                self.resize(width, height, pixel_format)
        except BaseException:
            self._segment.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Retires and removes the segment; readers are woken and told that it has ended."""
        if not self._closed:
            self._closed = True
            self._segment.retire(self._path)
            self._segment.close()
            self._starvation.close()

    def forked(self) -> None:
        """Leaves the segment to the parent, in a child of fork(2)."""
        self._closed = True

    @property
    def geometry(self) -> Geometry:
        """Size and form of the frames; its `slots` are 0 while they are unknown."""
        return self._segment.geometry

    @property
    def frames(self) -> int:
        """Frames published."""
        return self._segment.longs[_FRAMES]

    @property
    def demanded(self) -> bool:
        """Whether a reader asks for a fresher frame than the newest, or looks at the newest at this moment."""
        segment, newest = self._segment, self._segment.newest
        if locks.is_held(segment.fd, layout.DEMAND_BYTE, exclusively=False):
            return True
        byte = layout.SLOT_BYTE + newest
        return newest < segment.geometry.slots and locks.is_held(segment.fd, byte, exclusively=False)

    @property
    def crashes(self) -> int:
        """How many writers before this one ended unasked, each within `SHORT_LIFE` seconds of its beginning."""
        return int(self._segment.header["crashes"][0])

    @property
    def flowing(self) -> bool:
        """Whether the source is there, as far as this writer was told."""
        return self._segment.words[_STATE] == layout.LIVE

    def connecting(self) -> None:
        """Tells readers that the source is not there (yet, or any more); the next frame tells them that it is."""
        self._segment.words[_STATE] = layout.CONNECTING
        self._pace.begin()

    def idle(self, width: int, height: int, pixel_format: PixelFormat) -> None:
        """Tells readers that the source is there and that its frames, of this form, are decoded when one asks.

        Raises:
            SegmentSpaceError: as `resize`.
        """
        self.resize(width, height, pixel_format)
        self._segment.words[_STATE] = layout.LIVE
        self._pace.idle(self._segment.longs)

    def fits(self, width: int, height: int, pixel_format: PixelFormat) -> bool:
        """Whether the segment is one for frames of this form."""
        return (width, height, pixel_format, self._slots) == self._form

    def resize(self, width: int, height: int, pixel_format: PixelFormat) -> bool:
        """Makes the segment one for frames of this form; False if it is already.

        A segment of another form is retired and a new one made, which goes on with its counters and numbers;
        readers attach to it by themselves.

        Raises:
            SegmentSpaceError: shared memory is too small; readers then see a camera that is connecting, and why.
            ValueError: a size out of range.
        """
        if self.fits(width, height, pixel_format):
            return False
        geometry = Geometry(width, height, pixel_format, self._slots)
        old = self._segment
        try:
            segment, problem = self._replace(old, geometry)
        except FileExistsError:
            raise SegmentBusyError(f"{self._path}: another writer has taken the camera") from None
        self._go_on_with(segment)
        old.close()
        if problem is not None:
            self.connecting()
            self.describe(error=str(problem))
            raise problem
        return True

    def _replace(self, old: Segment, geometry: Geometry) -> tuple[Segment, SegmentSpaceError | None]:
        """A segment of that form in the place of `old`; where there is no room, one without slots, and the reason."""
        try:
            return Segment.make(self._path, geometry, self._mode, self._gid, replacing=old), None
        except SegmentSpaceError:  # not for both at once
            old.retire(self._path)
        try:
            return Segment.make(self._path, geometry, self._mode, self._gid), None
        except SegmentSpaceError as error:
            return Segment.make(self._path, layout.UNKNOWN, self._mode, self._gid), error

    def keep_name(self) -> bool:
        """Makes the segment anew where it was removed or cut short by somebody; True if it did.

        Raises:
            SegmentBusyError: another writer has taken the camera.
            SegmentOwnerError: another user has the name.
            SegmentSpaceError: shared memory is too small.
        """
        old = self._segment
        if same_file(old.fd, self._path) and not old.cut:
            return False
        logger.warning(
            "The segment was %s and is made anew: by hand, by RemoveIPC= of logind, or by a Python below 3.13 whose "
            "SharedMemory had opened it",
            "cut short" if old.cut else "removed",
        )
        width, height, pixel_format, _ = self._form
        old.retire(self._path)
        segment = self._claim(old.geometry)
        segment.admit(self._mode, self._gid)
        self._go_on_with(segment)
        old.close()
        if self._slots and width:
            self.resize(width, height, pixel_format)
        return True

    @contextmanager
    def next(self) -> Iterator[Slot | None]:
        """A slot to fill, published on leaving; not on an exception. None if every slot is pinned.

        Raises:
            ValueError: the size of the frames is not known yet.
        """
        taken = self._take()
        if taken is None:
            yield None
            return
        slot = Slot(self._segment.planes[taken])
        try:
            yield slot
        except BaseException:
            locks.unlock(self._segment.fd, layout.SLOT_BYTE + taken)
            raise
        self._publish(taken, slot.stamp)

    def write(self, planes: Sequence[Pixels], stamp: Stamp | None = None) -> bool:
        """Copies a frame into a slot and publishes it; False if every slot is pinned, and the frame dropped.

        Args:
            planes: uint8 arrays shaped as those of `Frame`.
            stamp: what the frame carries besides; now, with the colours usual for its height, where None.

        Raises:
            ValueError: the planes are not of the segment's form; nothing is published.
        """
        shapes = [plane.shape for plane in planes]
        if shapes != self._shapes:
            raise ValueError(f"planes of shapes {shapes}: expected {self._shapes}")
        # what `next` does, without an object and a generator for it: in a decoder all that is cold
        taken = self._take()
        if taken is None:
            return False
        try:
            for view, plane in zip(self._segment.planes[taken], planes, strict=True):
                np.copyto(view, plane, casting="no")
        except BaseException:
            locks.unlock(self._segment.fd, layout.SLOT_BYTE + taken)
            raise
        self._publish(taken, stamp)
        return True

    def count(self, counter: str, number: int = 1) -> None:
        """Adds to a counter of the header: ``corrupt``, ``reconnects``, ``bytes``, ``decode`` (nanoseconds)..."""
        self._segment.longs[_COUNTERS[counter]] += number

    def active(self) -> None:
        """Notes that a packet has come from the source."""
        self._pace.packet(self._segment.longs)

    def via(self, transport: str) -> None:
        """Notes which way packets come."""
        self._segment.header["transport"] = transport.encode()

    def clock(self, ahead: float | None) -> None:
        """Notes by how many seconds the camera's clock is before the host's; None where it is not known."""
        self._segment.header["clock_ahead"] = 0 if ahead is None else int(ahead * 1e9) or 1

    def frozen(self, since: int) -> None:
        """Notes since when, in monotonic nanoseconds, all pictures have been the same; 0: they change."""
        self._segment.header["frozen"] = since

    def describe(
        self, *, decode: str | None = None, error: str | None = None, cause: Cause = "", attempts: int | None = None
    ) -> None:
        """Tells readers the decode policy; the source's newest error and its cause; attempts that failed in a row."""
        for name, value in (("attempts", attempts), ("decode_policy", None if decode is None else decode.encode())):
            if value is not None:
                self._segment.header[name] = value
        if error is not None:
            # a cut in the middle of a character is dropped, not shown as rubbish
            self._segment.header["error"] = error.encode()[:256].decode("utf-8", "ignore").encode()
            self._segment.header["cause"] = cause.encode()

    def _begin(self) -> None:
        """Says whose the segment is now. Who has left it behind ended unasked."""
        header = self._segment.header
        lived = time.time_ns() - int(header["started"][0])
        header["crashes"] = (header["crashes"] + 1) * (0 <= lived < SHORT_LIFE * 1e9)
        header["restarts"] += header["started"] != 0
        header["pid"], header["started"] = os.getpid(), time.time_ns()
        header["interval"] = header["attempts"] = header["frozen"] = 0

    def _claim(self, geometry: Geometry) -> Segment:
        """The camera's segment as a former writer left it, or else a new one of that form."""
        for _ in range(ATTEMPTS):
            if (segment := Segment.adopt(self._path)) is not None:
                return segment
            try:
                return Segment.make(self._path, geometry, self._mode, self._gid)
            except FileExistsError:
                continue
        raise SegmentBusyError(f"{self._path}: other writers keep making and removing it")

    def _go_on_with(self, segment: Segment) -> None:
        """Uses a new segment, with the counters and numbers of the one in use."""
        for field in layout.LASTING:
            segment.header[field] = self._segment.header[field]
        self._use(segment)

    def _use(self, segment: Segment) -> None:
        self._segment = segment
        geometry = segment.geometry
        self._form = (geometry.width, geometry.height, geometry.pixel_format, geometry.slots)
        self._shapes = [view.shape for view in segment.planes[0]] if segment.planes else []
        self._seq = int(segment.header["seq"][0])
        self._order = list(range(segment.geometry.slots))
        if segment.newest < segment.geometry.slots:
            self._order.remove(segment.newest)
            self._order.append(segment.newest)

    def _take(self) -> int | None:
        """A slot to fill, locked and marked as empty; None if every one is pinned, which drops the frame."""
        slot = self._lock_slot()
        if slot is None and self._starvation.is_due() and self._leave():
            slot = self._lock_slot()
        if slot is None:
            self.count("dropped")
        else:
            self._segment.rouse()  # an idle core takes about as long to wake up as a picture to be copied
        return slot

    def _lock_slot(self) -> int | None:
        """Locks the oldest slot that nobody has pinned, the newest last, and marks it as empty."""
        segment = self._segment
        if self._closed:
            raise ValueError(f"the writer of camera {self.code} is closed, or another process's: one is not forked")
        if not self._order:
            raise ValueError("the size of the frames is not known yet: resize the writer first")
        for slot in self._order:
            if locks.lock_exclusive(segment.fd, layout.SLOT_BYTE + slot):
                if slot == segment.newest:
                    self.count("blocked")
                segment.longs[_RECORDS[slot]] = 0
                self._starvation.end()
                return slot
        return None

    def _leave(self) -> bool:
        """Leaves the segment to the readers that keep every slot pinned, for a new one; False if there is no room."""
        old = self._segment
        named = pinning(old)
        try:
            segment = Segment.make(self._path, old.geometry, self._mode, self._gid, replacing=old)
        except FileExistsError:
            raise SegmentBusyError(f"{self._path}: another writer has taken the camera") from None
        except SegmentSpaceError as error:
            logger.warning("Every slot has stayed pinned by %s, and there is no new segment: %s", named, error)
            return False
        logger.warning("Every slot has stayed pinned for %g s by %s: frames go to a new segment", STARVED, named)
        self._starvation.give_up(old)
        self._go_on_with(segment)
        return True

    def _publish(self, slot: int, stamp: Stamp | None) -> None:
        segment = self._segment
        stamp = stamp or Stamp.now(segment.geometry.height)
        self._seq += 1
        write_stamp(segment.memory, slot, stamp)
        # first: were this writer killed between the two, the next one would use the number again
        segment.longs[_SEQ] = self._seq
        segment.longs[_RECORDS[slot]] = self._seq
        segment.words[_STATE] = layout.LIVE
        segment.words[_NEWEST] = slot
        locks.unlock(segment.fd, layout.SLOT_BYTE + slot)
        segment.announce()  # before the rest: somebody waits
        self._order.remove(slot)
        self._order.append(slot)
        segment.longs[_FRAMES] += 1
        self._pace.frame(segment.longs, stamp.arrived_ns)
        self._starvation.free()
