"""Following cameras for those who watch them: one thread a watched camera, however many watch, and none without.

It sleeps until the camera has a new frame, and tells the event loop, ten times a second at most. A camera on demand
is decoded for as long.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from framesrv import FrameReader, FramesrvError, FrameUnavailableError
from framesrv.settings import ShmSettings
from snapd.pages.pictures import FrameId

MAX_FPS = 10
SILENCE = 10.0  # s without a frame after which whoever watches a camera that is not live is sent away


class FpsLimit:
    """Lets so many a second pass on average, and after a pause no crowd."""

    def __init__(self, fps: float) -> None:
        self._interval = 1 / fps
        self._due = 0.0

    def is_due(self) -> bool:
        """Whether one may pass now."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = max(self._due + self._interval, now + self._interval / 2)
        return True


class Follower:
    """One camera that is watched. Made and used in the event loop's thread.

    Attributes:
        viewers: how many watch.
    """

    def __init__(self, code: str, shm: ShmSettings) -> None:
        self.viewers = 0
        self._code = code
        self._shm = shm
        self._loop = asyncio.get_running_loop()
        self._newest: FrameId | None = None
        self._error: FramesrvError | None = None
        self._changed = asyncio.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=f"follow-{code}", daemon=True).start()

    async def next(self, after: FrameId | None) -> FrameId:
        """The newest frame that is not `after`; waits for one.

        Raises:
            FramesrvError: none came.
        """
        while self._error is None and (self._newest is None or self._newest == after):
            await self._changed.wait()
        if self._error is not None:
            raise self._error
        if self._newest is None:
            raise ValueError("no frame and no error")
        return self._newest

    @property
    def has_failed(self) -> bool:
        """Whether nobody can watch any more."""
        return self._error is not None

    def end(self) -> None:
        """Nobody watches any more."""
        self._ended.set()

    def _run(self) -> None:
        limit = FpsLimit(MAX_FPS)
        with FrameReader(self._code, prefix=self._shm.prefix, owner=self._shm.owner) as reader:
            while not self._ended.is_set():
                try:
                    for frame in reader.frames(timeout=SILENCE):
                        if self._ended.is_set():
                            return
                        if limit.is_due():
                            self._tell(FrameId.of(frame), None)
                except FramesrvError as error:
                    if isinstance(error, FrameUnavailableError) and error.reason == "stale":
                        continue  # it is there, and its frames are far between
                    self._tell(None, error)
                    return

    def _tell(self, newest: FrameId | None, error: FramesrvError | None) -> None:
        def told() -> None:
            self._newest, self._error = newest or self._newest, error
            self._changed.set()
            self._changed = asyncio.Event()

        try:
            self._loop.call_soon_threadsafe(told)
        except RuntimeError:  # the loop has ended, and the process with it
            self._ended.set()


class Followers:
    """All that is watched."""

    def __init__(self, shm: ShmSettings) -> None:
        self._shm = shm
        self._all: dict[str, Follower] = {}

    @asynccontextmanager
    async def watch(self, code: str) -> AsyncIterator[Follower]:
        """Watches a camera for the length of the block."""
        follower = self._all.get(code)
        if follower is None or follower.has_failed:
            follower = self._all[code] = Follower(code, self._shm)
        follower.viewers += 1
        try:
            yield follower
        finally:
            follower.viewers -= 1
            if not follower.viewers:
                follower.end()
                if self._all.get(code) is follower:
                    del self._all[code]

    @property
    def viewers(self) -> int:
        """How many watch."""
        return sum(follower.viewers for follower in self._all.values())

    @property
    def cameras(self) -> int:
        """How many cameras are watched."""
        return len(self._all)
