"""`FrameReader`: the frames of one camera, the newest and those of the last seconds."""

import math
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from framesrv.history.layout import LOST
from framesrv.history.reader import History, Records, captured_at, disorder
from framesrv.segment.frame import Frame
from framesrv.segment.reader import SegmentReader

if TYPE_CHECKING:
    from framesrv.history.moment import Moments

LATE = 1.5  # times the usual time between two pictures, above which one is missing
FURTHER = 2  # groups more that are decoded where nothing comes out: where pictures recover slowly


class FrameReader(SegmentReader):
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
        super().__init__(code, prefix=prefix, owner=owner)
        self._history = History(code, prefix=prefix, owner=owner)
        self._moments: Moments | None = None

    def close(self) -> None:
        """Detaches. Frames that are still pinned stay valid until they are released."""
        super().close()
        self._history.close()

    def at(
        self, when: float | None = None, *, ago: float | None = None, tolerance: float = 1.0, timeout: float = 2.0
    ) -> Frame:
        """The frame that was shown at a moment: the last that was captured before it, or just then.

        It is decoded in this process from the camera's history, which the key `history` of a camera keeps. Its memory
        is its own, and its `seq` 0. Give one of both moments. Where the camera is slow, tolerance and time-out are at
        least half as long again as its frames are apart.

        Args:
            when: Unix seconds, as `Frame.captured_at` has them.
            ago: seconds before now.
            tolerance: seconds that the frame may be older than the moment: the stream was lost or stood still else.
            timeout: seconds to wait for what was shown then and has not come yet.

        Raises:
            HistoryUnavailableError: there is no such frame; its `reason` says why. A damaged frame is not given, nor
                one that refers to such.
            SegmentError: the history is damaged, of another version, or not for this user to read.
            ValueError: not one of both moments is given, or it is no number.
        """
        if (when is None) == (ago is None):
            raise ValueError("a moment is expected: either when or ago")
        moment = float(when) if when is not None else time.time() - float(ago or 0.0)
        if not math.isfinite(moment):
            raise ValueError(f"a moment at {moment}: expected Unix seconds")
        due = self.due_after
        self._await(moment, max(timeout, due))
        return self._decoded(moment, max(tolerance, due))

    def _await(self, moment: float, timeout: float) -> None:
        """Waits until all that was captured up to the moment has come."""
        history = self._history
        oldest, newest = history.span()
        ahead = moment - max(newest, time.time())
        if ahead > timeout:
            raise history.unavailable("after", f"that moment is {ahead:.1f} s from now", oldest, newest)
        if not history.wait_until(moment, timeout):
            oldest, newest = history.span()
            words = f"what was shown at that moment has not come in {timeout:g} s"
            raise history.unavailable("after", words, oldest, newest)

    def _decoded(self, moment: float, tolerance: float) -> Frame:
        from framesrv.history.moment import DamagedError, FieldsError, Moments  # PyAV, which only this needs

        history = self._history
        moments = self._moments = self._moments or Moments()
        begun: int | None = None
        further = behind = 0
        while further <= FURTHER:
            packets = history.copied(partial(self._leading_to, moment, tolerance, further, behind))
            if packets[0].number == begun:
                break
            try:
                frame = moments.frame(packets, len(packets) - 1 - behind)
            except DamagedError as error:
                raise history.unavailable("damaged", f"what was shown at that moment is damaged: {error}") from None
            except FieldsError:
                behind = 1
                continue
            if frame is not None:
                return frame
            begun, further = packets[0].number, further + 1
        raise history.unavailable("damaged", "what was shown at that moment cannot be decoded from what is kept")

    def _leading_to(self, moment: float, tolerance: float, further: int, behind: int, records: Records) -> range:
        """The packets from a key frame to what was shown at the moment.

        Args:
            moment: Unix seconds.
            tolerance: seconds.
            further: groups more than needed, before it.
            behind: packets behind it.
            records: of all that is kept; raises HistoryUnavailableError where it was not among that.
        """
        history = self._history
        history.check(records, moment)
        captured = captured_at(records)
        shown = np.where(captured <= moment, captured, -np.inf)
        best = float(shown.max())
        target = int(np.flatnonzero(shown == best)[-1])
        if moment - best > tolerance:
            words = f"the stream was lost or stood still at that moment, for {moment - best:.1f} s by then"
            raise history.unavailable("gap", words, float(captured[0]), float(captured.max()))
        if _is_missing(records, captured, target, moment):
            raise history.unavailable("damaged", "what was shown at that moment has not come")
        usable = (records["key"] != 0) & (records["stream"] == records["stream"][target]) & (captured <= best)
        keys = np.flatnonzero(usable[: target + 1])
        if not len(keys):  # a picture that leads the oldest key frame
            raise history.unavailable("before", "what it refers to is not kept any more", float(captured[0]))
        return range(int(keys[max(0, len(keys) - 1 - further)]), target + 1 + behind)


def _is_missing(records: Records, captured: NDArray[np.float64], target: int, moment: float) -> bool:
    """Whether another picture than `target` may have been shown at the moment, which was lost on its way.

    It left a gap, longer than pictures are apart, and the packets that came next may refer to it.
    """
    own = records["stream"] == records["stream"][target]
    usual = float(np.median(np.diff(np.sort(captured[own])))) if own.sum() > 1 else 0.0
    later = np.flatnonzero(own & (captured > captured[target]))
    following = int(later[np.argmin(captured[later])]) if len(later) else target
    if moment - captured[target] <= usual or 0 < captured[following] - captured[target] <= LATE * usual:
        return False
    last = max(target, following) + disorder(captured[own])
    return bool((records["lacking"][target + 1 : last + 1] & LOST).any())
