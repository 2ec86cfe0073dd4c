"""The headers of a JPEG (ITU-T T.81, annex B): made from what is known of it, and taken apart."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF0, DHT, SOS, DQT, DRI = 0xC0, 0xC4, 0xDA, 0xDB, 0xDD
FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}  # headers of frames (SOF), of whatever kind
BARE = frozenset(range(0xD0, 0xDA)) | {0x01}  # markers without a segment

# The usual Huffman tables (annex K.3), each with its class and number before it.
HUFFMAN = (
    bytes.fromhex("0000010501010101010100000000000000000102030405060708090a0b"),
    bytes.fromhex(
        "100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1"
        "f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768"
        "696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4"
        "c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    ),
    bytes.fromhex("0100030101010101010101010000000000000102030405060708090a0b"),
    bytes.fromhex(
        "1100020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352"
        "f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a6364656667"
        "68696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2"
        "c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
    ),
)
# The usual quantization tables (annex K.1) in zigzag order, of brightness and of colours.
_QUANTIZATION = (
    bytes.fromhex(
        "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933383740485c4e404457453738506d5157"
        "5f626768673e4d71797064785c656763"
    ),
    bytes.fromhex(
        "1112121815182f1a1a2f6342384263636363636363636363636363636363636363636363636363636363636363636363"
        "63636363636363636363636363636363"
    ),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the header of a frame says.

    Attributes:
        at: where the header begins in the JPEG, with its marker.
        width: pixels.
        height: pixels.
        block: width and height of what is coded at a time (MCU), pixels.
    """

    at: int
    width: int
    height: int
    block: tuple[int, int]


def quantization(quality: int) -> list[bytes]:
    """The two quantization tables of a quality from 1 to 99 (RFC 2435, 4.2), in zigzag order."""
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [bytes(min(max((value * factor + 50) // 100, 1), 255) for value in table) for table in _QUANTIZATION]


def segment(marker: int, content: bytes) -> bytes:
    """A segment with its marker."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def frame_header(width: int, height: int, *, tall: bool) -> bytes:
    """The segment of a frame of brightness and two colours, at half its width; `tall`: at half its height as well."""
    sampling = 0x22 if tall else 0x21
    return segment(SOF0, struct.pack(">BHHB", 8, height, width, 3) + bytes([1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1]))


def scan_header() -> bytes:
    """The segment before the data of such a frame."""
    return segment(SOS, bytes([3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]))


def segments(data: bytes | bytearray | memoryview, at: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """The segments from there on, up to the data of the scan: marker, content, where it begins.

    Raises:
        ValueError: that is none.
    """
    while at + 1 < len(data):
        if data[at] != 0xFF:
            raise ValueError(f"a marker of a JPEG begins with 255, not {data[at]}")
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in BARE:
            at += 2
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < 2 or at + 2 + size > len(data):
            raise ValueError("a segment of a JPEG is cut short")
        yield marker, bytes(data[at + 4 : at + 2 + size]), at
        if marker == SOS:
            return
        at += 2 + size


def tables(marker: int, content: bytes) -> Iterator[tuple[int, bytes]]:
    """The tables in a segment of quantization or Huffman tables: each with what tells it from others of the kind.

    Raises:
        ValueError: they are cut short.
    """
    at = 0
    while at < len(content):
        name, size = content[at], 17 + sum(content[at + 1 : at + 17])
        if marker == DQT:  # the upper half of the byte is the precision
            name, size = name & 15, 129 if name >> 4 else 65
        if at + size > len(content):
            raise ValueError("a table of a JPEG is cut short")
        yield name, content[at : at + size]
        at += size


def shape_of(jpeg: bytes | bytearray) -> Shape:
    """The shape that a JPEG says of itself.

    Raises:
        ValueError: it is none, or says none.
    """
    for marker, content, at in segments(jpeg):
        if marker in FRAMES and len(content) >= 6 + 3 * content[5] and content[5]:
            _, height, width, count = struct.unpack_from(">BHHB", content)
            sampling = [content[7 + 3 * number] for number in range(count)] if count > 1 else [0x11]
            block = 8 * max(one >> 4 for one in sampling), 8 * max(one & 15 for one in sampling)
            if width and height and all(block):
                return Shape(at, width, height, block)
    raise ValueError("a JPEG says no size")
