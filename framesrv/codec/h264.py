"""What H.264's own counters tell of missing pictures (ITU-T H.264, 7.3 and 7.4.3).

FFmpeg conceals a reference picture that never came and says nothing of it, so `frame_num` is followed here.
"""

from dataclasses import dataclass
from typing import NamedTuple

from framesrv.codec.bits import Bits

SLICE, IDR, SEI, SPS, PPS = 1, 5, 6, 7, 8
INTRA = (2, 4, 7, 9)  # slice types
HEAD = 16  # bytes of a slice that hold what is read of it
SEQUENCES, SETS = 32, 256  # parameter sets that there may be (7.4.2)
HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}  # profiles whose sets tell of chroma


@dataclass(frozen=True)
class Sequence:
    """Of a sequence parameter set.

    Attributes:
        separate: the three colours are coded apart.
        bits: of `frame_num`.
        gaps: pictures may be left out on purpose.
        size: width and height of what is shown, pixels.
        fields: pictures may be coded as two, of every second line each.
    """

    separate: bool
    bits: int
    gaps: bool
    size: tuple[int, int]
    fields: bool


class SliceHead(NamedTuple):
    """The beginning of a slice.

    Attributes:
        first: number of its first macroblock.
        intra: it refers to no other picture.
        frame_num: of its picture; None where its parameter sets are not known.
        bottom: it is of a field, that of the second line and so on, or not; None where it is of a whole frame.
    """

    first: int
    intra: bool
    frame_num: int | None
    bottom: bool | None = None

    def completes(self, other: "SliceHead | None") -> bool:
        """Whether its field and that of another slice, before it, make a frame."""
        if other is None or self.bottom is None or other.bottom is None:
            return False
        return self.bottom != other.bottom and self.frame_num == other.frame_num


class FrameNumbers:
    """Follows the numbers of pictures, which leave out none that is referred to.

    Attributes:
        size: of the pictures by the newest parameter set, None while there is none.
    """

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self._sequences: dict[int, Sequence] = {}
        self._sets: dict[int, int] = {}  # of each picture parameter set, its sequence's
        self._modulus, self._gaps = 16, True
        self._last: int | None = None  # of the newest picture that is referred to

    def learn(self, nal: bytes | bytearray | memoryview) -> None:
        """Takes note of a parameter set; one that cannot be read is left to the decoder to refuse."""
        kind = nal[0] & 31
        try:
            if kind == SPS:
                number, sequence = _sequence(Bits(nal[1:]))
                _check(number, SEQUENCES)
                self._sequences[number] = sequence
                self.size = sequence.size
            elif kind == PPS:
                bits = Bits(nal[1:])
                number, sequence_number = bits.number(), bits.number()
                _check(number, SETS)
                self._sets[number] = sequence_number
        except ValueError:
            return

    def head(self, nal: bytes | bytearray | memoryview) -> SliceHead:
        """The beginning of a slice, `nal` being its first `HEAD` bytes or more.

        Raises:
            ValueError: it is none.
        """
        bits = Bits(nal[1:HEAD])
        first, kind, number = bits.number(), bits.number(), bits.number()
        sequence = self._sequences.get(self._sets.get(number, -1))
        if sequence is None:
            return SliceHead(first, kind in INTRA, None)
        self._modulus, self._gaps = 1 << sequence.bits, sequence.gaps
        bits.take(2 * sequence.separate)
        frame_num = bits.take(sequence.bits)
        is_field = sequence.fields and bits.flag()
        return SliceHead(first, kind in INTRA, frame_num, bits.flag() if is_field else None)

    def misses(self, frame_num: int | None, *, idr: bool, referred: bool) -> bool:
        """Whether a picture is missing that is referred to, between the newest and this one.

        Args:
            frame_num: of this one.
            idr: it refers to none before it.
            referred: others refer to it.
        """
        last, gap = self._last, False
        if not idr and last is not None and frame_num is not None and not self._gaps:
            gap = frame_num not in (last, (last + 1) % self._modulus)
        if referred:
            self._last = frame_num
        return gap


def _check(number: int, end: int) -> None:
    if number >= end:
        raise ValueError("a parameter set has an impossible number")


def _sequence(bits: Bits) -> tuple[int, Sequence]:
    profile = bits.take(8)
    bits.take(16)
    number = bits.number()
    separate, chroma = False, 1
    if profile in HIGH:
        chroma = bits.number()
        separate = chroma == 3 and bits.flag()
        bits.skip_numbers(2)
        bits.take(1)
        if bits.flag():
            for index in range(12 if chroma == 3 else 8):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    size = bits.number() + 4
    kind = bits.number()
    if kind == 0:
        bits.number()
    elif kind == 1:
        bits.take(1)
        bits.skip_numbers(2)
        bits.skip_numbers(bits.number())
    bits.number()
    if size > 16:
        raise ValueError("log2_max_frame_num is too large")
    gaps = bits.flag()
    width, height = 16 * (bits.number() + 1), 16 * (bits.number() + 1)
    fields = not bits.flag()
    return number, Sequence(
        separate, size, gaps, _cropped(bits, width, height, 0 if separate else chroma, fields), fields
    )


def _cropped(bits: Bits, width: int, height: int, chroma: int, fields: bool) -> tuple[int, int]:
    bits.take(1 + fields)
    height *= 1 + fields
    if bits.flag():
        left, right, top, bottom = (bits.number() for _ in range(4))
        across = 2 if chroma in (1, 2) else 1
        down = (2 if chroma == 1 else 1) * (1 + fields)
        width, height = width - across * (left + right), height - down * (top + bottom)
    if width <= 0 or height <= 0:
        raise ValueError("nothing of a picture is left to show")
    return width, height


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
