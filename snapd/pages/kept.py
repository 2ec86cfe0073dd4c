"""What each camera's history spans, for those who list the cameras and for the slider of the page."""

from collections.abc import Collection
from contextlib import suppress

from framesrv import History, HistoryUnavailableError, SegmentError
from framesrv.settings import ShmSettings


class Kept:
    """For one thread.

    Args:
        shm: how it is named, and whose is read.
    """

    def __init__(self, shm: ShmSettings) -> None:
        self._shm = shm
        self._histories: dict[str, History] = {}

    def spans(self, codes: Collection[str]) -> dict[str, tuple[float, float]]:
        """Unix seconds of the oldest and the newest packet, of those of `codes` that keep any."""
        for code in self._histories.keys() - set(codes):
            self._histories.pop(code).close()
        found = {}
        for code in codes:
            # who moves the slider of one that cannot be read is told why
            with suppress(HistoryUnavailableError, SegmentError, ValueError):  # no code: a stranger's file
                found[code] = self._history(code).span()
        return found

    def _history(self, code: str) -> History:
        history = self._histories.get(code)
        if history is None:
            history = self._histories[code] = History(code, prefix=self._shm.prefix, owner=self._shm.owner)
        return history
