"""The record of a frame: its `Stamp` as the bytes of a segment."""

import mmap
from fractions import Fraction
from functools import lru_cache

from framesrv.errors import SegmentFormatError
from framesrv.segment import layout
from framesrv.segment.frame import SQUARE, Stamp

_MATRICES = layout.MATRICES
_CLOCKS = len(layout.CLOCKS)
_OFFSETS = [layout.record_offset(slot) for slot in range(layout.MAX_SLOTS)]
_BODIES = [offset + layout.RECORD_OFFSETS["pts"] for offset in _OFFSETS]
_NO_PTS = layout.NO_PTS
_unpack, _pack_body = layout.RECORD_FORMAT.unpack_from, layout.RECORD_BODY.pack_into
_MATRIX_NUMBERS = {name: number for number, name in layout.MATRICES.items()}
_CLOCK_NUMBERS = {name: number for number, name in enumerate(layout.CLOCKS)}


def write(memory: mmap.mmap, slot: int, stamp: Stamp) -> None:
    """Writes all but the frame's number, which is to be last."""
    # a reader waits, and the copy of the picture has just emptied the caches: as in `read`
    pts, captured, arrived, matrix, full_range, key_frame, clock, ratio, rotated = stamp
    width, height = (1, 1) if ratio is SQUARE else _aspect(ratio)
    _pack_body(
        memory,
        _BODIES[slot],
        _NO_PTS if pts is None or not -(2**63) < pts < 2**63 else int(pts),
        captured,
        arrived,
        _MATRIX_NUMBERS[matrix],
        2 if full_range else 1,
        key_frame,
        _CLOCK_NUMBERS[clock],
        width,
        height,
        rotated,
    )


def read(memory: mmap.mmap, slot: int) -> tuple[int, Stamp] | None:
    """The frame's number and stamp; None where the slot holds no frame, its writer having died while it filled it.

    Raises:
        SegmentFormatError: it is no record.
    """
    # a reader that was asleep is cold: each call and each look-up here costs it microseconds
    seq, pts, captured, arrived, matrix, colour_range, key_frame, clock, width, height, rotated = _unpack(
        memory, _OFFSETS[slot]
    )
    if not seq:
        return None
    if matrix not in _MATRICES or clock >= _CLOCKS:
        raise SegmentFormatError(f"frame {seq} has matrix {matrix}, clock {clock}")
    return seq, Stamp(
        None if pts == layout.NO_PTS else pts,
        captured,
        arrived,
        _MATRICES[matrix],
        colour_range == 2,
        key_frame != 0,
        layout.CLOCKS[clock],
        SQUARE if width == height or not height else _ratio(width, height),
        rotated,
    )


@lru_cache(maxsize=64)  # making one costs as much as all else of a record
def _ratio(width: int, height: int) -> Fraction:
    return Fraction(width, height) if width else SQUARE


def _aspect(ratio: Fraction) -> tuple[int, int]:
    """A ratio as it is stored; of a square where it is none that fits."""
    if ratio is SQUARE:
        return 1, 1
    fits = 0 < ratio.numerator < 2**32 and ratio.denominator < 2**32
    return ratio.as_integer_ratio() if fits else (1, 1)
