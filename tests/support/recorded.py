"""Cameras whose decoders keep the last seconds, for tests of what was shown then."""

import io
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from PIL import ExifTags, Image

from framesrv import SHM_DIRECTORY, History, HistoryUnavailableError
from tests.support.footage import footage, read_code
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp import RtspServer

SECONDS = 12.0  # that are kept
EXACT = 1e-5  # s to which a picture says when it was taken
WIDTH, HEIGHT, FPS, GROUP, FRAMES = 640, 360, 25, 25, 100
H264, HEVC, FORGETFUL = "cam01", "cam02", "cam03"  # the last one keeps nothing
CAMERAS = (H264, HEVC, FORGETFUL)


@cache
def video(code: str) -> Path:
    """What a camera sends, in a loop."""
    bframes = 2 if code == H264 else 0
    return footage("hevc" if code == HEVC else "h264", WIDTH, HEIGHT, FPS, FRAMES, GROUP, bframes=bframes)


class Recorded:
    """The cameras, and a decoder for each."""

    def __init__(self, place: Path, prefix: str) -> None:
        self.prefix = prefix
        self._place = place
        self._stack = ExitStack()
        self._decoders: list[Program] = []

    def __enter__(self) -> Self:
        server = self._stack.enter_context(RtspServer({code: video(code) for code in CAMERAS}, self._place))
        cameras: list[dict[str, Any]] = [
            {"code": code, "source": server.url(code), "decode": "demand", "history": SECONDS * (code != FORGETFUL)}
            for code in CAMERAS
        ]
        sections = {"shm": {"prefix": self.prefix}, "store": {"kind": "dir", "path": str(self._place / "store")}}
        config = write_config(self._place / "cameras.toml", sections, cameras)
        for code in CAMERAS:
            log = self._place / f"{code}.log"
            program = Program("framesrv", "decode", code, "--config", config, log=log)
            self._decoders.append(self._stack.enter_context(program))
        self.wait(3.6)
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            assert [program.stop() for program in self._decoders] == [0] * len(CAMERAS)
        assert list(Path(SHM_DIRECTORY).glob(f"{self.prefix}[.+]*")) == []

    def wait(self, seconds: float) -> None:
        """Until so many seconds are kept."""

        def is_kept(code: str) -> bool:
            try:
                with History(code, prefix=self.prefix) as history:
                    oldest, newest = history.span()
            except HistoryUnavailableError:
                return False
            return newest - oldest >= seconds

        wait_for(lambda: is_kept(H264) and is_kept(HEVC), f"{seconds:g} s that are kept")

    def shown_at(self, code: str, moment: float) -> float:
        """When the picture was captured that the camera showed at a moment."""
        return max(one for one in self._captured(code) if one <= moment)

    def key_at(self, code: str, moment: float) -> float:
        """The same of the last key frame until then."""
        return max(one for one in self._captured(code, keys=True) if one <= moment)

    def pictures_between(self, code: str, first: float, last: float) -> int:
        """How many pictures later one came than another; both by the times of their capture."""
        return sum(first + EXACT < one <= last + EXACT for one in self._captured(code))

    def _captured(self, code: str, *, keys: bool = False) -> list[float]:
        """Of all pictures that are kept, but perhaps those that are about to go."""
        with History(code, prefix=self.prefix) as history:
            oldest, _ = history.span()
            return [packet.captured_at for packet in history.packets(oldest + 0.5) if packet.key or not keys]


def taken_at(jpeg: bytes) -> float:
    """When a picture says that it was taken, in Unix seconds."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        exif = picture.getexif().get_ifd(ExifTags.IFD.Exif)
    parts = (exif[ExifTags.Base[f"{name}Original"]] for name in ("DateTime", "SubsecTime", "OffsetTime"))
    return datetime.strptime("{}.{} {}".format(*parts), "%Y:%m:%d %H:%M:%S.%f %z").timestamp()


@dataclass(frozen=True)
class Shown:
    """What a clip shows: which pictures of the camera's video, and when, in seconds from its begin."""

    indices: list[int]
    times: list[float]


@cache
def originals(code: str) -> list[Any]:
    """The pictures of a camera's video."""
    with av.open(str(video(code)), "r") as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def play(content: bytes, code: str) -> Shown:
    """What FFmpeg shows of a clip, each picture to the letter what the camera's video has."""
    with av.open(io.BytesIO(content), "r") as container:
        (stream,) = container.streams.video
        assert stream.codec_context.codec_tag == ("hvc1" if code == HEVC else "avc1")
        assert stream.start_time == 0
        frames = list(container.decode(stream))
    assert 0 < content.find(b"moov") < content.find(b"mdat")  # fast start
    indices = []
    for frame in frames:
        picture = frame.to_ndarray()
        found = read_code(picture[:HEIGHT])
        assert found is not None
        indices.append(found[1])
        assert np.array_equal(picture, originals(code)[found[1]])
    return Shown(indices, [float(frame.time or 0) for frame in frames])


def index_of(bgr: Any) -> int:
    """Which picture of the video it is."""
    found = read_code(bgr)
    assert found is not None
    return found[1]
