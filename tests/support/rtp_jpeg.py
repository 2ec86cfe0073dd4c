"""JPEGs as a camera sends them over RTP (RFC 2435), in the ways that cameras do."""

import struct
from collections.abc import Iterator

MTU = 1400
Segment = tuple[int, bytes]  # marker, content
SOF0, DHT, SOS, DQT, DRI = 0xC0, 0xC4, 0xDA, 0xDB, 0xDD


def taken_apart(jpeg: bytes) -> tuple[list[Segment], bytes]:
    """The segments before the data of the scan, and that without the marker of the end."""
    at, found = 2, []
    while True:
        marker, size = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append((marker, jpeg[at + 4 : at + 2 + size]))
        at += 2 + size
        if marker == SOS:
            return found, jpeg[at:].removesuffix(b"\xff\xd9")


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height."""
    frame = dict(taken_apart(jpeg)[0])[SOF0]
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")


def payloads(
    jpeg: bytes, *, quality: int = 255, restart: int = 0, eights: tuple[int, int] | None = None
) -> list[bytes]:
    """The payloads of one picture.

    Args:
        jpeg: as an encoder made it.
        quality: as the packets say; from 128 on the quantization tables go with the first one.
        restart: the interval between restart markers in its scan, 0 for none.
        eights: its sides as the packets say; as they are, as far as a byte goes, where None.
    """
    segments, scan = taken_apart(jpeg)
    frame = dict(segments)[SOF0]
    if frame[5] == 3 and (frame[7], frame[10], frame[13]) not in ((0x22, 0x11, 0x11), (0x21, 0x11, 0x11)):
        raise ValueError("RTP knows colours at half the width, and at half the height besides")
    width, height = eights or tuple(side // 8 & 0xFF for side in size_of(jpeg))
    kind = (frame[7] == 0x22) + 64 * bool(restart)
    tables = b"".join(content[1:65] + content[66:] for marker, content in segments if marker == DQT)
    inband = struct.pack(">BBH", 0, 0, len(tables)) + tables if quality >= 128 else b""
    found = []
    for start in range(0, len(scan), MTU):
        head = start.to_bytes(4, "big") + bytes([kind, quality, width, height])
        head += struct.pack(">HH", restart, 0xFFFF) if restart else b""
        found.append(head + (b"" if start else inband) + scan[start : start + MTU])
    return found


def extension(jpeg: bytes, *markers: int) -> bytes:
    """Those segments of the picture as the extension of its first packet."""
    content = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(one) + 2) + one
        for marker, one in taken_apart(jpeg)[0]
        if marker in markers
    )
    content = b"\xff" * (-len(content) % 4) + content  # before a marker, padding is allowed
    return struct.pack(">HH", 0xFFD8, len(content) // 4) + content


def packets(
    pictures: list[list[bytes]], extensions: list[bytes] | None = None, start: int = 65_000, step: int = 3600
) -> Iterator[bytes]:
    """RTP packets of pictures, each a list of payloads; the first of each with its extension."""
    sequence = start
    for index, picture in enumerate(pictures):
        for number, payload in enumerate(picture):
            own = extensions[index] if extensions and not number else b""
            marked = number == len(picture) - 1
            stamp = 0xFFFF_0000 + index * step & 0xFFFF_FFFF
            first = 0x90 if own else 0x80
            yield struct.pack(">BBHII", first, 26 | marked << 7, sequence & 0xFFFF, stamp, 77) + own + payload
            sequence += 1
