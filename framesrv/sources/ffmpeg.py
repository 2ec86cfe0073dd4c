"""Anything FFmpeg opens, through PyAV: RTSP over TCP or UDP, HTTP, files (looped, at their own pace).

A frame known to be damaged is not given: after an error the source is silent until the next intact key frame.
"""

import time
from collections.abc import Iterator
from typing import Any

import av
from av.video.reformatter import ColorRange

from framesrv import colour
from framesrv.errors import SourceError
from framesrv.frame import Stamp
from framesrv.layout import Matrix, PixelFormat
from framesrv.policy import Policy
from framesrv.settings import Camera
from framesrv.sources import Observer, Picture

PACE_LIMIT = 1.0  # s: a larger step between the times of two frames is a jump of the clock, not a pause

# ITU-T H.273 matrix coefficients; what is not here is unspecified or rare
MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}
PLANAR = ("yuv420p", "yuvj420p")

Arrival = tuple[int, int]  # monotonic and Unix nanoseconds


class FFmpeg:
    """A stream or file that FFmpeg opens."""

    def __init__(self, camera: Camera, policy: Policy) -> None:
        self._camera = camera
        self._policy = policy
        self._intact = False  # whether the decoder's reference frames are

    def pictures(self, observer: Observer) -> Iterator[Picture]:
        """See `Source.pictures`."""
        with self._open() as container:
            yield from self._loop(container, observer)

    def _loop(self, container: av.container.InputContainer, observer: Observer) -> Iterator[Picture]:
        """The pictures of a stream until it is lost, or of a recording over and over."""
        if not container.streams.video:
            raise SourceError("there is no video in it")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # threads hold frames back
        if self._policy.keyframes:
            stream.codec_context.skip_frame = "NONKEY"
        recorded = _is_recording(container)
        while True:
            pace = Pace() if recorded else None
            yield from self._play(container, stream, pace, observer)
            if pace is None:
                raise SourceError("the camera ended the stream")
            if not pace.began:
                raise SourceError("there is no picture in it")
            container.seek(0)
            stream.codec_context.flush_buffers()

    def _open(self) -> av.container.InputContainer:
        camera = self._camera
        options = {
            "rtsp_transport": camera.transport,
            "allowed_media_types": "video",  # a camera whose picture has stopped must not live on by its sound
            "analyzeduration": "100000",
            "probesize": "500000",
            "timeout": str(int(camera.timeout * 1e6)),
        }
        if not camera.source.startswith(("rtsp:", "rtsps:")):
            options = {"analyzeduration": "1000000", "probesize": "2000000"}
        # the socket's own time-out comes first for RTSP; PyAV's ends whatever else hangs
        began = time.monotonic()
        try:
            return av.open(camera.source, "r", options=options, timeout=(camera.timeout, camera.timeout))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if time.monotonic() - began >= camera.timeout:  # FFmpeg has other words for it
                raise SourceError(f"cannot be opened: no answer for {camera.timeout:g} s") from error
            raise SourceError(f"cannot be opened: {_sentence(error)}") from error

    def _play(
        self, container: av.container.InputContainer, stream: av.VideoStream, pace: "Pace | None", observer: Observer
    ) -> Iterator[Picture]:
        """The pictures up to the end of the stream."""
        self._intact = False
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                silent = isinstance(error, av.error.ExitError | TimeoutError)
                reason = f"no packet for {self._camera.timeout:g} s" if silent else _sentence(error)
                raise SourceError(f"lost: {reason}") from error
            arrival = (time.monotonic_ns(), time.time_ns())
            if packet.size:
                observer.active()
                observer.count("bytes", packet.size)
            for frame in self._decode(packet, observer):
                if pace is not None:
                    pace.wait(frame.time)
                    arrival = (time.monotonic_ns(), time.time_ns())
                if self._policy.wants(arrival[0]):
                    yield self._picture(frame, arrival)

    def _decode(self, packet: Any, observer: Observer) -> list[av.VideoFrame]:
        """The intact frames that this packet completes."""
        began = time.perf_counter_ns()
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, OSError, ValueError):
            self._intact = False
            observer.count("corrupt")
            return []
        observer.count("decode", time.perf_counter_ns() - began)
        return [frame for frame in frames if self._is_intact(frame, observer)]

    def _is_intact(self, frame: av.VideoFrame, observer: Observer) -> bool:
        if frame.is_corrupt:
            self._intact = False
        elif frame.key_frame:
            self._intact = True
        if not self._intact:
            observer.count("corrupt")
        return self._intact

    def _picture(self, frame: av.VideoFrame, arrival: Arrival) -> Picture:
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        full_range = full and not frame.format.is_rgb
        guess: Matrix = "bt709" if frame.height >= 720 else "bt601"
        matrix = MATRICES.get(frame.colorspace, guess)
        stamp = Stamp(
            pts=None if frame.pts is None or frame.time_base is None else int(frame.pts * frame.time_base * 10**9),
            captured_ns=arrival[1],
            arrived_ns=arrival[0],
            matrix=matrix,
            full_range=full_range,
            key_frame=frame.key_frame,
            clock="arrival",
        )
        wanted: PixelFormat = self._camera.pixel_format
        if wanted == "yuv420p" and frame.format.name in PLANAR:
            return Picture(colour.planes(frame), frame.width, frame.height, wanted, stamp)
        converted = colour.convert(frame, wanted, matrix, full_range=full_range)
        return Picture(colour.planes(converted), frame.width, frame.height, wanted, stamp)


class Pace:
    """Gives out a recording's frames at the times that stand in it."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0
        self._origin = 0.0

    @property
    def began(self) -> bool:
        """Whether there was a frame."""
        return self._first is not None

    def wait(self, at: float | None) -> None:
        """Sleeps until the frame of time `at` (seconds on the stream's clock) is due."""
        now = time.monotonic()
        if at is None:
            return
        if self._first is None or not 0 <= at - self._last <= PACE_LIMIT:
            self._first, self._origin = at, now
        self._last = at
        due = self._origin + at - self._first
        if due > now:
            time.sleep(due - now)


def _is_recording(container: av.container.InputContainer) -> bool:
    """Whether it has an end and comes as fast as it is read."""
    return container.duration is not None and not container.format.name.startswith("rtsp")


def _sentence(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
