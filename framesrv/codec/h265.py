"""A question to the H.265 decoder: has every part of the picture been decoded?

FFmpeg's decoder says nothing of a picture whose data ends too soon or has lost its way: what was not decoded shows
what was in that memory before. But it refuses a dependent slice segment whose predecessor is not there
("Previous slice segment missing"). So the picture parameter set is made to allow such segments. Before each slice but
the first comes one for the same place, and after the last slice one for the last coding tree block: they have no data
that could be decoded, and only ask. Each slice is followed by bytes of ones besides. A decoder that reads beyond its
slice takes them for the end, or for an error; one that has not lost its way never looks at them.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from framesrv.codec.bits import Bits, number_code
from framesrv.codec.h265_sets import (
    FIRST_KEY,
    LAST_KEY,
    PictureSet,
    SequenceSet,
    slice_address,
    slice_header,
)

START = b"\0\0\0\1"
TAIL = b"\xff" * 256  # what a decoder takes that has lost its way, until it says so
NOTHING = b"\xff" * 8  # no arithmetic code begins so: the decoder refuses it at once

_TO_ESCAPE = re.compile(rb"\0\0(?=[\0-\3])")


class Sets(NamedTuple):
    """The parameter sets that a picture uses, as the camera sent them."""

    sequence: SequenceSet
    pictures: PictureSet


def allowing(nal: bytes, pictures: PictureSet) -> bytes:
    """A picture parameter set that allows dependent slice segments and is else the same."""
    changed = bytearray(nal)
    # the numbers before the flag have ones among their bits: no byte so early stands there to part zeros
    changed[2 + pictures.flag_at // 8] |= 0x80 >> pictures.flag_at % 8
    return bytes(changed)


def asking(slices: list[bytes], sets: Sets, tail: bytes = TAIL) -> tuple[bytes, int]:
    """The slices of a picture as a byte stream, with the questions, and how many those are.

    Args:
        slices: NAL units, the first of the picture first.
        sets: as the camera sent them; what the decoder has must allow dependent slice segments.
        tail: follows each slice.

    Raises:
        ValueError: the header of a slice cannot be read.
    """
    pictures, sequence = sets.pictures, sets.sequence
    stream = bytearray()
    asked = 0
    for number, nal in enumerate(slices):
        if number:
            stream += START + _question(nal[:2], sets, slice_address(nal, pictures, sequence))
            asked += 1
        stream += START + (nal if pictures.dependent or not number else _with_flag(nal, sets)) + tail
    stream += START + _question(slices[0][:2], sets, sequence.blocks - 1)
    return bytes(stream), asked + 1


def _question(header: bytes, sets: Sets, address: int) -> bytes:
    """The segment that asks whether all before this coding tree block is there."""
    pictures = sets.pictures
    return _segment(header, pictures.number, address, sets.sequence.blocks, pictures.entries + pictures.extension)


@lru_cache(maxsize=1024)  # most pictures end with the same
def _segment(header: bytes, number: int, address: int, blocks: int, zeros: int) -> bytes:
    key = FIRST_KEY <= header[0] >> 1 & 63 <= LAST_KEY
    bits = "0" + "0" * key + number_code(number) + "1"
    bits += format(address, f"0{(blocks - 1).bit_length()}b")
    bits += number_code(0) * zeros
    return header + _escaped(_aligned(bits)) + NOTHING


def _with_flag(nal: bytes, sets: Sets) -> bytes:
    """A slice with the flag that it is not dependent, where its set was changed to allow such."""
    header = slice_header(nal, sets.pictures, sets.sequence)
    payload = nal[2:].replace(b"\0\0\3", b"\0\0")
    bits = Bits(payload[: header.ends // 8 + 1], escaped=False)
    text = format(bits.take(header.ends), f"0{header.ends}b")
    text = text[: header.flag_at] + "0" + text[header.flag_at :]
    return nal[:2] + _escaped(_aligned(text) + payload[header.ends // 8 + 1 :])


def _aligned(bits: str) -> bytes:
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _escaped(payload: bytes) -> bytes:
    return _TO_ESCAPE.sub(b"\0\0\3", payload)
