"""A picture as it is stored, and who gives it."""

from dataclasses import dataclass
from typing import Protocol

from framesrv.errors import SourceError, SourceLimitError

LARGEST = 32 * 2**20  # bytes
_BEGINNINGS = {b"\xff\xd8\xff": "mjpeg", b"\x89PNG\r\n\x1a\n": "png"}  # to the names of FFmpeg's decoders


class NoImageError(SourceError):
    """What is there is no single picture that can be decoded."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as it came.

    Attributes:
        data: JPEG or PNG.
        monotonic: nanoseconds at which it began to come.
        unix: the same by the wall clock.
    """

    data: bytes
    monotonic: int
    unix: int

    @property
    def codec(self) -> str:
        """The name of its decoder. Raises NoImageError where there is none."""
        for beginning, name in _BEGINNINGS.items():
            if self.data.startswith(beginning):
                return name
        raise NoImageError("what is there is no picture in JPEG or PNG", "format")


class Origin(Protocol):
    """Where a picture is."""

    def get(self) -> Image | None:
        """The picture as it is now; None where it is still the one that was given last.

        Raises:
            SourceError: it cannot be had.
        """

    def close(self) -> None:
        """Lets go of what is open."""


def too_large(nbytes: int | None = None) -> SourceLimitError:
    """That a picture has so many bytes; without a number, that it has no end."""
    size = "has no end" if nbytes is None else f"has {nbytes} bytes"
    return SourceLimitError(f"its picture {size}, more than {LARGEST} bytes are not taken")
