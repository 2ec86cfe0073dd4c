"""How long pictures stay in a directory: some days, and while the disk has room. The oldest go first.

Only what snapd itself can have written goes: a regular file of this process's own user, with one name, that begins as
a JPEG or an MP4 does, on the file system of the store, in directories that are reached without a symbolic link.
Whatever else lies there stays, and so does what another program has linked to.

A thread of its own looks through the directory: once an hour for old pictures, and when an upload finds too little
room. It holds no more than `BATCH` names in memory, and rests between.
"""

import errno
import fcntl
import heapq
import logging
import math
import os
import random
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from framesrv.process.atomic import DRAFT
from framesrv.process.unforeseen import Unforeseen
from snapd.telemetry.counters import Counters

DAY = 86400.0  # s
EVERY = 3600.0  # s between looks for old pictures
REST_AFTER, REST = 500, 0.02  # files, and the s of rest after so many
BATCH = 10_000  # pictures that are removed, at most, in one look for room
SLACK = 1.1  # times the room that must be there is made, so that not every upload lacks it
NOTHING_LEFT = 300.0  # s until the next look for room where the last one found nothing to remove
EMPTY_FOR = DAY  # s after which an empty directory goes: nobody is about to write to it
JPEG, MP4 = b"\xff\xd8\xff", b"ftyp"  # of which the second stands behind four bytes of length

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
BELOW = DIRECTORY | os.O_NOFOLLOW

logger = logging.getLogger(__name__)


class Picture(NamedTuple):
    """One that may go; `path` are the parts of its path below the store."""

    written_at: float
    path: tuple[str, ...]
    nbytes: int


class Retention:
    """Removes pictures of one store.

    Args:
        root: its directory.
        keep: days; 0: for ever.
        min_free: the share of the file system that must be free; 0: any.
        counters: counts what was removed.
    """

    def __init__(self, root: Path, keep: float, min_free: float, counters: Counters) -> None:
        self._root, self._keep, self._min_free = root, keep, min_free
        self._counters = counters
        self._unforeseen = Unforeseen(logger)
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._look_at = -math.inf  # monotonic time of the next look for old pictures
        self._not_before = 0.0  # monotonic time of the next look for room
        self._said = False  # that there is nothing left to remove

    def begin(self) -> None:
        """Starts the thread, if there is anything to do."""
        if self._thread is None and (self._keep or self._min_free):
            self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread; does not wait for it."""
        self._stopped.set()
        self._woken.set()

    def look(self, free_bytes: int, size_bytes: int) -> None:
        """Has the thread make room, if so little is left. For any thread."""
        if self._min_free and free_bytes < self._min_free * size_bytes and time.monotonic() >= self._not_before:
            self._woken.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.tidy()
            except Exception as error:  # noqa: BLE001  the thread's outermost
                self._unforeseen.tell("Pictures could not be looked through, going on", error)
            self._woken.wait(EVERY * random.uniform(0.9, 1.1))  # noqa: S311
            self._woken.clear()

    def tidy(self) -> None:
        """Removes what is too old, then the oldest until there is room."""
        try:
            if self._keep and time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + EVERY * 0.8  # not at each look for room
                self._remove_old()
            if self._min_free:
                with _alone(self._root) as alone:
                    if alone:
                        self._make_room()
        except OSError as error:
            if error.errno != errno.ENOENT:  # nothing was written yet
                logger.warning("Pictures cannot be looked through path=%s reason=%s", self._root, error.strerror)

    def _remove_old(self) -> None:
        before = time.time() - self._keep * DAY
        count = nbytes = 0
        for picture in self._pictures(remove_empty=True):
            if picture.written_at < before and self._remove(picture):
                count, nbytes = count + 1, nbytes + picture.nbytes
        if count:
            self._told(count, nbytes, "age")

    def _make_room(self) -> None:
        last = Picture(-math.inf, (), 0)
        while (missing := self._missing()) > 0 and not self._stopped.is_set():
            # bound here, as the next batch begins behind this one: what of it could not be removed is no picture
            oldest = heapq.nsmallest(BATCH, (one for one in self._pictures() if one > last))
            if not oldest:
                self._nothing_left()
                return
            last = oldest[-1]
            count = nbytes = 0
            for picture in oldest:
                if nbytes >= missing or self._stopped.is_set():
                    break
                if self._remove(picture):
                    count, nbytes = count + 1, nbytes + picture.nbytes
            if count:
                self._told(count, nbytes, "space")
                self._said = False

    def _nothing_left(self) -> None:
        self._not_before = time.monotonic() + NOTHING_LEFT
        if not self._said:
            self._said = True
            logger.error(
                "Too little room path=%s: no picture that snapd has written is left to remove, free space", self._root
            )

    def _missing(self) -> int:
        """Bytes to be freed; 0 where there is room."""
        status = os.statvfs(self._root)
        free, size = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
        return 0 if free >= self._min_free * size else int(min(1.0, self._min_free * SLACK) * size) - free

    def _told(self, count: int, nbytes: int, why: str) -> None:
        self._counters.add("removed", why, count)
        logger.info("Removed the oldest pictures count=%d bytes=%d why=%s path=%s", count, nbytes, why, self._root)

    def _pictures(self, *, remove_empty: bool = False) -> Iterator[Picture]:
        """Every file that may go, directory by directory; rests now and then. Raises OSError for the root alone."""
        waiting: list[tuple[str, ...]] = [()]
        device, seen, uid = os.stat(self._root).st_dev, 0, os.geteuid()
        while waiting and not self._stopped.is_set():
            parts = waiting.pop()
            with self._opened(parts) as directory:
                if directory is None or os.fstat(directory).st_dev != device:
                    continue
                empty = True
                with os.scandir(directory) as entries:
                    for entry in entries:
                        empty = False
                        seen += 1
                        if seen % REST_AFTER == 0 and self._stopped.wait(REST):
                            return
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((*parts, entry.name))
                        elif picture := _picture(directory, (*parts, entry.name), uid):
                            yield picture
                status = os.fstat(directory)
            forgotten = status.st_uid == uid and time.time() - status.st_mtime > EMPTY_FOR
            if remove_empty and empty and parts and forgotten:
                self._remove_directory(parts)

    def _remove(self, picture: Picture) -> bool:
        *parents, name = picture.path
        with self._opened(tuple(parents)) as directory:
            if directory is None:
                return False
            now = _picture(directory, picture.path, os.geteuid())
            # written anew since it was seen: that is another picture
            if now is None or now.written_at != picture.written_at or not _is_own(directory, name):
                return False
            with suppress(OSError):  # a directory that may not be changed, say: it is not ours
                os.unlink(name, dir_fd=directory)
                return True
        return False

    def _remove_directory(self, parts: tuple[str, ...]) -> None:
        *parents, name = parts
        with self._opened(tuple(parents)) as directory, suppress(OSError):
            if directory is not None:
                os.rmdir(name, dir_fd=directory)

    def _opened(self, parts: tuple[str, ...]) -> "_Opened":
        return _Opened(self._root, parts)


@contextmanager
def _alone(root: Path) -> Iterator[bool]:
    """Whether no other process makes room below `root` in this block: two at once would remove twice as much."""
    directory = os.open(root, DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(directory)


class _Opened:
    """A directory below a root, reached without a symbolic link; None where that is not possible."""

    def __init__(self, root: Path, parts: tuple[str, ...]) -> None:
        self._root, self._parts = root, parts
        self._directory: int | None = None

    def __enter__(self) -> int | None:
        directory = os.open(self._root, DIRECTORY)
        for name in self._parts:
            try:
                below = os.open(name, BELOW, dir_fd=directory)
            except OSError:
                return None
            finally:
                os.close(directory)
            directory = below
        self._directory = directory
        return directory

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            os.close(self._directory)


def _picture(directory: int, path: tuple[str, ...], uid: int) -> Picture | None:
    """A file as far as its inode tells; None for one that snapd cannot have written."""
    name = path[-1]
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_uid != uid or status.st_nlink != 1 or name.startswith(DRAFT):
        return None
    return Picture(status.st_mtime, path, status.st_blocks * 512)


def _is_own(directory: int, name: str) -> bool:
    """Whether it begins as what snapd writes."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        head = os.read(descriptor, 8)
        return head.startswith(JPEG) or head[4:] == MP4
    except OSError:
        return False
    finally:
        os.close(descriptor)
