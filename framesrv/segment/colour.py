"""Colour conversion by libswscale, through PyAV: the right matrix, scaled in one pass.

Video is mostly limited range and, from 720 lines up, BT.709; BGR is full range.
"""

import threading
from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from framesrv.segment.layout import MAX_SIDE, Matrix, PixelFormat, Pixels, Rectangle

COLORSPACES: dict[Matrix, Colorspace] = {
    "bt709": Colorspace.ITU709,
    "bt601": Colorspace.ITU601,
    "bt2020": Colorspace.BT2020,
}

_local = threading.local()


def to_bgr(
    planes: Sequence[Pixels],
    pixel_format: PixelFormat,
    matrix: Matrix,
    *,
    full_range: bool,
    width: int | None = None,
    height: int | None = None,
    crop: Rectangle | None = None,
) -> Pixels:
    """The picture as a C-contiguous H x W x 3 array of blue, green, red; see `Frame.bgr`.

    Args:
        planes: shaped as those of `Frame`.
        pixel_format: of the planes.
        matrix: of YUV planes.
        full_range: whether YUV planes go from 0 to 255.
        width: pixels; the picture's own, or what keeps its proportions, where None.
        height: pixels; likewise.
        crop: the part that is meant by the picture; all of it where None.

    Raises:
        ValueError: a size below 1 or above `MAX_SIDE`, or a part that does not lie within the picture.
    """
    own_height, own_width = planes[0].shape[:2]
    if crop:
        return _part_to_bgr(planes, pixel_format, matrix, crop, full_range=full_range, width=width, height=height)
    width, height = scaled(own_width, own_height, width, height)
    if (pixel_format, own_width, own_height) == ("bgr24", width, height):
        return planes[0].copy()  # PyAV would hand shared memory itself back
    return np.ascontiguousarray(
        _bgr(video_frame(planes, pixel_format), matrix, full_range=full_range, width=width, height=height)
    )


def _part_to_bgr(
    planes: Sequence[Pixels],
    pixel_format: PixelFormat,
    matrix: Matrix,
    crop: Rectangle,
    *,
    full_range: bool,
    width: int | None,
    height: int | None,
) -> Pixels:
    """A part of the picture: that, and no more of it than the colour samples at its edges need, is converted."""
    own_height, own_width = planes[0].shape[:2]
    left, top, part_width, part_height = crop
    right, bottom = left + part_width, top + part_height
    if not (0 <= left < right <= own_width and 0 <= top < bottom <= own_height):
        raise ValueError(f"part {crop}: expected it to lie within {own_width}x{own_height} pixels")
    width, height = scaled(part_width, part_height, width, height)
    if pixel_format == "bgr24":
        part = planes[0][top:bottom, left:right]
        return to_bgr((part,), pixel_format, matrix, full_range=full_range, width=width, height=height)
    # A chroma sample is for two pixels each way: begin at an even one, end at one or with the picture.
    x, y = left & ~1, top & ~1
    right, bottom = min(right + (right & 1), own_width), min(bottom + (bottom & 1), own_height)
    halves = (slice(y // 2, (bottom + 1) // 2), slice(x // 2, (right + 1) // 2))
    row, column = round((top - y) * height / part_height), round((left - x) * width / part_width)
    whole = _bgr(
        _copied((planes[0][y:bottom, x:right], planes[1][halves], planes[2][halves])),
        matrix,
        full_range=full_range,
        width=max(round((right - x) * width / part_width), column + width),
        height=max(round((bottom - y) * height / part_height), row + height),
    )
    return np.ascontiguousarray(whole[row : row + height, column : column + width])


def _bgr(source: av.VideoFrame, matrix: Matrix, *, full_range: bool, width: int, height: int) -> Pixels:
    converted = reformatter().reformat(
        source,
        width,
        height,
        "bgr24",
        src_colorspace=COLORSPACES[matrix],
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation="AREA" if width < source.width else "BICUBIC",
        threads=1,
    )
    return planes_of(converted)[0]


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
    """The planes of a yuv420p or bgr24 frame of PyAV's as arrays over its memory, shaped as those of `Frame`."""
    channels = 3 if source.format.name == "bgr24" else 1
    views = []
    for plane in source.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        views.append(rows[: plane.height, : plane.width * channels])
    if channels == 3:
        return (views[0].reshape(source.height, source.width, 3),)
    return tuple(views)


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
        return av.VideoFrame.from_numpy_buffer(planes[0], "bgr24")
    luma = planes[0]
    height, width = luma.shape
    if height % 4 == 0:
        rows = height * 3 // 2
        whole = np.lib.stride_tricks.as_strided(luma, (rows, luma.strides[0]), (luma.strides[0], 1), writeable=False)
        return av.VideoFrame.from_numpy_buffer(whole, "yuv420p", width)
    return _copied(planes)


def _copied(planes: Sequence[Pixels]) -> av.VideoFrame:
    height, width = planes[0].shape
    copy = av.VideoFrame(width, height, "yuv420p")
    for target, pixels in zip(planes_of(copy), planes, strict=True):
        target[:] = pixels
    return copy
