"""A frame's picture in the caller's memory, as bytes or as floats: what programs that look at pictures want.

libswscale scales and converts in one pass; then each number is written once, to where it is wanted. For floats it
makes red, green and blue planes, or packed pixels, of bytes, and NumPy multiplies and adds block by block, while a
block is in the cache. libswscale's own floats take longer, and have no mean.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from framesrv.segment import colour
from framesrv.segment.colour import Order, Picture
from framesrv.segment.layout import Pixels, Rectangle
from framesrv.segment.letterbox import Letterbox

Layout = Literal["NCHW", "NHWC", "CHW", "HWC"]
Floats = NDArray[np.float32]

BLOCK = 1 << 15  # numbers at a time: 128 KiB of floats


class Wanted(NamedTuple):
    """Which picture is to be made of a frame; see `Frame.rgb`."""

    order: Order
    width: int | None = None
    height: int | None = None
    crop: Rectangle | None = None
    within: Letterbox | None = None


def packed(picture: Picture, wanted: Wanted, out: Pixels | None) -> Pixels:
    """See `Frame.rgb`."""
    box = _box(picture, wanted)
    if out is not None or wanted.within is not None:
        out = _memory(out, (box.height, box.width, 3), np.uint8)
    pixels = colour.to_packed(picture, wanted.order, box.inner_width, box.inner_height, wanted.crop)
    if out is None:
        return pixels
    _inside(out, box, box.fill)[...] = pixels
    return out


def tensor(
    picture: Picture,
    wanted: Wanted,
    layout: Layout,
    mean: ArrayLike,
    scale: ArrayLike,
    out: Floats | None,
) -> Floats:
    """See `Frame.tensor`."""
    if layout not in get_args(Layout):
        raise ValueError(f"layout {layout!r}: expected {', '.join(get_args(Layout))}")
    factors, terms = _line(mean, scale)
    box = _box(picture, wanted)
    planar = layout.endswith("CHW")
    shape = (3, box.height, box.width) if planar else (box.height, box.width, 3)
    out = _memory(out, (1, *shape) if layout.startswith("N") else shape, np.float32)
    target = out[0] if layout.startswith("N") else out
    filled = factors * np.float32(box.fill) + terms
    if planar:
        planes = colour.to_planes(picture, box.inner_width, box.inner_height, wanted.crop)
        for channel, plane in enumerate(planes if wanted.order == "rgb" else planes[::-1]):
            inside = _inside(target[channel], box, filled[channel])
            _scale(plane, factors[channel], terms[channel], inside)
    else:
        pixels = colour.to_packed(picture, wanted.order, box.inner_width, box.inner_height, wanted.crop)
        # lines as long as a row: NumPy is slow along an axis of three
        factor, term = (np.tile(line, box.inner_width).reshape(-1, 3) for line in (factors, terms))
        _scale(pixels, factor, term, _inside(target, box, filled))
    return out


def _scale(pixels: Pixels, factor: np.float32 | Floats, term: np.float32 | Floats, out: Floats) -> None:
    """Fills `out` with ``pixels * factor + term``."""
    rows = max(1, BLOCK // pixels[0].size)
    for row in range(0, len(pixels), rows):
        block = out[row : row + rows]
        np.multiply(pixels[row : row + rows], factor, out=block)
        np.add(block, term, out=block)


def _line(mean: ArrayLike, scale: ArrayLike) -> tuple[Floats, Floats]:
    """The factor and the term of each channel."""
    means, scales = (np.asarray(value, np.float32) for value in (mean, scale))
    for name, value in (("mean", means), ("scale", scales)):
        if value.shape not in ((), (3,)):
            raise ValueError(f"{name} of shape {value.shape}: expected one number, or one a channel")
    factors = np.broadcast_to(scales, 3)
    return factors, -means * factors


def _box(picture: Picture, wanted: Wanted) -> Letterbox:
    within, own = wanted.within, picture.size_of(wanted.crop)
    if within is None:
        size = colour.scaled(*own, wanted.width, wanted.height)
        return Letterbox(*size, 0, 0, *size, *own)
    if (wanted.width, wanted.height, wanted.crop) != (None, None, None):
        raise ValueError("a letterbox, and a size or a part: expected it alone, as it has its own size")
    if (within.frame_width, within.frame_height) != own:
        of = f"{within.frame_width}x{within.frame_height}"
        raise ValueError(f"a letterbox of {of} frames: this one is {own[0]}x{own[1]}, make another")
    return within


def _inside(whole: np.ndarray, box: Letterbox, fill: float | Floats) -> np.ndarray:
    """What the frame's picture is to cover, when the rest is filled."""
    bottom, right = box.top + box.inner_height, box.left + box.inner_width
    for margin in (
        whole[: box.top],
        whole[bottom:],
        whole[box.top : bottom, : box.left],
        whole[box.top : bottom, right:],
    ):
        margin[...] = fill
    return whole[box.top : bottom, box.left : right]


def _memory(out: np.ndarray | None, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out of shape {out.shape}, {out.dtype}: expected {shape}, {np.dtype(dtype)}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    return out
