"""JPEG of a frame, by libjpeg-turbo: quality, 4:2:0, without holding the interpreter's lock.

`Encoder` is the one way from a pinned frame to bytes. It keeps the pin as short as it can: a ``yuv420p``
frame is converted under it and encoded after it; a ``bgr24`` frame is encoded where it lies.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av.video.reformatter  # noqa: F401 - `Frame.bgr` needs it: loaded at the start, not under the first request's pin
import simplejpeg

from framesrv import Frame
from framesrv.process.extras import sentence
from snapd.errors import EncoderError

Encode = Callable[[Any, int], bytes]  # (H x W x 3 BGR uint8, quality)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG and what it shows; `converted` and `encoded` are the seconds that took, 0 where another did it."""

    content: bytes
    width: int
    height: int
    captured_at: float
    converted: float
    encoded: float


class Encoder:
    """Encodes frames; may be used by several threads at once.

    Args:
        name: ``simplejpeg`` or ``turbojpeg``, as in the configuration.
        quality: 1 to 100.

    Raises:
        EncoderError: that encoder is not on this host.
    """

    def __init__(self, name: str, quality: int) -> None:
        self.quality = quality
        self._encode = _turbojpeg() if name == "turbojpeg" else _simplejpeg
        self._count = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many pictures were encoded."""
        return self._count

    def jpeg(self, frame: Frame, width: int | None = None, quality: int | None = None) -> Jpeg:
        """The picture of `frame`, which is released.

        Args:
            frame: pinned.
            width: in pixels, to scale it to; that of `Frame.display_size` if None. It has the proportions of that.
            quality: 1 to 100; the encoder's if None.
        """
        quality = quality or self.quality
        began = time.perf_counter()
        captured_at = frame.captured_at
        with frame:
            shown_width, shown_height = frame.display_size
            width = width or shown_width
            height = max(1, round(shown_height * width / shown_width))
            if frame.pixel_format == "bgr24" and (width, height) == (frame.width, frame.height):
                content = self._encode(frame.planes[0], quality)
                spent = time.perf_counter() - began
                return self._counted(Jpeg(content, frame.width, frame.height, captured_at, 0.0, spent))
            bgr = frame.bgr(width, height)
        converted = time.perf_counter()
        content = self._encode(bgr, quality)
        encoded = time.perf_counter()
        height, wide = bgr.shape[:2]
        return self._counted(Jpeg(content, wide, height, captured_at, converted - began, encoded - converted))

    def _counted(self, picture: Jpeg) -> Jpeg:
        with self._lock:
            self._count += 1
        return picture


def _simplejpeg(bgr: Any, quality: int) -> bytes:
    jpeg: bytes = simplejpeg.encode_jpeg(bgr, quality, "BGR", "420")
    return jpeg


def _turbojpeg() -> Encode:
    try:
        import turbojpeg
    except ImportError as error:
        raise EncoderError(f'snapshot.encoder = "turbojpeg": {sentence(error.name or "") or error}') from error
    try:
        library = turbojpeg.TurboJPEG()
    except (RuntimeError, OSError) as error:  # not found, or (PyTurboJPEG 2) older than libjpeg-turbo 3
        reason = str(error).partition("\n")[0]
        raise EncoderError(
            f'snapshot.encoder = "turbojpeg" finds no libturbojpeg that it can use: {reason}'
        ) from error

    def encode(bgr: Any, quality: int) -> bytes:
        jpeg: bytes = library.encode(
            bgr, quality=quality, pixel_format=turbojpeg.TJPF_BGR, jpeg_subsample=turbojpeg.TJSAMP_420
        )
        return jpeg

    return encode
