"""What becomes of the packets of a stream beside its frames: they go into the camera's history."""

from dataclasses import dataclass
from fractions import Fraction

from av.video.codeccontext import VideoCodecContext

from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.presentation import Presentation
from framesrv.history.packet import CodecParameters, packed
from framesrv.history.writer import HistoryWriter, Times

MILLISECOND = Fraction(1, 1000)  # the time base of packets that have no times


@dataclass
class Keeping:
    """Keeps the packets of one stream.

    Attributes:
        writer: of the camera's history.
        codec: that the packets are for.
        presentation: of its pictures.
        size: width and height as they were announced; as the codec has them while it is None.
        aspect: of a pixel, as the container tells; None where it does not.
    """

    writer: HistoryWriter
    codec: VideoCodecContext
    presentation: Presentation
    size: tuple[int, int] | None = None
    aspect: Fraction | None = None

    def __post_init__(self) -> None:
        self.writer.begin()

    def keep(self, packet: Packet, arrival: Arrival) -> int:
        """Keeps a packet; gives its number there, 0 where it is not kept."""
        times = Times(packet.pts, packet.dts, arrival.captured_ns, arrival.unix, arrival.monotonic, arrival.clock)
        description = packed(self._parameters(packet.time_base or MILLISECOND)) if packet.is_keyframe else b""
        return self.writer.add(memoryview(packet), times, description, whole=arrival.whole, lost=arrival.lost)

    def _parameters(self, base: Fraction) -> CodecParameters:
        width, height = self.size or (self.codec.width, self.codec.height)
        return CodecParameters(
            self.codec.name, self.codec.extradata or b"", base, width, height, self.aspect, self.presentation
        )
