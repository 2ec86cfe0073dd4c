"""From packets to frames: what the policy wants, and nothing that is damaged or refers to what is."""

import logging
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

import av
from av.video.codeccontext import VideoCodecContext

from framesrv.camera.policy import Demand, Policy
from framesrv.camera.sources import Sink
from framesrv.camera.sources.gop import GopCache
from framesrv.camera.sources.keeping import Keeping
from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.damage import Damage
from framesrv.codec.intact import IntactDecoder
from framesrv.codec.presentation import Presentation
from framesrv.codec.presented import Presented
from framesrv.history.writer import HistoryWriter
from framesrv.process import heap

if TYPE_CHECKING:
    from framesrv.codec.questions import Questions

REORDERED = 4  # packets before the newest that are decoded whole, so that the newest frame comes out

logger = logging.getLogger(__name__)

Frames: TypeAlias = Sequence[tuple[av.VideoFrame, Arrival]]


class Decoding:
    """A codec and what it is fed. While nobody wants a frame its pictures take no memory.

    Attributes:
        began: whether a frame has come out, or none was asked for.
        size: width and height of the pictures as they were announced; as the codec has them while it is None.
        aspect: of a pixel, as the container tells; None where it does not.
    """

    def __init__(
        self,
        codec: VideoCodecContext,
        presentation: Presentation,
        policy: Policy,
        damage: Damage,
        sink: Sink,
        questions: "Questions | None" = None,
        history: HistoryWriter | None = None,
    ) -> None:
        self._decoder = IntactDecoder(codec, damage, sink.count, questions)
        self._presentation = presentation
        self._presented = Presented()
        self._keeping = Keeping(history, codec, presentation, lambda: (self._form, self.aspect)) if history else None
        self._policy = policy
        self._sink = sink
        self._demand = Demand(sink)
        self._gop = GopCache(history)
        self._idle = policy.demand
        self._refreshes = self._is_due = self._behind = self._rests = False
        self.size: tuple[int, int] | None = None
        self.aspect: Fraction | None = None
        self.began = policy.demand

    def frames(self, packet: Packet, arrival: Arrival, *, behind: bool = False) -> Frames:
        """The frames that are wanted now that this packet has come; an empty packet is the end of the stream.

        Args:
            packet: the next one.
            arrival: how it came.
            behind: while it was `idle` more has come after it, so that it holds no frame that anybody wants.
        """
        policy, number = self._policy, 0
        if packet.size:
            self._sink.active()
            self._sink.count("bytes", packet.size)
            self._presented.note(packet, arrival)
            if self._keeping:
                number = self._keeping.keep(packet, arrival)
        if policy.demand:
            return self._on_demand(packet, arrival, number, behind) if packet.size else ()
        if policy.keyframes:
            return self._of_key_frames(packet, arrival)
        if policy.limited:
            self._decoder.spare(not policy.is_due(arrival.monotonic))
            return [(frame, its) for frame, its in self._decode(packet, arrival) if policy.wants(its.monotonic)]
        return self._decode(packet, arrival)

    def left_behind(self) -> Frames:
        """The newest frame where it is one that was behind, but behind no other, and somebody wants it by now."""
        if not self._behind:
            return ()
        self._behind = False
        self._idle = not self._demand.stands()
        return () if self._idle else self._catch_up()

    @property
    def idle(self) -> bool:
        """Whether nobody wants a frame."""
        return self._idle

    @property
    def intact(self) -> bool:
        """Whether the newest packet is whole, with all that it refers to; a backlog is not looked into."""
        if self._idle:
            return self._gop.whole or not self._decoder.flagged
        return self._decoder.intact

    @property
    def codec(self) -> VideoCodecContext:
        """The codec in use. It is another one after nobody has wanted a frame for a while."""
        return self._decoder.codec

    @property
    def _form(self) -> tuple[int, int]:
        """Width and height of the pictures; 0 while they are not known."""
        return self.size or (self.codec.width, self.codec.height)

    def restart(self) -> None:
        """The next packet is the first of the stream again."""
        self._decoder.restart()
        self._gop.take()
        self._presented = Presented()
        if self._keeping:
            self._keeping.begin()

    def _of_key_frames(self, packet: Packet, arrival: Arrival) -> Frames:
        """Those; where there are none that stand alone, a frame for each refresh of the picture."""
        if self._refreshes:
            frames = self._decode(packet, arrival)
            self._is_due = self._is_due or packet.is_keyframe
            if not frames or not self._is_due:
                return ()
            self._is_due = False
            return frames[-1:]
        if not packet.is_keyframe:
            return ()
        frames = self._decode(packet, arrival, alone=True)
        if not frames and self._decoder.intact:
            # a recovery point, from which on the picture is refreshed bit by bit
            self._refreshes = True
            self._decoder.intact = False
            logger.warning("Its key frames are no whole pictures: all of it is decoded")
        return frames

    def _on_demand(self, packet: Packet, arrival: Arrival, number: int, behind: bool) -> Frames:
        self._gop.add(packet, arrival, number)
        self._behind = behind
        if not behind:
            self._idle = not self._demand.stands()
            if not self._idle:
                return self._catch_up()
        if self._gop.full:
            self._catch_up()
        elif self._gop.broken and not self._rests:  # from the key frame on the codec begins anew anyway
            self._rests = True
            self._decoder.rest()
            heap.give_back()
        if behind:
            return ()
        width, height = self._form
        if width:
            self._sink.idle(width, height, self._presentation.pixel_format)
        return ()

    def _catch_up(self) -> Frames:
        """Decodes all that was kept, for the newest frame."""
        if self._gop.broken:
            self._decoder.intact = False
        self._rests = False
        newest: Frames = ()
        kept = self._gop.take()
        for left, (packet, arrival) in zip(range(len(kept), 0, -1), kept, strict=True):
            self._decoder.spare(left > REORDERED)
            newest = self._decode(packet, arrival)[-1:] or newest
        return newest

    def _decode(self, packet: Packet, arrival: Arrival, *, alone: bool = False) -> Frames:
        frames = self._decoder.decode(packet, arrival, alone=alone)
        self.began = self.began or bool(frames)
        return frames
