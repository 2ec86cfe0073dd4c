"""H.264 in RTP packets (RFC 6184): single NAL units, aggregation packets (STAP-A), fragmentation units (FU-A).

The interleaved mode (packetization-mode=2) is not taken apart; no camera is known to use it.
"""

from framesrv.camera.sources.rtsp.payloads.nal import START, NalUnits, ParameterSets, pieces
from framesrv.camera.sources.rtsp.rtp import RtpPacket
from framesrv.camera.sources.rtsp.unit import AccessUnit
from framesrv.codec.bits import LONGEST, Bits
from framesrv.codec.h264 import IDR, PPS, SEI, SLICE, SPS, FrameNumbers

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
        self._nals.fresh()

    def begins(self, payload: memoryview) -> bool:
        """See `Payload.begins`: its first macroblock is number 0, which is one bit."""
        kind = payload[0] & 31 if len(payload) > 2 else 0
        if kind == STAP_A:
            return any(map(self.begins, pieces(payload[1:])))
        if kind == FU_A:
            return payload[1] & 0x80 != 0 and payload[1] & 31 in (SLICE, IDR) and payload[2] & 0x80 != 0
        return kind in (SLICE, IDR) and payload[1] & 0x80 != 0

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
            if self._intra and not (unit.key or self._recovers):
                unit.data[:0] = START + RECOVERS_HERE
            unit.key = unit.key or self._recovers or self._intra
        if unit.key and unit.whole and not self._has_parameters:
            unit.data[:0] = b"".join(START + nal for _, nal in self._sets.nals())
        self._fresh()

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
