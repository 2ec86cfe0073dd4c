"""Clips of all cameras, made of what each one's decoder keeps of the last seconds."""

import threading

from framesrv import History
from framesrv.settings import ShmSettings
from snapd.errors import ClipError
from snapd.pictures.clip import Clip, make_clip
from snapd.wire.moment import Span

REORDERED = 1.0  # s in which all has come that is shown until a moment, where pictures are out of order
AT_ONCE = 2  # clips that a host makes, and each process at least one: each is in memory three times until it is done
GRACE = 0.3  # s from a picture's capture until it has usually arrived, the one after it too


class Clips:
    """Used by several threads at once.

    Args:
        shm: how what decoders keep is named, and whose is read.
        wait: seconds to wait for what has not arrived.
        processes: that make clips on this host, of which this is one.
    """

    def __init__(self, shm: ShmSettings, wait: float, processes: int = 1) -> None:
        self._shm, self._wait = shm, wait
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(max(1, AT_ONCE // processes))
        self._histories: dict[str, History] = {}

    def make(self, code: str, moment: float, span: Span) -> Clip:
        """The clip around a moment, in Unix seconds. It ends sooner where the camera has fallen silent after that.

        Raises:
            HistoryUnavailableError: it is not in the history.
            SegmentError: that is unusable.
            ClipError: it cannot be made of what is there.
        """
        history = self._history(code)
        end = moment + span.after
        arrived = history.wait_until(end, self._wait)
        with self._room:
            packets = history.packets(moment - span.before, end + REORDERED)
            if not arrived and max(packet.captured_at for packet in packets) < moment:
                raise ClipError("after", f"camera {code} has sent nothing until that moment")
            return make_clip(code, packets, moment, end)

    def close(self) -> None:
        """Detaches from all of them."""
        with self._lock:
            for history in self._histories.values():
                history.close()
            self._histories.clear()

    def _history(self, code: str) -> History:
        with self._lock:
            history = self._histories.get(code)
            if history is None:
                history = self._histories[code] = History(code, prefix=self._shm.prefix, owner=self._shm.owner)
            return history
