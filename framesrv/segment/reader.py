"""`SegmentReader`: the newest frames of one camera, for any process on the host that may read its segment.

It attaches by itself, at first use and whenever the segment has been replaced. Every wait sleeps on the segment's
futex word (or on the directory, while there is no segment) and has a deadline.
"""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from framesrv.segment.attachment import Attacher
from framesrv.segment.file import SHM_DIRECTORY, segment_path
from framesrv.segment.frame import Frame
from framesrv.segment.inotify import DirectoryWatch
from framesrv.segment.owner import named_user
from framesrv.segment.search import LIVENESS, Search

if TYPE_CHECKING:
    from framesrv.segment.coroutines import AsyncFrames


class SegmentReader:
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
        self.code = code
        self._prefix = prefix
        self._attacher = Attacher(code, segment_path(prefix, code), named_user(owner))

    def __reduce__(self) -> tuple[Callable[..., "SegmentReader"], tuple[type[Self], str, str, str | int]]:
        owner = self._attacher.owner
        return _reader, (type(self), self.code, self._prefix, "" if owner is None else owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def due_after(self) -> float:
        """Seconds after a frame in which the next one may come, of a slow camera; 0 of any other, or if unknown."""
        attachment = self._attacher.attached()
        return 0.0 if attachment is None else attachment.due_after

    def close(self) -> None:
        """Detaches. Frames that are still pinned stay valid until they are released."""
        self._attacher.close()

    def latest(self, max_age: float | None = 1.0, timeout: float = 2.0) -> Frame:
        """The newest frame, pinned: use it in a ``with``, or release it.

        While it waits, a decoder on demand is asked to decode. It takes the next packet for that: with a `timeout`
        of 0 such a camera gives nothing.

        Args:
            max_age: seconds; an older frame is not given but a new one waited for. 0: one that arrives after the
                call. None: any age will do. Of a camera that gives less than two frames a second, half a second or
                more means until half as long again as usual has passed without the next.
            timeout: seconds to wait for such a frame; 0 does not wait.

        Raises:
            FrameUnavailableError: no such camera, or no frame in time; its `reason` says which.
            SegmentError: the segment is damaged, of another version, or not for this user to read.
        """
        with Search(self._attacher, max_age) as search:
            return self._found(search, timeout)

    def frames(self, timeout: float = 5.0) -> Iterator[Frame]:
        """Every frame from now on, the newest each time, pinned for the body of the loop.

        A body slower than the camera misses frames (a gap in `Frame.seq`), but never gets one twice or out of
        order. The numbers begin anew where the camera's decoder was stopped and started again. A decoder on demand
        decodes every frame from the first one asked for until the iterator is closed.

        Args:
            timeout: seconds to wait for each.

        Raises:
            FrameUnavailableError: none came in time.
            SegmentError: as `latest`.
        """
        search = Search(self._attacher)
        search.pass_over()
        return self._frames(search, timeout)

    async def latest_async(self, max_age: float | None = 1.0, timeout: float = 2.0) -> Frame:
        """`latest` for a coroutine: the event loop goes on while it waits."""
        from framesrv.segment import coroutines  # asyncio, which many programs have no use for

        return await coroutines.latest(Search(self._attacher, max_age), timeout)

    def frames_async(self, timeout: float = 5.0) -> "AsyncFrames":
        """`frames` for a coroutine, by ``async for``: each is pinned until the next one is asked for.

        All coroutines of a process wait by one thread. Leave the loop early, and the pin is given back with the last
        reference to what this returns, or by its `aclose`; it is a context manager as well.
        """
        from framesrv.segment import coroutines

        search = Search(self._attacher)
        search.pass_over()
        return coroutines.AsyncFrames(search, timeout)

    def _frames(self, search: Search, timeout: float) -> Iterator[Frame]:
        with search:
            while True:
                with self._found(search, timeout) as frame:
                    yield frame

    def _found(self, search: Search, timeout: float) -> Frame:
        deadline = time.monotonic() + timeout
        watch: DirectoryWatch | None = None
        try:
            while (frame := search.look()) is None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise search.unavailable()
                if search.attachment is not None:
                    search.ask()
                    if not search.attachment.segment.wait(search.sequence, min(LIVENESS, remaining)):
                        search.check()
                elif watch is None:  # look once more when it is made
                    watch = DirectoryWatch(SHM_DIRECTORY)
                else:
                    watch.wait(min(LIVENESS, remaining))
            return frame
        finally:
            if watch is not None:
                watch.close()


def _reader(kind: type[SegmentReader], code: str, prefix: str, owner: str | int) -> SegmentReader:
    return kind(code, prefix=prefix, owner=owner)
