"""What becomes of uploads and of callbacks: not what somebody finds who asks, but what happened."""

import threading
import time
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from framesrv import log
from framesrv.process.report import LATELY, Outcomes

SLICE = 10.0  # s that are counted together


class Attempts:
    """Attempts of one kind, made by several threads.

    Args:
        on_change: is called, by whichever thread, when the last one turned out another way than the one before it.
    """

    def __init__(self, on_change: Callable[[], object] = lambda: None) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._now = Outcomes()
        self._slices: deque[list[float]] = deque()  # when it began, how many succeeded, how many did not

    def succeeded(self) -> None:
        """One has."""
        with self._lock:
            news = self._now.failed > 0
            self._now = Outcomes(succeeded_at=time.time())
            self._slice()[1] += 1
        if news:
            self._on_change()

    def failed(self, reason: str, trouble: str) -> None:
        """One has not.

        Args:
            reason: in words; empty where it is that of the one before.
            trouble: the same as one word.
        """
        with self._lock:
            now = self._now
            news = not now.failed or bool(reason and log.mask(reason) != now.reason)
            self._now = replace(
                now,
                failed=now.failed + 1,
                failing_since=now.failing_since or time.time(),
                reason=log.mask(reason) or now.reason or trouble,
                trouble=trouble,
                failed_at=time.time(),
            )
            self._slice()[2] += 1
        if news:
            self._on_change()

    def forget(self) -> None:
        """What they are made to is another from now on."""
        with self._lock:
            self._now = Outcomes()
            self._slices.clear()

    @property
    def outcomes(self) -> Outcomes:
        """What has become of them."""
        with self._lock:
            self._drop()
            ok, failed = (sum(int(one[which]) for one in self._slices) for which in (1, 2))
            return replace(self._now, ok_lately=ok, failed_lately=failed)

    def _slice(self) -> list[float]:
        self._drop()
        now = time.monotonic()
        if not self._slices or now - self._slices[-1][0] >= SLICE:
            self._slices.append([now, 0, 0])
        return self._slices[-1]

    def _drop(self) -> None:
        while self._slices and time.monotonic() - self._slices[0][0] > LATELY:
            self._slices.popleft()
