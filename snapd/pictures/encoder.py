"""JPEG of a frame, by libjpeg-turbo: quality, 4:2:0, without holding the interpreter's lock.

`Encoder` is the one way from a pinned frame to bytes. It keeps the pin as short as it can: a ``yuv420p``
frame is converted under it and encoded after it; a ``bgr24`` frame is encoded where it lies, if all of it is wanted
and nothing is drawn into it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import av.video.reformatter  # noqa: F401 - `Frame.bgr` needs it: loaded at the start, not under the first request's pin
import simplejpeg

from framesrv import Frame
from framesrv.process.extras import sentence
from framesrv.settings import SnapshotSettings
from snapd.errors import CropError, EncoderError
from snapd.pictures.exif import described
from snapd.pictures.overlay import draw, require, words
from snapd.wire.form import AS_IT_IS, Form, Rectangle

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
        quality: 1 to 100, where a `Form` does not say.
        exif: whether a picture says when it was taken, and by which camera.
        overlay: whether both are drawn in, where a `Form` does not say.

    Raises:
        EncoderError: that encoder, or what draws, is not on this host.
    """

    def __init__(self, name: str, quality: int, *, exif: bool = True, overlay: bool = False) -> None:
        self.quality = quality
        self._exif, self._overlay = exif, overlay
        self._encode = _turbojpeg() if name == "turbojpeg" else _simplejpeg
        self._takes_planes = name == "simplejpeg"
        self._count = 0
        self._lock = threading.Lock()
        if overlay:
            require()

    @classmethod
    def of(cls, settings: SnapshotSettings) -> Self:
        """That of a configuration. Raises EncoderError."""
        return cls(settings.encoder, settings.quality, exif=settings.exif, overlay=settings.overlay)

    @property
    def count(self) -> int:
        """How many pictures were encoded."""
        return self._count

    def jpeg(self, frame: Frame, code: str, form: Form = AS_IT_IS) -> Jpeg:
        """The picture of `frame`, which is released.

        Args:
            frame: pinned.
            code: its camera's.
            form: how it is wanted; of `Frame.display_size` otherwise.

        Raises:
            CropError: the part that is wanted does not lie within it.
            EncoderError: what draws is not on this host.
        """
        quality = form.quality or self.quality
        draws = self._overlay if form.overlay is None else form.overlay
        code_and_time = code, frame.stamp.captured_ns
        began = time.perf_counter()
        content = planes = None
        with frame:
            part, (width, height) = _part(frame, form)
            whole = part is None and (width, height) == (frame.width, frame.height)
            if self._takes_planes and not draws:
                planes = frame.jfif(width, height, crop=part)
            if frame.pixel_format == "bgr24" and whole and not draws:
                content = self._encode(frame.planes[0], quality)
            elif planes is None:
                bgr = frame.bgr(width, height, crop=part)
            converted = began if content else time.perf_counter()
        if planes is not None:
            content = simplejpeg.encode_jpeg_yuv_planes(*planes, quality=quality)
        elif content is None:
            if draws:
                draw(bgr, words(*code_and_time))
            content = self._encode(bgr, quality)
        if self._exif:
            content = described(content, *code_and_time)
        encoded = time.perf_counter()
        captured_at = code_and_time[1] / 1e9
        return self._counted(Jpeg(content, width, height, captured_at, converted - began, encoded - converted))

    def _counted(self, picture: Jpeg) -> Jpeg:
        with self._lock:
            self._count += 1
        return picture


def _part(frame: Frame, form: Form) -> tuple[Rectangle | None, tuple[int, int]]:
    """The part of `frame` that is wanted, in its own pixels, None for all of it; and the size of its picture."""
    shown_width, shown_height = frame.display_size
    if form.crop is None:
        return None, form.size(shown_width, shown_height)
    within = form.crop.within(shown_width, shown_height)
    if within is None:
        raise CropError(f"the part {form.crop} does not lie within {shown_width}x{shown_height} pixels")
    left, top, width, height = within
    across, down = frame.width / shown_width, frame.height / shown_height
    x, y = min(round(left * across), frame.width - 1), min(round(top * down), frame.height - 1)
    right, bottom = round((left + width) * across), round((top + height) * down)
    return (x, y, max(1, right - x), max(1, bottom - y)), form.size(width, height)


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
