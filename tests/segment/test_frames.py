"""A frame, as its writer gave it and its readers see it."""

import time
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from framesrv import (
    FrameReader,
    FrameWriter,
    Stamp,
)
from framesrv.segment import layout
from framesrv.segment.stamp import SQUARE
from tests.support.segment_programs import pinned


def test_frame_carries_what_its_writer_gave_it(writer: FrameWriter, camera: FrameReader) -> None:
    begun, wall = time.monotonic_ns(), time.time()
    planes = [np.full(shape, value, np.uint8) for shape, value in (((96, 128), 1), ((48, 64), 2), ((48, 64), 3))]
    stamp = Stamp(
        -1_500_000_000, 1_700_000_000_250_000_000, begun, "bt2020", True, True, "camera", Fraction(16, 11), 270
    )
    assert writer.write(planes, stamp)
    with camera.latest() as frame:
        assert frame.stamp == stamp
        assert (frame.seq, frame.width, frame.height, frame.pixel_format) == (1, 128, 96, "yuv420p")
        assert (frame.pts, frame.key_frame) == (-1.5, True)
        assert (frame.sample_aspect_ratio, frame.rotated) == (Fraction(16, 11), 270)
        assert frame.captured_at == pytest.approx(1_700_000_000.25, abs=1e-6)
        assert 0 <= frame.age < 60
        for plane, expected in zip(frame.planes, planes, strict=True):
            assert np.array_equal(plane, expected)
    assert writer.write(planes)
    with camera.latest() as frame:
        assert (frame.seq, frame.pts, frame.key_frame) == (2, None, False)
        assert (frame.sample_aspect_ratio, frame.rotated) == (SQUARE, 0)
        assert (frame.stamp.matrix, frame.stamp.full_range, frame.stamp.clock) == ("bt601", False, "arrival")
        assert abs(frame.captured_at - wall) < 60


def test_writer_that_knows_no_aspect_writes_square_pixels(writer: FrameWriter, camera: FrameReader) -> None:
    """One of an older version leaves these bytes 0, in the same layout."""
    assert writer.write([np.zeros(shape, np.uint8) for shape in ((96, 128), (48, 64), (48, 64))])
    slot = writer._segment.newest
    at = layout.record_offset(slot) + layout.RECORD_OFFSETS["aspect_width"]
    writer._segment.memory[at : at + 12] = bytes(12)
    with camera.latest(max_age=None) as frame:
        assert (frame.sample_aspect_ratio, frame.rotated, frame.display_size) == (SQUARE, 0, (128, 96))


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        (Fraction(1), (128, 96)),
        (Fraction(4, 3), (171, 96)),
        (Fraction(3, 4), (128, 128)),
        (Fraction(2**32, 1), (128, 96)),
        (Fraction(1000, 1), (128, 96)),
    ],
)
def test_display_size_stretches_and_never_shrinks(
    ratio: Fraction, size: tuple[int, int], writer: FrameWriter, camera: FrameReader
) -> None:
    planes = [np.zeros(shape, np.uint8) for shape in ((96, 128), (48, 64), (48, 64))]
    assert writer.write(planes, Stamp.now(96)._replace(sample_aspect_ratio=ratio))
    with camera.latest(max_age=None) as frame:
        assert frame.display_size == size


def test_bgr_frame_is_one_array(prefix: str, camera: FrameReader) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (33, 35, 3), np.uint8)
    with FrameWriter("cam", 35, 33, "bgr24", prefix=prefix) as writer:
        assert writer.write([picture])
        with camera.latest() as frame:
            assert len(frame.planes) == 1
            assert np.array_equal(frame.planes[0], picture)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (321, 241), (322, 242), (639, 1)])
def test_planes_of_odd_sizes_are_rounded_up(prefix: str, camera: FrameReader, width: int, height: int) -> None:
    chroma = ((height + 1) // 2, (width + 1) // 2)
    chance = np.random.default_rng(width)
    planes = [chance.integers(0, 256, shape, np.uint8) for shape in ((height, width), chroma, chroma)]
    with FrameWriter("cam", width, height, "yuv420p", prefix=prefix) as writer:
        assert writer.write(planes)
        assert writer.write([255 - plane for plane in planes])
        with camera.latest() as frame:
            for plane, expected in zip(frame.planes, planes, strict=True):
                assert np.array_equal(plane, 255 - expected)


@pytest.mark.parametrize(
    "shapes", [[(96, 128)], [(96, 128), (48, 64), (48, 63)], [(96, 128, 1), (48, 64), (48, 64)], []]
)
def test_planes_of_another_form_are_refused(writer: FrameWriter, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        writer.write([np.zeros(shape, np.uint8) for shape in shapes])
    assert writer.frames == 0


def test_planes_of_another_type_are_refused(writer: FrameWriter, prefix: str) -> None:
    wrong = [np.zeros(shape, np.uint16) for shape in ((96, 128), (48, 64), (48, 64))]
    with pytest.raises(TypeError):
        writer.write(cast("Any", wrong))
    assert writer.frames == 0
    assert pinned(prefix, "cam") == []
