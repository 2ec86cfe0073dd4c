"""From packets to frames: what the policy wants, and nothing that is damaged or refers to what is."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import av
from av.video.codeccontext import VideoCodecContext

from framesrv.camera.policy import Demand, Policy
from framesrv.camera.sources import Sink
from framesrv.camera.sources.codec.arrival import Arrival, Packet
from framesrv.camera.sources.codec.damage import Damage
from framesrv.camera.sources.codec.gop import GopCache
from framesrv.segment.layout import PixelFormat

if TYPE_CHECKING:
    from framesrv.camera.sources.codec.trial import Trial

FLAGGED = ("h264", "hevc")  # whose key frames are known to be flagged; of another codec it shows with the first one
REORDERED = 4  # packets before the newest that are decoded whole, so that the newest frame comes out

Frames: TypeAlias = Sequence[tuple[av.VideoFrame, Arrival]]


class Decoding:
    """A codec and what it is fed.

    Attributes:
        began: whether a frame has come out, or none was asked for.
        size: width and height of the pictures as they were announced; as the codec has them while it is None.
    """

    def __init__(
        self,
        codec: VideoCodecContext,
        pixel_format: PixelFormat,
        policy: Policy,
        damage: Damage,
        sink: Sink,
        trial: "Trial | None" = None,
    ) -> None:
        self._codec = codec
        self._codec.thread_count = 1  # threads hold frames back
        self._codec.copy_opaque = True
        self._pixel_format: PixelFormat = pixel_format
        self._policy = policy
        self._damage = damage
        self._sink = sink
        self._demand = Demand(sink)
        self._gop = GopCache()
        self._intact = False  # what the next packet may refer to
        self._clean = False  # no frame has come out corrupt since the codec began anew
        self._beginning = False  # no frame has come out at all since then
        self._trial = trial
        self._flagged = codec.name in FLAGGED
        self._sparing = False
        self._idle = policy.demand
        self.size: tuple[int, int] | None = None
        self.began = policy.demand

    def frames(self, packet: Packet, arrival: Arrival) -> Frames:
        """The frames that are wanted now that this packet has come; an empty packet is the end of the stream."""
        policy = self._policy
        if packet.size:
            self._sink.active()
            self._sink.count("bytes", packet.size)
        if policy.demand:
            return self._on_demand(packet, arrival) if packet.size else ()
        if policy.keyframes:
            return self._decode(packet, arrival, alone=True) if packet.is_keyframe else ()
        if policy.limited:
            self._spare(not policy.is_due(arrival.monotonic))
        return [(frame, its) for frame, its in self._decode(packet, arrival) if policy.wants(its.monotonic)]

    @property
    def intact(self) -> bool:
        """Whether the newest packet is whole, with all that it refers to; a backlog is not looked into."""
        if self._idle:
            return self._gop.whole or not self._flagged
        return self._intact

    def restart(self) -> None:
        """The next packet is the first of the stream again."""
        self._codec.flush_buffers()
        self._gop.take()
        self._intact = False

    def _on_demand(self, packet: Packet, arrival: Arrival) -> Frames:
        self._gop.add(packet, arrival)
        self._idle = not self._demand.stands()
        if not self._idle:
            return self._catch_up()
        if self._gop.full:
            self._catch_up()
        width, height = self.size or (self._codec.width, self._codec.height)
        if width:
            self._sink.idle(width, height, self._pixel_format)
        return ()

    def _catch_up(self) -> Frames:
        """Decodes all that was kept, for the newest frame."""
        if self._gop.broken:
            self._intact = False
        newest: Frames = ()
        kept = self._gop.take()
        for left, (packet, arrival) in zip(range(len(kept), 0, -1), kept, strict=True):
            self._spare(left > REORDERED)
            newest = self._decode(packet, arrival)[-1:] or newest
        return newest

    def _spare(self, yes: bool) -> None:
        """Has the codec leave out frames that no other refers to."""
        if yes != self._sparing:
            self._codec.skip_frame = "NONREF" if yes else "DEFAULT"
            self._sparing = yes

    def _decode(
        self, packet: Packet, arrival: Arrival, *, alone: bool = False
    ) -> list[tuple[av.VideoFrame, Arrival]]:
        """The intact frames that this packet completes; `alone`: its own, for which no other is waited."""
        if arrival.lost:
            self._intact = False
        self._flagged = self._flagged or packet.is_keyframe
        if packet.is_keyframe and not self._intact:
            # Anew, so that pictures which lead the key frame, and refer to what is not there, are left out by the
            # codec. It also gives nothing before it has recovered, where "key frame" means the beginning of an
            # intra refresh, whose frames are all no key frames.
            self._codec.flush_buffers()
            self._intact = self._clean = self._beginning = True
        complete = arrival.whole
        self._intact = arrival.whole = self._intact and complete
        if self._intact and self._trial and arrival.trial:
            self._intact = arrival.whole = self._trial.passes(arrival.trial, self._damage)
        if packet.size and not self._intact and self._flagged:
            self._sink.count("corrupt")
            return []
        packet.opaque = arrival
        began = time.perf_counter_ns()
        try:
            frames = self._codec.decode(packet if packet.size else None)
            if alone:
                frames += self._codec.decode(None)
        except (av.error.FFmpegError, OSError, ValueError):
            self._intact = arrival.whole = False
            self._sink.count("corrupt")
            frames = []
        if alone:
            self._codec.flush_buffers()
        if self._damage.noticed(self._codec.name, asked=arrival.asked, beginning=self._beginning):
            self._intact = arrival.whole = False
        elif complete and not self._flagged and any(frame.key_frame and not frame.is_corrupt for frame in frames):
            self._intact = self._clean = arrival.whole = True
        self._sink.count("decode", time.perf_counter_ns() - began)
        self._beginning = self._beginning and not frames
        self.began = self.began or bool(frames)
        return [(frame, its) for frame in frames if self._is_intact(frame, its := _arrival_of(frame, arrival))]

    def _is_intact(self, frame: av.VideoFrame, arrival: Arrival) -> bool:
        if frame.is_corrupt:
            self._intact = self._clean = False
        if arrival.whole and self._clean:
            return True
        self._sink.count("corrupt")
        return False


def _arrival_of(frame: av.VideoFrame, otherwise: Arrival) -> Arrival:
    """That of the frame's own packet, which need not be the one that completed it."""
    return frame.opaque if isinstance(frame.opaque, Arrival) else otherwise
