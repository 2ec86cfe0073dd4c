"""A mapped history: the file of shared memory that a camera's packets lie in."""

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from framesrv.history import layout
from framesrv.history.layout import HEADER, RECORD, Extent
from framesrv.segment import futex, locks
from framesrv.segment.file import SHM_DIRECTORY, space_of
from framesrv.segment.layout import PAGE
from framesrv.segment.shared_file import SharedFile

COUNTABLE = 2**62  # no camera has sent so many packets: a header that says so is damaged

IN_ORDER = platform.machine() in ("x86_64", "i686")  # stores are seen in the order in which they are made

_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, see madvise(2)
_SEQUENCE = layout.OFFSETS["sequence"] // 4
_FIRST, _NEXT, _CUT_OFF = (layout.OFFSETS[name] // 8 for name in ("first", "next", "cut_off"))


def history_path(prefix: str, code: str) -> str:
    """Where a camera's history lies; raises ValueError where the prefix or the code is none."""
    return f"{SHM_DIRECTORY}/{layout.history_name(prefix, code)}"


class HistoryFile(SharedFile[Extent]):
    """The mapping of a writer or a reader.

    Attributes:
        header: an array of one `layout.HEADER` over the header page.
        records: of `layout.RECORD`, over the ring of records.
        data: over the ring of data.
    """

    magic = layout.MAGIC
    saving = "lower history or history_bytes"

    def __init__(self, fd: int, form: Extent, *, writable: bool) -> None:
        super().__init__(fd, form, writable=writable)
        self._mutex = threading.Lock()
        self._waiting = 0  # threads of this process
        self._is_waited = locks.query(fd, layout.WAIT_BYTE)
        self.header = self.everything[:PAGE].view(HEADER)
        self.records = self.everything[PAGE : PAGE + form.records * RECORD.itemsize].view(RECORD)
        self.data = memoryview(self.memory)[form.data_offset : form.data_offset + form.data_size]

    @classmethod
    def path_of(cls, prefix: str, code: str) -> str:
        """See `SharedFile.path_of`."""
        return history_path(prefix, code)

    @classmethod
    def form_of(cls, fd: int) -> Extent:
        """See `SharedFile.form_of`."""
        space = space_of(fd)
        header = np.frombuffer(os.pread(fd, PAGE, 0).ljust(PAGE, b"\0"), HEADER)
        return layout.extent_of(header, space)

    def describe(self) -> None:
        """See `SharedFile.describe`."""
        layout.describe(self.header, self.form)
        self.header["version"] = layout.VERSION
        self.longs[_FIRST] = self.longs[_NEXT] = 1

    @property
    def adoptable(self) -> bool:
        """See `SharedFile.adoptable`: not where what it tells of its packets cannot be."""
        if self.header["version"][0] != layout.VERSION:
            return False
        first, following, form = self.first, self.following, self.form
        if not 1 <= first <= following < COUNTABLE or following - first > form.records:
            return False
        if first == following:
            return True
        records = self.records[np.arange(first, following) % form.records]
        ends = records["position"] + records["group"] + records["size"]
        return bool(
            np.array_equal(records["number"], np.arange(first, following))
            and records["key"][0]
            and ends.max() < COUNTABLE
            and (ends[1:] <= ends[-1]).all()
            and (records["position"][1:] >= ends[:-1]).all()
            and ends[-1] - records["position"][0] <= form.data_size
        )

    @property
    def pid(self) -> int:
        """See `SharedFile.pid`."""
        return int(self.header["pid"][0])

    @property
    def first(self) -> int:
        """Number of the oldest packet that is kept."""
        return self.longs[_FIRST]

    @first.setter
    def first(self, number: int) -> None:
        self.longs[_FIRST] = number

    @property
    def following(self) -> int:
        """Number of the next packet."""
        return self.longs[_NEXT]

    @following.setter
    def following(self, number: int) -> None:
        self.longs[_NEXT] = number

    @property
    def cut_off(self) -> int:
        """Packets that were not kept, their group being longer than the ring."""
        return self.longs[_CUT_OFF]

    @cut_off.setter
    def cut_off(self, count: int) -> None:
        self.longs[_CUT_OFF] = count

    def bar(self) -> None:
        """Orders what its writer stored before this call and after it, see `layout`; needed unless `IN_ORDER`."""
        locks.unlock(self.fd, layout.LOOK_BYTE)

    def tell(self) -> None:
        """Wakes those who wait, if there are any: a packet is new."""
        self.words[_SEQUENCE] = (self.words[_SEQUENCE] + 1) & 0xFFFFFFFF
        if self._is_waited():
            futex.wake(self.address + _SEQUENCE * 4)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Has its writer tell of each packet."""
        with self._mutex:
            self._waiting += 1
            if self._waiting == 1:
                locks.lock_shared(self.fd, layout.WAIT_BYTE)
        try:
            yield
        finally:
            with self._mutex:
                self._waiting -= 1
                if not self._waiting and self.fd >= 0:
                    locks.unlock(self.fd, layout.WAIT_BYTE)

    def populate(self) -> None:
        """Maps all pages now, where the kernel can (Linux 5.14): not one at a time, as packets come."""
        with suppress(OSError):
            self.memory.madvise(_POPULATE_WRITE)

    def look(self) -> None:
        """Orders what a reader reads before this call and after it, see `layout`."""
        locks.lock_shared(self.fd, layout.LOOK_BYTE)
        locks.unlock(self.fd, layout.LOOK_BYTE)
