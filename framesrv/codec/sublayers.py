"""Which pictures of H.265 may be left out because no other refers to them (ITU-T H.265, 7.4.2.2).

FFmpeg leaves out what is no reference within its own sub-layer, whatever that is. Pictures of higher sub-layers may
refer to it all the same. So only those of the highest one are left out.
"""

import re
from collections.abc import Iterator

from framesrv.codec.arrival import Packet
from framesrv.codec.h265_sets import LAST_SLICE, SPS

UNKNOWN = 7  # sub-layers are numbered to 6: of a stream that tells nothing all is decoded
HVCC, TOLD = 1, 23  # version of a record that MP4 and its like have in place of sets, and bytes before its arrays

_START = re.compile(rb"\x00\x00\x01")


class SubLayers:
    """Follows the parameter sets of one stream.

    Args:
        extradata: what its container says beside the packets (ISO/IEC 14496-15, 8.3.3, or a byte stream).
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._highest = UNKNOWN
        self._length = 0  # bytes of the length before each NAL unit; 0 in a byte stream
        if extradata and extradata[0] == HVCC and len(extradata) >= TOLD:
            told = extradata[21]
            self._length = (told & 3) + 1
            self._highest = ((told >> 3 & 7) or UNKNOWN + 1) - 1
        elif extradata:
            self._look(extradata)

    def is_of_highest(self, packet: Packet) -> bool:
        """Whether the picture is of that; it may tell which one that is."""
        return self._look(memoryview(packet)) >= self._highest

    def _look(self, data: bytes | memoryview) -> int:
        """The sub-layer of the picture in there, 0 where there is none."""
        highest = -1
        for header in self._headers(data):
            kind = header[0] >> 1 & 63
            if kind <= LAST_SLICE:
                return (header[1] & 7) - 1
            if kind == SPS and len(header) > 2:
                highest = max(highest, header[2] >> 1 & 7)
                self._highest = highest
        return 0

    def _headers(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The first bytes of each NAL unit: its header and one more."""
        if not self._length:
            for match in _START.finditer(data):
                header = bytes(data[match.end() : match.end() + 3])
                if len(header) > 1:
                    yield header
            return
        at = 0
        while at + self._length + 2 <= len(data):
            begin = at + self._length
            yield bytes(data[begin : begin + 3])
            at = begin + int.from_bytes(data[at:begin], "big")
