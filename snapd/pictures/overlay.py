"""Time and name of a camera, drawn into the lower left corner of its picture. Only that strip is touched.

The text is white on what is below it, made darker, so that it can be read on anything.
"""

import time
from functools import lru_cache
from typing import Any

import numpy as np

from framesrv.process.extras import sentence
from snapd.errors import EncoderError

LARGEST, SMALLEST = 64, 6  # pixels of height
LINES = 36  # that a picture would have room for
DARKER = 3  # times


def words(code: str, captured_ns: int) -> str:
    """What is drawn: when, in the time of this host, to the millisecond, and who."""
    seconds, rest = divmod(captured_ns, 1_000_000_000)
    local = time.localtime(seconds)
    offset = time.strftime("%z", local)
    moment = time.strftime("%Y-%m-%d %H:%M:%S", local)
    return f"{moment}.{rest // 1_000_000:03} {offset[:3]}:{offset[3:5]}  {code}"


def draw(bgr: Any, text: str) -> None:
    """Draws `text` into a picture, H x W x 3. Raises EncoderError as `require`."""
    height, width = bgr.shape[:2]
    size = min(LARGEST, max(SMALLEST, min(height // LINES, round(width / (0.6 * len(text))))))
    mask = _mask(text, size)[:height, :width]
    rows, columns = mask.shape
    strip = bgr[height - rows :, :columns]
    np.maximum(strip // DARKER, mask[..., None], out=strip)


def require() -> None:
    """Raises EncoderError if the library that draws is not on this host."""
    _font(SMALLEST)


def _mask(text: str, size: int) -> Any:
    """The letters, white on black, with a margin."""
    font = _font(size)  # first: it says what is missing
    from PIL import Image, ImageDraw

    margin = size // 3
    _, _, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right) + 2 * margin, int(bottom) + 2 * margin))
    ImageDraw.Draw(image).text((margin, margin), text, 255, font)
    return np.asarray(image)


@lru_cache(16)
def _font(size: int) -> Any:
    try:
        from PIL import ImageFont
    except ImportError as error:
        raise EncoderError(f"time and name cannot be drawn: {sentence(error.name or '') or error}") from error
    return ImageFont.load_default(size)
