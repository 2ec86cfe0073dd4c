"""``framesrv pipe``: a camera's frames to standard output, for FFmpeg, GStreamer and whatever reads from a pipe.

A frame is copied into a buffer of this process before it is written: whoever reads slowly, or stops, pins no slot.
"""

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, NoReturn

import av
import click
import numpy as np
from av.video.reformatter import ColorRange

from framesrv.segment import colour
from framesrv.segment.frame import Frame
from framesrv.segment.frame_set import FrameSet
from framesrv.segment.layout import Geometry, PixelFormat, Pixels
from framesrv.segment.status import camera_status
from framesrv.settings import Settings

Format = Literal["y4m", "raw", "mjpeg"]

USUAL_RATE = Fraction(25)  # frames a second, where the camera's rate is not known
QUALITY = 3  # quantiser of JPEGs, 1 to 31


def pipe(camera: FrameSet, settings: Settings, kind: Format, fps: float | None, timeout: float) -> None:
    """Writes frames until whoever reads them ends, or a signal comes.

    Args:
        camera: a set of one.
        settings: where its segment is.
        kind: of what is written.
        fps: frames a second, repeated or left out; each as it comes, where None.
        timeout: seconds to wait for a new frame.

    Raises:
        FrameUnavailableError: none came in time.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    rate = Fraction(fps).limit_denominator(1001) if fps else _rate(camera, settings)
    form: Form | None = None
    try:
        for frame in _frames(camera, fps, timeout):
            if form is None:
                form = FORMS[kind](frame, rate)
                click.echo(f"framesrv: {form.told}", err=True)
                _write(form.head)
            if not frame.is_released:
                form.take(frame)
                frame.release()
            _write(form.content)
    except BrokenPipeError:
        # whoever read has had enough; Python would complain of the flush at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _frames(camera: FrameSet, fps: float | None, timeout: float) -> Iterator[Frame]:
    """The next frame to be written, again and again; one that is to be repeated has been released."""
    frame, due = _new(camera, timeout), time.monotonic()
    seen = due
    while True:
        yield frame
        if fps is None:
            frame = _new(camera, timeout)
            continue
        due = max(due + 1 / fps, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        batch = camera.batch(timeout=0)
        for newer in batch.frames.values():
            frame, seen = newer, due
        if due - seen > timeout:
            frame = _new(camera, 0)


def _new(camera: FrameSet, timeout: float) -> Frame:
    batch = camera.batch(timeout=timeout)
    for frame in batch.frames.values():
        return frame
    raise next(iter(batch.missing.values()))


class Form(ABC):
    """Frames as they are written, all of the size and pixel format of the first.

    Attributes:
        told: what is written, in words.
        head: what is written before the first frame.
        content: the frame that was taken last.
    """

    def __init__(self, frame: Frame, rate: Fraction) -> None:
        self.width, self.height = frame.width, frame.height
        self.rate = rate
        self.pixel_format: PixelFormat = self.pixel_format_of(frame)
        self.head = b""
        self.content: bytes | memoryview = b""
        self.told = f"{frame.width}x{frame.height}, {float(rate):g} frames a second"

    @staticmethod
    def pixel_format_of(frame: Frame) -> PixelFormat:
        """What frames are converted to."""
        return "yuv420p"

    @abstractmethod
    def take(self, frame: Frame) -> None:
        """Makes `content` of a frame."""

    def planes(self, frame: Frame) -> tuple[Pixels, ...]:
        """The planes of a frame, in the form of the first."""
        if (frame.width, frame.height, frame.pixel_format) == (self.width, self.height, self.pixel_format):
            return frame.planes
        stamp = frame.stamp
        source = colour.video_frame(frame.planes, frame.pixel_format)
        converted = colour.convert(source, self.pixel_format, stamp.matrix, full_range=stamp.full_range)
        scaled = colour.reformatter().reformat(converted, self.width, self.height, interpolation="AREA", threads=1)
        return colour.planes_of(scaled)


class Raw(Form):
    """Planes one after the other, without padding, in the camera's pixel format."""

    mark = b""

    def __init__(self, frame: Frame, rate: Fraction) -> None:
        super().__init__(frame, rate)
        shapes = [
            (plane.rows, plane.used) for plane in Geometry(self.width, self.height, self.pixel_format, 2).planes
        ]
        self._memory = bytearray(len(self.mark) + sum(rows * used for rows, used in shapes))
        self._memory[: len(self.mark)] = self.mark
        self._targets, at = [], len(self.mark)
        for rows, used in shapes:
            self._targets.append(np.frombuffer(self._memory, np.uint8, rows * used, at).reshape(rows, used))
            at += rows * used
        self.content = memoryview(self._memory)
        self.told += (
            f": ffmpeg -f rawvideo -pixel_format {self.pixel_format} -video_size {self.width}x{self.height} "
            f"-framerate {float(rate):g} -i -"
        )

    @staticmethod
    def pixel_format_of(frame: Frame) -> PixelFormat:
        """The camera's own."""
        return frame.pixel_format

    def take(self, frame: Frame) -> None:
        """Copies its planes."""
        for target, plane in zip(self._targets, self.planes(frame), strict=True):
            np.copyto(target.reshape(plane.shape), plane)


class Y4m(Raw):
    """YUV4MPEG2: a line that tells the form, and one before each frame."""

    mark = b"FRAME\n"

    def __init__(self, frame: Frame, rate: Fraction) -> None:
        super().__init__(frame, rate)
        aspect = frame.sample_aspect_ratio
        colours = "FULL" if frame.stamp.full_range and frame.pixel_format == "yuv420p" else "LIMITED"
        self.head = (
            f"YUV4MPEG2 W{self.width} H{self.height} F{rate.numerator}:{rate.denominator} Ip "
            f"A{aspect.numerator}:{aspect.denominator} C420mpeg2 XCOLORRANGE={colours}\n"
        ).encode()
        self.told = self.told.partition(":")[0] + ": ffmpeg -i -"

    @staticmethod
    def pixel_format_of(frame: Frame) -> PixelFormat:
        """4:2:0, as all that reads this form knows."""
        return "yuv420p"


class Mjpeg(Form):
    """One JPEG after the other."""

    def __init__(self, frame: Frame, rate: Fraction) -> None:
        super().__init__(frame, rate)
        encoder = av.CodecContext.create("mjpeg", "w")
        if not isinstance(encoder, av.VideoCodecContext):
            raise TypeError("FFmpeg's mjpeg is no video encoder")
        encoder.width, encoder.height, encoder.pix_fmt = self.width, self.height, "yuvj420p"
        encoder.time_base = 1 / rate
        encoder.qmin = encoder.qmax = QUALITY
        self._encoder = encoder
        self._number = 0
        self.told += ": ffmpeg -f mjpeg -i -"

    def take(self, frame: Frame) -> None:
        """Encodes it; JPEG is BT.601 and full range."""
        stamp = frame.stamp
        full = ColorRange.JPEG
        picture = colour.reformatter().reformat(
            colour.video_frame(frame.planes, frame.pixel_format),
            self.width,
            self.height,
            "yuvj420p",
            src_colorspace=colour.COLORSPACES[stamp.matrix],
            dst_colorspace=colour.COLORSPACES["bt601"],
            src_color_range=full if stamp.full_range or frame.pixel_format == "bgr24" else ColorRange.MPEG,
            dst_color_range=full,
            threads=1,
        )
        picture.pts = self._number
        self._number += 1
        self.content = b"".join(bytes(packet) for packet in self._encoder.encode(picture))


FORMS: dict[Format, type[Form]] = {"y4m": Y4m, "raw": Raw, "mjpeg": Mjpeg}


def _rate(camera: FrameSet, settings: Settings) -> Fraction:
    """The camera's, of two decimals, as it is measured."""
    fps = camera_status(settings.shm.prefix, camera.codes[0]).fps
    return Fraction(round(fps * 100), 100) if fps else USUAL_RATE


def _write(content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(0)
