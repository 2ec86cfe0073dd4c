"""The shape of pictures: turned where that is configured or the stream says so, and shown with its proportions."""

import gc
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg

from framesrv import Frame, FrameReader, camera_status
from framesrv.camera.sources import SourceFrame
from framesrv.codec.conversion import Conversion, orientation_of
from framesrv.codec.orientation import AS_IT_IS, Orientation, orientation
from framesrv.codec.presentation import Presentation
from framesrv.codec.shape import Shape
from framesrv.segment.stamp import Stamp
from snapd.pictures.encoder import Encoder
from snapd.wire.form import Form
from tests.camera.test_decoder import decoder, wait_live
from tests.camera.test_pixels import NAMES, corners, video
from tests.camera.test_sources import pictures
from tests.support.processes import wait_for
from tests.support.rtsp import RtspServer

QUIET = {"h264": {}, "hevc": {"x265-params": "log-level=none"}}
UPRIGHT = ["blue", "green", "red", "grey"]  # row by row
TURNED = {  # degrees clockwise
    0: UPRIGHT,
    90: ["red", "blue", "grey", "green"],
    180: ["grey", "red", "green", "blue"],
    270: ["green", "grey", "blue", "red"],
}


def names(bgr: Any) -> list[str]:
    """The colours of the corners, the nearest that we know."""
    return [
        min(NAMES, key=lambda name: sum(abs(a - b) for a, b in zip(found, NAMES[name], strict=True)))
        for found in corners(bgr)
    ]


@contextmanager
def newest(source: str | Path, tmp_path: Path, prefix: str, **keys: Any) -> Iterator[Frame]:
    """The newest frame of a camera whose decoder runs."""
    with decoder(tmp_path, prefix, source, **keys) as program, FrameReader("cam", prefix=prefix) as reader:
        with reader.latest(max_age=None, timeout=20) as frame:
            yield frame
        assert program.stop() == 0


def snapshot(frame: Frame, width: int | None = None) -> Any:
    """A snapshot of it; the frame is released with that."""
    return simplejpeg.decode_jpeg(Encoder("simplejpeg", 90).jpeg(frame, "cam", Form(width)).content, "BGR")


@contextmanager
def camera(path: Path, tmp_path: Path) -> Iterator[str]:
    with RtspServer({"cam": path}, tmp_path) as server:
        yield server.url("cam")


@pytest.mark.parametrize(
    ("codec", "size", "told", "aspect", "shown"),
    [
        ("h264", (704, 576), "16:11", "auto", (1024, 576)),
        ("h264", (704, 576), "12:11", "auto", (768, 576)),
        ("hevc", (704, 576), "16:11", "auto", (1024, 576)),
        ("h264", (720, 480), "8:9", "auto", (720, 540)),
        ("h264", (960, 1080), "1:1", "auto", (960, 1080)),
        ("h264", (960, 1080), "1:1", "16:9", (1920, 1080)),
        ("h264", (704, 576), "16:11", "4:3", (768, 576)),
        ("h264", (640, 360), "1:40", "auto", (640, 360)),
    ],
)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
def test_snapshot_has_the_proportions_that_the_stream_or_the_configuration_tells(
    codec: str,
    size: tuple[int, int],
    told: str,
    aspect: str,
    shown: tuple[int, int],
    pixel_format: str,
    tmp_path: Path,
    prefix: str,
) -> None:
    path = video(tmp_path / "video", codec, "yuv420p", *size, options=QUIET[codec], aspect=told)
    with (
        camera(path, tmp_path) as url,
        decoder(tmp_path, prefix, url, aspect=aspect, pixel_format=pixel_format) as program,
        FrameReader("cam", prefix=prefix) as reader,
    ):
        with reader.latest(max_age=None, timeout=20) as frame:
            assert (frame.width, frame.height) == size  # readers get the camera's own pixels
            assert frame.display_size == shown
            assert frame.sample_aspect_ratio == Fraction(shown[0] * size[1], shown[1] * size[0])
            whole = snapshot(frame)
        with reader.latest(max_age=None, timeout=20) as frame:
            small = snapshot(frame, 320)
        assert program.stop() == 0
    assert whole.shape == (shown[1], shown[0], 3)
    assert small.shape == (round(320 * shown[1] / shown[0]), 320, 3)
    assert names(whole) == names(small) == UPRIGHT


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize(("pixel_format", "size"), [("yuv420p", (640, 360)), ("bgr24", (640, 360))])
def test_picture_is_turned_as_it_is_configured(
    rotate: int, pixel_format: str, size: tuple[int, int], tmp_path: Path, prefix: str
) -> None:
    path = video(tmp_path / "video", "h264", "yuv420p", *size, options={}, aspect="4:3")
    with (
        camera(path, tmp_path) as url,
        newest(url, tmp_path, prefix, rotate=rotate, pixel_format=pixel_format) as frame,
    ):
        assert (frame.width, frame.height) == (size if rotate % 180 == 0 else size[::-1])
        assert frame.rotated == rotate
        assert frame.sample_aspect_ratio == (Fraction(4, 3) if rotate % 180 == 0 else Fraction(3, 4))
        assert names(frame.bgr()) == names(snapshot(frame)) == TURNED[rotate]


def turned_in_the_stream(path: Path, how: str) -> Path:
    """The video with messages of how it is to be shown (display orientation, H.264 D.1.26)."""
    target = path.with_name("turned.ts")
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        track = source.streams.video[0]
        out = container.add_stream_from_template(track)
        filters = f"h264_mp4toannexb,h264_metadata=display_orientation=insert:{how}"
        bsf = av.BitStreamFilterContext(filters, track)
        for packet in source.demux(track):
            if packet.size:
                for one in bsf.filter(packet):
                    one.stream = out
                    container.mux(one)
    return target


def turned_in_the_file(path: Path, *matrix: int) -> Path:
    """The video in a file whose header says how it is to be shown (tkhd): by a quarter clockwise, or as told."""
    right, down, left, below = matrix or (0, 1, -1, 0)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", right << 16, down << 16, 0, left << 16, below << 16, 0, 0, 0, 1 << 30)
    target = path.with_name("turned.mp4")
    target.write_bytes(data)
    return target


def test_turn_that_is_told_with_key_frames_holds_for_those_after_them(tmp_path: Path) -> None:
    path = turned_in_the_stream(video(tmp_path / "video", "h264", "yuv420p", 640, 360, options={}), "rotate=90")
    with camera(path, tmp_path) as url:
        shown = list(islice(pictures(url), 12))
    assert not all(picture.stamp.key_frame for picture in shown)
    assert {picture.orientation.turn for picture in shown} == {270}


def test_turn_that_key_frames_tell_of_no_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = Conversion(Presentation())
    found = []
    for rotation, key in [(0, True), (90, True), (0, False), (0, True), (0, True), (0, False), (0, True), (0, False)]:
        # PyAV gives no way to make such a frame
        matrix = struct.pack("=9i", 0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
        told = orientation(matrix) if rotation else AS_IT_IS
        monkeypatch.setattr("framesrv.codec.conversion.orientation_of", lambda _, told=told: told)
        conversion.hear(SimpleNamespace(key_frame=key, rotation=rotation))  # type: ignore[arg-type]
        found.append(conversion._orientation.turn)
    assert found == [0, 270, 270, 270, 270, 270, 0, 0]


def test_picture_that_is_mirrored_and_not_turned_is_noticed_between_key_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyAV tells cheaply of turns alone, so pictures are not all looked at."""
    conversion = Conversion(Presentation())
    found = []
    for number in range(60):
        told = Orientation(mirrored=True, turn=180) if number > 10 else AS_IT_IS
        monkeypatch.setattr("framesrv.codec.conversion.orientation_of", lambda _, told=told: told)
        conversion.hear(SimpleNamespace(key_frame=not number, rotation=0))  # type: ignore[arg-type]
        found.append(conversion._orientation.mirrored)
    assert found.index(True) - 10 <= 26


@pytest.mark.parametrize(("rotate", "turn"), [("auto", 270), (0, 0), (180, 180)])
def test_picture_is_turned_as_the_stream_says_unless_configured(
    rotate: Any, turn: int, tmp_path: Path, prefix: str
) -> None:
    path = turned_in_the_stream(video(tmp_path / "video", "h264", "yuv420p", 640, 360, options={}), "rotate=90")
    with camera(path, tmp_path) as url, newest(url, tmp_path, prefix, rotate=rotate) as frame:
        assert frame.rotated == turn
        assert names(frame.bgr()) == TURNED[turn]


def test_picture_is_turned_as_the_file_says(tmp_path: Path, prefix: str) -> None:
    path = turned_in_the_file(video(tmp_path / "video", "h264", "yuv420p", 640, 360, options={}))
    with newest(path, tmp_path, prefix) as frame:
        assert (frame.width, frame.height, frame.rotated) == (360, 640, 90)
        assert names(frame.bgr()) == TURNED[90]


@pytest.mark.parametrize(
    ("how", "turn", "shown"),
    [
        ("flip=horizontal", 0, ["green", "blue", "grey", "red"]),
        ("flip=vertical", 180, ["red", "grey", "blue", "green"]),
        ("flip=horizontal:rotate=90", 270, ["blue", "red", "green", "grey"]),
        ("flip=vertical:rotate=90", 90, ["grey", "green", "red", "blue"]),
    ],
)
def test_picture_is_mirrored_as_the_stream_says(
    how: str, turn: int, shown: list[str], tmp_path: Path, prefix: str
) -> None:
    """It was turned alone: what was to be read from behind, and upside down where the matrix tells of no turn."""
    path = turned_in_the_stream(video(tmp_path / "video", "h264", "yuv420p", 640, 360, options={}), how)
    with camera(path, tmp_path) as url, newest(url, tmp_path, prefix) as frame:
        assert frame.rotated == turn
        assert names(frame.bgr()) == shown


def test_picture_is_mirrored_as_the_file_says_unless_its_turn_is_configured(tmp_path: Path, prefix: str) -> None:
    path = turned_in_the_file(video(tmp_path / "video", "h264", "yuv420p", 640, 360, options={}), -1, 0, 0, 1)
    with newest(path, tmp_path, prefix) as frame:
        assert names(frame.bgr()) == ["green", "blue", "grey", "red"]
    with newest(path, tmp_path, prefix, rotate=0) as frame:
        assert names(frame.bgr()) == UPRIGHT


@pytest.mark.parametrize("told", [bytes(36), struct.pack("=9i", 1, 0, 0, 0, 1, 0, 0, 0, 1), b"short"])
def test_matrix_that_shows_nothing_is_passed_over(told: bytes) -> None:
    assert orientation(told) == AS_IT_IS


def test_frame_that_was_asked_how_to_be_turned_is_gone_when_nobody_has_it() -> None:
    """It was kept until garbage was collected, with 130 others: 400 MB, and memory made anew for each picture."""
    gc.disable()
    try:
        for _ in range(20):
            assert orientation_of(av.VideoFrame(64, 64, "yuv420p")) == AS_IT_IS
        left = sum(isinstance(one, av.VideoFrame) and one.width == 64 for one in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 1


def test_camera_on_demand_has_its_size_before_and_after_it_is_looked_at(tmp_path: Path, prefix: str) -> None:
    path = video(tmp_path / "video", "h264", "yuv420p", 640, 360, options={})
    with camera(path, tmp_path) as url, decoder(tmp_path, prefix, url, decode="demand", rotate=90) as program:
        before = wait_live(prefix)
        assert (before.width, before.height) == (360, 640)
        with FrameReader("cam", prefix=prefix) as reader:
            with reader.latest(max_age=0, timeout=20) as frame:
                assert names(frame.bgr()) == TURNED[90]
            wait_for(lambda: camera_status(prefix, "cam").fps == 0, "nothing is decoded any more")
            with reader.latest(max_age=None) as frame:
                assert (frame.width, frame.height) == (360, 640)  # the segment was not made anew
        assert program.stop() == 0


@pytest.mark.parametrize("rotate", [90, 180, 270])
@pytest.mark.parametrize("size", [(321, 243), (322, 241), (1, 1)])
def test_odd_sizes_are_turned_with_their_colours(rotate: Any, size: tuple[int, int]) -> None:
    width, height = size
    luma = np.arange(width * height, dtype=np.uint8).reshape(height, width)
    rows, columns = -(-height // 2), -(-width // 2)
    chroma = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    frame = SourceFrame((luma, chroma, chroma), width, height, "yuv420p", Stamp.now(height))
    turned = Shape(Presentation(rotate=rotate)).applied(frame)
    assert turned.planes[0].shape == (turned.height, turned.width)
    assert turned.planes[1].shape == (-(-turned.height // 2), -(-turned.width // 2))
    assert np.array_equal(turned.planes[1], np.rot90(chroma, -rotate // 90))
