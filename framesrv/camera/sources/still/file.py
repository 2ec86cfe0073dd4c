"""A picture in a file, which somebody may put another one in the place of: a camera by FTP, for instance."""

import os
import re
import time

from framesrv.camera.sources.still.image import LARGEST, Image, too_large
from framesrv.errors import SourceError

_SCHEME = re.compile(r"file:(//)?", re.IGNORECASE)


class File:
    """The picture in one file.

    Args:
        source: its path, or a ``file:`` URL.
    """

    def __init__(self, source: str) -> None:
        match = _SCHEME.match(source)
        self._path = source[match.end() :] if match else source
        self._known: tuple[int, ...] = ()

    def get(self) -> Image | None:
        """See `Origin.get`."""
        try:
            with open(self._path, "rb") as file:
                its = os.fstat(file.fileno())
                version = (its.st_ino, its.st_size, its.st_mtime_ns)
                if version == self._known:
                    return None
                if its.st_size > LARGEST:
                    raise too_large(its.st_size)
                now = (time.monotonic_ns(), time.time_ns())
                image = Image(file.read(LARGEST), *now)
        except OSError as error:
            raise SourceError(f"the picture cannot be read: {error.strerror}", "lost") from error
        self._known = version
        return image

    def close(self) -> None:
        """See `Origin.close`."""
