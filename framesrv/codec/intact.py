"""A codec that gives no damaged frame, nor one that refers to such: none from a loss to the next whole key frame."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

import av
from av.video.codeccontext import VideoCodecContext

from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.damage import Damage

if TYPE_CHECKING:
    from framesrv.codec.questions import Questions
    from framesrv.codec.sublayers import SubLayers

FLAGGED = ("h264", "hevc")  # whose key frames are known to be flagged; of another codec it shows with the first one

Decoded: TypeAlias = list[tuple[av.VideoFrame, Arrival]]


class IntactDecoder:
    """A codec, and what is known of the packets that it was fed.

    Args:
        codec: fresh.
        damage: that listens.
        count: adds to ``corrupt`` or ``decode`` (nanoseconds).
        questions: that the codec can be asked of each picture; None where it cannot.

    Attributes:
        codec: the one in use; another after `rest`.
        intact: the newest packet is whole, with all that it refers to.
        flagged: key frames are known as such.
    """

    def __init__(
        self,
        codec: VideoCodecContext,
        damage: Damage,
        count: Callable[[str, int], object],
        questions: "Questions | None" = None,
    ) -> None:
        self._use(codec)
        self._damage = damage
        self._count = count
        self._questions = questions
        self.intact = False
        self._name = codec.name
        self.flagged = self._name in FLAGGED
        self._clean = False  # no frame has come out corrupt since the codec began anew
        self._beginning = False  # no frame has come out at all since then
        self._sparing = False
        self._layers = _layers(codec) if self._name == "hevc" else None

    def restart(self) -> None:
        """The next packet is the first of a stream again."""
        self.codec.flush_buffers()
        self.intact = False

    def rest(self) -> None:
        """Gives the memory of the codec's pictures back; nothing is decoded until the next key frame."""
        # a device has it itself, and takes its time to open; of other codecs a container tells more than we know
        if self.codec.is_hwaccel or self._name not in FLAGGED:
            return
        self._use(_fresh(self.codec))
        self.intact = False
        if self._questions:
            self._questions.rest()

    def spare(self, yes: bool) -> None:
        """Has the codec leave out frames that no other refers to."""
        self._sparing = yes

    def decode(self, packet: Packet, arrival: Arrival, *, alone: bool = False) -> Decoded:
        """The intact frames that this packet completes; `alone`: its own, for which no other is waited.

        An empty packet is the end of the stream.
        """
        complete = arrival.whole
        packet, asked = self._begun(packet, arrival)
        if packet.size and not self.intact and self.flagged:
            self._count("corrupt", 1)
            return []
        packet.opaque = arrival
        self._leave_out(packet)
        began = time.perf_counter_ns()
        try:
            frames = self.codec.decode(packet if packet.size else None)
            if alone:
                frames += self.codec.decode(None)
        except (av.error.FFmpegError, OSError, ValueError):
            self.intact = arrival.whole = False
            self._count("corrupt", 1)
            frames = []
        if alone:
            self.codec.flush_buffers()
        if self._damage.noticed(self._name, asked=asked, beginning=self._beginning):
            self.intact = arrival.whole = False
            self._doubt()
        elif complete and not self.flagged and any(frame.key_frame and not frame.is_corrupt for frame in frames):
            self.intact = self._clean = arrival.whole = True
        self._count("decode", time.perf_counter_ns() - began)
        self._beginning = self._beginning and not frames
        return self._sound(frames, arrival)

    def _use(self, codec: VideoCodecContext) -> None:
        codec.thread_count = 1  # threads hold frames back
        codec.copy_opaque = True
        self.codec = codec
        self._leaving_out = False

    def _leave_out(self, packet: Packet) -> None:
        """Has the codec leave the packet's picture out if it is to be spared and no other refers to it, or not."""
        yes = self._sparing
        if self._layers and packet.size and (yes or packet.is_keyframe):
            yes = self._layers.is_of_highest(packet) and yes
        if yes != self._leaving_out:
            self.codec.skip_frame = "NONREF" if yes else "DEFAULT"
            self._leaving_out = yes

    def _sound(self, frames: list[av.VideoFrame], arrival: Arrival) -> Decoded:
        """Those of the frames that are intact, each with the arrival of its own packet, as far as that is known."""
        sound: Decoded = []
        for frame in frames:
            its = frame.opaque
            its = its if isinstance(its, Arrival) else arrival
            if frame.is_corrupt:
                self.intact = self._clean = False
            if its.whole and self._clean:
                sound.append((frame, its))
            else:
                self._count("corrupt", 1)
        return sound

    def _begun(self, packet: Packet, arrival: Arrival) -> tuple[Packet, int]:
        """The packet as the codec is to have it, and how often that is asked; `intact` tells of it now."""
        if arrival.lost:
            self.intact = False
        self.flagged = self.flagged or packet.is_keyframe
        if packet.is_keyframe and not self.intact:
            # Anew, so that pictures which lead the key frame, and refer to what is not there, are left out by the
            # codec. It also gives nothing before it has recovered, where "key frame" means the beginning of an
            # intra refresh, whose frames are all no key frames.
            self.codec.flush_buffers()
            self.intact = self._clean = self._beginning = True
        self.intact = arrival.whole = self.intact and arrival.whole
        if not (self.intact and self._questions and packet.size):
            return packet, 0
        packet, asked, sound = self._questions.asked(packet, self._damage, arrival.monotonic)
        if not sound:
            self.intact = arrival.whole = False
            self._doubt()
        return packet, asked

    def _doubt(self) -> None:
        """Something was damaged, as the decoder has found out."""
        if self._questions:
            self._questions.damaged()


def _fresh(codec: VideoCodecContext) -> VideoCodecContext:
    """Another one for the same stream, which has decoded nothing yet."""
    another = cast(VideoCodecContext, av.CodecContext.create(codec.name, "r"))
    another.options = codec.options
    if codec.extradata:
        another.extradata = codec.extradata
    another.width, another.height = codec.width, codec.height
    return another


def _layers(codec: VideoCodecContext) -> "SubLayers":
    from framesrv.codec.sublayers import SubLayers  # which the other codecs do not need

    return SubLayers(codec.extradata)
