"""A decoded frame, on its way to whoever wants it."""

from dataclasses import dataclass

from framesrv.segment.frame import Stamp
from framesrv.segment.layout import PixelFormat, Pixels


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A decoded frame, in the source's own memory, valid until the next one is asked for.

    Attributes:
        turn: degrees clockwise by which it is to be turned to stand upright, as the stream says; 0, 90, 180 or 270.
    """

    planes: tuple[Pixels, ...]
    width: int
    height: int
    pixel_format: PixelFormat
    stamp: Stamp
    turn: int = 0
