"""Files that appear whole or not at all, whatever happens while they are written."""

import os
import secrets
import time
from contextlib import suppress

DRAFT = ".framesrv-"  # begins the name of a file that is being written
ABANDONED = 600.0  # s after which a draft is taken for one that its writer has left


def write_file(
    path: str | os.PathLike[str],
    content: bytes,
    *,
    mode: int | None = None,
    group: int | None = None,
    directory: int | None = None,
    durable: bool = False,
) -> None:
    """Writes a file beside its place, then moves it there; replaces one of that name.

    Args:
        path: of the file; relative to `directory` if that is given.
        content: all of it.
        mode: its permissions; those that the umask leaves to everybody where None.
        group: the number of its group; this process's own where None.
        directory: an open one (openat(2)), so that no symbolic link leads elsewhere.
        durable: whether it is to be on the disk when this returns, and not only in memory.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    parent, _ = os.path.split(path)
    draft = os.path.join(parent, f"{DRAFT}{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(draft, flags, 0o644 if mode is None else 0o600, dir_fd=directory), "wb") as file:
            file.write(content)
            if group is not None:
                os.fchown(file.fileno(), -1, group)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path, src_dir_fd=directory, dst_dir_fd=directory)
        if durable:
            _sync_directory(parent or ".", directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=directory)
        raise


def sweep(directory: int) -> int:
    """Removes the drafts that killed writers have left in an open directory; says how many.

    Raises:
        OSError: the directory cannot be read.
    """
    count = 0
    for name in os.listdir(directory):
        if name.startswith(DRAFT) and name.endswith(".tmp"):
            with suppress(FileNotFoundError):
                if time.time() - os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime > ABANDONED:
                    os.unlink(name, dir_fd=directory)
                    count += 1
    return count


def _sync_directory(path: str, directory: int | None) -> None:
    """Puts the names in a directory on the disk (fsync(2), "does not necessarily ensure that the entry...")."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
