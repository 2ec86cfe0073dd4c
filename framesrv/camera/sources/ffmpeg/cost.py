"""What a stream may cost besides its pictures: memory and processor time, while FFmpeg opens it or reads from it.

A session description, a playlist, a header or a packet is as long as its sender likes, and FFmpeg takes it all. So
its allocations fail beyond a bound (``RLIMIT_DATA``, see setrlimit(2)), and an opening that keeps the processor busy
has its connections cut: what PyAV lets one end a call of FFmpeg's by is the elapsed time alone.
"""

import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from framesrv.errors import SourceLimitError

MEMORY = 64 * 2**20  # bytes: to open a stream takes 45 MB
PIXEL_MEMORY = 6  # bytes for each of max_pixels: two pictures in ten bits, of which one is decoded to open a stream
DRIVER_MEMORY = 2**30  # bytes: a graphics card's driver maps far more than it uses
PROCESSOR = 5.0  # s of an opening; the largest pictures take a fraction of one
BUSY = 0.25  # of the time-out: a wait in vain costs nothing, where nothing comes
LOOK_EVERY = 0.1  # s

logger = logging.getLogger(__name__)


class Cost:
    """What one camera's stream may cost.

    Args:
        max_pixels: of a picture.
        timeout: seconds after which FFmpeg gives up waiting.
        driver: whether a graphics card decodes it.

    Attributes:
        memory: bytes that an opening may take, and what is read for one packet.
    """

    def __init__(self, max_pixels: int, timeout: float, *, driver: bool = False) -> None:
        self.memory = MEMORY + PIXEL_MEMORY * max_pixels + DRIVER_MEMORY * driver
        self._max_pixels = max_pixels
        self._busy = min(PROCESSOR, timeout * BUSY)

    @contextmanager
    def opening(self) -> Iterator["Processor"]:
        """Bounds what is done in the block, in this thread, to open a stream."""
        with Processor(PROCESSOR) as processor, data_limit.within(self.memory):
            yield processor

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Bounds the memory that is taken in the block."""
        with data_limit.within(self.memory):
            yield

    def was_busy(self, spent: float) -> bool:
        """Whether so many seconds of processor time are too many for a wait in vain."""
        return spent >= self._busy

    def much_memory(self, what: str) -> SourceLimitError:
        """That `what` takes too much memory."""
        return SourceLimitError(
            f"{what} takes more than the {self.memory // 1_000_000} MB of memory that max_pixels = "
            f"{self._max_pixels} allows: see whether the camera is what answers there"
        )

    def much_processor(self, what: str) -> SourceLimitError:
        """That `what` takes too much time of the processor."""
        return SourceLimitError(
            f"{what} takes more than {self._busy:g} s of processor time, without a picture: see whether the "
            "camera is what answers there"
        )


class Processor:
    """The processor time of the thread that enters it; once that is above the limit, its new connections are cut.

    A decoder process makes no other connections meanwhile.

    Attributes:
        exceeded: whether it was.
    """

    def __init__(self, limit: float) -> None:
        self.exceeded = False
        self._limit = limit
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._began = time.clock_gettime(self._clock)
        self._others = set(_sockets().values())
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, name="cost", daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watch.join()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return time.clock_gettime(self._clock) - self._began

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            if self.spent > self._limit:
                self.exceeded = True
                for descriptor, inode in _sockets().items():
                    if inode not in self._others:
                        _cut(descriptor, inode)


def _sockets() -> dict[int, int]:
    """The sockets of this process: descriptor to inode."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            found[int(name)] = int(target[8:-1])
    return found


def _cut(descriptor: int, inode: int) -> None:
    """Ends a connection under whoever uses it, unless the descriptor is of another by now."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if os.fstat(connection.fileno()).st_ino == inode:
                connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:  # closed meanwhile, or not connected, so that nothing comes from it
        logger.debug("a connection is not cut: %s", error)


class DataLimit:
    """The memory that this process may take, lowered for as long as a block lasts. The kernel holds to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._usual = resource.RLIM_INFINITY
        self._works = True

    @contextmanager
    def within(self, nbytes: int) -> Iterator[None]:
        """Allows so many bytes more than are used now."""
        with self._lock:
            if not self._blocks:
                self._usual = resource.getrlimit(resource.RLIMIT_DATA)[0]
            self._blocks += 1
            self._set(nbytes)
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._set(None)

    def _set(self, nbytes: int | None) -> None:
        if not self._works:
            return
        try:
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            limits = [limit for limit in (self._usual, hard) if limit != resource.RLIM_INFINITY]
            if nbytes is not None:
                limits.append(_used() + nbytes)
            resource.setrlimit(resource.RLIMIT_DATA, (min(limits, default=resource.RLIM_INFINITY), hard))
        except (OSError, ValueError) as error:  # a sandbox of another kind than systemd's
            self._works = False
            logger.warning("The memory that a stream may take is not bounded here: %s", error)


def _used() -> int:
    """Bytes that count for the limit, see statm in proc(5)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


data_limit = DataLimit()
