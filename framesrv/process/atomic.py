"""Files that appear whole or not at all, whatever happens while they are written."""

import os
import secrets
from contextlib import suppress


def write_file(
    path: str | os.PathLike[str], content: bytes, *, mode: int | None = None, directory: int | None = None
) -> None:
    """Writes a file beside its place, then moves it there; replaces one of that name.

    Args:
        path: of the file; relative to `directory` if that is given.
        content: all of it.
        mode: its permissions; those that the umask leaves to everybody where None.
        directory: an open one (openat(2)), so that no symbolic link leads elsewhere.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    parent, _ = os.path.split(path)
    draft = os.path.join(parent, f".{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(draft, flags, 0o644 if mode is None else 0o600, dir_fd=directory), "wb") as file:
            file.write(content)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
        os.replace(draft, path, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=directory)
        raise
