"""How a JPEG is to be turned, as its Exif says (CIPA DC-008, 4.6.4); PyAV gives little of what FFmpeg reads of it."""

import struct

from framesrv.codec.jpeg import segments
from framesrv.codec.orientation import AS_IT_IS, Orientation

APP1, BEGINNING = 0xE1, b"Exif\0\0"
ORIENTATION, SHORT = 0x0112, 3  # tag, type
ENTRIES = 200  # that are looked at

ORIENTATIONS = {
    1: AS_IT_IS,
    2: Orientation(mirrored=True),
    3: Orientation(turn=180),
    4: Orientation(mirrored=True, turn=180),
    5: Orientation(mirrored=True, turn=270),
    6: Orientation(turn=90),
    7: Orientation(mirrored=True, turn=90),
    8: Orientation(turn=270),
}


def orientation_in(picture: bytes) -> Orientation | None:
    """What is to be done with it; None where it does not say, or is no JPEG."""
    try:
        for marker, content, _ in segments(picture):
            if marker == APP1 and content.startswith(BEGINNING):
                return ORIENTATIONS.get(_orientation(content[len(BEGINNING) :]))
    except (ValueError, struct.error):
        return None
    return None


def _orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 0
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for number in range(min(count, ENTRIES)):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * number)
        if (tag, kind, values) == (ORIENTATION, SHORT, 1):
            return int(value)
    return 0
