"""`HistoryWriter`: keeps the packets of one camera's last seconds, for readers of its history."""

import logging
import os
import time
from collections import deque
from typing import NamedTuple, TypeAlias

import numpy as np

from framesrv.errors import SegmentBusyError
from framesrv.history import layout
from framesrv.history.file import IN_ORDER, HistoryFile, history_path
from framesrv.history.layout import NO_TIME, RECORD, RECORD_FORMAT, Extent
from framesrv.segment import access
from framesrv.segment.file import clear_leftovers, same_file
from framesrv.segment.layout import PAGE

ATTEMPTS = 5  # to get a name that others keep taking and giving up

# When a packet is to be shown and decoded, in ticks, was captured and came, see `HistoryPacket`: its pts, dts,
# captured_ns, arrived_ns, monotonic_ns, and whether the camera's clock says so. One is made for every packet.
Times: TypeAlias = tuple[int | None, int | None, int, int, int, bool]

logger = logging.getLogger(__name__)


class Read(NamedTuple):
    """Of a packet that is kept, what its decoder needs; see `HistoryPacket`."""

    pts: int | None
    dts: int | None
    key: bool


class _Group(NamedTuple):
    """A key frame that is kept: its number, where it lies, and when it came."""

    number: int
    position: int
    monotonic: int


class HistoryWriter:
    """Writes the history of one camera, from one thread. What a former writer left is gone on with.

    Args:
        code: the camera's code.
        seconds: that are kept at least, back to the key frame before them, as far as the bytes go.
        nbytes: of the file at most.
        prefix: of segment names.
        mode: permissions of the file.
        group: its group's name; this process's own where None or empty.

    Raises:
        SegmentBusyError: the camera's history has a live writer.
        SegmentOwnerError: another user has made a file of its name.
        SegmentSpaceError: shared memory is too small.
        SegmentError: it cannot be made; the group is unknown or cannot be admitted.
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        code: str,
        seconds: float,
        nbytes: int,
        *,
        prefix: str = "framesrv",
        mode: int = 0o640,
        group: str | None = None,
    ) -> None:
        self._path = history_path(prefix, code)
        self._extent = Extent.of(seconds, nbytes)
        self._access = mode, access.group_id(group)
        self._closed = self._said = False
        self._dropping = self._behind = False  # packets up to the next key frame; those of a group that is too long
        self._groups: deque[_Group] = deque()
        self._next = self._position = self._stream = 0
        self._use(self._claim())
        clear_leftovers(self._path)

    def close(self) -> None:
        """Retires and removes the history; readers are woken and told that it has ended."""
        if not self._closed:
            self._closed = True
            self._file.retire(self._path)
            self._file.close()

    def begin(self) -> None:
        """The packets that follow are of another stream, or of the same one opened anew: a key frame is the first."""
        self._stream = (self._stream + 1) & 0xFFFFFFFF
        self._dropping, self._behind = True, False

    def keep_name(self) -> None:
        """Makes the history anew where it was removed or cut short by somebody; raises as the constructor does."""
        old = self._file
        if same_file(old.fd, self._path) and not old.cut:
            return
        logger.warning("The history was %s and is made anew", "cut short" if old.cut else "removed")
        old.retire(self._path)
        self._use(self._claim())
        old.close()

    def add(
        self,
        data: bytes | bytearray | memoryview,
        times: Times,
        description: bytes = b"",
        *,
        whole: bool = True,
        lost: bool = False,
    ) -> int:
        """Keeps a packet.

        Args:
            data: as it came.
            times: of it.
            description: of its codec, see `packet.packed`, where it is a key frame; else empty.
            whole: nothing of it is missing.
            lost: what it may refer to is.

        Returns:
            Its number; 0 where it was not kept: it follows no key frame that is, or its group is longer than the
            ring.
        """
        file, number, size = self._file, self._next, self._extent.data_size
        pts, dts, captured, arrived, monotonic, by_camera = times
        head, need = len(description), len(description) + len(data)
        if head:
            self._behind = self._dropping = False
            self._forget(monotonic)
        elif self._dropping:
            file.cut_off += self._behind
            return 0
        if need > size:
            self._cut_off(0)
            return 0
        position = self._position
        at = position % size
        if at + need > size:  # in one piece, from the beginning again
            position, at = position + size - at, 0
        end = position + need
        groups = self._groups
        fits = not head and end - groups[0][1] <= size and number - groups[0][0] < self._extent.records
        if not fits and not self._make_room(end, number, monotonic, spare_newest=not head):
            return 0
        if head:
            groups.append(_Group(number, position, monotonic))
            file.data[at : at + head] = description
        file.data[at + head : at + need] = data
        RECORD_FORMAT.pack_into(
            file.memory,
            PAGE + number % self._extent.records * RECORD.itemsize,
            number,
            NO_TIME if pts is None else pts,
            NO_TIME if dts is None else dts,
            captured,
            arrived,
            monotonic,
            position,
            head,
            need - head,
            self._stream,
            head > 0,
            0 if whole and not lost else layout.DAMAGED * (not whole) | layout.LOST * lost,
            by_camera,
        )
        if not IN_ORDER:
            file.bar()
        self._position = end
        self._next = file.following = number + 1
        file.tell()
        return number

    def read(self, number: int) -> tuple[Read, memoryview]:
        """A packet that is kept, and its data: a view, to be used before the next one is added."""
        record = self._file.records[number % self._extent.records]
        at = int(record["position"]) % self._extent.data_size + int(record["group"])
        pts, dts = int(record["pts"]), int(record["dts"])
        found = Read(None if pts == NO_TIME else pts, None if dts == NO_TIME else dts, bool(record["key"]))
        return found, self._file.data[at : at + int(record["size"])]

    def _forget(self, now: int) -> None:
        """Lets go of groups that are older than what is to be kept."""
        oldest = now - int(self._extent.seconds * 1e9)
        while len(self._groups) > 1 and self._groups[1].monotonic <= oldest:
            self._groups.popleft()

    def _make_room(self, end: int, number: int, now: int, *, spare_newest: bool) -> bool:
        """Lets go of groups until there is room up to that position, before it is written over.

        False if the group at hand is too long for that.
        """
        groups, extent = self._groups, self._extent
        while groups and (end - groups[0].position > extent.data_size or number - groups[0].number >= extent.records):
            if spare_newest and len(groups) == 1:
                self._cut_off(now - groups[0].monotonic)
                return False
            groups.popleft()
            if groups:
                self._say(now - groups[0].monotonic)
        first = groups[0].number if groups else number
        if first != self._file.first:
            self._file.first = first
            if not IN_ORDER:
                self._file.bar()
        return True

    def _cut_off(self, kept: int) -> None:
        """The rest of the group at hand is not kept."""
        self._behind = self._dropping = True
        self._file.cut_off += 1
        self._say(kept)

    def _say(self, kept: int) -> None:
        """Says once that the bytes do not suffice."""
        if not self._said and kept < self._extent.seconds * 1e9:
            self._said = True
            logger.warning(
                "history_bytes = %d hold %.1f s of this camera, of history = %g: raise history_bytes, or lower the "
                "camera's bit rate or key-frame interval",
                self._extent.nbytes,
                kept / 1e9,
                self._extent.seconds,
            )

    def _claim(self) -> HistoryFile:
        """The history as a former writer left it, if it has this extent, or else a new one."""
        for _ in range(ATTEMPTS):
            left = HistoryFile.adopt(self._path)
            if left is not None:
                if left.form == self._extent:
                    return left
                left.retire(self._path)
                left.close()
            try:
                return HistoryFile.make(self._path, self._extent, *self._access)
            except FileExistsError:
                continue
        raise SegmentBusyError(f"{self._path}: other writers keep making and removing it")

    def _use(self, file: HistoryFile) -> None:
        """Goes on with what is in the file."""
        file.admit(*self._access)
        file.populate()
        file.header["pid"], file.header["started"] = os.getpid(), time.time_ns()
        self._file = file
        self._next = file.following
        self._groups.clear()
        self._position = self._stream = 0
        if file.first < self._next:
            kept = file.records[np.arange(file.first, self._next) % self._extent.records]
            for one in kept[kept["key"] != 0]:
                self._groups.append(_Group(int(one["number"]), int(one["position"]), int(one["monotonic"])))
            newest = kept[-1]
            self._position = int(newest["position"]) + int(newest["group"]) + int(newest["size"])
            self._stream = int(newest["stream"])
        self.begin()
