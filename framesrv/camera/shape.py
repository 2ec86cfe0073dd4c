"""The shape in which a camera's pictures are to be shown: upright, and with the right proportions.

A picture is turned on its way into the segment. It is not stretched there: readers get the camera's own pixels, and
are told how wide each one is.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from framesrv.camera.sources import Sink, SourceFrame
from framesrv.errors import Cause
from framesrv.segment.frame import SQUARE
from framesrv.segment.layout import PixelFormat
from framesrv.settings import Camera

NARROWEST = Fraction(1, 5)  # pixel, or its inverse the widest, that anybody can mean


class Shape:
    """The shape of one camera's pictures.

    Args:
        camera: whose ``aspect`` and ``rotate`` go before what the stream says.
    """

    def __init__(self, camera: Camera) -> None:
        self._aspect = None if camera.aspect == "auto" else Fraction(*map(int, camera.aspect.split(":")))
        self._turn: int | None = None if camera.rotate == "auto" else camera.rotate
        self._turned: int = self._turn or 0  # the newest picture

    def applied(self, frame: SourceFrame) -> SourceFrame:
        """The frame upright, as views of the same memory, with the ratio of its pixels."""
        ratio = frame.stamp.sample_aspect_ratio
        if self._aspect is not None:
            ratio = self._aspect * frame.height / frame.width
        if not NARROWEST <= ratio <= 1 / NARROWEST:
            ratio = SQUARE
        turn = self._turned = frame.turn if self._turn is None else self._turn
        if not turn and ratio == frame.stamp.sample_aspect_ratio:
            return frame
        quarters = turn // 90
        if quarters % 2:
            ratio = 1 / ratio
        width, height = self.size(frame.width, frame.height)
        return replace(
            frame,
            planes=tuple(np.rot90(plane, -quarters) for plane in frame.planes),
            width=width,
            height=height,
            stamp=frame.stamp._replace(sample_aspect_ratio=ratio, rotated=turn),
            turn=0,
        )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size in the segment of a picture of that size."""
        return (height, width) if self._turned % 180 else (width, height)


class ShapedSink:
    """A sink that is told of sizes as they are in the segment; see `Sink`."""

    def __init__(self, sink: Sink, shape: Shape) -> None:
        self._sink = sink
        self._shape = shape
        self.count = sink.count
        self.active = sink.active
        self.via = sink.via
        self.clock = sink.clock

    def idle(self, width: int, height: int, pixel_format: PixelFormat) -> None:
        """See `Sink.idle`."""
        self._sink.idle(*self._shape.size(width, height), pixel_format)

    def describe(self, *, error: str, cause: Cause) -> None:
        """See `Sink.describe`."""
        self._sink.describe(error=error, cause=cause)

    @property
    def demanded(self) -> bool:
        """See `Sink.demanded`."""
        return self._sink.demanded
