"""Pixels of every kind over RTSP: the right size and colours, however the camera codes them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from framesrv import FrameReader, FrameWriter, SourceError
from framesrv.camera.sources import SourceFrame
from framesrv.segment.layout import Pixels
from tests.camera.test_sources import pictures
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts

ENCODERS = {"h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg"}
NAMES = {"blue": (200, 40, 30), "green": (40, 180, 50), "red": (30, 50, 210), "grey": (120, 120, 120)}  # BGR
TOLERANCE = 6  # of 255


def quarters(width: int, height: int) -> Pixels:
    """A picture of four colours, one in each corner."""
    bgr = np.zeros((height, width, 3), np.uint8)
    for number, bgr_of in enumerate(NAMES.values()):
        row, column = divmod(number, 2)
        rows = slice(None, height // 2) if not row else slice(height // 2, None)
        bgr[rows, slice(None, width // 2) if not column else slice(width // 2, None)] = bgr_of
    return bgr


def corners(bgr: Pixels) -> list[tuple[int, ...]]:
    """The colours in the middles of the quarters."""
    height, width = bgr.shape[:2]
    at = [(height * row // 4, width * column // 4) for row in (1, 3) for column in (1, 3)]
    return [tuple(int(one) for one in bgr[y, x]) for y, x in at]


def video(
    path: Path,
    codec: str,
    form: str,
    width: int,
    height: int,
    frames: int = 4,
    *,
    options: dict[str, str],
    aspect: str = "1:1",
) -> Path:
    """A few such pictures, BT.709 from 720 lines up."""
    path = path.with_suffix(".avi" if codec == "mjpeg" else ".mp4")
    matrix = Colorspace.ITU709 if height >= 720 and codec != "mjpeg" else Colorspace.ITU601
    full = form.startswith("yuvj")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(ENCODERS[codec], rate=5, options={"preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, form, Fraction(1, 5)
        stream.gop_size = 2
        stream.codec_context.sample_aspect_ratio = Fraction(*map(int, aspect.split(":")))
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = int(ColorRange.JPEG if full else ColorRange.MPEG)
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(quarters(width, height), "bgr24").reformat(
                format=form.replace("gray", "yuv420p"),
                dst_colorspace=matrix,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            )
            if form.startswith("gray"):  # swscale would make it full range
                luma, frame = frame.planes[0], av.VideoFrame(width, height, form)
                frame.planes[0].update(bytes(luma))
            frame.pts, frame.time_base = index, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def through_memory(picture: SourceFrame, prefix: str) -> Pixels:
    """What a reader sees of it, as BGR."""
    with (
        FrameWriter("cam", picture.width, picture.height, picture.pixel_format, prefix=prefix) as writer,
        FrameReader("cam", prefix=prefix) as reader,
    ):
        assert writer.write(picture.planes, picture.stamp)
        with reader.latest(max_age=None) as frame:
            return frame.bgr()


@pytest.mark.parametrize(
    ("codec", "form", "width", "height"),
    [
        *(("h264", form, 640, 360) for form in ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray")),
        *(("h264", form, 640, 360) for form in ("yuv420p10le", "yuv422p10le", "yuv444p10le")),
        *(("hevc", form, 640, 360) for form in ("yuv420p", "yuv422p", "yuv444p", "gray", "gray10le", "gray12le")),
        *(("hevc", form, 640, 360) for form in ("yuv420p10le", "yuv422p10le", "yuv420p12le", "yuv444p12le")),
        ("mjpeg", "yuvj420p", 640, 360),
        ("h264", "yuv420p", 1922, 1082),
        ("h264", "yuv420p", 352, 290),
        ("h264", "yuv444p", 321, 243),
        ("hevc", "yuv420p", 1366, 766),
        ("hevc", "yuv444p", 321, 243),
        ("h264", "yuv420p", 3840, 2160),
        ("hevc", "yuv420p10le", 3840, 2160),
        ("h264", "yuv420p", 7680, 4320),
        ("hevc", "yuv420p", 8192, 4320),
    ],
)
@pytest.mark.parametrize("wanted", ["yuv420p", "bgr24"])
def test_picture_has_its_size_and_its_colours(
    codec: str, form: str, width: int, height: int, wanted: Any, tmp_path: Path, prefix: str
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "hevc" else {"huffman": "default"}
    path = video(tmp_path / "video", codec, form, width, height, options={} if codec == "h264" else options)
    counts = Counts()
    with RtspServer({"cam": path}, tmp_path) as server:
        picture = next(pictures(server.url("cam"), counts, pixel_format=wanted, timeout=20.0))
        bgr = through_memory(picture, prefix)
    assert (picture.width, picture.height, picture.pixel_format) == (width, height, wanted)
    assert bgr.shape == (height, width, 3)
    expected = list(NAMES.values())
    found = corners(bgr)
    if form.startswith("gray"):
        expected = [(round(0.114 * b + 0.587 * g + 0.299 * r),) * 3 for b, g, r in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert max(abs(one - other) for one, other in zip(ours, theirs, strict=True)) <= TOLERANCE, (found, expected)
    assert counts.counters["corrupt"] == 0


def test_huffman_tables_that_nobody_tells_are_refused_with_a_sentence_over_rtsp(tmp_path: Path) -> None:
    path = video(tmp_path / "video", "mjpeg", "yuvj420p", 640, 360, 8, options={"huffman": "optimal"})
    counts = Counts()
    with RtspServer({"cam": path}, tmp_path) as server, pytest.raises(SourceError, match="Huffman tables"):
        next(pictures(server.url("cam"), counts))
