"""Access units: what has one RTP time is one picture, whatever its NAL units look like.

RFC 6184 (5.1) and RFC 7798 (4.1) say so: packets of one picture have one time stamp, and the marker is on the last
of them. Not every camera sets the marker so. One that does is believed, and its picture is given when its last packet
has come; of another a picture is given when the next one begins. Nor does every camera's clock go on: where a picture
begins by the codec's own bits, there is another.
"""

from dataclasses import dataclass, field
from typing import Protocol

from framesrv.camera.sources.rtsp.rtp import RtpPacket, Ticks

LIMIT = 32 * 2**20  # bytes of one access unit; a key frame of 8192x4352 has fewer


@dataclass(slots=True)
class AccessUnit:
    """One coded picture, or what came of it.

    Attributes:
        ticks: its time on the stream's clock, from the first one.
        timestamp: the same as RTP has it.
        arrived: monotonic nanoseconds at which its first byte came.
        data: as the decoder takes it.
        key: decoding may begin with it.
        picture: there is a coded picture in it, or a piece of one.
        whole: nothing of it is missing, as far as its packets tell.
        lost: packets before it are missing, so that what it refers to may be.
    """

    ticks: int
    timestamp: int
    arrived: int
    data: bytearray = field(default_factory=bytearray)
    key: bool = False
    picture: bool = False
    whole: bool = True
    lost: bool = False


class Payload(Protocol):
    """How one codec lies in RTP packets."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the pictures in pixels, by the newest parameter set; None while there is none."""

    def begins(self, payload: memoryview) -> bool:
        """Whether a picture begins in that packet, by the bits of its codec."""

    def add(self, unit: AccessUnit, packet: RtpPacket) -> None:
        """Adds what a packet carries to the access unit that it belongs to."""

    def middle(self, payload: memoryview) -> bytes:
        """How the next payload begins if it only carries on what this one, just added, is of; empty if unknown."""

    def end(self, unit: AccessUnit) -> None:
        """The access unit has no more packets: completes it."""


class Assembly:
    """Puts packets together to access units.

    Attributes:
        marked: whether the camera's markers are believed; None until one picture has shown it.
    """

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._ticks = Ticks()
        self._unit: AccessUnit | None = None
        self._ended = False  # by a marker, which may not be the last of the picture
        self._given: int | None = None  # the time stamp of the picture that was given for its marker
        self.marked: bool | None = None

    def add(self, packet: RtpPacket) -> list[AccessUnit]:
        """The access units that are complete now that this packet has come."""
        complete = []
        unit = self._unit
        begins = unit is None or (unit.picture and self._payload.begins(packet.payload))
        if unit is not None and (unit.timestamp != packet.timestamp or begins):
            if packet.lost and not self._ended:
                unit.whole = False
            if unit.picture and not packet.lost and self.marked is not False:
                self.marked = self._ended
            complete.append(self._complete(unit))
            unit = None
        if unit is None:
            unit = self._begin(packet)
        elif packet.lost or len(unit.data) > LIMIT:
            unit.whole = False
        if self._ended and unit.picture:
            self.marked = False
        had = unit.picture
        if len(unit.data) <= LIMIT:
            self._payload.add(unit, packet)
        if self._given == unit.timestamp and unit.picture and not had and not self._payload.begins(packet.payload):
            self.marked = unit.whole = False  # more of a picture that was given: it was not all
        self._ended = packet.marker
        if packet.marker and unit.picture and self.marked:
            self._given = unit.timestamp
            complete.append(self._complete(unit))
        return complete

    def middle(self, packet: RtpPacket) -> "tuple[AccessUnit, bytes] | None":
        """Where the next packet's payload goes if it begins so, this one having been added; None where unknown."""
        unit = self._unit
        if unit is None or not unit.picture or packet.marker:
            return None
        begin = self._payload.middle(packet.payload)
        return (unit, begin) if begin else None

    def _begin(self, packet: RtpPacket) -> AccessUnit:
        self._ended = False
        unit = AccessUnit(self._ticks.at(packet.timestamp), packet.timestamp, packet.arrived)
        unit.whole = not packet.lost
        unit.lost = packet.lost
        self._unit = unit
        return unit

    def _complete(self, unit: AccessUnit) -> AccessUnit:
        self._payload.end(unit)
        self._unit = None
        return unit
