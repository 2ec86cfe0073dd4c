"""A packet of a history, and the codec that it is for."""

from dataclasses import dataclass, field
from fractions import Fraction

from framesrv.codec.presentation import Presentation
from framesrv.errors import SegmentFormatError
from framesrv.history import layout
from framesrv.segment.layout import PIXEL_FORMATS, Clock

LARGEST = 65535  # bytes of extradata: those of codecs are a few dozen


@dataclass(frozen=True)
class CodecParameters:
    """What a decoder or a file needs to know of a stream beside its packets.

    Attributes:
        codec: FFmpeg's name, as ``h264`` or ``hevc``.
        extradata: of the codec. Without, H.264 and H.265 are byte streams (annex B), each NAL unit after 0 0 0 1, and
            key frames carry their parameter sets.
        time_base: seconds a tick of `HistoryPacket.pts` and `.dts`.
        width: of the coded picture in pixels, before it is turned; 0 where it is not known.
        height: likewise.
        sample_aspect_ratio: width of a pixel by its height; None: as the codec itself says.
        presentation: how pictures are to be given, as the camera's configuration says.
    """

    codec: str
    extradata: bytes
    time_base: Fraction
    width: int
    height: int
    sample_aspect_ratio: Fraction | None = None
    presentation: Presentation = field(default_factory=Presentation)

    @property
    def rotate(self) -> int | None:
        """Degrees clockwise by which the configuration has pictures turned; None: as the stream itself says."""
        return self.presentation.rotate


@dataclass(frozen=True, slots=True)
class HistoryPacket:
    """A packet as it came.

    Attributes:
        number: 1, 2, 3 and so on as they come.
        data: as the camera sent it, see `CodecParameters.extradata`.
        pts: presentation time in `parameters.time_base`; None where unknown.
        dts: decoding time; None where the source does not tell it, as over RTSP.
        key: decoding may begin with it.
        captured_ns: Unix time of capture in nanoseconds, see `clock`.
        arrived_ns: Unix time in nanoseconds at which its first byte arrived.
        monotonic_ns: the same by ``CLOCK_MONOTONIC``.
        clock: of `captured_ns`: ``arrival`` at this host, or the ``camera``'s own.
        whole: nothing of it is missing, as far as is known.
        lost: what it may refer to is missing, as far as is known.
        stream: changes where the stream was opened anew: `pts` begins anew then, and nothing refers across it.
        parameters: of its codec.
    """

    number: int
    data: bytes
    pts: int | None
    dts: int | None
    key: bool
    captured_ns: int
    arrived_ns: int
    monotonic_ns: int
    clock: Clock
    whole: bool
    lost: bool
    stream: int
    parameters: CodecParameters

    @property
    def captured_at(self) -> float:
        """Unix time of capture in seconds."""
        return self.captured_ns / 1e9

    @property
    def arrived_at(self) -> float:
        """Unix time in seconds at which its first byte arrived."""
        return self.arrived_ns / 1e9

    @property
    def damaged(self) -> bool:
        """Whether something of it, or of what it may refer to, is known to be missing."""
        return self.lost or not self.whole


def packed(parameters: CodecParameters) -> bytes:
    """The parameters as the bytes of a description."""
    presentation = parameters.presentation
    extradata = parameters.extradata[:LARGEST]
    return (
        layout.DESCRIPTION_FORMAT.pack(
            parameters.codec.encode(),
            *_ratio(parameters.time_base),
            parameters.width,
            parameters.height,
            *_ratio(parameters.sample_aspect_ratio),
            next(n for n, name in PIXEL_FORMATS.items() if name == presentation.pixel_format),
            presentation.deinterlace,
            *_ratio(presentation.aspect),
            layout.AS_TOLD if presentation.rotate is None else presentation.rotate,
            len(extradata),
        )
        + extradata
    )


def unpacked(description: bytes) -> CodecParameters:
    """The parameters of a description.

    Raises:
        SegmentFormatError: it is none.
    """
    size = layout.DESCRIPTION.itemsize
    if len(description) < size:
        raise SegmentFormatError(f"a description of a codec has {len(description)} bytes")
    codec, num, den, width, height, aspect_width, aspect_height, pixels, deinterlace, *rest = (
        layout.DESCRIPTION_FORMAT.unpack_from(description)
    )
    shown_width, shown_height, rotate, extradata = rest
    base = _fraction(num, den)
    if base is None or pixels not in PIXEL_FORMATS or len(description) != size + extradata:
        raise SegmentFormatError("a description of a codec is damaged")
    return CodecParameters(
        codec.rstrip(b"\0").decode("ascii", "replace"),
        description[size:],
        base,
        width,
        height,
        _fraction(aspect_width, aspect_height),
        Presentation(
            PIXEL_FORMATS[pixels],
            bool(deinterlace),
            _fraction(shown_width, shown_height),
            None if rotate == layout.AS_TOLD else rotate,
        ),
    )


def _ratio(ratio: Fraction | None) -> tuple[int, int]:
    """A ratio as it is stored; 0 by 0 where it is none that fits."""
    if ratio is None or not (0 < ratio.numerator < 2**32 and ratio.denominator < 2**32):
        return 0, 0
    return ratio.as_integer_ratio()


def _fraction(width: int, height: int) -> Fraction | None:
    return Fraction(width, height) if width and height else None
