"""`HistoryWriter`: keeps the packets of one camera's last seconds, for readers of its history."""

import logging
import os
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from framesrv.errors import SegmentBusyError
from framesrv.history import layout
from framesrv.history.file import HistoryFile, history_path
from framesrv.history.layout import NO_TIME, RECORD, RECORD_FORMAT, Extent
from framesrv.segment import access
from framesrv.segment.file import clear_leftovers, same_file
from framesrv.segment.layout import CLOCKS, PAGE, Clock

ATTEMPTS = 5  # to get a name that others keep taking and giving up

logger = logging.getLogger(__name__)


class Times(NamedTuple):
    """When a packet is to be shown, was captured and came, see `HistoryPacket`: ticks twice, then nanoseconds."""

    pts: int | None
    dts: int | None
    captured: int
    arrived: int
    monotonic: int
    clock: Clock


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
        file, extent, number = self._file, self._extent, self._next
        key, need = bool(description), len(description) + len(data)
        if key:
            self._behind = self._dropping = False
            self._forget(times.monotonic)
        elif self._dropping:
            file.cut_off += self._behind
            return 0
        if need > extent.data_size:
            self._cut_off(0)
            return 0
        position = self._position
        rest = extent.data_size - position % extent.data_size
        if need > rest:  # in one piece, from the beginning again
            position += rest
        if not self._make_room(position + need, number, times.monotonic, spare_newest=not key):
            return 0
        if key:
            self._groups.append(_Group(number, position, times.monotonic))
        at = position % extent.data_size
        file.data[at : at + len(description)] = description
        file.data[at + len(description) : at + need] = data
        RECORD_FORMAT.pack_into(
            file.memory,
            PAGE + number % extent.records * RECORD.itemsize,
            number,
            NO_TIME if times.pts is None else times.pts,
            NO_TIME if times.dts is None else times.dts,
            times.captured,
            times.arrived,
            times.monotonic,
            position,
            len(description),
            len(data),
            self._stream,
            key,
            layout.DAMAGED * (not whole) | layout.LOST * lost,
            CLOCKS.index(times.clock),
        )
        file.bar()
        self._position = position + need
        self._next = number + 1
        file.following = self._next
        file.announce()
        return number

    def read(self, number: int) -> memoryview:
        """The data of a packet that is kept; a view, to be used before the next one is added."""
        record = self._file.records[number % self._extent.records]
        at = int(record["position"]) % self._extent.data_size + int(record["group"])
        return self._file.data[at : at + int(record["size"])]

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
