"""`Attachment`: a segment as one reader has it, with its pins and its wish for fresher frames."""

import threading
from types import TracebackType
from typing import Any, Self

from framesrv.errors import SegmentFormatError
from framesrv.segment import forking, layout, locks, pace
from framesrv.segment.file import HalfMadeError, same_file
from framesrv.segment.frame import Frame
from framesrv.segment.mapping import Segment, State
from framesrv.segment.stamp import read_record

ATTEMPTS = 8  # to find a segment that is not replaced at that moment

_NEWEST, _RETIRED = (layout.OFFSETS[name] // 4 for name in ("newest", "retired"))


class Pin:
    """A pinned slot, given back when nothing refers to it any more: no frame, and no array of its memory."""

    __slots__ = ("_attachment", "_slot")

    def __init__(self, attachment: "Attachment", slot: int) -> None:
        self._attachment = attachment
        self._slot = slot

    def __del__(self) -> None:
        self._attachment.unpin(self._slot)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        segment = self._attachment.segment
        size = segment.geometry.slot_size
        address = segment.address + layout.PAGE + self._slot * size
        return {"version": 3, "typestr": "|u1", "shape": (size,), "data": (address, True)}  # True: read-only

    @property
    def is_parents(self) -> bool:
        """Whether it is another process's, which has forked this one."""
        return self._attachment.is_parents


class Attachment:
    """One segment as this reader has it, with the pins it holds there.

    Locks belong to the open file, which all threads of this reader share, so pins are counted here: the first one
    takes the lock of its slot, the last gives it back. In a child of fork(2) it is closed, its pins the parent's.

    Attributes:
        is_parents: whether this is such a child.
    """

    def __init__(self, segment: Segment, path: str) -> None:
        self.segment = segment
        self._words = segment.words
        self._guard = segment.guard
        self._path = path
        self._pins = [0] * segment.geometry.slots
        self._asking = 0
        self._mutex = threading.RLock()  # a frame may be finalised, and unpinned, at any point
        self._closing = False
        self.is_parents = False
        forking.tell(self)

    @property
    def has_ended(self) -> bool:
        """Whether this is no more the camera's segment, or worth nothing."""
        return self._words[_RETIRED] != 0 or self._guard.cut

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
        words = self._words
        while True:
            slot = words[_NEWEST]
            if slot == layout.NO_SLOT or words[_RETIRED]:
                return None
            if slot >= len(self._pins):
                raise SegmentFormatError(f"{self._path}: damaged: its newest slot is {slot} of {len(self._pins)}")
            if not self._pin(slot):
                if words[_NEWEST] == slot:
                    return None
                continue
            if words[_NEWEST] == slot and not words[_RETIRED]:
                break
            self.unpin(slot)
        pin = Pin(self, slot)
        try:
            found = read_record(self.segment.memory, slot)
        except SegmentFormatError as error:
            raise SegmentFormatError(f"{self._path}: damaged: {error}") from None
        if self._guard.cut:  # and what the header said may have been zeros
            raise SegmentFormatError(f"{self._path}: damaged: it was cut short while it was read")
        return None if found is None else Frame(pin, self.segment.form, found[0], found, self._guard)

    def unpin(self, slot: int) -> None:
        """Gives one pin back."""
        with self._mutex:
            if self.is_parents:
                return
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

    def forked(self) -> None:
        """Leaves pins and wishes to the parent, in a child of fork(2)."""
        self._mutex = threading.RLock()
        self._pins = [0] * len(self._pins)
        self._closing = self.is_parents = True

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


class Attacher:
    """A reader's way to a camera's segment: it attaches by itself, and again when the segment has been replaced.

    Attributes:
        code: the camera's.
        path: of its segment.
        owner: the user who is trusted with it, see `owner.is_trusted`.
    """

    def __init__(self, code: str, path: str, owner: int | None) -> None:
        self.code = code
        self.path = path
        self.owner = owner
        self._mutex = threading.Lock()
        self._attachment: Attachment | None = None
        self._closed = False
        forking.tell(self)

    def attached(self) -> Attachment | None:
        """The camera's segment; None while there is none.

        Raises:
            SegmentError: it is damaged, of another version, or not for this user to read.
            ValueError: this is closed.
        """
        attachment = self._attachment
        if attachment is not None and not attachment.has_ended:
            return attachment
        with self._mutex:
            attachment = self._attachment
            if attachment is not None:
                if not attachment.has_ended:
                    return attachment
                self._detach()
            if self._closed:
                raise ValueError(f"the reader of camera {self.code} is closed")
            segment = self._found()
            self._attachment = None if segment is None else Attachment(segment, self.path)
            return self._attachment

    def look_for_another(self, attachment: Attachment) -> None:
        """Detaches from a segment that has lost its name without being retired."""
        with self._mutex:
            if self._attachment is attachment and not same_file(attachment.segment.fd, self.path):
                self._detach()

    def close(self) -> None:
        """Detaches for good. Frames that are still pinned stay valid until they are released."""
        with self._mutex:
            self._closed = True
            self._detach()

    def forked(self) -> None:
        """Leaves the segment to the parent, in a child of fork(2)."""
        self._mutex = threading.Lock()
        self._attachment = None

    def _found(self) -> Segment | None:
        """The segment of that name; None where there is none, or its writer is about to take the name from it."""
        for _ in range(ATTEMPTS):
            try:
                segment = Segment.attach(self.path, self.owner)
            except (FileNotFoundError, HalfMadeError):
                return None
            if not segment.retired:
                return segment
            replaced = not same_file(segment.fd, self.path)
            segment.close()
            if not replaced:
                return None
        return None

    def _detach(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = None


class DemandLock:
    """A reader's wish for fresher frames, on whatever segment the camera has; given up with the block."""

    def __init__(self) -> None:
        self._attachment: Attachment | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()

    def to(self, attachment: Attachment) -> None:
        """Asks that segment's decoder, and no other any more."""
        if self._attachment is not attachment:
            attachment.ask()
            self.give_up()
            self._attachment = attachment

    def give_up(self) -> None:
        """Asks nobody any more."""
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.unask()
