"""The cloud's side of the stream: sends a request and waits for its result. For trying things out."""

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from framesrv.settings import Settings
from snapd.errors import RequestTimeoutError
from snapd.requests.once import Mark, done_key
from snapd.requests.redis import open_client
from snapd.telemetry.trace import Trace, find
from snapd.wire.request import folder
from snapd.wire.result import Result

LOOK = 0.02  # s between looks at the key: Redis has no blocking read of one
TRACE_PATIENCE = 1.0  # s after the result; it is told a moment later


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request.

    Attributes:
        result: None if it went to the callback URL.
        trace: where the time went; None if that was not asked for, or not told in time.
    """

    result: Result | None
    trace: Trace | None = None


class Client:
    """Sends requests as the cloud does.

    Args:
        settings: the worker's own configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self._stream = settings.stream
        self._result = settings.result
        self._key_prefix = folder(settings.store.key_prefix)
        self._redis = open_client(settings.redis.url)

    def request(self, code: str, callback_url: str = "", timeout: float = 10.0, *, trace: bool = False) -> Answer:
        """Asks for a picture of `code` and waits for the result.

        Args:
            code: the camera's.
            callback_url: where the result is to go; empty: to its key.
            timeout: seconds to wait for it.
            trace: whether to ask where the time went.

        Raises:
            RequestTimeoutError: nobody answered for `timeout` seconds.
            redis.RedisError: Redis cannot be reached.
        """
        request_id = uuid.uuid4().hex
        fields: dict[Any, Any] = {
            "request_id": request_id,
            "camera_code": code,
            "cos_path": f"{self._key_prefix}snapd-request/{datetime.now(UTC):%Y-%m-%d}/{request_id}.jpg",
        }
        if callback_url:
            fields["callback_url"] = callback_url
        if trace:
            fields["trace"] = "1"
        self._redis.xadd(self._stream.name, fields)
        result = self._result_of(request_id, callback_url, timeout)
        return Answer(result, self._trace_of(request_id) if trace else None)

    def _result_of(self, request_id: str, callback_url: str, timeout: float) -> Result | None:
        deadline = time.monotonic() + timeout
        while True:
            done = bool(callback_url) and self._is_done(request_id)
            content: Any = self._redis.get(self._result.key_prefix + request_id)
            if content is not None:
                return Result.parse(content)
            if done:
                return None
            if time.monotonic() > deadline:
                raise RequestTimeoutError(
                    f"no result for request {request_id} in {timeout:g} s: "
                    f"is `snapd run` reading the stream {self._stream.name}?"
                )
            time.sleep(LOOK)

    def _trace_of(self, request_id: str) -> Trace | None:
        deadline = time.monotonic() + TRACE_PATIENCE
        while (trace := find(self._redis, request_id)) is None and time.monotonic() < deadline:
            time.sleep(LOOK)
        return trace

    def _is_done(self, request_id: str) -> bool:
        """Whether its result has been handed over."""
        found: Any = self._redis.get(done_key(request_id))
        mark = Mark.parse(found) if found is not None else None
        return mark is not None and mark.state == "done"
