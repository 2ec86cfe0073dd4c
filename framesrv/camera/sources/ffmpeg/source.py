"""Anything FFmpeg opens, through PyAV: RTSP over TCP or UDP, HTTP, files (looped, at their own pace).

What of it is decoded, the policy says. A frame that is damaged, or refers to one that is, is not given: after a loss
the source is silent until the next key frame that has come whole.
"""

import time
from collections.abc import Iterator

import av
from av.container import InputContainer

from framesrv.camera.policy import Policy
from framesrv.camera.sources import Sink, SourceFrame
from framesrv.camera.sources.codec.conversion import source_frame
from framesrv.camera.sources.codec.damage import Damage
from framesrv.camera.sources.codec.decoding import Decoding
from framesrv.camera.sources.codec.hardware import Hardware
from framesrv.camera.sources.ffmpeg import cause
from framesrv.camera.sources.ffmpeg.cost import Cost
from framesrv.camera.sources.ffmpeg.pacing import Pacing
from framesrv.camera.sources.ffmpeg.packets import Moment, Packets
from framesrv.camera.sources.ffmpeg.protocols import whitelist
from framesrv.camera.sources.reasons import no_answer
from framesrv.errors import SourceError, SourceLimitError
from framesrv.settings import Camera


class FFmpeg:
    """A stream or file that FFmpeg opens."""

    def __init__(self, camera: Camera, policy: Policy) -> None:
        self._camera = camera
        self._policy = policy
        self._hardware = Hardware(camera.hwaccel)
        self._cost = Cost(camera.max_pixels, camera.timeout, driver=bool(camera.hwaccel))

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """See `Source.frames`."""
        pacing = Pacing()
        with Damage() as damage:
            while True:  # again only for a recording that cannot be wound back
                opened = (time.monotonic_ns(), time.time_ns())
                with self._open(damage) as container:
                    yield from self._passes(container, damage, opened, pacing, sink)

    def _passes(
        self, container: InputContainer, damage: Damage, opened: Moment, pacing: Pacing, sink: Sink
    ) -> Iterator[SourceFrame | None]:
        """The pictures of a stream until it is lost, or of a recording as often as it can be wound back."""
        if not container.streams.video:
            raise SourceError("there is no video in it", "no_video")
        stream = container.streams.video[0]
        self._hardware.look(stream)
        self._check_size(stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.options = {"max_pixels": str(self._camera.max_pixels)}
        packets = Packets(container, stream, damage, opened, pacing, self._cost, self._camera.timeout)
        decoding = Decoding(stream.codec_context, self._camera.pixel_format, self._policy, damage, sink)
        while True:
            for packet, arrival in packets:
                frames = decoding.frames(packet, arrival)
                if damage.oversized:
                    raise self._oversized(damage.oversized)
                for frame, its in frames:
                    yield source_frame(frame, its, self._camera.pixel_format)
                if not frames:
                    yield None
            if not packets.recorded:
                raise SourceError("the camera ended the stream", "ended")
            if not decoding.began:
                raise SourceError("there is no picture in it", "format")
            try:
                container.seek(0)
            except (av.error.FFmpegError, OSError):
                return
            decoding.restart()

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._camera.max_pixels:
            raise self._oversized(f"{width}x{height}")

    def _oversized(self, size: str) -> SourceLimitError:
        return SourceLimitError(
            f"its pictures of {size} are larger than max_pixels = {self._camera.max_pixels} allows"
        )

    def _open(self, damage: Damage) -> InputContainer:
        camera = self._camera
        options = {
            "rtsp_transport": camera.transport,
            "allowed_media_types": "video",  # a camera whose picture has stopped must not live on by its sound
            "analyzeduration": "100000",
            "probesize": "500000",
            "timeout": str(int(camera.timeout * 1e6)),
        }
        if camera.transport == "tcp":
            options["reorder_queue_size"] = "2"  # nothing is reordered there, but without a queue no loss is told of
        is_rtsp = camera.source.startswith(("rtsp:", "rtsps:"))
        if not is_rtsp:
            options = {"analyzeduration": "1000000", "probesize": "2000000"}
        options |= {"protocol_whitelist": whitelist(camera.source), "max_pixels": str(camera.max_pixels)}
        # the socket's own time-out comes first for RTSP; PyAV's ends whatever else hangs
        limits = (camera.timeout, camera.timeout)
        accelerator = self._hardware.accelerator()
        began = time.monotonic()
        with self._cost.opening() as processor, damage.hears_description(is_rtsp):
            try:
                return av.open(camera.source, "r", options=options, timeout=limits, hwaccel=accelerator)
            except MemoryError as error:
                raise self._cost.much_memory("its answer") from error
            except (av.error.FFmpegError, OSError, ValueError) as error:
                late = time.monotonic() - began >= camera.timeout
                if processor.exceeded or (late and self._cost.was_busy(processor.spent)):
                    raise self._cost.much_processor("its answer") from error
                said = damage.said
                if late:  # FFmpeg has other words for it
                    raise no_answer(camera.timeout) from error
                invalid = isinstance(error, av.error.InvalidDataError)
                if is_rtsp and invalid and not damage.described and not cause.broke_off(said):
                    raise self._cost.much_memory("its session description is missing, or") from error
                raise cause.explain(error, said, camera.source) from error
