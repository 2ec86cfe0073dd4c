"""H.265 in RTP packets (RFC 7798): single NAL units, aggregation packets, fragmentation units.

Each picture comes with questions to the decoder whether it is complete, see `codec.h265`.
"""

from framesrv.camera.sources.codec import h265
from framesrv.camera.sources.codec.bits import Bits
from framesrv.camera.sources.codec.h265_sets import (
    FIRST_KEY,
    LAST_KEY,
    LAST_SLICE,
    PPS,
    SPS,
    VPS,
    PictureSet,
    SequenceSet,
    picture_set,
    sequence_set,
)
from framesrv.camera.sources.codec.trial import KeyPicture
from framesrv.camera.sources.rtsp.payloads.nal import START, NalUnits, ParameterSets, pieces
from framesrv.camera.sources.rtsp.rtp import RtpPacket
from framesrv.camera.sources.rtsp.unit import AccessUnit

AGGREGATION, FRAGMENT = 48, 49


class H265:
    """Takes H.265 out of RTP packets.

    Args:
        parameters: NAL units of the session description.
        numbered: packets carry decoding order numbers (``sprop-max-don-diff`` above 0).
        asks: the decoder is one that can be asked; a device's cannot.
    """

    def __init__(self, parameters: list[bytes], *, numbered: bool = False, asks: bool = True) -> None:
        self._sets = ParameterSets()
        self._skip = 2 if numbered else 0
        self._nals = NalUnits()
        self._asks = asks
        self.size: tuple[int, int] | None = None
        self._sequences: dict[int, SequenceSet] = {}
        self._pictures: dict[int, PictureSet] = {}
        for nal in parameters:
            self._learn(nal)
            self._keep(nal)
        self._fresh()

    def _fresh(self) -> None:
        self._starts: list[tuple[int, int]] = []  # of each NAL unit: its type, and where it lies
        self._first = False
        self._nals.fresh()

    def begins(self, payload: memoryview) -> bool:
        """See `Payload.begins`: its first slice has a flag."""
        skip = self._skip
        kind = payload[0] >> 1 & 63 if len(payload) > 3 + skip else AGGREGATION - 1
        if kind == AGGREGATION:
            return not skip and any(map(self.begins, pieces(payload[2:])))
        if kind == FRAGMENT:
            return payload[2] & 0x80 != 0 and payload[2] & 63 <= LAST_SLICE and payload[3 + skip] & 0x80 != 0
        return kind <= LAST_SLICE and payload[2 + skip] & 0x80 != 0

    def add(self, unit: AccessUnit, packet: RtpPacket) -> None:
        """See `Payload.add`."""
        payload = packet.payload
        if len(payload) < 3 + self._skip:
            unit.whole = False
            return
        kind = payload[0] >> 1 & 63
        if kind < AGGREGATION:
            self._whole(unit, memoryview(bytes(payload[:2]) + payload[2 + self._skip :]) if self._skip else payload)
        elif kind == AGGREGATION and not self._skip:
            for nal in pieces(payload[2:], unit):
                self._whole(unit, nal)
        elif kind == FRAGMENT:
            self._fragment(unit, payload)
        else:
            unit.whole = False

    def end(self, unit: AccessUnit) -> None:
        """See `Payload.end`."""
        self._nals.end(unit)
        if unit.picture:
            unit.whole = unit.whole and self._first
            if unit.whole:
                self._complete(unit)
        self._fresh()

    def _complete(self, unit: AccessUnit) -> None:
        """Adds parameter sets to a key frame without, and the questions."""
        ends = [start - len(START) for _, start in self._starts[1:]] + [len(unit.data)]
        nals = [(kind, bytes(unit.data[start:end])) for (kind, start), end in zip(self._starts, ends, strict=True)]
        if unit.key and all(kind != SPS for kind, _ in nals):
            unit.data[:0] = b"".join(START + nal for _, nal in self._sets.nals())
            nals = self._sets.nals() + nals
        sets = self._sets_of(nals) if self._asks else None
        if sets is None:
            return
        slices = [nal for kind, nal in nals if kind <= LAST_SLICE]
        try:
            asking, unit.asks = h265.asking(slices, sets)
        except ValueError:
            unit.whole = False
            return
        last = max(number for number, (kind, _) in enumerate(nals) if kind <= LAST_SLICE)
        before = [self._allowing(nal) if kind == PPS else nal for kind, nal in nals[:last] if kind > LAST_SLICE]
        after = [nal for _, nal in nals[last + 1 :]]
        front = b"".join(START + nal for nal in before)
        unit.data[:] = front + asking + b"".join(START + nal for nal in after)
        if unit.key:
            unit.trial = KeyPicture(front, slices, sets)

    def _sets_of(self, nals: list[tuple[int, bytes]]) -> h265.Sets | None:
        """The sets of a picture; None if they are not known, or there is nothing to ask."""
        kind, nal = next(one for one in nals if one[0] <= LAST_SLICE)
        bits = Bits(nal[2:16])
        try:
            bits.take(1 + (FIRST_KEY <= kind <= LAST_KEY))
            pictures = self._pictures.get(bits.number())
        except ValueError:
            return None
        sequence = self._sequences.get(pictures.sequence) if pictures else None
        if pictures is None or sequence is None or sequence.blocks < 2:
            return None
        return h265.Sets(sequence, pictures)

    def _allowing(self, nal: bytes) -> bytes:
        try:
            return h265.allowing(nal, picture_set(nal)[1])
        except ValueError:
            return nal

    def _whole(self, unit: AccessUnit, nal: memoryview) -> None:
        if self._nals.whole(unit, nal):
            self._look(unit, nal, len(unit.data) - len(nal))
            if nal[0] >> 1 & 63 in (VPS, SPS, PPS):
                self._keep(bytes(nal))

    def _keep(self, nal: bytes) -> None:
        """Keeps a parameter set for key frames that come without."""
        kind = nal[0] >> 1 & 63
        if kind == VPS and len(nal) > 2:
            self._sets.keep(kind, nal[2] >> 4, nal)
        elif kind in (SPS, PPS):
            try:
                self._sets.keep(kind, sequence_set(nal)[0] if kind == SPS else picture_set(nal)[0], nal)
            except ValueError:
                return

    def _fragment(self, unit: AccessUnit, payload: memoryview) -> None:
        flags = payload[2]
        rest = payload[3 + self._skip :]
        if flags & 0x80:
            header = bytes([payload[0] & 0x81 | (flags & 63) << 1, payload[1]])
            self._nals.begin(unit, header, rest)
            self._look(unit, header + bytes(rest[:16]), len(unit.data) - len(rest) - 2)
        else:
            self._nals.go_on(unit, rest)
        if flags & 0x40:
            self._nals.last()

    def _look(self, unit: AccessUnit, nal: memoryview | bytes, start: int) -> None:
        """Looks at the beginning of a NAL unit, which lies there in the access unit."""
        kind = nal[0] >> 1 & 63
        if unit.whole:
            self._starts.append((kind, start))
        if kind <= LAST_SLICE:
            unit.picture = True
            unit.key = unit.key or FIRST_KEY <= kind <= LAST_KEY
            self._first = self._first or bool(nal[2] & 0x80)
        elif kind in (SPS, PPS):
            self._learn(bytes(nal))

    def _learn(self, nal: bytes) -> None:
        """Takes note of a parameter set; one that cannot be read is left to the decoder to refuse."""
        kind = nal[0] >> 1 & 63
        try:
            if kind == SPS:
                number, sequence = sequence_set(nal)
                self._sequences[number] = sequence
                self.size = sequence.size
            elif kind == PPS:
                number, pictures = picture_set(nal)
                self._pictures[number] = pictures
        except ValueError:
            return
