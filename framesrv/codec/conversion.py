"""From the codec's frames to ours: the planes that are wanted, and the stamp."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import cast

import av
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import ColorRange

from framesrv.codec.arrival import Arrival
from framesrv.codec.deinterlacing import Deinterlacer
from framesrv.codec.orientation import AS_IT_IS, Orientation, orientation
from framesrv.codec.picture import SourceFrame
from framesrv.codec.presentation import Presentation
from framesrv.codec.ticks import Tick
from framesrv.segment import colour
from framesrv.segment.layout import Matrix, PixelFormat
from framesrv.segment.stamp import SQUARE, Stamp, usual_matrix

# ITU-T H.273 matrix coefficients; what is not here is unspecified or rare
MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}
PLANAR = ("yuv420p", "yuvj420p")
FULL = int(ColorRange.JPEG)

# whose decoder gives each field as a picture of its own, and flags no others as interlaced (libavcodec/hevc/refs.c)
FIELDS = ("hevc",)
MATRIX = "DISPLAYMATRIX"
LOOK_EVERY = 25  # pictures, for what PyAV tells of none in few steps: that it is mirrored and not turned
UNTOLD = 3  # key frames in a row that tell of no orientation, after which there is none


class Conversion:
    """Makes frames of ours from those of one codec.

    Args:
        wanted: whose `pixel_format` and `deinterlace` count here.
    """

    def __init__(self, wanted: Presentation) -> None:
        self._wanted: PixelFormat = wanted.pixel_format
        self._deinterlacer = Deinterlacer() if wanted.deinterlace else None
        self._orientation, self._untold = AS_IT_IS, 0  # told with some pictures, and meant for those after them
        self._unlooked = LOOK_EVERY

    def source_frame(
        self,
        frame: av.VideoFrame,
        arrival: Arrival,
        sample_aspect_ratio: Fraction | None = None,
        *,
        codec: str = "",
        exif: Orientation | None = None,
        tick: Tick | None = None,
    ) -> SourceFrame:
        """The frame in the pixel format that is wanted; without a copy where it has it already.

        Args:
            frame: as the codec gives it.
            arrival: how it came.
            sample_aspect_ratio: as the stream tells it; None where it does not.
            codec: FFmpeg's name of it.
            exif: how the picture is to be turned by its own Exif, see `codec.exif`; None where it can have none.
            tick: of the stream's clock; None: as the frame has it, which PyAV makes anew each time.
        """
        # between two pictures decoding empties the caches: each call and each look-up here costs microseconds
        ratio = SQUARE if sample_aspect_ratio in (None, 0, 1) else sample_aspect_ratio
        interlaced = frame.interlaced_frame
        is_field = interlaced and codec in FIELDS
        if is_field:  # with every second line of the picture
            ratio /= 2
        form = frame.format
        name = form.name
        full_range = (frame.color_range == FULL or name.startswith("yuvj")) and not form.is_rgb
        matrix = MATRICES.get(frame.colorspace) or usual_matrix(frame.height)
        pts = frame.pts
        if tick is None and frame.time_base:
            tick = Tick.of(frame.time_base)
        stamp = Stamp(
            None if pts is None or tick is None else tick.nanoseconds(pts),
            arrival.captured_ns,
            arrival.monotonic,
            matrix,
            full_range,
            frame.key_frame,
            arrival.clock,
            ratio,
        )
        self.hear(frame, exif)
        picture = self._deinterlacer.applied(frame) if interlaced and self._deinterlacer and not is_field else frame
        if picture is not frame:
            name = picture.format.name
        if self._wanted != "yuv420p" or name not in PLANAR:
            picture = colour.convert(picture, self._wanted, matrix, full_range=full_range)
        planes = colour.planes_of(picture)
        return SourceFrame(planes, picture.width, picture.height, self._wanted, stamp, self._orientation)

    def hear(self, frame: av.VideoFrame, exif: Orientation | None = None) -> None:
        """Takes note of how pictures are to be turned, which the codec tells with few of them, and Exif with each."""
        if exif is not None:
            self._orientation = exif
            return
        self._unlooked += 1
        if not (frame.key_frame or frame.rotation or self._unlooked > LOOK_EVERY):
            return
        self._unlooked = 0
        told = orientation_of(frame)
        if told != AS_IT_IS:
            self._orientation, self._untold = told, 0
        elif frame.key_frame:
            self._untold += 1
            if self._untold == UNTOLD:
                self._orientation = AS_IT_IS


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """As the frame tells it; that it stays as it is where it tells nothing."""
    try:
        # not by `frame.side_data`: the frame and it keep each other, and 3 MB each, until garbage is collected
        data = cast(Callable[[av.VideoFrame], Mapping[str, object]], SideDataContainer)(frame).get(MATRIX)
    except ValueError:  # PyAV does not know all that FFmpeg puts there, as Exif, and gives nothing of it then
        return Orientation(turn=round(-frame.rotation / 90) * 90 % 360)  # which counts the other way
    return AS_IT_IS if data is None else orientation(bytes(cast(bytes, data)))  # any buffer
