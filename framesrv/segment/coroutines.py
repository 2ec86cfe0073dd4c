"""Frames for coroutines: the event loop goes on while they wait, and all wait by one thread of the process."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from framesrv.segment.file import SHM_DIRECTORY
from framesrv.segment.frame import Frame
from framesrv.segment.inotify import DirectoryWatch
from framesrv.segment.search import LIVENESS, Search
from framesrv.segment.word_watch import WATCH, Subscription


class Bell:
    """Wakes one coroutine when something may be new for its search."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[bool] | None = None
        self._rung = False
        self._is_called = False
        self._subscription: Subscription | None = None
        self._directory: DirectoryWatch | None = None

    async def found(self, timeout: float) -> Frame:
        """Waits for the frame that is searched for; see `Search.look` and `FrameReader.latest` for what is raised."""
        search, deadline = self._search, self._loop.time() + timeout
        while True:
            self._rung = False
            frame = search.look()
            if frame is not None:
                return frame
            remaining = deadline - self._loop.time()
            if remaining <= 0:
                raise search.unavailable()
            search.ask()
            self._listen()
            if not await self._rings(min(LIVENESS, remaining)):
                search.check()

    def close(self) -> None:
        """Listens no more; in the loop's thread."""
        self._end_subscription()
        self._end_directory()

    def _listen(self) -> None:
        """Has the bell rung by the segment that was looked at; where there is none, by the directory of segments."""
        attachment = self._search.attachment
        if attachment is None:
            self._end_subscription()
            if self._directory is None:
                self._directory = DirectoryWatch(SHM_DIRECTORY)
                if self._directory.fileno() >= 0:
                    self._loop.add_reader(self._directory.fileno(), self._change)
                self._rung = True  # look once more when it is made
            return
        self._end_directory()
        if self._subscription is None or self._subscription.segment is not attachment.segment:
            self._end_subscription()
            self._subscription = WATCH.subscribe(attachment.segment, self._search.sequence, self._call)

    async def _rings(self, timeout: float) -> bool:
        if self._rung:
            return True
        waiting: asyncio.Future[bool] = self._loop.create_future()
        self._waiting = waiting
        timer = self._loop.call_later(timeout, _settle, waiting, False)
        try:
            return await waiting
        finally:
            timer.cancel()
            self._waiting = None

    def _call(self) -> None:
        """In the watching thread: has the loop ring the bell."""
        if not self._is_called:
            self._is_called = True
            try:
                self._loop.call_soon_threadsafe(self._ring)
            except RuntimeError:  # the loop is closed, and nobody waits
                return

    def _ring(self) -> None:
        self._is_called = False
        self._rung = True
        if self._waiting is not None:
            _settle(self._waiting, True)

    def _change(self) -> None:
        """The directory of segments has changed."""
        if self._directory is not None:
            self._directory.wait(0)
            self._ring()

    def _end_subscription(self) -> None:
        if self._subscription is not None:
            WATCH.end(self._subscription)
            self._subscription = None

    def _end_directory(self) -> None:
        if self._directory is not None:
            if self._directory.fileno() >= 0:
                self._loop.remove_reader(self._directory.fileno())
            self._directory.close()
            self._directory = None


class AsyncFrames(AsyncIterator[Frame]):
    """Every new frame of a camera, pinned until the next one is asked for."""

    def __init__(self, search: Search, timeout: float) -> None:
        self._search = search
        self._timeout = timeout
        self._bell: Bell | None = None
        self._frame: Frame | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        self._release()
        if self._bell is None:
            self._bell = Bell(self._search)
        self._frame = await self._bell.found(self._timeout)
        return self._frame

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._release()
        self._search.close()

    async def aclose(self) -> None:
        """Gives the pin back, and asks for frames no more."""
        self._release()
        self._search.close()
        if self._bell is not None:
            self._bell.close()

    def _release(self) -> None:
        frame, self._frame = self._frame, None
        if frame is not None:
            frame.release()


async def latest(search: Search, timeout: float) -> Frame:
    """See `FrameReader.latest_async`."""
    with search:
        bell = Bell(search)
        try:
            return await bell.found(timeout)
        finally:
            bell.close()


def _settle(waiting: "asyncio.Future[bool]", is_rung: bool) -> None:
    if not waiting.done():
        waiting.set_result(is_rung)
