"""What the pages know of the host: snapd as it told, the cameras from their headers, the queue from Redis.

Headers and Redis are looked at when somebody asks, at most so often, in threads of their own: a Redis that does not
answer holds nobody up who asks for something else, and nobody for long.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis

from framesrv import CameraStatus, camera_statuses, log, segment_path
from framesrv.settings import Settings
from snapd.pages.channel import Condition
from snapd.pages.kept import Kept
from snapd.requests.backlog import Backlog, look
from snapd.requests.cause import explain
from snapd.requests.fleet import kind_of, shared
from snapd.requests.redis import open_short
from snapd.requests.trouble import Refusals, is_refusal
from snapd.routing.overview import Fleet
from snapd.routing.overview import look as look_at_fleet
from snapd.telemetry.trace import Trace

CAMERAS_EVERY = 0.5  # s
QUEUE_EVERY = 2.0  # s
QUEUE_PATIENCE = 1.5  # s that a scrape waits for Redis
PAGE_PATIENCE = 0.3  # s that the page does: cameras are what it is for
REQUESTS = 30  # the newest, kept to be shown

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class BacklogFound:
    """The queue, or why Redis did not tell."""

    queue: Backlog | None
    problem: str = ""


class Overview:
    """For the event loop's thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.condition = Condition()
        self.requests: deque[Trace] = deque(maxlen=REQUESTS)
        self._client = open_short(settings.redis.url)
        self._refusals = Refusals()
        self._cameras = Cached(CAMERAS_EVERY, self._look_at_cameras)
        self._queue = Cached(QUEUE_EVERY, self._look_at_queue)
        self._fleet = Cached(QUEUE_EVERY, self._look_at_fleet)
        self._histories, self._codes = Kept(settings.shm), frozenset[str]()
        self._kept = Cached(CAMERAS_EVERY, self._look_at_histories)

    def configure(self, settings: Settings) -> None:
        """Shows the cameras of `settings` from now on."""
        self.settings = settings
        self._cameras.forget()

    def knows(self, code: str) -> bool:
        """Whether there is such a camera: configured, or with a segment."""
        if self.settings.stream_of(code):
            return True
        try:
            return os.path.exists(segment_path(self.settings.shm.prefix, code))
        except ValueError:  # it is no code
            return False

    async def cameras(self) -> list[CameraStatus]:
        """As ``framesrv ls``: in the configuration's order, then those that have a segment and are not configured."""
        return await self._cameras.value()

    async def kept(self) -> dict[str, tuple[float, float]]:
        """Unix seconds of the oldest and the newest of what each camera keeps, of those that keep anything."""
        self._codes = frozenset(camera.code for camera in await self.cameras())
        return await self._kept.value()

    async def queue(self, patience: float = QUEUE_PATIENCE) -> BacklogFound:
        """What waits on the stream."""
        try:
            async with asyncio.timeout(patience):
                return await self._queue.value()
        except TimeoutError:
            return BacklogFound(None, f"no answer within {patience:g} s")

    async def page(self) -> dict[str, Any]:
        """What the page shows."""
        cameras, found = await asyncio.gather(self.cameras(), self.queue(PAGE_PATIENCE))
        kept, condition, now = await self.kept(), self.condition, time.time()
        return {
            "now": now,
            "status": f"{condition.hang} hangs" if condition.hang else log.mask(condition.status),
            "warning": log.mask(condition.unrouted or condition.strangers),
            "well": condition.joined
            and not (condition.away or condition.hang or condition.uploads.failed or condition.unrouted),
            "routed": self.settings.stream.routed,
            "queue": _numbers(found.queue),
            "cameras": [_card(camera, kept.get(camera.code), now) for camera in cameras],
            "requests": [_row(trace) for trace in reversed(self.requests)],
        }

    async def fleet(self, patience: float = QUEUE_PATIENCE) -> Fleet | None:
        """The hosts and routers; None if Redis does not tell."""
        try:
            async with asyncio.timeout(patience):
                return await self._fleet.value()
        except TimeoutError:
            return None

    @property
    def is_router(self) -> bool:
        """Whether it routes."""
        return kind_of(self.settings.stream) == "routers"

    def _look_at_cameras(self) -> list[CameraStatus]:
        return camera_statuses(self.settings.shm.prefix, self.settings.policies, self.settings.shm.owner)

    def _look_at_histories(self) -> dict[str, tuple[float, float]]:
        return self._histories.spans(self._codes)

    def _look_at_queue(self) -> BacklogFound:
        try:
            own = self.settings.stream
            return BacklogFound(look(self._client, shared(own, own.consumer) if self.is_router else own))
        except (redis.RedisError, OSError) as error:
            if is_refusal(error):
                self._refusals.tell("XINFO", error)
            return BacklogFound(None, log.mask(explain(error, self.settings.redis.url)))

    def _look_at_fleet(self) -> Fleet | None:
        try:
            return look_at_fleet(self._client, self.settings.stream)
        except (redis.RedisError, OSError) as error:
            if is_refusal(error):
                self._refusals.tell("HGETALL", error)
            return None


def _card(camera: CameraStatus, kept: tuple[float, float] | None, now: float) -> dict[str, Any]:
    """`back_s`: how far back the slider goes, in seconds."""
    back = round(now - kept[0], 1) if kept and camera.state == "live" else None
    return camera.to_json(kept) | {"reason": log.mask(camera.reason), "back_s": back}


def _numbers(queue: Backlog | None) -> Mapping[str, Any] | None:
    return None if queue is None else {"lag": queue.lag, "pending": queue.pending, "dead": queue.dead}


def _row(trace: Trace) -> dict[str, Any]:
    return {
        "id": trace.entry_id,
        "camera": trace.camera_code,
        "at": trace.received_at,
        "ok": trace.outcome == "ok",
        "message": trace.message,
        "stages": [(name, round(seconds * 1000, 1)) for name, seconds in trace.stages],
    }


class Cached(Generic[Value]):
    """What `get` gives in a thread of its own, kept for `seconds`; all who ask at once wait for one call."""

    def __init__(self, seconds: float, get: Callable[[], Value]) -> None:
        self._seconds = seconds
        self._get = get
        self._pool = ThreadPoolExecutor(1, get.__name__)
        self._at = float("-inf")
        self._future: asyncio.Future[Value] | None = None

    async def value(self) -> Value:
        """The value, as old as that at most."""
        if self._future is None or (self._future.done() and time.monotonic() - self._at > self._seconds):
            self._future = asyncio.get_running_loop().run_in_executor(self._pool, self._get)
            self._future.add_done_callback(self._got)
        return await asyncio.shield(self._future)

    def forget(self) -> None:
        """The next one who asks gets a new value."""
        self._future = None

    def _got(self, _: "asyncio.Future[Value]") -> None:
        self._at = time.monotonic()
