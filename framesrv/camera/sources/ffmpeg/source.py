"""Anything FFmpeg opens, through PyAV: HTTP, files (looped, at their own pace), what RTSP leaves to it.

What turns out to be a single picture is asked for again and again, see `still`; motion JPEG over HTTP see `motion`.

What of it is decoded, the policy says. A frame that is damaged, or refers to one that is, is not given: after a loss
the source is silent until the next key frame that has come whole.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from enum import Enum
from typing import TYPE_CHECKING

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from framesrv.camera.policy import Policy
from framesrv.camera.sources import Facts, Sink, Source, SourceFrame, reasons
from framesrv.camera.sources.decoding import Decoding
from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.ffmpeg.cost import Cost
from framesrv.camera.sources.ffmpeg.opening import Opening
from framesrv.camera.sources.ffmpeg.pacing import Pacing
from framesrv.camera.sources.ffmpeg.packets import Moment, Packets
from framesrv.camera.sources.ffmpeg.tracks import choose
from framesrv.camera.sources.patience import Patience
from framesrv.camera.sources.size_limit import SizeLimit
from framesrv.camera.sources.still.image import NoImageError
from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.conversion import Conversion
from framesrv.codec.damage import Damage
from framesrv.codec.exif import orientation_in
from framesrv.codec.hardware import Hardware
from framesrv.errors import SourceError
from framesrv.history.writer import HistoryWriter
from framesrv.masking import user_info
from framesrv.settings import Camera

if TYPE_CHECKING:
    from framesrv.camera.sources.ffmpeg.dates import Dates

MOTION_JPEG, SEGMENTS = "mpjpeg", "hls"  # FFmpeg's names of what comes over HTTP


class Kind(Enum):
    """What another source is for."""

    STILL = "a single picture"
    MOTION = "motion JPEG over HTTP"


class FFmpeg:
    """A stream or file that FFmpeg opens.

    Args:
        camera: whose it is.
        policy: what of it is decoded.
        experience: with a camera that speaks RTSP.
        history: where packets are kept.
    """

    def __init__(
        self,
        camera: Camera,
        policy: Policy,
        experience: Experience | None = None,
        history: HistoryWriter | None = None,
    ) -> None:
        self._camera = camera
        self._policy = policy
        self._history = history
        self._conversion = Conversion(camera.presentation)
        self._limit = SizeLimit(camera)
        self._hardware = Hardware(camera.hwaccel)
        self._cost = Cost(camera.max_pixels, camera.timeout, driver=bool(camera.hwaccel))
        self._patience = Patience(camera.timeout)
        self._experience = experience
        self._opening = Opening(camera, self._hardware, self._cost, experience)
        self._codec: VideoCodecContext | None = None  # in use
        self._other: Source | None = None  # in our place, once it is known what is there

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """See `Source.frames`."""
        if self._other is not None:
            yield from self._by_another(self._other, sink)
            return
        try:
            kind = yield from self._played(sink)
        except SourceError as error:
            strange = self._strange_login() if error.cause == "unauthorized" else ""
            if not strange:
                raise
        else:
            yield from self._by_another(self._of(kind), sink)
            return
        for kind in Kind:
            with suppress(NoImageError):
                yield from self._by_another(self._of(kind), sink)
                return
        words = f"the camera offers only {strange}, which FFmpeg does not know: choose Digest MD5 in its settings"
        raise reasons.cannot(("protocol", words))

    def _by_another(self, source: Source, sink: Sink) -> Iterator[SourceFrame | None]:
        """The pictures of a source in our place, which stays that until something else is there."""
        self._other = source
        try:
            yield from source.frames(sink)
        except NoImageError:
            self._other = None
            raise

    def _strange_login(self) -> str:
        """What a camera offers to whoever has a password, by HTTP, where FFmpeg knows none of it; else empty."""
        if not self._camera.source.lower().startswith(("http:", "https:")) or not user_info(self._camera.source):
            return ""
        from framesrv.camera.sources.still.web import Web

        with closing(Web(self._camera, set())) as web:
            offers = web.offers()
        known = any(one.scheme == "basic" or one.algorithm in ("", "MD5", "MD5-sess") for one in offers)
        return "" if known else " or ".join(dict.fromkeys(one.name for one in offers))

    def _of(self, kind: "Kind") -> Source:
        """Each is imported where there is such a camera."""
        if kind is Kind.MOTION:
            from framesrv.camera.sources.motion.source import Motion

            return Motion(self._camera, self._policy, self._history)
        from framesrv.camera.sources.still.source import Still

        return Still(self._camera, self._policy, self._history)

    def _played(self, sink: Sink) -> Generator[SourceFrame | None, None, "Kind"]:
        """The pictures of a stream or recording; comes to an end where it is of a kind that another source is for."""
        pacing = Pacing()
        with Damage() as damage:
            while True:  # again only for a recording that cannot be wound back
                opened = (time.monotonic_ns(), time.time_ns())
                with self._opening.open(damage) as container:
                    # whose options are FFmpeg's, it is FFmpeg that plays it
                    if container.format.name == MOTION_JPEG and not self._camera.ffmpeg_options:
                        return Kind.MOTION
                    single = yield from self._passes(container, damage, opened, pacing, sink)
                if single:
                    return Kind.STILL

    def facts(self) -> Facts:
        """See `Source.facts`."""
        if self._other is not None:
            return self._other.facts()
        codec = self._codec
        return Facts(codec.name, codec.profile or "", codec.pix_fmt or "") if codec else Facts()

    def _passes(
        self, container: InputContainer, damage: Damage, opened: Moment, pacing: Pacing, sink: Sink
    ) -> Generator[SourceFrame | None, None, bool]:
        """The pictures of a stream until it is lost, or of a recording as often as it can be wound back.

        Returns:
            Whether there is a single picture, and no more to come.
        """
        stream, first = choose(container, self._camera.track)
        self._codec = stream.codec_context
        self._hardware.look(stream.codec_context)
        self._limit.checked(stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.options = self._limit.options
        dates, timeout = self._dates(container), self._camera.timeout
        packets = Packets(container, stream, damage, opened, pacing, self._cost, timeout, first, dates)
        decoding = Decoding(
            stream.codec_context, self._camera.presentation, self._policy, damage, sink, history=self._history
        )
        decoding.aspect = stream.sample_aspect_ratio
        self._patience.begin()
        while True:
            count = 0
            for packet, arrival in self._watched(packets, sink):
                count += bool(packet.size)
                frames = decoding.frames(packet, arrival)
                if damage.oversized:
                    raise self._limit.exceeded(damage.oversized)
                for frame, its in frames:
                    yield self._converted(stream, packet, frame, its)
                self._wait(packet, arrival, packets, decoding, damage, sink)
                if not frames:
                    yield None
            if count == 1 and packets.of_pictures:
                return True
            if not packets.recorded:
                raise SourceError("the camera ended the stream", "ended")
            if not decoding.began:
                raise SourceError("there is no picture in it", "format")
            # what gives nothing then cannot be wound back, and does not say so
            if not count or not _wound_back(container):
                return False
            decoding.restart()

    def _converted(self, stream: VideoStream, packet: Packet, frame: av.VideoFrame, its: Arrival) -> SourceFrame:
        codec = stream.codec_context
        ratio = codec.sample_aspect_ratio or stream.sample_aspect_ratio  # that of the file
        exif = orientation_in(bytes(packet)) if codec.name == "mjpeg" else None  # whose frames are their packets'
        return self._conversion.source_frame(frame, its, ratio, codec=codec.name, exif=exif)

    def _dates(self, container: InputContainer) -> "Dates | None":
        """Of the pictures, where a playlist may tell them."""
        if container.format.name != SEGMENTS:
            return None
        from framesrv.camera.sources.ffmpeg.dates import dates_of  # which few cameras need

        return dates_of(self._camera)

    def _wait(
        self, packet: Packet, arrival: Arrival, packets: Packets, decoding: Decoding, damage: Damage, sink: Sink
    ) -> None:
        """Sees to a stream of which nothing can be shown. Raises SourceError where it is to be opened anew."""
        if not packets.recorded:
            if packet.is_keyframe:
                self._patience.key_came(whole=arrival.whole)
            self._patience.look(sink, intact=decoding.intact, complaint=damage.complaint)

    def _watched(self, packets: Packets, sink: Sink) -> Iterator[tuple[Packet, Arrival]]:
        """The packets, while their transport does what it is for; the next time another may be tried."""
        experience = self._experience
        if experience is None:
            yield from packets
            return
        came = False
        try:
            for packet, arrival in packets:
                if not came:
                    came = True
                    experience.came()
                    sink.via(experience.transport)
                if not arrival.whole and experience.missed():
                    raise SourceError("lost: packets are lost over UDP, TCP is tried", "lost")
                yield packet, arrival
        except SourceError as error:
            if came or error.cause != "timeout" or not (advice := experience.fruitless(1)):
                raise
            raise SourceError(f"{error}; {advice}", "timeout") from error


def _wound_back(container: InputContainer) -> bool:
    try:
        container.seek(0)
    except (av.error.FFmpegError, OSError):
        return False
    return True
