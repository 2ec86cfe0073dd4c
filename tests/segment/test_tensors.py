"""Frames as programs that look at pictures want them: RGB, floats, letterboxed, in the caller's memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from framesrv import Frame, FrameReader, FrameReleasedError, FrameWriter, Stamp
from framesrv.segment.stamp import SQUARE

WIDTH, HEIGHT = 320, 180
SIZES: list[dict[str, Any]] = [{}, {"width": 100}, {"width": 64, "height": 64}, {"crop": (3, 5, 101, 77)}]
ROUNDED = 8  # levels: libswscale rounds blue and red, planes and packed pixels, each in its way
MEAN, SCALE = (123.7, 116.3, 103.5), (0.017, 0.0175, 0.0174)


@contextmanager
def shown(prefix: str, pixel_format: Any = "yuv420p", aspect: Fraction = SQUARE) -> Iterator[Frame]:
    """A frame in which colours change softly, as libswscale mixes those of neighbours in more than one way."""

    def soft(*shape: int) -> NDArray[np.uint8]:
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        waves = [np.sin(rows / shape[0] * (3 + one)) + np.cos(columns / shape[1] * (5 - one)) for one in range(3)]
        levels = (126 + 50 * np.stack(waves, -1)).astype(np.uint8)
        return levels if len(shape) == 3 else levels[..., next(kinds)]

    kinds = iter(range(3))
    half = (HEIGHT // 2, WIDTH // 2)
    planes = [soft(HEIGHT, WIDTH), soft(*half), soft(*half)]
    with (
        FrameWriter("cam", WIDTH, HEIGHT, pixel_format, prefix=prefix) as writer,
        FrameReader("cam", prefix=prefix) as camera,
    ):
        stamp = Stamp.now(HEIGHT)._replace(sample_aspect_ratio=aspect)
        writer.write(planes if pixel_format == "yuv420p" else [soft(HEIGHT, WIDTH, 3)], stamp)
        with camera.latest(max_age=None) as frame:
            yield frame


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
def test_rgb_is_bgr_the_other_way_round(prefix: str, pixel_format: Any, size: dict[str, Any]) -> None:
    with shown(prefix, pixel_format) as frame:
        rgb, bgr = frame.rgb(**size), frame.bgr(**size)
        assert rgb.flags.c_contiguous
        assert rgb.flags.writeable
        assert not np.shares_memory(rgb, frame.planes[0])
        assert np.abs(rgb[..., ::-1].astype(int) - bgr).max() <= ROUNDED
        assert np.ptp(rgb) > 50
        assert not np.array_equal(rgb, bgr)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_picture_is_written_into_the_callers_memory(prefix: str, order: str) -> None:
    batch = np.zeros((2, 48, 64, 3), np.uint8)
    with shown(prefix) as frame:
        copy: Callable[..., Any] = getattr(frame, order)
        out = copy(64, 48, out=batch[1])
        assert np.shares_memory(out, batch)
        assert np.array_equal(batch[1], copy(64, 48))
        assert not batch[0].any()
        turned = np.zeros((64, 48, 3), np.uint8).transpose(1, 0, 2)
        copy(64, 48, out=turned)
        assert np.array_equal(turned, batch[1])


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((64, 48, 3), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.broadcast_to(np.zeros(3, np.uint8), (48, 64, 3)),
    ],
)
def test_memory_of_another_form_is_refused_and_left_as_it_is(prefix: str, out: Any) -> None:
    with shown(prefix) as frame, pytest.raises(ValueError, match="out "):
        frame.rgb(64, 48, out=out)
    assert not out.any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHW", "HWC"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
def test_tensor_has_each_level_less_the_mean_times_the_scale(
    prefix: str, pixel_format: Any, layout: Any, order: Any, size: dict[str, Any]
) -> None:
    with shown(prefix, pixel_format) as frame:
        picture = getattr(frame, order)(**size).astype(np.float64)
        found = frame.tensor(**size, order=order, layout=layout, mean=MEAN, scale=SCALE)
    expected = (picture - MEAN) * SCALE
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    if layout.startswith("N"):
        assert found.shape[0] == 1
        found = found[0]
    if layout.endswith("CHW"):
        found = found.transpose(1, 2, 0)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= max(SCALE) * (ROUNDED if layout.endswith("CHW") else 0.01)


def test_tensor_is_from_0_to_1_unless_told_and_written_into_the_callers_memory(prefix: str) -> None:
    batch = np.full((2, 3, 48, 64), -1, np.float32)
    with shown(prefix) as frame:
        out = frame.tensor(64, 48, layout="CHW", out=batch[1])
        assert np.shares_memory(out, batch)
        assert np.array_equal(batch[1], frame.tensor(64, 48)[0])
        layout: Any
        for layout, wrong in (("NCHW", batch[1]), ("CHW", batch[1].astype(np.float64)), ("HWC", batch[1])):
            with pytest.raises(ValueError, match="out of shape"):
                frame.tensor(64, 48, layout=layout, out=wrong)
    assert (batch[0] == -1).all()
    assert 0 <= batch[1].min() < 0.4 < 0.6 < batch[1].max() <= 1


@pytest.mark.parametrize("wrong", [{"layout": "NWHC"}, {"mean": (1, 2)}, {"scale": np.ones((3, 3))}])
def test_tensor_of_no_form_is_refused(prefix: str, wrong: Any) -> None:
    with shown(prefix) as frame, pytest.raises(ValueError, match=next(iter(wrong))):
        frame.tensor(64, 48, **wrong)


@pytest.mark.parametrize(
    ("size", "aspect", "where"),
    [
        ((320, 320), SQUARE, (0, 70, 320, 180)),
        ((640, 200), SQUARE, (142, 0, 356, 200)),
        ((160, 90), SQUARE, (0, 0, 160, 90)),
        ((320, 320), Fraction(4, 3), (0, 92, 320, 135)),
        ((33, 65), SQUARE, (0, 23, 33, 19)),
    ],
)
def test_letterbox_keeps_proportions_and_fills_the_rest(
    prefix: str, size: tuple[int, int], aspect: Fraction, where: tuple[int, int, int, int]
) -> None:
    with shown(prefix, aspect=aspect) as frame:
        box = frame.letterbox(*size, fill=7)
        assert (box.left, box.top, box.inner_width, box.inner_height) == where
        left, top, width, height = where
        inside = (slice(top, top + height), slice(left, left + width))
        whole = frame.rgb(within=box)
        assert whole.shape == (size[1], size[0], 3)
        assert np.array_equal(whole[inside], frame.rgb(width, height))
        outside = np.ones(whole.shape[:2], bool)
        outside[inside] = False
        assert (whole[outside] == 7).all()
        layout: Any
        for layout in ("HWC", "CHW"):
            floats = frame.tensor(within=box, layout=layout, mean=MEAN, scale=SCALE)
            floats = floats if layout == "HWC" else floats.transpose(1, 2, 0)
            assert np.abs(floats - (whole - np.array(MEAN)) * SCALE).max() <= max(SCALE) * ROUNDED
            assert np.allclose(floats[outside], (7 - np.array(MEAN)) * SCALE, atol=1e-5)


def test_letterbox_tells_where_a_place_is_in_the_frame(prefix: str) -> None:
    with shown(prefix) as frame:
        box = frame.letterbox(640, 640)
    assert np.allclose(box.to_frame([[0, 140], [640, 500]]), [[0, 0], [WIDTH, HEIGHT]])
    boxes = np.array([[[0, 140, 640, 500], [320, 320, 322, 324]]])
    assert np.allclose(box.to_frame(boxes), [[[0, 0, 320, 180], [160, 90, 161, 92]]])
    assert np.allclose(box.from_frame(box.to_frame(boxes)), boxes)
    with pytest.raises(ValueError, match="expected x, y"):
        box.to_frame([1, 2, 3])


def test_letterbox_that_does_not_fit_is_refused(prefix: str) -> None:
    with shown(prefix) as frame:
        box = frame.letterbox(64, 64)
        wrong: Any
        for wrong in ({"width": 64}, {"height": 64}, {"crop": (0, 0, 64, 64)}):
            with pytest.raises(ValueError, match="expected it alone"):
                frame.rgb(within=box, **wrong)
        for size in ((0, 64), (64, 16385)):
            with pytest.raises(ValueError, match="expected 1 to 16384"):
                frame.letterbox(*size)
        with pytest.raises(ValueError, match="expected 0 to 255"):
            frame.letterbox(64, 64, fill=256)
    with (
        FrameWriter("other", 64, 64, "bgr24", prefix=prefix) as writer,
        FrameReader("other", prefix=prefix) as camera,
    ):
        writer.write([np.zeros((64, 64, 3), np.uint8)])
        with camera.latest() as frame, pytest.raises(ValueError, match="a letterbox of 320x180 frames"):
            frame.rgb(within=box)


def test_released_frame_gives_no_copy(prefix: str) -> None:
    with shown(prefix) as frame:
        box = frame.letterbox(64, 64)
    uses: list[Callable[[], object]] = [frame.rgb, frame.bgr, frame.tensor, lambda: frame.rgb(within=box)]
    for use in uses:
        with pytest.raises(FrameReleasedError):
            use()
