"""What a frame carries besides its pixels: its `Stamp`, and the same as a record in its segment."""

import mmap
import time
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, Self, TypeAlias

from framesrv.errors import SegmentFormatError
from framesrv.segment import layout
from framesrv.segment.layout import Clock, Matrix

SQUARE = Fraction(1)  # the sample aspect ratio of most video
HD = 720  # lines from which video is BT.709 where it does not say


Record: TypeAlias = tuple[int, ...]  # the number of a frame and its stamp, as they lie in a segment

_MATRICES = layout.MATRICES
_CLOCKS = len(layout.CLOCKS)
_OFFSETS = [layout.record_offset(slot) for slot in range(layout.MAX_SLOTS)]
_BODIES = [offset + layout.RECORD_OFFSETS["pts"] for offset in _OFFSETS]
_NO_PTS = layout.NO_PTS
_unpack, _pack_body = layout.RECORD_FORMAT.unpack_from, layout.RECORD_BODY.pack_into
_MATRIX_NUMBERS = {name: number for number, name in layout.MATRICES.items()}
_CLOCK_NUMBERS = {name: number for number, name in enumerate(layout.CLOCKS)}


def usual_matrix(height: int) -> Matrix:
    """The colour matrix of video with so many lines that does not tell its own."""
    return "bt709" if height >= HD else "bt601"


class Stamp(NamedTuple):
    """What a frame carries besides its pixels.

    Attributes:
        pts: presentation time in nanoseconds on the stream's own clock, None where unknown.
        captured_ns: Unix time of capture, nanoseconds.
        arrived_ns: ``CLOCK_MONOTONIC`` at arrival, nanoseconds.
        matrix: of the YUV planes (ITU-T H.273).
        full_range: whether they go from 0 to 255, not 16 to 235 (240 for colour).
        key_frame: decoded without reference to another frame.
        clock: of `captured_ns`: ``arrival`` at this host, or the ``camera``'s own.
        sample_aspect_ratio: width of a pixel by its height.
        rotated: degrees that the decoder has turned the picture by, clockwise: 0, 90, 180 or 270.
    """

    pts: int | None
    captured_ns: int
    arrived_ns: int
    matrix: Matrix
    full_range: bool
    key_frame: bool
    clock: Clock
    sample_aspect_ratio: Fraction = SQUARE
    rotated: int = 0

    @classmethod
    def now(
        cls, height: int, *, matrix: Matrix | None = None, full_range: bool = False, key_frame: bool = False
    ) -> Self:
        """The stamp of a frame that arrives at this moment; BT.709 from 720 lines up unless told."""
        matrix = matrix or usual_matrix(height)
        return cls(None, time.time_ns(), time.monotonic_ns(), matrix, full_range, key_frame, "arrival")


def write_stamp(memory: mmap.mmap, slot: int, stamp: Stamp) -> None:
    """Writes all but the frame's number, which is to be last."""
    # a reader waits, and the copy of the picture has just emptied the caches: as in `read_record`
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


def read_record(memory: mmap.mmap, slot: int) -> Record | None:
    """The frame's record; None where the slot holds no frame, its writer having died while it filled it.

    Raises:
        SegmentFormatError: it is no record.
    """
    # a reader that was asleep is cold: each call and each look-up here costs it microseconds
    record = _unpack(memory, _OFFSETS[slot])
    if not record[0]:
        return None
    if record[4] not in _MATRICES or record[7] >= _CLOCKS:
        raise SegmentFormatError(f"frame {record[0]} has matrix {record[4]}, clock {record[7]}")
    return record


def stamp_of(record: Record) -> Stamp:
    """What a record that was read says."""
    _, pts, captured, arrived, matrix, colour_range, key_frame, clock, width, height, rotated = record
    return Stamp(
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
