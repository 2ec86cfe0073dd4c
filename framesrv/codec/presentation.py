"""How a camera's pictures are to be given, as its configuration says."""

from dataclasses import dataclass
from fractions import Fraction

from framesrv.segment.layout import PixelFormat


@dataclass(frozen=True, slots=True)
class Presentation:
    """What goes before what a stream says of itself.

    Attributes:
        pixel_format: of the planes.
        deinterlace: where pictures are interlaced.
        aspect: width of the whole picture by its height, before it is turned; None: as the stream says.
        rotate: degrees clockwise that it is to be turned by; None: as the stream says.
    """

    pixel_format: PixelFormat = "yuv420p"
    deinterlace: bool = True
    aspect: Fraction | None = None
    rotate: int | None = None
