"""Packets in the middle of a picture, which most are: each only carries on the NAL unit of the one before it.

Such a packet differs from the one before it in its number and in what it carries, and there is nothing in it to look
at. So it is known by one comparison, which takes a fraction of what it takes to take a packet apart.
"""

import struct
from collections.abc import Sequence
from functools import cache

from framesrv.camera.sources.rtsp.rtp import HEADER, VERSION, Order, RtpPacket
from framesrv.camera.sources.rtsp.unit import LIMIT, AccessUnit


class Middle:
    """What follows one packet as long as all is the same.

    Args:
        order: of the packets.
        packet: which was given by `order`, and added to the access unit.
        unit: that one.
        begin: how the payloads begin.
    """

    def __init__(self, order: Order, packet: RtpPacket, unit: AccessUnit, begin: bytes) -> None:
        self._order, self._unit = order, unit
        self._size = HEADER.size + len(begin)
        self._form = _form(len(begin))
        self._first = VERSION << 14 | packet.payload_type  # no padding, no extension, no marker
        self._same = struct.pack(">II", packet.timestamp, packet.source)
        self._begin = begin

    def takes(self, packets: Sequence[memoryview], at: int) -> int:
        """Takes those from the one at that place on that are of them; gives the place of the first that is not."""
        size, unpack, data = self._size, self._form.unpack_from, self._unit.data
        first, same, begin = self._first, self._same, self._begin
        number, place = self._order.next, at
        if number is None:
            return at
        for packet in packets[at:]:
            if len(packet) <= size or len(data) > LIMIT or unpack(packet) != (first, number, same, begin):
                break
            data += packet[size:]
            number = number + 1 & 0xFFFF
            at += 1
        self._order.went_on(at - place)
        return at


@cache  # there are two
def _form(size: int) -> struct.Struct:
    """Of a packet whose payload begins with so many bytes."""
    return struct.Struct(f">HH8s{size}s")
