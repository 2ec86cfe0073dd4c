"""Pictures as BGR: right colours for every matrix, range and size, beside the formulas of ITU-T H.273."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from framesrv import FrameReader, FrameWriter, Stamp
from framesrv.segment.layout import Matrix

BARS = np.array([(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)], float)
LIKE = [(0.75, 0.5, 0.25), (0.2, 0.6, 0.9), (0.5, 0.5, 0.5), (0.9, 0.1, 0.4)]
COLOURS = np.concatenate([BARS, np.array(LIKE)])  # as red, green, blue from 0 to 1
COEFFICIENTS: dict[Matrix, tuple[float, float]] = {
    "bt709": (0.2126, 0.0722),
    "bt601": (0.299, 0.114),
    "bt2020": (0.2627, 0.0593),
}
KINDS: list[tuple[Matrix, bool]] = [
    ("bt709", False),
    ("bt601", False),
    ("bt601", True),
    ("bt709", True),
    ("bt2020", False),
]
SIZES = [(320, 240), (322, 242), (321, 241), (321, 240), (322, 243), (1280, 720)]
TOLERANCE = 3  # levels: 8 bits of Y, U and V cannot name every colour, and libswscale rounds


def encode(rgb: NDArray[np.float64], matrix: Matrix, *, full_range: bool) -> tuple[NDArray[np.uint8], ...]:
    """Y, Cb and Cr of colours (equations 38 to 43 and 26 to 28 of H.273)."""
    red, blue = COEFFICIENTS[matrix]
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    cb, cr = (rgb[..., 2] - luma) / (2 * (1 - blue)), (rgb[..., 0] - luma) / (2 * (1 - red))
    if full_range:
        levels = (255 * luma, 255 * cb + 128, 255 * cr + 128)
    else:
        levels = (219 * luma + 16, 224 * cb + 128, 224 * cr + 128)
    return tuple(level.round().clip(0, 255).astype(np.uint8) for level in levels)


def decode(planes: tuple[NDArray[np.uint8], ...], matrix: Matrix, *, full_range: bool) -> NDArray[np.float64]:
    """Blue, green and red, 0 to 255, of levels: the same equations the other way."""
    luma, cb, cr = (plane.astype(float) for plane in planes)
    red, blue = COEFFICIENTS[matrix]
    luma, cb, cr = (
        (luma / 255, (cb - 128) / 255, (cr - 128) / 255)
        if full_range
        else ((luma - 16) / 219, (cb - 128) / 224, (cr - 128) / 224)
    )
    b, r = luma + 2 * (1 - blue) * cb, luma + 2 * (1 - red) * cr
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return 255 * np.stack([b, g, r], axis=-1).clip(0, 1)


def bars(width: int) -> NDArray[np.intp]:
    """Which of `COLOURS` each column has; bars begin at even columns."""
    return np.minimum(np.arange(width) // 2 * 2 * len(COLOURS) // width, len(COLOURS) - 1)


def centres(width: int) -> NDArray[np.intp]:
    """The column in the middle of each bar, where no neighbour is mixed in."""
    return ((np.arange(len(COLOURS)) + 0.5) * width / len(COLOURS)).astype(np.intp)


@pytest.fixture
def camera(prefix: str) -> Iterator[FrameReader]:
    with FrameReader("cam", prefix=prefix) as opened:
        yield opened


def stamp(height: int, matrix: Matrix, full_range: bool) -> Stamp:
    return Stamp.now(height, matrix=matrix, full_range=full_range)


def assert_like(
    planes: tuple[NDArray[np.uint8], ...] | None, size: tuple[int, int], bgr: NDArray[np.float64]
) -> None:
    """Planes as JPEG has them are of that size, if it is even, and have the bars' colours, blue, green and red."""
    width, height = size
    if width % 2 or height % 2:
        assert planes is None
        return
    assert planes is not None
    half = (height // 2, width // 2)
    assert [plane.shape for plane in planes] == [(height, width), half, half]
    columns = centres(width)
    shown = (planes[0][::2, columns], planes[1][:, columns // 2], planes[2][:, columns // 2])
    error = np.abs(decode(shown, "bt601", full_range=True) - bgr)
    assert error.max() <= TOLERANCE, (size, error.max(axis=(0, 2)))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(("matrix", "full_range"), KINDS)
def test_colours_are_those_of_the_standard(
    prefix: str, camera: FrameReader, matrix: Matrix, full_range: bool, width: int, height: int
) -> None:
    levels = encode(COLOURS, matrix, full_range=full_range)
    expected = decode(levels, matrix, full_range=full_range)
    rows = [levels[0][bars(width)], levels[1][bars(width)[::2]], levels[2][bars(width)[::2]]]
    heights = (height, (height + 1) // 2, (height + 1) // 2)
    planes = [np.repeat(row[None], count, axis=0) for row, count in zip(rows, heights, strict=True)]
    with FrameWriter("cam", width, height, "yuv420p", prefix=prefix) as writer:
        writer.write(planes, stamp(height, matrix, full_range))
        with camera.latest(max_age=None) as frame:
            for size in ((width, height), (width // 2, height // 2), (width * 2, height * 2), (161, 95)):
                picture = frame.bgr(*size)
                assert picture.shape == (size[1], size[0], 3)
                assert picture.dtype == np.uint8
                assert picture.flags.c_contiguous
                error = np.abs(picture[:, centres(size[0])].astype(float) - expected)
                assert error.max() <= TOLERANCE, (size, error.max(axis=(0, 2)))
                assert_like(frame.jfif(*size), size, expected)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_each_row_and_column_stays_in_its_place(prefix: str, camera: FrameReader, width: int, height: int) -> None:
    """Grey ramps down and across: a wrong stride or a plane that is taken too short shears or shifts the picture."""
    across = np.linspace(16, 235, width)[None].repeat(height, axis=0)
    down = np.linspace(16, 235, height)[:, None].repeat(width, axis=1)
    chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    with FrameWriter("cam", width, height, "yuv420p", prefix=prefix) as writer:
        for ramp in (across, down):
            luma = ramp.round().astype(np.uint8)
            writer.write([luma, chroma, chroma], stamp(height, "bt709", False))
            with camera.latest(max_age=None) as frame:
                expected = (luma.astype(float) - 16) / 219 * 255
                assert np.abs(frame.bgr() - expected[..., None]).max() <= TOLERANCE
                if (jfif := frame.jfif(width, height)) is not None:
                    assert np.abs(jfif[0] - expected).max() <= 1


def test_bottom_and_right_edges_have_their_colour(prefix: str, camera: FrameReader) -> None:
    blue = encode(np.array([0.0, 0.0, 1.0]), "bt709", full_range=False)
    for width, height in SIZES:
        chroma = ((height + 1) // 2, (width + 1) // 2)
        shapes = ((height, width), chroma, chroma)
        with FrameWriter("cam", width, height, "yuv420p", prefix=prefix) as writer:
            planes = [np.full(shape, level, np.uint8) for shape, level in zip(shapes, blue, strict=True)]
            writer.write(planes, stamp(height, "bt709", False))
            with camera.latest(max_age=None) as frame:
                assert np.abs(frame.bgr().astype(int) - (255, 0, 0)).max() <= TOLERANCE


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_bgr_frames_come_out_as_they_went_in(prefix: str, camera: FrameReader, width: int, height: int) -> None:
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    with FrameWriter("cam", width, height, "bgr24", prefix=prefix) as writer:
        writer.write([picture])
        with camera.latest(max_age=None) as frame:
            copy = frame.bgr()
            assert np.array_equal(copy, picture)
            assert not np.shares_memory(copy, frame.planes[0])
        flat = (COLOURS[:, ::-1] * 255).round().astype(np.uint8)[bars(width)]
        writer.write([np.repeat(flat[None], height, axis=0)])
        with camera.latest(max_age=None) as frame:
            small = frame.bgr(width=160)
            assert small.shape == (round(height * 160 / width), 160, 3)
            expected = (COLOURS[:, ::-1] * 255).round()
            assert np.abs(small[:, centres(160)] - expected).max() <= TOLERANCE


def test_picture_is_a_copy_of_its_own(prefix: str, camera: FrameReader) -> None:
    with FrameWriter("cam", 320, 240, "yuv420p", prefix=prefix) as writer:
        shapes = ((240, 320), (120, 160), (120, 160))
        writer.write([np.full(shape, 128, np.uint8) for shape in shapes])
        with camera.latest(max_age=None) as frame:
            picture = frame.bgr()
        before = picture.copy()
        for value in range(20):
            writer.write([np.full(shape, value, np.uint8) for shape in shapes])
        assert np.array_equal(picture, before)
        picture[:] = 0  # and writable


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ({}, (240, 320, 3)),
        ({"width": 160}, (120, 160, 3)),
        ({"height": 60}, (60, 80, 3)),
        ({"width": 100, "height": 10}, (10, 100, 3)),
        ({"width": 1}, (1, 1, 3)),
        ({"height": 480}, (480, 640, 3)),
    ],
)
def test_size_is_the_one_asked_for(
    prefix: str, camera: FrameReader, asked: dict[str, Any], shape: tuple[int, ...]
) -> None:
    with FrameWriter("cam", 320, 240, "yuv420p", prefix=prefix) as writer:
        writer.write([np.zeros(one, np.uint8) for one in ((240, 320), (120, 160), (120, 160))])
        with camera.latest(max_age=None) as frame:
            assert frame.bgr(**asked).shape == shape


@pytest.mark.parametrize("asked", [{"width": 0}, {"height": -1}, {"width": 16385}, {"width": 10, "height": 0}])
def test_impossible_size_is_refused(prefix: str, camera: FrameReader, asked: dict[str, Any]) -> None:
    with FrameWriter("cam", 320, 240, "yuv420p", prefix=prefix) as writer:
        writer.write([np.zeros(one, np.uint8) for one in ((240, 320), (120, 160), (120, 160))])
        with camera.latest(max_age=None) as frame, pytest.raises(ValueError, match="expected 1 to 16384"):
            frame.bgr(**asked)


AT_THE_END = """
import ctypes, mmap, sys
import numpy as np
from framesrv.segment.colour import Picture, to_packed
from framesrv.segment.layout import PAGE, Geometry
from framesrv.segment.planes import views
for width in (340, 356, 360, 1000):
    form = Geometry(width, 512, "bgr24", 2)
    room = mmap.mmap(-1, form.slot_size + PAGE)
    memory = np.frombuffer(room, np.uint8)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory.ctypes.data + form.slot_size), PAGE, 0) == 0
    memory[:form.slot_size] = 77
    for height in (512, 300):
        picture = Picture(views(memory[:form.slot_size], form), "bgr24", "bt709", True)
        assert (to_packed(picture, "rgb", width, height) == 77).all()
"""


def test_no_memory_is_read_behind_a_picture_that_ends_with_its_segment() -> None:
    """A process that read such a frame, as one of 360x640, died of it where nothing was mapped behind the segment."""
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
