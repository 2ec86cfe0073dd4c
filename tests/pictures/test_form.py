"""A picture in the form that is wanted, and what it says of itself."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import ExifTags, Image

from framesrv import Frame, FrameReader, FrameWriter, Stamp, __version__
from framesrv.process import extras
from snapd.errors import CropError
from snapd.pictures import overlay
from snapd.pictures.encoder import Encoder
from snapd.pictures.exif import segment
from snapd.wire.form import Crop, Form

CAPTURED_NS = 1_795_900_000_012_345_678
CODE = "34020000001320000001"


@contextmanager
def frame(prefix: str, pixel_format: Any = "yuv420p", ratio: Fraction = Fraction(1)) -> Iterator[Frame]:
    """320x240 pixels in four fields of grey, captured at `CAPTURED_NS`."""
    luma: Any = np.kron(np.array([[40, 90], [140, 190]], np.uint8), np.ones((120, 160), np.uint8))
    chroma = np.full((120, 160), 128, np.uint8)
    planes = [luma, chroma, chroma] if pixel_format == "yuv420p" else [np.repeat(luma[..., None], 3, axis=2)]
    with FrameWriter("cam", 320, 240, pixel_format, prefix=prefix) as writer:
        stamp = Stamp.now(240)._replace(captured_ns=CAPTURED_NS, sample_aspect_ratio=ratio)
        writer.write(planes, stamp)
        with FrameReader("cam", prefix=prefix) as camera:
            yield camera.latest(max_age=None)


def decoded(jpeg: bytes) -> Any:
    return simplejpeg.decode_jpeg(jpeg, "BGR").astype(int)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
@pytest.mark.parametrize(
    ("form", "size"),
    [
        (Form(), (320, 240)),
        (Form(width=160), (160, 120)),
        (Form(width=5000), (320, 240)),
        (Form(crop=Crop.parse("160,120,160,120")), (160, 120)),
        (Form(crop=Crop.parse("0.5,0.5,0.5,0.5"), width=80), (80, 60)),
        (Form(crop=Crop.parse("161,121,3,119")), (3, 119)),
    ],
)
def test_picture_has_the_size_and_the_part_that_are_wanted(
    prefix: str, pixel_format: Any, form: Form, size: tuple[int, int]
) -> None:
    with frame(prefix, pixel_format) as one:
        picture = Encoder("simplejpeg", 95).jpeg(one, "cam", form)
    shown = decoded(picture.content)
    assert (picture.width, picture.height) == size == shown.shape[1::-1]
    last = 190 if pixel_format == "bgr24" else (190 - 16) * 255 / 219
    assert abs(shown[-2, -2].mean() - last) < 4
    assert (abs(shown.mean() - last) < 4) == (form.crop is not None)


def test_part_is_of_the_picture_as_it_is_shown(prefix: str) -> None:
    """Pixels twice as wide as high: the picture is 640x240, and its right half begins at 320."""
    with frame(prefix, ratio=Fraction(2)) as one:
        picture = Encoder("simplejpeg", 95).jpeg(one, "cam", Form(crop=Crop.parse("320,0,320,120")))
    assert (picture.width, picture.height) == (320, 120)
    assert abs(decoded(picture.content).mean() - (90 - 16) * 255 / 219) < 4
    with frame(prefix) as one, pytest.raises(CropError):
        Encoder("simplejpeg", 95).jpeg(one, "cam", Form(crop=Crop.parse("320,0,320,120")))


def test_quality_is_the_one_that_is_wanted(prefix: str) -> None:
    encoder = Encoder("simplejpeg", 90)
    with FrameWriter("cam", 320, 240, "bgr24", prefix=prefix) as writer:
        writer.write([np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)])
        with FrameReader("cam", prefix=prefix) as camera:
            sizes = [
                len(encoder.jpeg(camera.latest(max_age=None), "cam", Form(quality=quality)).content)
                for quality in (20, None, 100)
            ]
    assert sizes == sorted(set(sizes))


ZONES = [("UTC", "+00:00"), ("Asia/Shanghai", "+08:00"), ("America/St_Johns", "-03:30")]


@pytest.mark.parametrize(("zone", "offset"), ZONES)
def test_picture_says_when_it_was_taken_by_which_camera(
    prefix: str, monkeypatch: pytest.MonkeyPatch, zone: str, offset: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        with frame(prefix) as one:
            content = Encoder("simplejpeg", 85).jpeg(one, CODE).content
        with frame(prefix) as one:
            bare = Encoder("simplejpeg", 85, exif=False).jpeg(one, CODE).content
        local = time.strftime("%Y:%m:%d %H:%M:%S", time.localtime(CAPTURED_NS // 10**9))
    finally:
        monkeypatch.undo()
        time.tzset()
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        found = picture.getexif()
        own = {ExifTags.Base(tag).name: value for tag, value in found.items()}
        taken = {ExifTags.Base(tag).name: value for tag, value in found.get_ifd(ExifTags.IFD.Exif).items()}
    assert (own["ImageDescription"], own["Software"]) == (CODE, f"framesrv {__version__}")
    assert taken == {
        "ExifVersion": b"0232",
        "DateTimeOriginal": local,
        "OffsetTimeOriginal": offset,
        "SubsecTimeOriginal": "012345",
    }
    # What the encoder made is there as it was, behind the segment.
    length = int.from_bytes(content[4:6])
    assert content[:4] == b"\xff\xd8\xff\xe1"
    assert b"\xff\xd8" + content[4 + length :] == bare
    assert np.array_equal(decoded(content), decoded(bare))


@pytest.mark.parametrize("code", ["", "c", "cam", "c" * 64, "caméra"])
def test_segment_is_whole_whatever_the_code(code: str) -> None:
    """Short values stand in the directory itself, others behind it, each at an even place."""
    found = segment(code, CAPTURED_NS)
    assert found[:2] == b"\xff\xe1"
    assert int.from_bytes(found[2:4]) == len(found) - 2
    exif = Image.Exif()
    exif.load(found[4:])
    assert exif[ExifTags.Base.ImageDescription] == code.encode("ascii", "replace").decode()
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.SubsecTimeOriginal] == "012345"


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
@pytest.mark.parametrize("width", [None, 64])
def test_time_and_name_are_drawn_into_a_strip_of_the_picture(
    prefix: str, pixel_format: Any, width: int | None
) -> None:
    shown = {}
    for encoder, wanted in ((True, None), (False, True), (False, None), (True, False)):
        with frame(prefix, pixel_format) as one:
            form, shared = Form(width, overlay=wanted), one.planes[0]
            shown[encoder, wanted] = decoded(
                Encoder("simplejpeg", 95, overlay=encoder).jpeg(one, "cam", form).content
            )
            assert int(shared.max()) == 190  # shared memory is as it was
    plain, drawn = shown[False, None], shown[True, None]
    assert np.array_equal(drawn, shown[False, True])
    assert np.array_equal(plain, shown[True, False])
    rows = np.flatnonzero(np.abs(plain - drawn).max(axis=(1, 2)) > 60)
    assert rows.size
    assert rows[0] > 0.75 * plain.shape[0]
    assert rows[-1] > 0.95 * plain.shape[0]


def test_words_of_the_overlay_are_the_cameras_time_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        assert overlay.words("cam", CAPTURED_NS) == "2026-11-29 05:06:40.012 +08:00  cam"
    finally:
        monkeypatch.undo()
        time.tzset()


WITHOUT = """
import sys
sys.modules["PIL"] = None
from framesrv import FramesrvError
from snapd.pictures.encoder import Encoder
Encoder("simplejpeg", 85)
try:
    Encoder("simplejpeg", 85, overlay=True)
except FramesrvError as error:
    print(type(error).__name__, error)
"""


def test_overlay_without_its_library_is_refused_with_the_remedy() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.startswith("EncoderError time and name cannot be drawn: "), ran.stderr
    assert "pip install 'framesrv[overlay]'" in ran.stdout
    assert extras.EXTRAS["PIL"] == "overlay"
