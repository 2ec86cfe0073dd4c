"""H.264 and H.265 as a byte stream (Annex B), whatever form it came in, and the parameter sets in it."""

import re
from collections.abc import Iterator
from itertools import pairwise

START = b"\0\0\0\1"
LONGEST_HEAD = 65536  # bytes before the first slice

_START = re.compile(b"\x00\x00\x01")
_SETS = {"h264": {7, 8}, "hevc": {32, 33, 34}}
_FIRST_OTHER = {"h264": 6, "hevc": 32}  # types below are of slices


def byte_stream(data: bytes, extradata: bytes, codec: str) -> bytes:
    """`data` of one packet, with start codes."""
    if not _has_lengths(extradata):
        return data
    size = (extradata[4 if codec == "h264" else 21] & 3) + 1
    return b"".join(START + unit for unit in _of_lengths(data, size))


def parameter_sets(extradata: bytes, codec: str) -> bytes:
    """What `extradata` holds of them, with start codes."""
    if not _has_lengths(extradata):
        return extradata
    return b"".join(START + unit for unit in (_of_avcc if codec == "h264" else _of_hvcc)(extradata))


def own_sets(stream: bytes, codec: str) -> tuple[bytes, ...]:
    """The parameter sets before the first slice in the byte stream of a picture."""
    found = []
    begins = [match.end() for match in _START.finditer(stream, 0, LONGEST_HEAD)]
    for begin, after in pairwise(begins):
        kind = unit_type(stream[begin], codec)
        if kind < _FIRST_OTHER[codec]:
            break
        if kind in _SETS[codec]:
            found.append(stream[begin : after - 3].rstrip(b"\0"))
    return tuple(found)


def unit_type(first: int, codec: str) -> int:
    """The type of a unit that begins with that byte."""
    return first & 31 if codec == "h264" else first >> 1 & 63


def _has_lengths(extradata: bytes) -> bool:
    """Whether units have their lengths before them, as in MP4 and FLV: such extradata begins with its version, 1."""
    return extradata[:1] == b"\1" and len(extradata) > 6


def _of_lengths(data: bytes, size: int) -> Iterator[bytes]:
    place = 0
    while place + size <= len(data):
        end = place + size + int.from_bytes(data[place : place + size])
        yield data[place + size : end]
        place = end


def _of_avcc(extradata: bytes) -> Iterator[bytes]:
    """ISO/IEC 14496-15, 5.3.3.1: the number of SPS, those, the number of PPS, those."""
    place = 5
    for mask in (31, 255):
        count, place = extradata[place] & mask, place + 1
        for _ in range(count):
            end = place + 2 + int.from_bytes(extradata[place : place + 2])
            yield extradata[place + 2 : end]
            place = end


def _of_hvcc(extradata: bytes) -> Iterator[bytes]:
    """ISO/IEC 14496-15, 8.3.3.1: arrays of units, each with a type and a number."""
    place = 23
    for _ in range(extradata[22]):
        count, place = int.from_bytes(extradata[place + 1 : place + 3]), place + 3
        for _ in range(count):
            end = place + 2 + int.from_bytes(extradata[place : place + 2])
            yield extradata[place + 2 : end]
            place = end
