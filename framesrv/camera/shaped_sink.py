"""A sink for a source whose pictures are turned on their way into the segment."""

from framesrv.camera.sources import Sink
from framesrv.codec.shape import Shape
from framesrv.errors import Cause
from framesrv.segment.layout import PixelFormat


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
