"""A frame as a reader sees it: views of shared memory that stay as they are while the frame is pinned."""

import time
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from framesrv.errors import FrameReleasedError, SegmentFormatError
from framesrv.segment.layout import MAX_SIDE, Geometry, PixelFormat, Pixels, Rectangle
from framesrv.segment.planes import views
from framesrv.segment.stamp import SQUARE, Record, Stamp, stamp_of
from framesrv.segment.truncation import Guard

if TYPE_CHECKING:
    from framesrv.segment.colour import Order, Picture
    from framesrv.segment.letterbox import Letterbox
    from framesrv.segment.tensor import Floats, Layout


class Memory(Protocol):
    """The memory of a slot, which stays as it is as long as anything refers to this: a frame, or an array of it."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...

    @property
    def is_parents(self) -> bool:
        """Whether this is a child of fork(2), and the one that pinned the slot its parent."""


class Frame:
    """A pinned frame. Use it as a context manager, or call `release`, so that the writer gets its slot back.

    Leaving the ``with`` raises as `check` does.

    After the release `planes`, `bgr` and the like raise FrameReleasedError. Arrays that were taken from `planes`
    before, and tensors made of them, stay as they are: the slot is the writer's again when the last of them is gone.

    Attributes:
        width: pixels.
        height: pixels.
        pixel_format: ``yuv420p`` or ``bgr24``.
        seq: the frame's number: 1 for a camera's first, rising, with gaps where frames were not read.
    """

    __slots__ = (
        "__weakref__",
        "_geometry",
        "_guard",
        "_memory",
        "_planes",
        "_stamp",
        "height",
        "pixel_format",
        "seq",
        "width",
    )

    def __init__(self, memory: Memory, geometry: Geometry, seq: int, stamp: Stamp | Record, guard: Guard) -> None:
        self._memory: Memory | None = memory
        self._geometry = geometry
        self._planes: tuple[Pixels, ...] | None = None
        self._guard = guard
        self.width = geometry.width
        self.height = geometry.height
        self.pixel_format: PixelFormat = geometry.pixel_format
        self.seq = seq
        self._stamp = stamp

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        if kind is None:
            self.check()

    def __repr__(self) -> str:
        return f"<Frame {self.seq} {self.width}x{self.height} {self.pixel_format} {self.age:.3f} s old>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a frame is pinned by this process, and not sent to another: send a copy, as by bgr()")

    @property
    def planes(self) -> tuple[Pixels, ...]:
        """Read-only uint8 views of shared memory.

        ``yuv420p``: Y (H x W), U and V (each H/2 x W/2, rounded up); ``bgr24``: one array, H x W x 3. Any of them may
        be handed on without a copy, as by ``torch.from_dlpack`` (NumPy from 2.1 on).

        Raises:
            FrameReleasedError: the frame was released, or is that of the process that forked this one.
        """
        memory = self._memory
        if memory is None:
            raise FrameReleasedError(
                f"frame {self.seq} was released: use it within its with, or keep views of its planes"
            )
        if memory.is_parents:
            raise FrameReleasedError(f"frame {self.seq} is pinned by the parent process: take one in the child")
        if self._planes is None:
            self._planes = views(np.asarray(memory), self._geometry)
        return self._planes

    @property
    def is_released(self) -> bool:
        """Whether the frame was released."""
        return self._memory is None

    def release(self) -> None:
        """Gives the pin back, as soon as no array of the frame is left; further calls do nothing."""
        self._memory = self._planes = None

    def check(self) -> None:
        """Raises SegmentFormatError if the segment was cut short, so that zeros may have been read for pixels.

        Leaving a ``with`` does this too, and `bgr`.
        """
        if self._guard.cut:
            raise SegmentFormatError(f"frame {self.seq} is gone: its segment was cut short while it was pinned")

    @property
    def stamp(self) -> Stamp:
        """Times and colours."""
        stamp = self._stamp
        if not isinstance(stamp, Stamp):  # who has just been woken does not wait until it is made
            self._stamp = stamp = stamp_of(stamp)
        return stamp

    @property
    def age(self) -> float:
        """Seconds since the frame arrived at this host, by the monotonic clock."""
        return (time.monotonic_ns() - self.stamp.arrived_ns) / 1e9

    @property
    def captured_at(self) -> float:
        """Unix time of capture in seconds; of arrival where the camera does not tell (`stamp.clock`)."""
        return self.stamp.captured_ns / 1e9

    @property
    def pts(self) -> float | None:
        """Presentation time in seconds on the stream's own clock, None where unknown."""
        return None if self.stamp.pts is None else self.stamp.pts / 1e9

    @property
    def key_frame(self) -> bool:
        """Whether the frame was decoded without reference to another."""
        return self.stamp.key_frame

    @property
    def sample_aspect_ratio(self) -> Fraction:
        """Width of a pixel by its height: 1 but for video of which a picture is stretched to be shown."""
        return self.stamp.sample_aspect_ratio

    @property
    def rotated(self) -> int:
        """Degrees that the decoder has turned the picture by, clockwise: 0, 90, 180 or 270."""
        return self.stamp.rotated

    @property
    def display_size(self) -> tuple[int, int]:
        """Width and height of the picture with square pixels: stretched one way, its own the other."""
        ratio = self.stamp.sample_aspect_ratio
        width, height = round(self.width * max(ratio, SQUARE)), round(self.height / min(ratio, SQUARE))
        return (width, height) if max(width, height) <= MAX_SIDE else (self.width, self.height)

    def bgr(
        self,
        width: int | None = None,
        height: int | None = None,
        *,
        crop: Rectangle | None = None,
        within: "Letterbox | None" = None,
        out: Pixels | None = None,
    ) -> Pixels:
        """A copy as blue, green, red, as OpenCV has it; else as `rgb`."""
        return self._packed("bgr", width, height, crop, within, out)

    def rgb(
        self,
        width: int | None = None,
        height: int | None = None,
        *,
        crop: Rectangle | None = None,
        within: "Letterbox | None" = None,
        out: Pixels | None = None,
    ) -> Pixels:
        """A copy as RGB, full range, converted by the frame's own colour matrix and scaled in the same pass.

        Args:
            width: pixels; the frame's own, or what keeps its proportions, where None.
            height: pixels; likewise. For a picture as it is to be shown, give both, by `display_size`.
            crop: left, top, width and height of the part that is wanted, in pixels of the frame; of `width` and
                `height` it is the frame then. Nothing else is converted.
            within: in place of these: where the picture is to lie in another, from `letterbox`.
            out: where it is to be written; an array of its own where None.

        Returns:
            A uint8 array, H x W x 3; `out`, or else C-contiguous.

        Raises:
            ValueError: a size below 1 or above 16384, or a part that does not lie within the frame; `out` of another
                shape or type, or read-only; a letterbox of frames of another size.
            FrameReleasedError: as `planes`.
            SegmentFormatError: as `check`.
        """
        return self._packed("rgb", width, height, crop, within, out)

    def jfif(self, width: int, height: int, *, crop: Rectangle | None = None) -> tuple[Pixels, ...] | None:
        """The picture as JPEG encoders take it: Y, Cb and Cr of BT.601, full range, 4:2:0; a copy where it is not so.

        Args:
            width: pixels.
            height: pixels.
            crop: as of `rgb`.

        Returns:
            Y (height x width), Cb and Cr (each half as much each way), or None where there is no short way to them:
            of a ``bgr24`` frame, of an odd width or height, of a part that begins at an odd pixel. Take `bgr` then.

        Raises:
            ValueError: as `rgb`.
            FrameReleasedError: as `planes`.
            SegmentFormatError: as `check`.
        """
        if self.pixel_format != "yuv420p" or any(side % 2 for side in (width, height, *(crop or ())[:2])):
            return None
        from framesrv.segment import jfif
        from framesrv.segment.colour import scaled

        picture = self._picture()
        picture.size_of(crop)
        copy = jfif.to_jfif(picture, *scaled(self.width, self.height, width, height), crop)
        self.check()
        return copy

    def tensor(
        self,
        width: int | None = None,
        height: int | None = None,
        *,
        crop: Rectangle | None = None,
        within: "Letterbox | None" = None,
        order: "Order" = "rgb",
        layout: "Layout" = "NCHW",
        mean: ArrayLike = 0.0,
        scale: ArrayLike = 1 / 255,
        out: "Floats | None" = None,
    ) -> "Floats":
        """The picture as float32 numbers ``(level - mean) * scale``, as neural networks take it.

        Args:
            width: as of `rgb`.
            height: as of `rgb`.
            crop: as of `rgb`.
            within: as of `rgb`; what is around the picture is scaled as the picture is.
            order: of the channels, ``rgb`` or ``bgr``.
            layout: ``NCHW`` or ``NHWC``, in which N is 1, or ``CHW`` or ``HWC``.
            mean: to be subtracted from levels of 0 to 255; one number, or one for each channel in its order.
            scale: to be multiplied by then; likewise. For a mean m and a deviation s of levels of 0 to 1, as is usual
                with PyTorch, that is ``mean=255 * m, scale=1 / (255 * s)``.
            out: where it is to be written, as ``batch[i]`` by ``CHW``; an array of its own where None.

        Raises:
            ValueError: as `rgb`; or a layout, mean or scale that is none.
            FrameReleasedError: as `planes`.
            SegmentFormatError: as `check`.
        """
        from framesrv.segment import tensor

        wanted = tensor.Wanted(order, width, height, crop, within)
        copy = tensor.tensor(self._picture(), wanted, layout, mean, scale, out)
        self.check()
        return copy

    def letterbox(self, width: int, height: int, fill: int = 114) -> "Letterbox":
        """Where the picture, as it is to be shown, lies in one of another shape, and the way back to the frame.

        It is good for all frames of this size and aspect.

        Args:
            width: of the other, pixels.
            height: likewise.
            fill: level of what is around the picture, 0 to 255.

        Raises:
            ValueError: a size below 1 or above 16384, or a level that is none.
        """
        from framesrv.segment.letterbox import Letterbox

        return Letterbox.of((self.width, self.height), self.display_size, width, height, fill)

    def _packed(
        self,
        order: "Order",
        width: int | None,
        height: int | None,
        crop: Rectangle | None,
        within: "Letterbox | None",
        out: Pixels | None,
    ) -> Pixels:
        from framesrv.segment import tensor

        copy = tensor.packed(self._picture(), tensor.Wanted(order, width, height, crop, within), out)
        self.check()
        return copy

    def _picture(self) -> "Picture":
        from framesrv.segment.colour import Picture  # PyAV, which only copies need

        return Picture(self.planes, self.pixel_format, self.stamp.matrix, self.stamp.full_range)
