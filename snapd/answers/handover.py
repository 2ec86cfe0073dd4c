"""Handing results over, with the late ones last in line for what is slow.

A request past its deadline costs nothing but its answer. Behind a platform that does not answer, each such
callback would hold a worker for seconds, and a flood of them everybody else. So where a callback has just
failed or been slow, late results go straight to their keys, all but one now and then that finds out whether
the platform is back.
"""

import threading
import time
from dataclasses import replace

from snapd.answers.callback import Delivery, Via
from snapd.wire.request import Request
from snapd.wire.result import Result

SLOW = 1.0  # s
TRY_EVERY = 10.0  # s between late callbacks to one that failed or was slow
REMEMBERED = 1000  # such callback URLs


class Handover:
    """Hands results over; used by several threads at once.

    Args:
        delivery: does it.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._lock = threading.Lock()
        self._tried: dict[str, float] = {}  # monotonic time at which that callback was found to be bad

    def deliver(self, request: Request, result: Result, *, late: bool) -> Via | None:
        """Hands `result` over and says how; None if it could not be."""
        url = request.callback_url
        if late and url and not self._may_try(url):
            request = replace(request, callback_url="")
        began = time.monotonic()
        via = self._delivery.deliver(request, result)
        if request.callback_url:
            self._learn(url, good=via == "callback" and time.monotonic() - began < SLOW)
        return via

    def _may_try(self, url: str) -> bool:
        now = time.monotonic()
        with self._lock:
            tried = self._tried.get(url)
            if tried is None:
                return True
            if now - tried < TRY_EVERY:
                return False
            self._tried[url] = now  # by this one; the others need not
            return True

    def _learn(self, url: str, *, good: bool) -> None:
        with self._lock:
            self._tried.pop(url, None)
            if not good:
                if len(self._tried) >= REMEMBERED:
                    del self._tried[next(iter(self._tried))]
                self._tried[url] = time.monotonic()
