"""`History`: the packets of a camera's last seconds, for any process on the host that may read them.

It attaches by itself, at first use and whenever the history has been replaced. What it gives are copies: the writer
waits for nobody, so what it has written over while they were made is thrown away.
"""

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from framesrv.errors import HistoryUnavailableError, MomentReason, SegmentFormatError
from framesrv.history.file import HistoryFile, history_path
from framesrv.history.layout import DAMAGED, LOST, NO_TIME
from framesrv.history.packet import CodecParameters, HistoryPacket, unpacked
from framesrv.segment import forking
from framesrv.segment.file import HalfMadeError, same_file, segment_path
from framesrv.segment.layout import CLOCKS
from framesrv.segment.owner import named_user

LIVENESS = 0.5  # s between looks at what cannot wake a waiter: a history removed by hand
ATTEMPTS = 8  # to copy what the writer writes over meanwhile
REORDERED = 16  # packets at most, by which a picture may come before another that is shown earlier

Records: TypeAlias = NDArray[Any]  # of `layout.RECORD`, in the order that packets came


class History:
    """Reads the packets of one camera. Several threads may use one reader at once, and children of fork(2).

    Args:
        code: the camera's code.
        prefix: of segment names, as in ``[shm] prefix``.
        owner: the user that the decoder runs as; see `FrameReader`.

    Raises:
        ValueError: the code or the prefix is none, or there is no such user.
    """

    def __init__(self, code: str, *, prefix: str = "framesrv", owner: str | int = "") -> None:
        self.code = code
        self._prefix = prefix
        self._owner = named_user(owner)
        self._path = history_path(prefix, code)
        self._mutex = threading.RLock()
        self._attached: HistoryFile | None = None
        self._closed = False
        forking.tell(self)

    def __reduce__(self) -> tuple[Callable[..., "History"], tuple[str, str, str | int]]:
        return _history, (self.code, self._prefix, "" if self._owner is None else self._owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detaches."""
        with self._mutex:
            self._closed = True
            self._detach()

    def forked(self) -> None:
        """Attaches anew, in a child of fork(2)."""
        self._mutex = threading.RLock()
        self._attached = None

    @property
    def seconds(self) -> float:
        """That are to be kept, as configured; raises HistoryUnavailableError where there is no history."""
        return self._file().form.seconds

    def span(self) -> tuple[float, float]:
        """Unix seconds of capture of the oldest and the newest packet.

        Raises:
            HistoryUnavailableError: there is no history, or nothing in it.
            SegmentError: it is damaged, of another version, or not for this user to read.
        """
        with self._mutex:
            _, records = self._look()
        captured = captured_at(records)
        return float(captured[0]), float(captured.max())

    def packets(self, start: float, end: float = math.inf) -> list[HistoryPacket]:
        """The packets of an interval in the order they came, copied.

        The first is the newest key frame captured at or before `start`, the last the last packet captured at or
        before `end`; between them may be some that were captured later. They may be of several streams and codecs.

        Args:
            start: Unix seconds.
            end: Unix seconds, `start` or later; it does not wait for them, see `wait_until`.

        Raises:
            HistoryUnavailableError: there is no history; `start` is before it, or after its newest packet.
            SegmentError: as `span`.
            ValueError: `end` is before `start`, or one of both is no number.
        """
        if not start <= end:
            raise ValueError(f"from {start} to {end}: expected the end not before the start")

        def choose(records: Records) -> range:
            captured = captured_at(records)
            self.check(records, start)
            begin = np.flatnonzero((records["key"] != 0) & (captured <= start))[-1]
            return range(int(begin), int(np.flatnonzero(captured <= end)[-1]) + 1)

        return self.copied(choose)

    def wait_until(self, moment: float, timeout: float) -> bool:
        """Sleeps until all that was captured up to a moment has come: something that is shown later has.

        Args:
            moment: Unix seconds.
            timeout: seconds.

        Returns:
            False if they passed first.

        Raises:
            HistoryUnavailableError: there is no history (any more).
            SegmentError: as `span`.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self._mutex:
                file = self._file()
                if _has_passed(self._records(file), moment):
                    return True
            if self._waited(file, moment, deadline):
                return True
            if time.monotonic() >= deadline:
                return False

    def _waited(self, file: HistoryFile, moment: float, deadline: float) -> bool:
        """Waits as `wait_until` does, as long as this is the camera's history; False also where it is no longer."""
        with file.waiting():
            while (remaining := deadline - time.monotonic()) > 0:
                with self._mutex:
                    if self._file() is not file:
                        return False
                    sequence, records = file.sequence, self._records(file)
                if _has_passed(records, moment):
                    return True
                file.wait(sequence, min(LIVENESS, remaining))
        return False

    def copied(self, choose: Callable[[Records], range]) -> list[HistoryPacket]:
        """The packets that `choose` takes of the records of all that is kept; the first of them is a key frame."""
        for _ in range(ATTEMPTS):
            with self._mutex:
                file, records = self._look()
                chosen = records[choose(records)]
                data = [_data(file, record) for record in chosen]
                file.look()
                if file.cut:
                    raise SegmentFormatError(f"{self._path}: damaged: it was cut short while it was read")
                if file.first <= chosen["number"][0]:
                    return self._packets(chosen, data)
        raise self.unavailable("before", "it is written over faster than it can be read")

    def check(self, records: Records, moment: float) -> None:
        """Raises HistoryUnavailableError for a moment that is before or after these records; ValueError for none."""
        if not math.isfinite(moment):
            raise ValueError(f"a moment at {moment}: expected Unix seconds")
        captured = captured_at(records)
        oldest, newest = float(captured[0]), float(captured.max())
        if moment < oldest:
            words = f"its history begins {oldest - moment:.3f} s after that moment"
            raise self.unavailable("before", words, oldest, newest)
        if moment > newest:
            words = f"its newest packet is of {moment - newest:.3f} s before that moment"
            raise self.unavailable("after", words, oldest, newest)

    def unavailable(
        self, reason: MomentReason, words: str, oldest: float | None = None, newest: float | None = None
    ) -> HistoryUnavailableError:
        """The error, in a sentence."""
        return HistoryUnavailableError(self.code, reason, f"camera {self.code}: {words}", oldest, newest)

    def _look(self) -> tuple[HistoryFile, Records]:
        """The file and the records of all that is kept."""
        file = self._file()
        records = self._records(file)
        if not len(records):
            raise self.unavailable("empty", "nothing is in its history yet")
        return file, records

    def _records(self, file: HistoryFile) -> Records:
        """The records of all that is kept, copied."""
        count = file.form.records
        for _ in range(ATTEMPTS):
            following = (
                file.following
            )  # before the first: what is written over meanwhile is less to be read, not more
            file.look()
            first = file.first
            if not 0 <= following - first <= count:
                continue
            numbers = np.arange(first, following)
            records: Records = file.records[numbers % count]
            file.look()
            kept = numbers >= file.first
            if first < following and not kept.any():  # written over meanwhile, all of it
                continue
            numbers, records = numbers[kept], records[kept]
            whole = not file.cut and np.array_equal(records["number"], numbers)
            if whole and (not len(records) or records["key"][0]):
                return records
            break
        raise SegmentFormatError(f"{self._path}: damaged: it does not hold what its header says")

    def _packets(self, records: Records, data: list[tuple[bytes, bytes]]) -> list[HistoryPacket]:
        found = []
        parameters: CodecParameters | None = None
        try:
            for record, (description, content) in zip(records.tolist(), data, strict=True):
                number, pts, dts, captured, arrived, monotonic, _, _, _, stream, key, lacking, clock = record
                if key:
                    parameters = unpacked(description)
                if parameters is None or clock >= len(CLOCKS):
                    raise SegmentFormatError(f"packet {number} has key {key}, clock {clock}")
                found.append(
                    HistoryPacket(
                        number,
                        content,
                        None if pts == NO_TIME else pts,
                        None if dts == NO_TIME else dts,
                        key != 0,
                        captured,
                        arrived,
                        monotonic,
                        CLOCKS[clock],
                        not lacking & DAMAGED,
                        bool(lacking & LOST),
                        stream,
                        parameters,
                    )
                )
        except SegmentFormatError as error:
            raise SegmentFormatError(f"{self._path}: damaged: {error}") from None
        return found

    def _file(self) -> HistoryFile:
        """The camera's history; raises HistoryUnavailableError while there is none."""
        with self._mutex:
            if self._closed:
                raise ValueError(f"the history of camera {self.code} is closed")
            held = self._attached
            if held is not None and (held.retired or held.cut or not same_file(held.fd, self._path)):
                self._detach()
            if self._attached is None:
                try:
                    self._attached = HistoryFile.attach(self._path, self._owner)
                except (FileNotFoundError, HalfMadeError):
                    raise self._absent() from None
            return self._attached

    def _absent(self) -> HistoryUnavailableError:
        if Path(segment_path(self._prefix, self.code)).exists():
            return self.unavailable(
                "no_history", "it keeps no history, or its source has none: see its key `history`"
            )
        return self.unavailable("absent", f"there is no {self._path}: its decoder was never started, or was stopped")

    def _detach(self) -> None:
        if self._attached is not None:
            self._attached.close()
            self._attached = None


def _history(code: str, prefix: str, owner: str | int) -> History:
    return History(code, prefix=prefix, owner=owner)


def captured_at(records: Records) -> NDArray[np.float64]:
    """Unix seconds, as `HistoryPacket.captured_at` has them."""
    seconds: NDArray[np.float64] = records["captured"].astype(np.float64) / 1e9
    return seconds


def disorder(captured: NDArray[np.float64]) -> int:
    """By how many packets of one stream a picture comes before another that is shown earlier."""
    return max((step for step in range(1, REORDERED) if (captured[step:] < captured[:-step]).any()), default=0)


def _data(file: HistoryFile, record: Any) -> tuple[bytes, bytes]:
    """The description and the data of a packet, which may be torn."""
    at, size = int(record["position"]) % file.form.data_size, int(record["group"])
    end = at + size + int(record["size"])
    if end > file.form.data_size:
        raise SegmentFormatError(f"damaged: packet {int(record['number'])} goes past the end")
    return bytes(file.data[at : at + size]), bytes(file.data[at + size : end])


def _has_passed(records: Records, moment: float) -> bool:
    """Whether all has come that was captured up to the moment, with pictures that come out of order."""
    captured = captured_at(records)
    later = np.flatnonzero(captured > moment)
    if not len(later):
        return False
    own = records["stream"] == records["stream"][-1]
    if not own[later[0]]:
        return True
    return bool(len(records) - 1 - later[0] >= disorder(captured[own]))
