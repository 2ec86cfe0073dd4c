"""Packets that are kept instead of decoded: those since the last key frame, which is all that a decoder needs."""

from framesrv.codec.arrival import Arrival, Packet

LIMIT = 8_000_000  # bytes; four seconds of a 16 Mb/s camera
PACKETS = 300  # twelve seconds; they take about a second to decode, and a snapshot waits for two


class GopCache:
    """Packets in the order they came.

    Attributes:
        broken: packets before these were let go, so that the codec must begin anew with them.
        whole: nothing is missing since the newest key frame, as far as the packets tell.
    """

    def __init__(self) -> None:
        self._packets: list[tuple[Packet, Arrival]] = []
        self._nbytes = 0
        self.broken = self.whole = False

    @property
    def full(self) -> bool:
        """Whether more than `LIMIT` bytes are kept, or more than `PACKETS`."""
        return self._nbytes > LIMIT or len(self._packets) > PACKETS

    def add(self, packet: Packet, arrival: Arrival) -> None:
        """Keeps a packet; a key frame's lets go of all before it."""
        if packet.is_keyframe and self._packets:
            self._packets.clear()
            self._nbytes = 0
            self.broken = True
        self.whole = arrival.whole and (packet.is_keyframe or (self.whole and not arrival.lost))
        self._packets.append((packet, arrival))
        self._nbytes += packet.size

    def take(self) -> list[tuple[Packet, Arrival]]:
        """All that is kept, which is then kept no longer."""
        taken, self._packets = self._packets, []
        self._nbytes, self.broken = 0, False
        return taken
