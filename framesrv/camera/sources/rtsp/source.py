"""A camera that speaks RTSP, by a client of our own.

What FFmpeg's client does not tell is what matters here: where a picture ends, what was lost before it, which answer
the camera gave, what its clock says. Codecs that are rare in cameras go through FFmpeg's client all the same.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, cast

import av
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from framesrv.camera.policy import Policy
from framesrv.camera.sources import Facts, Sink, Source, SourceFrame
from framesrv.camera.sources.address import address_of
from framesrv.camera.sources.decoding import Decoding, Frames
from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.patience import Patience
from framesrv.camera.sources.rtsp.session import Session
from framesrv.camera.sources.rtsp.stream import CODECS, Stream
from framesrv.camera.sources.size_limit import SizeLimit
from framesrv.codec.conversion import Conversion
from framesrv.codec.damage import Damage
from framesrv.codec.hardware import Hardware
from framesrv.history.writer import HistoryWriter
from framesrv.settings import Camera

if TYPE_CHECKING:
    from framesrv.codec.questions import Questions

ORDERED = ("tcp", "http")  # transports in which packets come as they were sent
TURN = 1_000_000_000  # ns after which whoever follows has his turn, although no picture has come
CALM = 200_000_000  # ns in which nothing is to be seen to besides, as one good picture comes after the other


class Rtsp:
    """A camera's stream over RTSP."""

    def __init__(self, camera: Camera, policy: Policy, history: HistoryWriter | None = None) -> None:
        self._camera = camera
        self._policy = policy
        self._history = history
        self._conversion = Conversion(camera.presentation)
        self._hardware = Hardware(camera.hwaccel)
        self._patience = Patience(camera.timeout)
        address_of(camera.source)  # raises SourceUsageError for what is none
        self._experience = Experience(camera)
        self._questions: Questions | None = None
        self._playing: tuple[Session, Stream, Decoding] | None = None
        self._limit = SizeLimit(camera)
        self._gathers = False  # what comes waits for more
        self._ahead: float | None = None  # its clock, as it was told
        self._other: Source | None = None  # which plays it in our place

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """See `Source.frames`."""
        self._playing = None
        with Session(self._camera, self._experience) as session:
            if session.track.codec in CODECS:
                with Damage() as damage:
                    yield from self._play(session, damage, sink)
        self._playing = None
        if self._other is None:
            from framesrv.camera.sources.ffmpeg.source import FFmpeg  # which few cameras need

            self._other = FFmpeg(self._camera, self._policy, self._experience, self._history)
        yield from self._other.frames(sink)

    def facts(self) -> Facts:
        """See `Source.facts`."""
        if self._playing is None:
            return self._other.facts() if self._other else Facts()
        session, stream, decoding = self._playing
        codec = decoding.codec
        return Facts(
            codec.name,
            codec.profile or "",
            codec.pix_fmt or "",
            session.offered,
            stream.received,
            stream.missing,
        )

    def _begun(self, session: Session, damage: Damage, sink: Sink) -> tuple[Stream, Decoding]:
        """What the session's packets go through."""
        sink.via(session.transport)
        codec = self._codec(session.track.codec)
        asks = codec.name == "hevc" and not codec.is_hwaccel  # a device's cannot be asked
        if asks and self._questions is None:
            from framesrv.codec.questions import BEGINNING, KEYS, Questions  # which the other codecs do not need
            from framesrv.codec.trial import Trial

            doubted = KEYS if self._policy.keyframes else BEGINNING
            self._questions = Questions(Trial(self._limit.options), doubted=doubted)
        questions = self._questions if asks else None
        decoding = Decoding(codec, self._camera.presentation, self._policy, damage, sink, questions, self._history)
        stream = Stream(session.track, keeps_order=session.transport in ORDERED)
        self._playing = session, stream, decoding
        self._patience.begin()
        self._ahead = None
        self._gathers = False
        sink.clock(None)
        return stream, decoding

    def _play(self, session: Session, damage: Damage, sink: Sink) -> Iterator[SourceFrame | None]:
        stream, decoding = self._begun(session, damage, sink)
        turn, calm = 0, False
        for received in session.packets():
            came = given = False
            if received is not None:
                is_rtcp, packets, arrived = received
                for packet, arrival in stream.take(packets, arrived, is_rtcp=is_rtcp):
                    came, behind = True, arrived < session.newest
                    if packet.is_keyframe:
                        self._patience.key_came(whole=arrival.whole)
                        if stream.size != decoding.size:
                            decoding.size = stream.size and self._limit.checked(*stream.size)
                    given |= yield from self._given(decoding.frames(packet, arrival, behind=behind), decoding, stream)
                    if damage.oversized:
                        raise self._limit.exceeded(damage.oversized)
                if (arrived - turn < CALM and given and calm) or (not came and arrived - turn < TURN):
                    continue
                if arrived < session.newest:
                    continue
                turn = arrived
            else:
                given |= yield from self._given(decoding.left_behind(), decoding, stream)
            intact = decoding.intact and not stream.strange
            calm = intact and not decoding.idle
            self._gather(session, sink, idle=intact and decoding.idle)
            self._patience.look(sink, intact=intact, complaint=stream.strange or damage.complaint)
            self._report(session, stream, sink, wants_key=not intact)
            if not given:
                yield None

    def _given(self, frames: Frames, decoding: Decoding, stream: Stream) -> Generator[SourceFrame, None, bool]:
        """Gives the codec's frames as ours, and keeps none of them; whether there are any."""
        codec = decoding.codec
        for frame, its in frames:
            ratio = codec.sample_aspect_ratio
            yield self._conversion.source_frame(frame, its, ratio, codec=codec.name, tick=stream.tick)
        return bool(frames)

    def _gather(self, session: Session, sink: Sink, *, idle: bool) -> None:
        """Lets what comes wait for more as long as nobody wants a picture, unless one of them is damaged."""
        if idle != self._gathers:
            self._gathers = idle
            session.gather((lambda: not sink.demanded) if idle else None)

    def _report(self, session: Session, stream: Stream, sink: Sink, *, wants_key: bool) -> None:
        """Tells the camera what has come, the session what has not, and the sink of the camera's clock."""
        if stream.clock.ahead != self._ahead:
            self._ahead = stream.clock.ahead
            sink.clock(self._ahead)
        if stream.misses():
            session.missed()
        if report := stream.reports(wants_key=wants_key):
            session.report(report)

    def _codec(self, name: str) -> VideoCodecContext:
        accelerator: HWAccel | None = self._hardware.accelerator()
        codec = cast(VideoCodecContext, av.CodecContext.create(name, "r", hwaccel=accelerator))
        self._hardware.look(codec)
        codec.options = self._limit.options
        return codec
