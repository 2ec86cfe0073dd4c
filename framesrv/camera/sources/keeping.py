"""What becomes of the packets of a stream beside its frames: they go into the camera's history."""

from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

from av.video.codeccontext import VideoCodecContext

from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.presentation import Presentation
from framesrv.history.packet import CodecParameters, packed
from framesrv.history.writer import HistoryWriter

MILLISECOND = Fraction(1, 1000)  # the time base of packets that have no times

Told: TypeAlias = tuple[tuple[int, int], Fraction | None]


class Keeping:
    """Keeps the packets of one stream.

    Args:
        writer: of the camera's history.
        codec: that the packets are for.
        presentation: of its pictures.
        told: gives width and height of the pictures, and the aspect of a pixel as the container tells it, None where
            it does not.
    """

    def __init__(
        self, writer: HistoryWriter, codec: VideoCodecContext, presentation: Presentation, told: Callable[[], Told]
    ) -> None:
        self._writer = writer
        self._name, self._extradata = codec.name, codec.extradata or b""
        self._presentation = presentation
        self._told = told
        writer.begin()

    def begin(self) -> None:
        """The next packet is the first of the stream again."""
        self._writer.begin()

    def keep(self, packet: Packet, arrival: Arrival) -> int:
        """Keeps a packet; gives its number there, 0 where it is not kept."""
        return self._writer.add(
            memoryview(packet),
            (
                packet.pts,
                packet.dts,
                arrival.captured_ns,
                arrival.unix,
                arrival.monotonic,
                arrival.captured is not None,
            ),
            packed(self._parameters(packet)) if packet.is_keyframe else b"",
            whole=arrival.whole,
            lost=arrival.lost,
        )

    def _parameters(self, packet: Packet) -> CodecParameters:
        (width, height), aspect = self._told()
        base = packet.time_base or MILLISECOND
        return CodecParameters(self._name, self._extradata, base, width, height, aspect, self._presentation)
