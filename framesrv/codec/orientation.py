"""How a picture is to be mirrored and turned to stand upright: a matrix that comes with some of a stream's frames.

It is that of a file's header (tkhd, ISO/IEC 14496-12), which FFmpeg also makes of messages in H.264 and H.265: it
takes a pixel, right and down from the corner, to where it is to be shown.
"""

import math
import struct
from typing import NamedTuple

SIZE = 36  # bytes: nine numbers of 32 bits, of which the first, second, fourth and fifth turn and mirror
TINY = 1 << 10  # of a factor, 65536 being 1: a matrix of such alone shows nothing


class Orientation(NamedTuple):
    """What is to be done with a picture.

    Attributes:
        mirrored: left and right are to be exchanged, before it is turned.
        turn: degrees clockwise: 0, 90, 180 or 270.
    """

    mirrored: bool = False
    turn: int = 0


AS_IT_IS = Orientation()


def orientation(told: bytes) -> Orientation:
    """As the bytes of a matrix tell it; that it stays as it is where they show nothing."""
    if len(told) != SIZE:
        return AS_IT_IS
    a, b, _, c, d, *_ = struct.unpack("=9i", told)
    if max(abs(a), abs(b)) < TINY or max(abs(c), abs(d)) < TINY:
        return AS_IT_IS
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return Orientation(mirrored, round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360)
