"""Colour conversion by libswscale, through PyAV: the right matrix, scaled in one pass.

Video is mostly limited range and, from 720 lines up, BT.709; BGR is full range.
"""

import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from framesrv.segment.layout import MAX_SIDE, PAGE, Matrix, PixelFormat, Pixels, Rectangle

Order = Literal["rgb", "bgr"]

COLORSPACES: dict[Matrix, Colorspace] = {
    "bt709": Colorspace.ITU709,
    "bt601": Colorspace.ITU601,
    "bt2020": Colorspace.BT2020,
}

# libswscale's way from 4:2:0 to planes of the same size takes so many columns at a time, and those left over wrong
WHOLE = 16

BEYOND = 64  # bytes after the last pixel of a BGR picture that libswscale may read: so many does its widest step take

_local = threading.local()


class Picture(NamedTuple):
    """What of a frame its conversion needs.

    Attributes:
        planes: shaped as those of `Frame`.
        pixel_format: of the planes.
        matrix: of YUV planes.
        full_range: whether YUV planes go from 0 to 255.
    """

    planes: Sequence[Pixels]
    pixel_format: PixelFormat
    matrix: Matrix
    full_range: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.planes[0].shape[:2]
        return width, height

    def size_of(self, crop: Rectangle | None) -> tuple[int, int]:
        """Width and height of a part of it; of all where None.

        Raises:
            ValueError: it does not lie within the picture.
        """
        width, height = self.size
        if crop is None:
            return width, height
        left, top, part_width, part_height = crop
        if not (0 <= left < left + part_width <= width and 0 <= top < top + part_height <= height):
            raise ValueError(f"part {crop}: expected it to lie within {width}x{height} pixels")
        return part_width, part_height


def to_packed(picture: Picture, order: Order, width: int, height: int, crop: Rectangle | None = None) -> Pixels:
    """A picture, or a part of it, as a C-contiguous height x width x 3 array of colours in that order."""
    left, top, *size = crop or (0, 0, *picture.size)
    if (picture.pixel_format, order, size) == ("bgr24", "bgr", [width, height]):
        return picture.planes[0][top : top + height, left : left + width].copy()  # PyAV would hand shared memory back
    return np.ascontiguousarray(_converted(picture, f"{order}24", width, height, crop)[0])


def to_planes(
    picture: Picture, width: int, height: int, crop: Rectangle | None = None
) -> tuple[Pixels, Pixels, Pixels]:
    """A picture, or a part of it, as a height x width array each of red, green and blue."""
    green, blue, red = _converted(picture, "gbrp", width, height, crop)
    return red, green, blue


def as_video(picture: Picture, width: int, height: int, crop: Rectangle | None = None) -> av.VideoFrame:
    """A yuv420p picture, or a part of it that begins at even pixels, scaled; its colours stay as they are.

    What is not changed is not copied, where PyAV can see it as it lies.
    """
    if crop is None:
        source = video_frame(picture.planes, picture.pixel_format)
    else:
        left, top, part_width, part_height = crop
        luma, *chroma = picture.planes
        halves = (slice(top // 2, (top + part_height + 1) // 2), slice(left // 2, (left + part_width + 1) // 2))
        part = luma[top : top + part_height, left : left + part_width]
        source = _copied((part, *(plane[halves] for plane in chroma)))
    if (source.width, source.height) == (width, height):
        return source
    space, own = COLORSPACES[picture.matrix], ColorRange.JPEG if picture.full_range else ColorRange.MPEG
    return reformatter().reformat(
        source,
        width,
        height,
        "yuv420p",
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=own,
        dst_color_range=own,
        interpolation="AREA" if width < source.width else "BICUBIC",
        threads=1,
    )


def _converted(
    picture: Picture, pixel_format: str, width: int, height: int, crop: Rectangle | None
) -> tuple[Pixels, ...]:
    """A picture in another pixel format; a part: that, and no more of it than colour samples at its edges need."""
    if crop is None:
        source = video_frame(picture.planes, picture.pixel_format)
        return planes_of(_reformatted(source, picture, pixel_format, width, height))
    left, top, part_width, part_height = crop
    right, bottom = left + part_width, top + part_height
    if picture.pixel_format == "bgr24":
        part = picture._replace(planes=[picture.planes[0][top:bottom, left:right]])
        return _converted(part, pixel_format, width, height, None)
    # A chroma sample is for two pixels each way: begin at an even one, end at one or with the picture.
    own_width, own_height = picture.size
    x, y = left & ~1, top & ~1
    right, bottom = min(right + (right & 1), own_width), min(bottom + (bottom & 1), own_height)
    luma, *chroma = picture.planes
    halves = (slice(y // 2, (bottom + 1) // 2), slice(x // 2, (right + 1) // 2))
    row, column = round((top - y) * height / part_height), round((left - x) * width / part_width)
    whole = _reformatted(
        _copied((luma[y:bottom, x:right], *(plane[halves] for plane in chroma))),
        picture,
        pixel_format,
        max(round((right - x) * width / part_width), column + width),
        max(round((bottom - y) * height / part_height), row + height),
    )
    return tuple(plane[row : row + height, column : column + width] for plane in planes_of(whole))


def _reformatted(
    source: av.VideoFrame, picture: Picture, pixel_format: str, width: int, height: int
) -> av.VideoFrame:
    if pixel_format == "gbrp" and (source.width, source.height) == (width, height) and width % WHOLE:
        packed = _reformatted(source, picture, "rgb24", width, height)
        return reformatter().reformat(packed, format="gbrp", threads=1)
    return reformatter().reformat(
        source,
        width,
        height,
        pixel_format,
        src_colorspace=COLORSPACES[picture.matrix],
        src_color_range=ColorRange.JPEG if picture.full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation="AREA" if width < source.width else "BICUBIC",
        threads=1,
    )


def convert(source: av.VideoFrame, pixel_format: PixelFormat, matrix: Matrix, *, full_range: bool) -> av.VideoFrame:
    """A decoded frame in another pixel format.

    Towards yuv420p matrix and range stay as they are (an RGB source becomes limited range of that matrix); bgr24 is
    full range.
    """
    if source.format.name.startswith("gray"):  # swscale takes grey for full range, whatever it is told: change none
        full = ColorRange.JPEG
        source = reformatter().reformat(
            source, format="yuv420p", src_color_range=full, dst_color_range=full, threads=1
        )
        if pixel_format == "yuv420p":
            return source
    own = ColorRange.JPEG if full_range or source.format.is_rgb else ColorRange.MPEG
    keep = pixel_format == "yuv420p" and not source.format.is_rgb
    return reformatter().reformat(
        source,
        format=pixel_format,
        src_colorspace=COLORSPACES[matrix],
        dst_colorspace=COLORSPACES[matrix],
        src_color_range=own,
        dst_color_range=own if keep else ColorRange.MPEG if pixel_format == "yuv420p" else ColorRange.JPEG,
        threads=1,
    )


def planes_of(source: av.VideoFrame) -> tuple[Pixels, ...]:
    """The planes of a frame of PyAV's, of 8 bits, as arrays over its memory, shaped as those of `Frame`."""
    planes: Any = source.planes  # buffers
    if len(planes) == 1 and source.format.name in ("bgr24", "rgb24"):
        return tuple(
            np.ndarray((one.height, one.width, 3), np.uint8, one, 0, (one.line_size, 3, 1)) for one in planes
        )
    # a call for each and no more: in a decoder they are cold
    return tuple([np.ndarray((one.height, one.width), np.uint8, one, 0, (one.line_size, 1)) for one in planes])


def reformatter() -> VideoReformatter:
    """This thread's converter: it keeps its tables from one picture to the next of the same kind."""
    if not hasattr(_local, "reformatter"):
        _local.reformatter = VideoReformatter()
    kept: VideoReformatter = _local.reformatter
    return kept


def scaled(own_width: int, own_height: int, width: int | None, height: int | None) -> tuple[int, int]:
    """The size asked for, with proportions kept where one side is None.

    Raises:
        ValueError: a side below 1 or above `MAX_SIDE`.
    """
    if width is None:
        width = own_width if height is None else max(1, round(own_width * height / own_height))
    if height is None:
        height = max(1, round(own_height * width / own_width))
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"{width}x{height} pixels: expected 1 to {MAX_SIDE} each way")
    return width, height


def video_frame(planes: Sequence[Pixels], pixel_format: PixelFormat) -> av.VideoFrame:
    """The planes of a pinned frame as PyAV sees them, without a copy where PyAV can.

    PyAV takes 4:2:0 planes as one array whose height is a multiple of four; others are copied.
    """
    if pixel_format == "bgr24":
        return av.VideoFrame.from_numpy_buffer(_with_room(planes[0]), "bgr24")
    luma = planes[0]
    height, width = luma.shape
    if height % 4 == 0:
        rows = height * 3 // 2
        whole = np.lib.stride_tricks.as_strided(luma, (rows, luma.strides[0]), (luma.strides[0], 1), writeable=False)
        return av.VideoFrame.from_numpy_buffer(whole, "yuv420p", width)
    return _copied(planes)


def _with_room(pixels: Pixels) -> Pixels:
    """The picture, as a copy where no memory may follow it: libswscale reads a few pixels more than there are."""
    last = pixels[-1]
    end = last.ctypes.data + last.shape[0] * last.strides[0]
    if -end % PAGE >= BEYOND:
        return pixels
    room = np.empty((pixels.shape[0] + 1, *pixels.shape[1:]), np.uint8)
    room[:-1] = pixels
    return room[:-1]


def _copied(planes: Sequence[Pixels]) -> av.VideoFrame:
    height, width = planes[0].shape
    copy = av.VideoFrame(width, height, "yuv420p")
    for target, pixels in zip(planes_of(copy), planes, strict=True):
        target[:] = pixels
    return copy
