"""Pictures as files below one directory, which nothing in a request can leave.

Each part of a path is opened relative to the one before it and never through a symbolic link, so neither
names nor links that someone put there lead outside.
"""

import errno
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from framesrv.process.atomic import sweep, write_file
from snapd.errors import StoreError
from snapd.stores.facts import JPEG, StoreFacts
from snapd.stores.retention import BELOW, DIRECTORY, Retention
from snapd.telemetry.counters import Counters
from snapd.wire.request import is_path

TRIAL = 256 * 1024  # bytes, about a picture of 1920x1080
MOST_SWEPT = 10_000  # directories that are remembered as swept

logger = logging.getLogger(__name__)


class DirectoryStore:
    """Files below `path`.

    Args:
        path: made if it does not exist.
        base_url: URLs are below it; if empty, they are ``file://`` URLs.
        keep: days after which pictures are removed; 0: never.
        min_free: the share of the file system that is kept free by removing the oldest; 0: none.
        counters: counts what is removed.

    Attributes:
        facts: where it is, and how much was left there at the last upload.
    """

    def __init__(
        self,
        path: str,
        base_url: str = "",
        *,
        keep: float = 0.0,
        min_free: float = 0.0,
        counters: Counters | None = None,
    ) -> None:
        self._root = Path(path).absolute()
        self._base_url = base_url.rstrip("/") or self._root.as_uri()
        self._swept: set[tuple[int, int]] = set()  # device and inode of directories
        self.facts = StoreFacts(str(self._root))
        self._is_limited = bool(keep or min_free)
        self._retention = Retention(self._root, keep, min_free, counters or Counters())

    def begin(self) -> None:
        """Removes pictures from now on, as it is configured."""
        self._retention.begin()

    def close(self) -> None:
        """Removes none any more."""
        self._retention.close()

    def put(self, key: str, content: bytes, content_type: str = JPEG, about: Mapping[str, str] | None = None) -> str:
        """Writes `content` whole, or not at all, and gives its URL; a file has no place for the rest."""
        if not is_path(key):
            raise StoreError(f"{key!r} is no path below the store", "refused")
        try:
            try:
                self._write(key, content)
            except FileNotFoundError:  # an empty directory was removed under it
                self._write(key, content)
        except OSError as error:
            cause, why = self._explain(error)
            raise StoreError(f"{key!r} cannot be written: {why}", "unwritable", why, cause=cause) from error
        return f"{self._base_url}/{quote(key, safe='/-_.~')}"

    def check(self) -> str:
        """Writes and removes a file as large as a picture: an empty one finds room on a full disk."""
        try:
            directory = self._descend([])
            try:
                name = ".framesrv-check"
                write_file(name, os.urandom(TRIAL), directory=directory, durable=True)
                os.unlink(name, dir_fd=directory)
            finally:
                self._look_at_space(directory)
                os.close(directory)
        except OSError as error:
            cause, why = self._explain(error)
            raise StoreError(why, "unwritable", why, cause=cause) from error
        return f"{self._root} can be written, {self.facts.free_bytes} bytes free"

    def _write(self, key: str, content: bytes) -> None:
        *parents, name = key.split("/")
        directory = self._descend(parents)
        try:
            self._sweep(directory)
            write_file(name, content, directory=directory, durable=True)
        finally:
            self._look_at_space(directory)
            os.close(directory)

    def _explain(self, error: OSError) -> tuple[str, str]:
        """A word for programs, empty where there is no fitting one, and a sentence that leads to the remedy."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            free = (self.facts.free_bytes or 0) // 1_000_000
            remedy = "raise store.min_free" if self._is_limited else "set store.keep or store.min_free"
            what = "space" if error.errno == errno.ENOSPC else "quota"
            return "full", f"no {what} left in {self._root}: {free} MB free; {remedy}, or free space"
        if error.errno in {errno.EACCES, errno.EPERM}:
            return "", f"{self._root} may not be written by user {os.geteuid()}: see who owns it, and what is in it"
        if error.errno == errno.EROFS:
            return "", f"{self._root} is read-only to this process: see ReadWritePaths= in framesrv-snapd.service"
        return "", f"{self._root} cannot be written: {error.strerror}"

    def _look_at_space(self, directory: int) -> None:
        with suppress(OSError):
            status = os.fstatvfs(directory)
            unit = status.f_frsize
            free, size = status.f_bavail * unit, status.f_blocks * unit
            self.facts = StoreFacts(str(self._root), free, size)
            self._retention.look(free, size)

    def _sweep(self, directory: int) -> None:
        """Removes what a killed snapd has left in a directory, when that is first written to."""
        status = os.fstat(directory)
        place = (status.st_dev, status.st_ino)
        if place in self._swept:
            return
        if len(self._swept) >= MOST_SWEPT:
            self._swept.clear()
        self._swept.add(place)
        if count := sweep(directory):
            logger.info("Removed files that were left half written path=%s count=%d", self._root, count)

    def _descend(self, parents: list[str]) -> int:
        """A descriptor of the directory `parents`, made where it does not exist."""
        self._root.mkdir(parents=True, exist_ok=True)
        directory = os.open(self._root, DIRECTORY)
        for name in parents:
            try:
                below = _open_below(directory, name)
            finally:
                os.close(directory)
            directory = below
        return directory


def _open_below(directory: int, name: str) -> int:
    try:
        return os.open(name, BELOW, dir_fd=directory)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another thread was first
            os.mkdir(name, 0o755, dir_fd=directory)
        return os.open(name, BELOW, dir_fd=directory)
