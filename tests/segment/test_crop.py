"""A part of a frame: the same pixels as in the whole, and no more converted than that."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pytest

from framesrv import Frame, FrameReader, FrameWriter
from framesrv.segment import colour
from tests.segment.test_colour import TOLERANCE

SIZES = [(320, 240), (321, 242)]  # of an odd number of rows libswscale mixes the colours of neighbours
PARTS = [(0, 0, 320, 240), (3, 5, 101, 77), (100, 50, 2, 2), (319, 239, 1, 1), (0, 239, 320, 1), (7, 0, 64, 240)]
OUTSIDE = [(-1, 0, 10, 10), (0, 0, 0, 10), (0, 0, 10, 0), (320, 0, 2, 1), (0, 243, 1, 1), (0, 0, 322, 240)]


@contextmanager
def noise(prefix: str, width: int, height: int, pixel_format: Any) -> Iterator[Frame]:
    random = np.random.default_rng(width)
    chroma = ((height + 1) // 2, (width + 1) // 2)
    shapes = [(height, width), chroma, chroma] if pixel_format == "yuv420p" else [(height, width, 3)]
    with (
        FrameWriter("cam", width, height, pixel_format, prefix=prefix) as writer,
        FrameReader("cam", prefix=prefix) as camera,
    ):
        writer.write([random.integers(16, 236, shape, np.uint8) for shape in shapes])
        with camera.latest(max_age=None) as frame:
            yield frame


@pytest.mark.parametrize(("size", "pixel_format"), list(product(SIZES, ("yuv420p", "bgr24"))))
def test_part_has_the_pixels_that_it_has_in_the_whole(prefix: str, size: tuple[int, int], pixel_format: Any) -> None:
    with noise(prefix, *size, pixel_format) as frame:
        whole = frame.bgr()
        for left, top, width, height in PARTS:
            part = frame.bgr(crop=(left, top, width, height))
            assert part.flags.c_contiguous
            assert part.flags.writeable
            assert not np.shares_memory(part, frame.planes[0])
            assert np.array_equal(part, whole[top : top + height, left : left + width]), (left, top, width, height)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
def test_part_is_scaled_in_the_same_pass(prefix: str, pixel_format: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[tuple[int, int]] = []
    convert = colour._reformatted

    def counted(source: Any, *arguments: Any, **size: Any) -> Any:
        passes.append((source.width, source.height))
        return convert(source, *arguments, **size)

    with noise(prefix, 320, 240, pixel_format) as frame:
        monkeypatch.setattr(colour, "_reformatted", counted)
        for width, height in ((50, 20), (33, 71), (400, 160)):
            assert frame.bgr(width, height, crop=(100, 51, 100, 40)).shape == (height, width, 3)
        assert frame.bgr(50, crop=(100, 50, 100, 40)).shape == (20, 50, 3)
    assert len(passes) == 4
    assert all(width <= 100 and height <= 42 for width, height in passes)


def test_scaled_part_shows_what_is_there(prefix: str) -> None:
    """Four fields of grey: each is found where it is, however the part begins."""
    with FrameWriter("cam", 320, 240, "yuv420p", prefix=prefix) as writer:
        luma: Any = np.kron(np.array([[40, 90], [140, 190]], np.uint8), np.ones((120, 160), np.uint8))
        writer.write([luma, *[np.full((120, 160), 128, np.uint8)] * 2])
        with FrameReader("cam", prefix=prefix) as camera, camera.latest(max_age=None) as frame:
            for shift in (0, 1):
                part = frame.bgr(32, 24, crop=(80 + shift, 60 + shift, 160, 120))[..., 1].astype(int)
                corners = [part[2, 2], part[2, -3], part[-3, 2], part[-3, -3]]
                expected = [(level - 16) * 255 / 219 for level in (40, 90, 140, 190)]
                assert np.abs(np.array(corners) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("part", OUTSIDE)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
def test_part_that_is_not_within_is_refused(prefix: str, pixel_format: Any, part: tuple[int, int, int, int]) -> None:
    with (
        noise(prefix, 321, 243, pixel_format) as frame,
        pytest.raises(ValueError, match="to lie within 321x243 pixels"),
    ):
        frame.bgr(crop=part)
