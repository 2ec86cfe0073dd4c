"""H.265 in RTP packets (RFC 7798): single NAL units, aggregation packets, fragmentation units."""

from framesrv.camera.sources.rtsp.payloads.nal import START, NalUnits, ParameterSets, pieces
from framesrv.camera.sources.rtsp.rtp import RtpPacket
from framesrv.camera.sources.rtsp.unit import AccessUnit
from framesrv.codec.h265_sets import (
    FIRST_KEY,
    LAST_KEY,
    LAST_SLICE,
    PPS,
    SPS,
    VPS,
    picture_set,
    sequence_set,
)

AGGREGATION, FRAGMENT = 48, 49


class H265:
    """Takes H.265 out of RTP packets.

    Args:
        parameters: NAL units of the session description.
        numbered: packets carry decoding order numbers (``sprop-max-don-diff`` above 0).
    """

    def __init__(self, parameters: list[bytes], *, numbered: bool = False) -> None:
        self._sets = ParameterSets()
        self._skip = 2 if numbered else 0
        self._nals = NalUnits()
        self.size: tuple[int, int] | None = None
        for nal in parameters:
            self._keep(nal)
        self._fresh()

    def _fresh(self) -> None:
        self._kinds: set[int] = set()  # of the NAL units
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

    def middle(self, payload: memoryview) -> bytes:
        """See `Payload.middle`: a fragment that is neither the first nor the last."""
        of_one = self._nals.open and not self._skip and len(payload) > 3 and payload[0] >> 1 & 63 == FRAGMENT
        return bytes([payload[0], payload[1], payload[2] & 0x3F]) if of_one else b""

    def end(self, unit: AccessUnit) -> None:
        """See `Payload.end`."""
        self._nals.end(unit)
        if unit.picture:
            unit.whole = unit.whole and self._first
            if unit.whole:
                self._complete(unit)
        self._fresh()

    def _complete(self, unit: AccessUnit) -> None:
        """Adds parameter sets to a key frame without."""
        if unit.key and not {SPS, PPS} <= self._kinds:
            unit.data[:0] = b"".join(START + nal for _, nal in self._sets.nals())

    def _whole(self, unit: AccessUnit, nal: memoryview) -> None:
        if self._nals.whole(unit, nal):
            self._look(unit, nal)
            if nal[0] >> 1 & 63 in (VPS, SPS, PPS):
                self._keep(bytes(nal))

    def _keep(self, nal: bytes) -> None:
        """Keeps a parameter set for key frames that come without; one that cannot be read is none."""
        kind = nal[0] >> 1 & 63
        try:
            if kind == VPS and len(nal) > 2:
                self._sets.keep(kind, nal[2] >> 4, nal)
            elif kind == SPS:
                number, sequence = sequence_set(nal)
                self._sets.keep(kind, number, nal)
                self.size = sequence.size
            elif kind == PPS:
                self._sets.keep(kind, picture_set(nal)[0], nal)
        except ValueError:
            return

    def _fragment(self, unit: AccessUnit, payload: memoryview) -> None:
        flags = payload[2]
        rest = payload[3 + self._skip :]
        if flags & 0x80:
            header = bytes([payload[0] & 0x81 | (flags & 63) << 1, payload[1]])
            self._nals.begin(unit, header, rest)
            self._look(unit, header + bytes(rest[:16]))
        else:
            self._nals.go_on(unit, rest)
        if flags & 0x40:
            self._nals.last()

    def _look(self, unit: AccessUnit, nal: memoryview | bytes) -> None:
        """Looks at the beginning of a NAL unit."""
        kind = nal[0] >> 1 & 63
        self._kinds.add(kind)
        if kind <= LAST_SLICE:
            unit.picture = True
            unit.key = unit.key or FIRST_KEY <= kind <= LAST_KEY
            self._first = self._first or bool(nal[2] & 0x80)
