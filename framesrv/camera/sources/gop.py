"""Packets that are not decoded yet: those since the last key frame, which is all that a decoder needs.

Where the camera keeps a history they lie there already, but for the newest.
"""

from fractions import Fraction
from typing import cast

import av

from framesrv.codec.arrival import Arrival, Packet
from framesrv.history.writer import HistoryWriter

LIMIT = 8_000_000  # bytes; four seconds of a 16 Mb/s camera
PACKETS = 300  # twelve seconds; they take about a second to decode, and a snapshot waits for two


class GopCache:
    """Packets in the order they came.

    Args:
        writer: of the camera's history; None where it keeps none.

    Attributes:
        broken: packets before these were let go, so that the codec must begin anew with them.
        whole: nothing is missing since the newest key frame, as far as the packets tell.
    """

    def __init__(self, writer: HistoryWriter | None = None) -> None:
        self._writer = writer
        self._packets: list[tuple[Packet | int, Arrival]] = []  # those in the history by their number there
        self._newest: Packet | None = None
        self._base: Fraction | None = None
        self._nbytes = 0
        self.broken = self.whole = False

    @property
    def full(self) -> bool:
        """Whether more than `LIMIT` bytes are kept, or more than `PACKETS`."""
        return self._nbytes > LIMIT or len(self._packets) > PACKETS

    def add(self, packet: Packet, arrival: Arrival, number: int = 0) -> None:
        """Keeps a packet; a key frame's lets go of all before it.

        Args:
            packet: the next one.
            arrival: how it came.
            number: its own in the history; 0 where it is not kept there.
        """
        if packet.is_keyframe:
            self._base = packet.time_base
            if self._packets:
                self._packets.clear()
                self._nbytes = 0
                self.broken = True
        self.whole = arrival.whole and (packet.is_keyframe or (self.whole and not arrival.lost))
        self._packets.append((number or packet, arrival))
        self._newest = packet
        self._nbytes += packet.size

    def take(self) -> list[tuple[Packet, Arrival]]:
        """All that is kept, which is then kept no longer."""
        taken, self._packets = self._packets, []
        if taken and self._newest:
            taken[-1] = self._newest, taken[-1][1]
        self._nbytes, self._newest, self.broken = 0, None, False
        return [(self._read(one) if isinstance(one, int) else one, its) for one, its in taken]

    def _read(self, number: int) -> Packet:
        """The packet of that number in the history."""
        assert self._writer is not None  # noqa: S101  who gave the number
        record, data = self._writer.read(number)
        packet = cast(Packet, av.Packet(cast(bytes, data)))  # any buffer will do
        packet.pts, packet.dts, packet.is_keyframe = record.pts, record.dts, record.key
        if self._base:
            packet.time_base = self._base
        return packet
