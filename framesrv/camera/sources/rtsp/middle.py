"""Packets in the middle of a picture, which most are: each only carries on the NAL unit of the one before it.

Such a packet differs from the one before it in its number and in what it carries, and there is nothing in it to look
at. So it is known by one comparison, which takes a fraction of what it takes to take a packet apart.
"""

import struct
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

    def takes(self, data: memoryview) -> bool:
        """Takes a packet that is one of them; False if it is none."""
        if len(data) <= self._size:
            return False
        first, sequence, same, begin = self._form.unpack_from(data)
        if first != self._first or sequence != self._order.next or same != self._same or begin != self._begin:
            return False
        if len(self._unit.data) > LIMIT:
            return False
        self._unit.data += data[self._size :]
        self._order.went_on()
        return True


@cache  # there are two
def _form(size: int) -> struct.Struct:
    """Of a packet whose payload begins with so many bytes."""
    return struct.Struct(f">HH8s{size}s")
