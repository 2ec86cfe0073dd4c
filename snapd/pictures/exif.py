"""What a JPEG says of itself: when it was taken, by which camera, by which program. Put before what the encoder made.

The segment is that of Exif 2.32 (JEITA CP-3451E): a TIFF header, then two directories of twelve bytes an entry. A
value of more than four bytes stands behind its directory, which has its place. The camera's code is the description,
which viewers of pictures show.
"""

import struct
import time
from collections.abc import Sequence

from framesrv import __version__

SOI = b"\xff\xd8"
APP1 = b"\xff\xe1"
HEADER = b"Exif\0\0"
TIFF = b"II*\0"  # little-endian
SOFTWARE = f"framesrv {__version__}"

ASCII, LONG, UNDEFINED = 2, 4, 7  # types of values
DESCRIPTION, SOFTWARE_TAG, EXIF_DIRECTORY = 0x010E, 0x0131, 0x8769
VERSION, TIME, OFFSET, SUBSECONDS = 0x9000, 0x9003, 0x9011, 0x9291  # the three are those of DateTimeOriginal

Value = tuple[int, int, bytes]  # tag, type, content


def described(jpeg: bytes, code: str, captured_ns: int) -> bytes:
    """`jpeg` with a segment that says when it was taken, in the time of this host, and by which camera.

    Args:
        jpeg: without such a segment.
        code: the camera's.
        captured_ns: Unix time in nanoseconds.
    """
    return b"".join((SOI, segment(code, captured_ns), memoryview(jpeg)[len(SOI) :]))


def segment(code: str, captured_ns: int) -> bytes:
    """The segment APP1 of such a picture."""
    seconds, rest = divmod(captured_ns, 1_000_000_000)
    local = time.localtime(seconds)
    offset = time.strftime("%z", local)
    first = [(DESCRIPTION, ASCII, _text(code)), (SOFTWARE_TAG, ASCII, _text(SOFTWARE))]
    second = [
        (VERSION, UNDEFINED, b"0232"),
        (TIME, ASCII, _text(time.strftime("%Y:%m:%d %H:%M:%S", local))),
        (OFFSET, ASCII, _text(f"{offset[:3]}:{offset[3:5]}")),
        (SUBSECONDS, ASCII, _text(f"{rest // 1000:06}")),
    ]
    begin = len(TIFF) + 4
    pointer = (EXIF_DIRECTORY, LONG, bytes(4))  # as long as it will be
    at = begin + len(_directory([*first, pointer], begin))
    pointer = (EXIF_DIRECTORY, LONG, struct.pack("<I", at))
    content = HEADER + TIFF + struct.pack("<I", begin) + _directory([*first, pointer], begin) + _directory(second, at)
    return APP1 + struct.pack(">H", 2 + len(content)) + content


def _directory(values: Sequence[Value], at: int) -> bytes:
    """A directory that lies `at` bytes behind the TIFF header's begin, and the values that do not fit into it."""
    entries, behind = [], b""
    place = at + 2 + 12 * len(values) + 4
    for tag, kind, content in values:
        count = len(content) // 4 if kind == LONG else len(content)
        if len(content) > 4:
            field = struct.pack("<I", place + len(behind))
            behind += content + bytes(len(content) % 2)  # each begins at an even place
        else:
            field = content.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", tag, kind, count) + field)
    return struct.pack("<H", len(values)) + b"".join(entries) + bytes(4) + behind


def _text(text: str) -> bytes:
    return text.encode("ascii", "replace") + b"\0"
