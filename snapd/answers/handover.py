"""Hands a result over: by a callback, or else under a key in Redis that the sender looks at.

The late ones come last in line for what is slow. A request past its deadline costs nothing but its answer. Behind a
platform that does not answer, each such callback would hold a worker for seconds, and a flood of them everybody else.
So where a callback has just failed or been slow, late results go straight to their keys, all but one now and then
that finds out whether the platform is back.
"""

import logging
import time
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

import redis

from framesrv.process.breaker import Breaker
from framesrv.settings import ResultSettings
from snapd.answers.callback import Callbacks
from snapd.telemetry.counters import Counters
from snapd.wire.request import Request
from snapd.wire.result import Result

logger = logging.getLogger(__name__)

SLOW = 1.0  # s
TRY_EVERY = 10.0  # s between late callbacks to one that failed or was slow
REMEMBERED = 1000  # callback URLs
SHOWN = 200  # characters of a URL in the log

Via = Literal["callback", "key"]


class Handover:
    """Hands results over; used by several threads at once.

    Args:
        settings: the section ``[result]``.
        client: writes the keys; a result may be written twice.
        counters: counts callbacks that failed.

    Raises:
        ConfigError: an allowed origin is none, or the secret has no key in it.
    """

    def __init__(self, settings: ResultSettings, client: redis.Redis, counters: Counters | None = None) -> None:
        self._settings = settings
        self._callbacks = Callbacks(settings)
        self._client = client
        self._counters = counters or Counters()
        self._breaker = lru_cache(REMEMBERED)(lambda _url: Breaker(pause=TRY_EVERY))

    def deliver(self, request: Request, result: Result, *, late: bool = False) -> Via:
        """Hands `result` over and says how. Raises RedisError if it could not be."""
        content = result.to_json(reason=self._settings.reason)
        if request.callback_url and self._call_back(request, content, late=late):
            return "callback"
        self._client.set(self._settings.key_prefix + request.request_id, content, ex=self._settings.key_ttl)
        return "key"

    def _call_back(self, request: Request, content: bytes, *, late: bool) -> bool:
        """Whether the callback was made, and succeeded."""
        breaker = self._breaker(request.callback_url)
        call = breaker.begin()
        if late and call.refused:
            return False
        failed = True
        try:
            failure = self._callbacks.post(request, content)
            failed = failure is not None or time.monotonic() - call.began >= SLOW
        finally:
            breaker.end(call, failed=failed)
        if failure is None:
            self._counters.callbacks.succeeded()
            return True
        self._counters.add("callback_errors", failure.trouble)
        self._counters.callbacks.failed(f"{_host(request.callback_url)}: {failure.reason}", failure.trouble)
        logger.warning(
            "Callback failed, result goes to its key url=%r reason=%r", request.callback_url[:SHOWN], failure.reason
        )
        return False


def _host(url: str) -> str:
    """Who is called, without what else an address may hold."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2][:SHOWN] or "nobody"
    except ValueError:
        return "nobody"
