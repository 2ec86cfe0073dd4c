"""RTP packets (RFC 3550, 5.1): taken apart, put in order, and what is missing between them told."""

import heapq
import struct
from dataclasses import dataclass

VERSION = 2
HEADER = struct.Struct(">BBHII")
EXTENSION = struct.Struct(">HH")
LATE = 0.2  # s that a packet may come after one that was sent later; then it counts as lost
WINDOW = 128  # packets that are kept back for one that has not come
FORWARD = 1 << 15  # a sequence number up to so much above the expected one is ahead, else behind
NOTHING = (0, b"")
JUMP = 3000  # packets: a larger step is a sender that counts anew (RFC 3550, A.1, MAX_DROPOUT)


@dataclass(slots=True)
class RtpPacket:
    """One packet.

    Attributes:
        marker: by the payload's rule, for video the last packet of a picture.
        payload_type: as the session description numbers it.
        sequence: 16 bits.
        timestamp: 32 bits, in ticks of the payload's clock.
        source: of the stream (SSRC).
        payload: a view of what was received; see `Order` for how long it is valid.
        arrived: monotonic nanoseconds.
        lost: packets between this one and the one before it are missing.
        extension: of the header: its kind, by the payload's rule, and content; 0 where there is none.
    """

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    source: int
    payload: memoryview
    arrived: int
    lost: bool = False
    extension: tuple[int, bytes] = NOTHING


def parse(data: memoryview, arrived: int) -> RtpPacket | None:
    """The packet in these bytes; None where they are none."""
    size = len(data)
    if size < HEADER.size:
        return None
    first, second, sequence, timestamp, source = HEADER.unpack_from(data)
    if first >> 6 != VERSION:
        return None
    start, end = HEADER.size + 4 * (first & 15), size
    extension = NOTHING
    if first & 0x10:
        if start + 4 > size:
            return None
        kind, words = EXTENSION.unpack_from(data, start)
        start += 4 + 4 * words
        extension = kind, bytes(data[start - 4 * words : start])
    if first & 0x20:  # padding, whose last byte counts it
        end -= data[-1]
    if start > end:
        return None
    payload = data[start:end]
    return RtpPacket(
        second >> 7 == 1, second & 0x7F, sequence, timestamp, source, payload, arrived, extension=extension
    )


class Order:
    """Gives the packets of one stream in the order they were sent, each once.

    Where the way keeps the order, as TCP does, a packet goes straight through, and its payload is valid as long as
    what was received. Where it does not, one that is ahead is copied and waits for those before it, at most `LATE`
    seconds.

    Attributes:
        received: packets.
        missing: packets that never came.
        highest: the highest sequence number, with the times it has wrapped in the bits above 16.
        source: of the stream.
    """

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._expected: int | None = None
        self._waiting: list[tuple[int, int, RtpPacket]] = []  # by distance from the first expected
        self._base = 0
        self.received = self.missing = self.highest = 0
        self.source: int | None = None

    def put(self, packet: RtpPacket) -> list[RtpPacket]:
        """The packets that are next, now that this one has come."""
        self.received += 1
        ahead = self._ahead(packet)
        if ahead == 0 and not self._waiting:
            self._take(packet)
            return [packet]
        if ahead >= FORWARD:  # late, or a copy of one that has come
            return []
        if self._keeps:
            self._skip(packet, ahead)
            return [packet]
        packet.payload = memoryview(bytes(packet.payload))
        heapq.heappush(self._waiting, (self._base + ahead, self.received, packet))
        return self._ready(packet.arrived)

    @property
    def next(self) -> int | None:
        """The number of the packet that would go straight through; None where none would."""
        return None if self._waiting else self._expected

    def went_on(self, count: int) -> None:
        """That packet and those after it have come, so many in all, and are taken by somebody else."""
        if count:
            self.received += count
            self._base += count
            self.highest += count
            self._expected = self.highest + 1 & 0xFFFF

    def _ahead(self, packet: RtpPacket) -> int:
        """Packets from the expected one to this; 0 for the first of a stream."""
        if packet.source != self.source or self._expected is None:
            new = self.source is not None
            self.source, self._expected = packet.source, packet.sequence
            self._waiting.clear()
            packet.lost = new
            return 0
        ahead = packet.sequence - self._expected & 0xFFFF
        if JUMP < ahead < (1 << 16) - JUMP:
            self._expected = packet.sequence
            self._waiting.clear()
            packet.lost = True
            return 0
        return ahead

    def _take(self, packet: RtpPacket) -> None:
        self._expected = packet.sequence + 1 & 0xFFFF
        self._base += 1
        if packet.sequence < self.highest & 0xFFFF and self.highest:
            self.highest += 1 << 16
        self.highest = self.highest & ~0xFFFF | packet.sequence

    def _skip(self, packet: RtpPacket, ahead: int) -> None:
        """Takes a packet although others are missing before it."""
        if ahead:
            packet.lost = True
            self.missing += ahead
            self._base += ahead
        self._take(packet)

    def _ready(self, now: int) -> list[RtpPacket]:
        ready: list[RtpPacket] = []
        while self._waiting:
            place, _, packet = self._waiting[0]
            ahead = place - self._base
            overdue = now - packet.arrived > LATE * 1e9 or len(self._waiting) > WINDOW
            if ahead > 0 and not overdue:
                break
            heapq.heappop(self._waiting)
            if ahead >= 0:  # else a copy
                self._skip(packet, ahead)
                ready.append(packet)
        return ready


class Ticks:
    """A clock of 32 bits that goes on when it wraps.

    Attributes:
        value: of the newest time stamp, from that of the first one.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self.value = 0

    def at(self, timestamp: int) -> int:
        """A time stamp on the clock that does not wrap; it may be before the newest."""
        if self._last is None:
            self._last = timestamp
        step = (timestamp - self._last + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
        if step > 0:
            self._last = timestamp
            self.value += step
            return self.value
        return self.value + step
