"""Packets that are not decoded yet: those since the last key frame, which is all that a decoder needs.

Where the camera keeps a history they lie there already, but for the newest.
"""

from typing import cast

import av

from framesrv.codec.arrival import Arrival, Packet
from framesrv.history.writer import HistoryWriter

LIMIT = 8_000_000  # bytes; four seconds of a 16 Mb/s camera
PACKETS = 300  # twelve seconds; they take about a second to decode, and a snapshot waits for two


class Kept:
    """A packet of which nothing is held but where it lies in the history."""

    __slots__ = ("_base", "_dts", "_key", "_number", "_pts", "_writer")

    def __init__(self, packet: Packet, number: int, writer: HistoryWriter) -> None:
        self._pts, self._dts, self._base, self._key = packet.pts, packet.dts, packet.time_base, packet.is_keyframe
        self._number, self._writer = number, writer

    def packet(self) -> Packet:
        """The packet."""
        packet = cast(Packet, av.Packet(cast(bytes, self._writer.read(self._number))))  # any buffer will do
        packet.pts, packet.dts, packet.time_base, packet.is_keyframe = self._pts, self._dts, self._base, self._key
        return packet


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
        self._packets: list[tuple[Packet | Kept, Arrival]] = []
        self._number = 0  # of the newest packet, in the history
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
        if packet.is_keyframe and self._packets:
            self._packets.clear()
            self._nbytes = 0
            self.broken = True
        if self._packets and self._number and self._writer:
            newest, its = self._packets[-1]
            if not isinstance(newest, Kept):
                self._packets[-1] = Kept(newest, self._number, self._writer), its
        self.whole = arrival.whole and (packet.is_keyframe or (self.whole and not arrival.lost))
        self._packets.append((packet, arrival))
        self._number = number
        self._nbytes += packet.size

    def take(self) -> list[tuple[Packet, Arrival]]:
        """All that is kept, which is then kept no longer."""
        taken, self._packets = self._packets, []
        self._nbytes, self.broken = 0, False
        return [(one.packet() if isinstance(one, Kept) else one, its) for one, its in taken]
