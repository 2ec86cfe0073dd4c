"""Colour bars through codecs of every matrix and range, to the JPEG: as near to the original as JPEG comes itself."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import simplejpeg
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from framesrv import FrameReader, FrameWriter
from framesrv.segment.layout import Matrix, Pixels
from snapd.pictures.encoder import Encoder
from snapd.wire.form import Form
from tests.camera.test_sources import pictures
from tests.segment.test_colour import encode as levels

WIDTH, HEIGHT, BAR = 1280, 720, 80  # bars begin where the blocks of a JPEG do, scaled by a half or not
QUALITY = 85
BEYOND = 3  # levels
COLOURS = [(255, 255, 255), (0, 255, 255), (255, 255, 0), (0, 255, 0), (255, 0, 255), (0, 0, 255), (255, 0, 0)]
COLOURS += [(0, 0, 0), (64, 128, 191), (230, 153, 51), (128, 128, 128), (102, 26, 230), (30, 60, 20)]  # B, G, R


class Kind(NamedTuple):
    """A way to code video; `tag` is the matrix as the stream says it (ITU-T H.273), 2 not at all."""

    codec: str
    pixel_format: str
    matrix: Matrix
    tag: int
    full_range: bool
    height: int = HEIGHT


KINDS = {
    "H.264, BT.709 limited": Kind("libx264", "yuv420p", "bt709", 1, False),
    "H.264, BT.709 full": Kind("libx264", "yuv420p", "bt709", 1, True),
    "H.264, BT.601 limited": Kind("libx264", "yuv420p", "bt601", 6, False),
    "H.264, BT.2020 limited": Kind("libx264", "yuv420p", "bt2020", 9, False),
    "H.264, HD that does not say": Kind("libx264", "yuv420p", "bt709", 2, False),
    "H.264, SD that does not say": Kind("libx264", "yuv420p", "bt601", 2, False, 576),
    "H.265, BT.709 limited": Kind("libx265", "yuv420p", "bt709", 1, False),
    "MJPEG, full": Kind("mjpeg", "yuvj420p", "bt601", 5, True),
    "MJPEG, full, 4:2:2": Kind("mjpeg", "yuvj422p", "bt601", 5, True),
}


def bars(width: int, height: int) -> Pixels:
    columns = np.arange(width) * (WIDTH // BAR) // width % len(COLOURS)
    return np.ascontiguousarray(np.repeat(np.array(COLOURS, np.uint8)[columns][None], height, axis=0))


def encode(kind: Kind, path: Path) -> None:
    with av.open(str(path), "w") as container:
        options = {"crf": "1", "preset": "ultrafast"} | (
            {"x265-params": "log-level=none"} if "265" in kind.codec else {}
        )
        stream = container.add_stream(kind.codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, kind.height, kind.pixel_format
        context = stream.codec_context
        context.colorspace = kind.tag
        context.color_range = int(ColorRange.JPEG if kind.full_range else ColorRange.MPEG)
        if kind.codec == "mjpeg":
            context.qmin = context.qmax = 1
        frame = av.VideoFrame(WIDTH, kind.height, kind.pixel_format)
        rgb = bars(WIDTH, kind.height)[..., ::-1] / 255
        luma, cb, cr = levels(rgb, kind.matrix, full_range=kind.full_range)
        down = luma.shape[0] // frame.planes[1].height  # the bars are constant over what a chroma sample covers
        for plane, values in zip(frame.planes, (luma, cb[::down, ::2], cr[::down, ::2]), strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
            rows[:, : plane.width] = values
        for index in range(3):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bars")
    found = {}
    for number, (name, kind) in enumerate(KINDS.items()):
        found[name] = folder / f"{number}.mkv"
        encode(kind, found[name])
    return found


@pytest.fixture
def camera(prefix: str) -> Iterator[FrameReader]:
    with FrameReader("cam", prefix=prefix) as opened:
        yield opened


def error(picture: Pixels, original: Pixels) -> Any:
    """The largest difference in each channel."""
    return np.abs(picture.astype(int) - original).max((0, 1))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
@pytest.mark.parametrize("name", KINDS)
def test_bars_differ_by_no_more_than_jpeg_costs(
    name: str, pixel_format: Any, scaled: bool, videos: dict[str, Path], prefix: str, camera: FrameReader
) -> None:
    width = WIDTH // 2 if scaled else None
    source = next(pictures(videos[name], pixel_format=pixel_format))
    with FrameWriter("cam", source.width, source.height, pixel_format, prefix=prefix) as writer:
        writer.write(source.planes, source.stamp)
        with camera.latest() as frame:
            shown = frame.bgr(width=width)
        jpeg = Encoder("simplejpeg", QUALITY).jpeg(camera.latest(max_age=60), "cam", Form(width)).content
    original = bars(shown.shape[1], shown.shape[0])
    cost = error(simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(original, QUALITY, "BGR", "420"), "BGR"), original)
    assert (error(simplejpeg.decode_jpeg(jpeg, "BGR"), original) <= cost + BEYOND).all()
    assert (error(shown, original) <= cost + BEYOND).all()
