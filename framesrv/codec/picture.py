"""A decoded frame, on its way to whoever wants it."""

from typing import NamedTuple

from framesrv.codec.orientation import AS_IT_IS, Orientation
from framesrv.segment.layout import PixelFormat, Pixels
from framesrv.segment.stamp import Stamp


class SourceFrame(NamedTuple):
    """A decoded frame, in the source's own memory, valid until the next one is asked for.

    Attributes:
        orientation: how it is to be mirrored and turned to stand upright, as the stream says.
    """

    planes: tuple[Pixels, ...]
    width: int
    height: int
    pixel_format: PixelFormat
    stamp: Stamp
    orientation: Orientation = AS_IT_IS
