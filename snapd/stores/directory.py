"""Pictures as files below one directory, which nothing in a request can leave.

Each part of a path is opened relative to the one before it and never through a symbolic link, so neither
names nor links that someone put there lead outside.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from framesrv.process.atomic import write_file
from snapd.errors import StoreError
from snapd.wire.request import is_path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
BELOW = DIRECTORY | os.O_NOFOLLOW
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryStore:
    """Files below `path`.

    Args:
        path: made if it does not exist.
        base_url: URLs are below it; if empty, they are ``file://`` URLs.
    """

    def __init__(self, path: str, base_url: str = "") -> None:
        self._root = Path(path).absolute()
        self._base_url = base_url.rstrip("/") or self._root.as_uri()

    def put(self, key: str, jpeg: bytes) -> str:
        """Writes `jpeg` whole, or not at all, and gives its URL."""
        if not is_path(key):
            raise StoreError(f"{key!r} is no path below the store", "refused")
        *parents, name = key.split("/")
        try:
            directory = self._descend(parents)
            try:
                write_file(name, jpeg, directory=directory)
            finally:
                os.close(directory)
        except OSError as error:
            message = f"{key!r} cannot be written below {self._root}: {error.strerror}"
            raise StoreError(message, "unwritable") from error
        return f"{self._base_url}/{quote(key, safe='/-_.~')}"

    def check(self) -> str:
        """Writes and removes a file."""
        try:
            directory = self._descend([])
            try:
                name = _temporary()
                os.close(os.open(name, NEW_FILE, 0o600, dir_fd=directory))
                os.unlink(name, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise StoreError(f"{self._root} cannot be written: {error.strerror}", "unwritable") from error
        return f"{self._root} can be written"

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


def _temporary() -> str:
    return f".snapd-{secrets.token_hex(8)}.tmp"
