"""From a frame to a JPEG, and who shares one."""

import subprocess
import sys

import numpy as np
import pytest
import simplejpeg

from framesrv import FrameWriter
from framesrv.settings import ShmSettings
from snapd.errors import EncoderError
from snapd.pictures.capture import Captures
from snapd.pictures.encoder import Encoder

PICTURE = """
import sys
from framesrv import FrameReader
from snapd.pictures.encoder import Encoder

encoder = Encoder("simplejpeg", 85)
loaded = set(sys.modules)
with FrameReader("cam", prefix=sys.argv[1]) as camera:
    encoder.jpeg(camera.latest(max_age=60), "cam")
print({name for name in set(sys.modules) - loaded if name.partition(".")[0] in ("av", "numpy", "simplejpeg")})
"""


def test_first_picture_loads_no_library(prefix: str) -> None:
    with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as writer:
        writer.write([np.zeros((48, 64), np.uint8), *[np.zeros((24, 32), np.uint8)] * 2])
        ran = subprocess.run(
            [sys.executable, "-c", PICTURE, prefix], capture_output=True, text=True, timeout=60, check=True
        )
    assert ran.stdout.strip() == "set()"


def test_capture_that_has_begun_is_not_joined() -> None:
    captures = Captures(Encoder("simplejpeg", 85), shm=ShmSettings(prefix="nosuch"), max_age=1, wait=0)
    first = captures.join("cam01")
    assert captures.join("cam01") is first
    assert captures.join("cam02") is not first
    captures.close_to_others(first)
    second = captures.join("cam01")
    assert second is not first
    captures.close_to_others(first)
    assert captures.join("cam01") is second


def test_encoder_that_is_not_here_is_named() -> None:
    try:
        import turbojpeg

        turbojpeg.TurboJPEG()
    except (ImportError, RuntimeError, OSError):
        with pytest.raises(EncoderError, match="turbojpeg"):
            Encoder("turbojpeg", 85)
    else:
        jpeg = Encoder("turbojpeg", 85)._encode(np.zeros((48, 64, 3), np.uint8), 85)
        assert simplejpeg.decode_jpeg_header(jpeg)[:4] == (48, 64, "YCbCr", "420")
