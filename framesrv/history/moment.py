"""The frame shown at a moment, decoded from the packets of a history: PyAV, which only this needs."""

from collections import deque
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.conversion import Conversion
from framesrv.codec.damage import Damage
from framesrv.codec.exif import orientation_in
from framesrv.codec.intact import IntactDecoder
from framesrv.codec.questions import Questions
from framesrv.codec.shape import Shape
from framesrv.codec.trial import Trial
from framesrv.history.packet import CodecParameters, HistoryPacket
from framesrv.segment.frame import Frame
from framesrv.segment.layout import PAGE, Geometry
from framesrv.segment.planes import views
from framesrv.segment.stamp import SQUARE
from framesrv.segment.truncation import Guard

SOUND = 16  # key pictures that are not tried again
REORDERED = 4  # packets before the last that are decoded whole, so that its own frame comes out
MAX_PIXELS = 8192 * 4352  # of one picture, where the camera announces no larger


class DamagedError(Exception):
    """What is to be decoded is damaged; the text says how, in a few words."""


class FieldsError(Exception):
    """The picture is one of two fields of a frame, the other of which may be the next."""


class Own:
    """Memory of a frame that is nobody else's, laid out as a slot."""

    is_parents = False

    def __init__(self, geometry: Geometry) -> None:
        self.slot = np.zeros(geometry.slot_size + PAGE, np.uint8)  # converters may read past a row's end

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {**self.slot.__array_interface__, "data": (self.slot.ctypes.data, True)}  # True: read-only


class Moments:
    """Decodes moments of one camera."""

    def __init__(self) -> None:
        self._sound: deque[int] = deque(maxlen=SOUND)  # when key pictures came that have passed it

    def frame(self, packets: list[HistoryPacket], last: int) -> Frame | None:
        """The frame of packet `last` of these; None where the codec gives none, having not recovered yet.

        Args:
            packets: in the order they came, the first a key frame. Those behind the last one may complete its frame.
            last: an index.

        Raises:
            DamagedError: it is damaged, or refers to what is.
            FieldsError: its pictures are fields, and nothing is behind it that may be its other one.
        """
        wanted, parameters = packets[last], packets[last].parameters
        codec = cast(VideoCodecContext, av.CodecContext.create(parameters.codec, "r"))
        if parameters.extradata:
            codec.extradata = parameters.extradata
        codec.options = {"max_pixels": str(max(parameters.width * parameters.height, MAX_PIXELS))}
        conversion = Conversion(parameters.presentation)
        keys = {packet.monotonic_ns for packet in packets if packet.key}.difference(self._sound)
        alone, paired = last == len(packets) - 1, None
        with Damage() as damage:
            decoder = IntactDecoder(codec, damage, _uncounted, self._questions(parameters, tried=not keys))
            for index, one in enumerate([*packets, None]):
                decoder.spare(index < last - REORDERED)
                for frame, arrival in decoder.decode(*_packet(one)):
                    if alone and frame.interlaced_frame:
                        raise FieldsError
                    if arrival.captured == wanted.captured_ns:
                        self._sound.extend(keys)
                        return _given(conversion, frame, wanted, _ratio(codec, parameters))
                    if frame.interlaced_frame and last and arrival.captured == packets[last - 1].captured_ns:
                        paired = frame
                    conversion.hear(frame)
                if index <= last and decoder.flagged and not decoder.intact:
                    raise DamagedError(damage.complaint or "packets are missing")
        if paired is None:
            return None
        return _given(conversion, paired, packets[last - 1], _ratio(codec, parameters))

    def _questions(self, parameters: CodecParameters, *, tried: bool) -> Questions | None:
        """Those of H.265 that came as a byte stream; `tried`: its key pictures have passed their trial before."""
        if parameters.codec != "hevc" or parameters.extradata:
            return None
        trial = None if tried else Trial({"max_pixels": str(MAX_PIXELS)})
        return Questions(trial, doubted=0, keys=True)


def _ratio(codec: VideoCodecContext, parameters: CodecParameters) -> Fraction | None:
    return codec.sample_aspect_ratio or parameters.sample_aspect_ratio


def _uncounted(counter: str, number: int) -> None:
    """Nobody counts what a reader decodes."""


def _packet(kept: HistoryPacket | None) -> tuple[Packet, Arrival]:
    """The packet for the codec; an empty one for None, which is the end."""
    if kept is None:
        return cast(Packet, av.Packet()), Arrival(0, 0)
    packet = cast(Packet, av.Packet(kept.data))
    packet.pts, packet.dts, packet.time_base = kept.pts, kept.dts, kept.parameters.time_base
    packet.is_keyframe = kept.key
    return packet, Arrival(kept.monotonic_ns, kept.arrived_ns, kept.captured_ns, kept.whole, kept.lost)


def _given(conversion: Conversion, decoded: av.VideoFrame, packet: HistoryPacket, ratio: Fraction | None) -> Frame:
    """The decoded frame as readers get it: in the form that is wanted, upright, in memory of its own."""
    arrival = Arrival(packet.monotonic_ns, packet.arrived_ns, packet.captured_ns)
    exif = orientation_in(packet.data) if packet.parameters.codec == "mjpeg" else None
    converted = conversion.source_frame(decoded, arrival, ratio or SQUARE, codec=packet.parameters.codec, exif=exif)
    shaped = Shape(packet.parameters.presentation).applied(converted)
    geometry = Geometry(shaped.width, shaped.height, shaped.pixel_format, 2)
    memory = Own(geometry)
    for target, plane in zip(views(memory.slot, geometry), shaped.planes, strict=True):
        np.copyto(target, plane)
    stamp = shaped.stamp._replace(clock=packet.clock)
    return Frame(memory, geometry, 0, stamp, Guard(0, 0, 0))
