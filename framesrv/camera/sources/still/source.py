"""A single picture that is asked for again and again, at the rate that `fps` says.

A picture that has not changed is given again: whoever has it says that it is still the newest. It counts as new by
its age, and as captured when it first came.
"""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext

from framesrv.camera.policy import Policy
from framesrv.camera.sources import Facts, Sink, SourceFrame
from framesrv.camera.sources.decoding import Decoding
from framesrv.camera.sources.size_limit import SizeLimit
from framesrv.camera.sources.still.file import File
from framesrv.camera.sources.still.image import Image, Origin
from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.conversion import Conversion
from framesrv.codec.damage import Damage
from framesrv.codec.exif import orientation_in
from framesrv.codec.orientation import AS_IT_IS
from framesrv.errors import SourceError
from framesrv.history.writer import HistoryWriter
from framesrv.settings import Camera

TURN = 0.5  # s of a wait after which whoever follows has his turn
_WEB = re.compile(r"https?:", re.IGNORECASE)


class Still:
    """A picture at a URL, or in a file."""

    def __init__(self, camera: Camera, policy: Policy, history: HistoryWriter | None = None) -> None:
        self._camera = camera
        self._policy = policy
        self._history = history
        self._conversion = Conversion(camera.presentation)
        self._limit = SizeLimit(camera)
        self._codec = ""
        self._told: set[str] = set()

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """See `Source.frames`.

        Raises:
            NoImageError: there is no picture, but something else.
        """
        with Damage() as damage, closing(self._origin()) as origin:
            decoding, kept = None, None
            due = shown = time.monotonic()
            while True:
                yield from _until(due, sink)
                due = max(due, time.monotonic() - TURN) + 1 / self._camera.fps
                try:
                    fresh = origin.get()
                except SourceError as error:
                    if kept is None or error.cause == "unauthorized" or self._is_over(shown):
                        raise
                    continue
                image = fresh or kept
                if image is None:
                    raise SourceError("there is no picture", "format")
                if decoding is None or image.codec != self._codec:
                    decoding = self._decoding(image, damage, sink)
                kept = image if kept is None or image.data != kept.data else kept
                arrived = fresh.monotonic if fresh else time.monotonic_ns()
                frames = decoding.frames(_packet(image), Arrival(arrived, kept.unix))
                if damage.oversized:
                    raise self._limit.exceeded(damage.oversized)
                if decoding.intact:
                    shown = time.monotonic()
                elif self._is_over(shown):
                    said = f': its decoder says "{damage.complaint}"' if damage.complaint else ""
                    raise SourceError(f"lost: its pictures come damaged{said}", "damaged")
                for frame, its in frames:
                    yield self._conversion.source_frame(frame, its, exif=orientation_in(image.data) or AS_IT_IS)

    def facts(self) -> Facts:
        """See `Source.facts`."""
        return Facts(self._codec)

    def _origin(self) -> Origin:
        if not _WEB.match(self._camera.source):
            return File(self._camera.source)
        from framesrv.camera.sources.still.web import Web  # and http.client, which few cameras need

        return Web(self._camera, self._told)

    def _is_over(self, shown: float) -> bool:
        """Whether the last picture that could be shown came too long ago to wait for another one."""
        return time.monotonic() - shown >= max(self._camera.timeout, 1 / self._camera.fps)

    def _decoding(self, image: Image, damage: Damage, sink: Sink) -> Decoding:
        self._codec = image.codec
        decoding = Decoding(
            self._context(), self._camera.presentation, self._policy, damage, sink, history=self._history
        )
        if self._policy.demand:  # nobody decodes, and nothing else tells the size
            codec = self._context()
            try:
                codec.decode(_packet(image))
            except (av.error.FFmpegError, OSError) as error:
                if damage.noticed(self._codec) and damage.oversized:
                    raise self._limit.exceeded(damage.oversized) from error
                raise SourceError("its picture is damaged", "damaged") from error
            decoding.size = (codec.width, codec.height)
        return decoding

    def _context(self) -> VideoCodecContext:
        codec = cast(VideoCodecContext, av.CodecContext.create(self._codec, "r"))
        codec.options = self._limit.options
        return codec


def _packet(image: Image) -> Packet:
    packet = cast(Packet, av.Packet(image.data))
    packet.is_keyframe = True
    return packet


def _until(due: float, sink: Sink) -> Iterator[None]:
    """Waits, with turns for whoever follows. What is not due does not stand still."""
    while (left := due - time.monotonic()) > 0:
        time.sleep(min(left, TURN))
        sink.active()
        yield None
