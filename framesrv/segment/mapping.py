"""A mapped segment: the file of shared memory that a camera's frames lie in."""

import os
import time
from typing import Literal

import numpy as np

from framesrv.segment import layout, locks
from framesrv.segment.file import segment_path, space_of
from framesrv.segment.layout import HEADER, PAGE, Geometry
from framesrv.segment.planes import views
from framesrv.segment.shared_file import SharedFile

STALL = 3.0  # s
COUNTABLE = 2**62  # no camera has published so many frames: a header that says so is damaged

_NEWEST = layout.OFFSETS["newest"] // 4

State = Literal["live", "stalled", "connecting", "down"]


class Segment(SharedFile[Geometry]):
    """The mapping of a writer or a reader.

    Attributes:
        header: an array of one `layout.HEADER` over the header page.
        planes: of each slot, the views of its planes; read-only for a reader.
    """

    magic = layout.MAGIC
    saving = "use fewer slots"

    def __init__(self, fd: int, form: Geometry, *, writable: bool) -> None:
        super().__init__(fd, form, writable=writable)
        self.header = self.everything[:PAGE].view(HEADER)
        slots = (self.everything[PAGE + slot * form.slot_size :] for slot in range(form.slots))
        self.planes = [views(slot, form) for slot in slots]

    @classmethod
    def path_of(cls, prefix: str, code: str) -> str:
        """See `SharedFile.path_of`."""
        return segment_path(prefix, code)

    @classmethod
    def form_of(cls, fd: int) -> Geometry:
        """See `SharedFile.form_of`."""
        space = space_of(fd)
        header = np.frombuffer(os.pread(fd, PAGE, 0).ljust(PAGE, b"\0"), HEADER)
        return layout.geometry_of(header, space)

    def describe(self) -> None:
        """See `SharedFile.describe`."""
        layout.describe(self.header, self.form)
        self.header["version"] = layout.VERSION
        self.header["newest"] = layout.NO_SLOT

    @property
    def adoptable(self) -> bool:
        """See `SharedFile.adoptable`."""
        counted = max(self.header["seq"][0], self.header["frames"][0])
        return bool(self.header["version"][0] == layout.VERSION and counted < COUNTABLE)

    @property
    def pid(self) -> int:
        """See `SharedFile.pid`."""
        return int(self.header["pid"][0])

    @property
    def geometry(self) -> Geometry:
        """Of its frames; constant for the segment's life."""
        return self.form

    @property
    def newest(self) -> int:
        """The slot of the newest frame, or `layout.NO_SLOT`."""
        return self.words[_NEWEST]

    @property
    def slot_bytes(self) -> range:
        """The lock bytes of its slots."""
        return range(layout.SLOT_BYTE, layout.SLOT_BYTE + self.geometry.slots)

    @property
    def all_pinned(self) -> bool:
        """Whether no slot is free for the next frame."""
        return bool(self.geometry.slots) and all(
            locks.is_held(self.fd, byte, exclusively=False) for byte in self.slot_bytes
        )

    @property
    def state(self) -> State:
        """How the camera does, as far as its header and the writer's lock tell.

        ``stalled``: its writer lives, and nothing has come from its source for `STALL` seconds or three times the
        usual interval.
        """
        if not self.has_writer:
            return "down"
        if self.header["state"][0] != layout.LIVE:
            return "connecting"
        silence = time.monotonic_ns() - int(self.header["activity"][0])
        return "stalled" if silence > max(STALL * 1e9, 3 * int(self.header["interval"][0])) else "live"

    @property
    def arrived(self) -> int | None:
        """Monotonic time in nanoseconds at which the newest frame arrived; None where there is none."""
        slot = self.newest
        if slot >= self.geometry.slots:
            return None
        return self.longs[(layout.record_offset(slot) + layout.RECORD_OFFSETS["arrived"]) // 8]

    @property
    def error(self) -> str:
        """The newest error of the writer's source, empty if there was none."""
        return bytes(self.header["error"][0]).decode("utf-8", "replace")

    @property
    def cause(self) -> str:
        """Of that error, one word for programs; empty if it is not known."""
        return bytes(self.header["cause"][0]).decode("utf-8", "replace")

    def empty(self) -> bool:
        """Gives the memory of a retired segment back, if nobody has a slot pinned; False if somebody has.

        Nobody can pin one from then on: its slots stay locked.
        """
        if not all(locks.lock_exclusive(self.fd, byte) for byte in self.slot_bytes):
            return False
        self.cut_short()
        return True
