"""H.264 in RTP packets (RFC 6184): single NAL units, aggregation packets (STAP-A), fragmentation units (FU-A).

The interleaved mode (packetization-mode=2) is not taken apart; no camera is known to use it.
"""

from framesrv.camera.sources.rtsp.payloads.nal import START, NalUnits, ParameterSets, pieces
from framesrv.camera.sources.rtsp.rtp import RtpPacket
from framesrv.camera.sources.rtsp.unit import AccessUnit
from framesrv.codec.bits import LONGEST, Bits
from framesrv.codec.h264 import IDR, PPS, SEI, SLICE, SPS, FrameNumbers, SliceHead

LAST_TYPE = 23
STAP_A, FU_A = 24, 28
RECOVERY_POINT = 6  # D.1.8
# Goes before a picture of I slices alone that says nothing of it: the decoder begins with few of those by itself.
RECOVERS_HERE = bytes([SEI, RECOVERY_POINT, 1, 0b1_0_0_00_100, 0x80])


class H264:
    """Takes H.264 out of RTP packets.

    Args:
        parameters: NAL units of the session description.
    """

    def __init__(self, parameters: list[bytes]) -> None:
        self._sets = ParameterSets()
        self._nals = NalUnits()
        self._numbers = FrameNumbers()
        self._before: SliceHead | None = None  # a field whose other one is to come, in an access unit of its own
        self._leading: bool | None = None  # the bottom field of a frame is its first one
        for nal in parameters:
            self._numbers.learn(nal)
            self._keep(nal)
        self._fresh()

    @property
    def size(self) -> tuple[int, int] | None:
        """See `Payload.size`."""
        return self._numbers.size

    def _fresh(self) -> None:
        self._intra = True  # every slice so far
        self._first = False  # a slice begins with the first macroblock
        self._recovers = self._has_parameters = self._numbered = False
        self._field: SliceHead | None = None  # the first one
        self._is_paired = False  # the other field of the frame has come as well
        self._nals.fresh()

    def begins(self, payload: memoryview) -> bool:
        """See `Payload.begins`: its first macroblock is number 0, which is one bit."""
        kind = payload[0] & 31 if len(payload) > 2 else 0
        if kind == STAP_A:
            return any(map(self.begins, pieces(payload[1:])))
        if kind == FU_A:
            kind = payload[1] & 31 if payload[1] & 0x80 else 0
            payload = payload[1:]
        if kind not in (SLICE, IDR) or not payload[1] & 0x80:
            return False
        return kind == IDR or not self._completes(payload)

    def _completes(self, nal: memoryview) -> bool:
        """Whether it is of the other field of the frame whose first one has come."""
        if self._field is None or self._is_paired:
            return False
        try:
            return self._numbers.head(nal).completes(self._field)
        except ValueError:
            return False

    def add(self, unit: AccessUnit, packet: RtpPacket) -> None:
        """See `Payload.add`."""
        payload = packet.payload
        if not payload:
            return
        kind = payload[0] & 31
        if kind <= LAST_TYPE:
            self._whole(unit, payload)
        elif kind == STAP_A:
            for nal in pieces(payload[1:], unit):
                self._whole(unit, nal)
        elif kind == FU_A and len(payload) > 2:
            self._fragment(unit, payload)
        else:
            unit.whole = False

    def middle(self, payload: memoryview) -> bytes:
        """See `Payload.middle`: a fragment that is neither the first nor the last."""
        of_one = self._nals.open and len(payload) > 2 and payload[0] & 31 == FU_A
        return bytes([payload[0], payload[1] & 0x3F]) if of_one else b""

    def end(self, unit: AccessUnit) -> None:
        """See `Payload.end`."""
        self._nals.end(unit)
        if unit.picture:
            unit.whole = unit.whole and self._first
            if not self._is_second_field(unit):
                self._see_to_key(unit)
        if unit.key and unit.whole and not self._has_parameters:
            unit.data[:0] = b"".join(START + nal for _, nal in self._sets.nals())
        self._fresh()

    def _is_second_field(self, unit: AccessUnit) -> bool:
        """Whether it is the other field of a frame, whose first one was an access unit of its own."""
        field, before = self._field, self._before
        self._before = None
        if field is None:
            return False
        if self._is_paired:
            self._leading = field.bottom
            return False
        if field.completes(before):
            self._leading = not field.bottom
            return True
        if field.bottom == self._leading or self._leading is None:
            self._before = field
        else:  # the first one of its frame is missing
            unit.whole = False
        return False

    def _see_to_key(self, unit: AccessUnit) -> None:
        # an I field alone may be the second one of a frame, whose first one is missing
        intra = self._intra and (self._field is None or self._is_paired)
        if intra and not (unit.key or self._recovers):
            unit.data[:0] = START + RECOVERS_HERE
        unit.key = unit.key or self._recovers or intra

    def _whole(self, unit: AccessUnit, nal: memoryview) -> None:
        if self._nals.whole(unit, nal):
            self._look(unit, nal)
            if nal[0] & 31 in (SPS, PPS):
                self._keep(bytes(nal))

    def _keep(self, nal: bytes) -> None:
        """Keeps a parameter set for key frames that come without."""
        kind = nal[0] & 31
        try:
            number = Bits(nal[4:12] if kind == SPS else nal[1:9]).number()
        except ValueError:
            return
        self._sets.keep(kind, number, nal)

    def _fragment(self, unit: AccessUnit, payload: memoryview) -> None:
        flags = payload[1]
        if flags & 0x80:
            header = bytes([payload[0] & 0xE0 | flags & 31])
            self._nals.begin(unit, header, payload[2:])
            self._look(unit, header + bytes(payload[2:34]))
        else:
            self._nals.go_on(unit, payload[2:])
        if flags & 0x40:
            self._nals.last()

    def _look(self, unit: AccessUnit, nal: memoryview | bytes) -> None:
        """Looks at the beginning of a NAL unit."""
        kind = nal[0] & 31
        if kind in (SLICE, IDR):
            self._look_at_slice(unit, nal, idr=kind == IDR)
        elif kind in (SPS, PPS):
            self._has_parameters = self._has_parameters or kind == SPS
            self._numbers.learn(nal)
        elif kind == SEI:
            self._recovers = self._recovers or _recovers(nal)

    def _look_at_slice(self, unit: AccessUnit, nal: memoryview | bytes, *, idr: bool) -> None:
        unit.picture = True
        unit.key = unit.key or idr
        try:
            head = self._numbers.head(nal)
        except ValueError:
            unit.whole = False
            return
        self._first = self._first or head.first == 0
        self._intra = self._intra and head.intra
        if head.bottom is not None:
            self._is_paired = self._is_paired or head.completes(self._field)
            self._field = self._field or head
        if not self._numbered:
            self._numbered = True
            if self._numbers.misses(head.frame_num, idr=idr, referred=bool(nal[0] & 0x60)):
                unit.lost = True


def _recovers(nal: memoryview | bytes) -> bool:
    """Whether a message in a SEI is that of a recovery point, where an intra refresh begins."""
    at, size = 1, min(len(nal), LONGEST)
    while at + 2 < size:
        numbers = []
        for _ in range(2):  # its kind, its size: as many bytes of 255 as it takes, and a smaller one
            value = 0
            while at < size and nal[at] == 0xFF:
                value, at = value + 255, at + 1
            if at >= size:
                return False
            numbers.append(value + nal[at])
            at += 1
        if numbers[0] == RECOVERY_POINT:
            return True
        at += numbers[1]
    return False
