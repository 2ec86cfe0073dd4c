"""Cameras that repeat one picture, and scenes that only stand still."""

import json
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner

from framesrv import FrameReader, FrameWriter, Stamp, camera_status, settings
from framesrv.camera.decoder import Decoder
from framesrv.camera.frozen import Frozen
from framesrv.camera.sources import Facts, Sink, SourceFrame
from framesrv.cli import main
from framesrv.codec.arrival import Arrival
from framesrv.codec.conversion import Conversion
from framesrv.codec.presentation import Presentation
from framesrv.process.notify import Notifier
from framesrv.process.signals import Signals
from tests.support.processes import write_config

SECOND = 1_000_000_000
SIZE = (320, 240)
SCENE = (
    np.random.default_rng(1).integers(40, 200, (SIZE[1] // 8, SIZE[0] // 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
)


def recording(path: Path, pictures: int, *, noise: float, gop: int = 5, fps: int = 1, codec: str = "libx264") -> Path:
    """A scene that stands still, with the noise of a sensor."""
    random = np.random.default_rng(2)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = SIZE
        stream.gop_size, stream.time_base = gop, Fraction(1, fps)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(pictures):
            luma = np.clip(SCENE + random.normal(0, noise, SCENE.shape), 16, 235).astype(np.uint8)
            yuv = np.concatenate([luma, np.full((SIZE[1] // 2, SIZE[0]), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(yuv, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path, start: int = SECOND) -> Iterator[SourceFrame]:
    """Its pictures, one a second, as of a camera."""
    conversion = Conversion(Presentation())
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(container.streams.video[0])):
            yield conversion.source_frame(frame, Arrival(start + index * SECOND, 0))


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_picture_that_stands_still_is_frozen_after_two_minutes_and_not_before(tmp_path: Path, codec: str) -> None:
    path = recording(tmp_path / "still.mkv", 200, noise=0, codec=codec)
    look = Frozen()
    began = next(index for index, frame in enumerate(decoded(path)) if look.look(frame))
    assert 120 <= began < 180
    assert 0 < look.since < 60 * SECOND


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_scene_that_stands_still_before_a_sensor_is_not_frozen(tmp_path: Path, noise: float) -> None:
    look = Frozen()
    assert not any(look.look(frame) for frame in decoded(recording(tmp_path / "noisy.mkv", 200, noise=noise)))
    assert look.since == 0


def looked_at(values: Iterable[int], group: int) -> Frozen:
    """Pictures of these values, one every two seconds; every `group`th is a key frame."""
    look = Frozen()
    for index, value in enumerate(values):
        planes = (np.full((64, 64), value, np.uint8),)
        stamp = Stamp.now(64, key_frame=index % group == 0)._replace(arrived_ns=(1 + 2 * index) * SECOND)
        look.look(SourceFrame(planes, 64, 64, "yuv420p", stamp))
    return look


def test_codec_that_refines_a_picture_from_key_frame_to_key_frame_does_not_hide_that_it_is_frozen() -> None:
    refined = [index % 7 for index in range(100)]  # key frames are those of 0
    assert looked_at(refined, 7).since == SECOND
    assert looked_at([index // 14 + index % 7 for index in range(100)], 7).since == 0


def test_picture_that_is_repeated_for_one_long_group_is_not_frozen() -> None:
    """As smart codecs do where nothing moves."""
    assert looked_at([index // 40 for index in range(200)], 40).since == 0


class Camera:
    """A decoder in this process whose source gives pictures made here, one every two seconds of their own clock."""

    def __init__(self, prefix: str, writer: FrameWriter, pictures: Iterable[SourceFrame]) -> None:
        camera = settings.Camera(code="cam", source="test:2x2@1")
        self._pictures = pictures
        self._decoder = Decoder(camera, prefix, self, writer, Notifier({}))

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        yield from self._pictures

    def facts(self) -> Facts:
        return Facts()

    def play(self) -> None:
        self._decoder._play(Signals())


def pictures(seconds: int, until: int, *, moving: bool) -> Iterator[SourceFrame]:
    """Of so many seconds until that moment, by the monotonic clock."""
    for second in range(0, seconds, 2):
        planes = tuple(
            np.full(shape, 80 + second % 100 * moving, np.uint8) for shape in ((64, 64), (32, 32), (32, 32))
        )
        arrived = until - (seconds - second) * SECOND
        stamp = Stamp.now(64, key_frame=True)._replace(arrived_ns=arrived)
        yield SourceFrame(planes, 64, 64, "yuv420p", stamp)


def test_frozen_camera_is_live_is_said_to_be_frozen_and_gives_its_picture(
    prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, [])
    words = "frozen: the same picture for 5 min"

    def listed(*options: str) -> str:
        writer.active()  # in this process: another might begin so late that nothing has come for long
        return CliRunner().invoke(main, ["ls", "--config", str(config), *options]).stdout

    with FrameWriter("cam", 0, 0, "yuv420p", prefix=prefix) as writer:
        Camera(prefix, writer, pictures(300, time.monotonic_ns(), moving=False)).play()
        writer.active()
        status = camera_status(prefix, "cam")
        assert (status.state, status.frozen_s, status.reason) == ("live", 298, words)
        assert [(row["state"], row["frozen_s"]) for row in json.loads(listed("--json"))] == [("live", 298)]
        assert listed().rstrip().endswith(words)
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert said == ["The camera has sent the same picture for 120 s: it may hang, start it anew"]
        with FrameReader("cam", prefix=prefix) as reader, reader.latest(max_age=600, timeout=1.0) as frame:
            assert frame.planes[0][0, 0] == 80


def test_camera_whose_picture_changes_again_is_frozen_no_longer(prefix: str) -> None:
    now = time.monotonic_ns()
    with FrameWriter("cam", 0, 0, "yuv420p", prefix=prefix) as writer:
        still, moving = pictures(200, now - 20 * SECOND, moving=False), pictures(20, now, moving=True)
        Camera(prefix, writer, chain(still, moving)).play()
        assert camera_status(prefix, "cam").frozen_s is None


def test_decoder_that_begins_anew_knows_nothing_of_it(prefix: str) -> None:
    picture = next(pictures(2, time.monotonic_ns(), moving=True))
    killed = FrameWriter("cam", 64, 64, "yuv420p", prefix=prefix)
    killed.frozen(1)
    killed.write(picture.planes)
    assert camera_status(prefix, "cam").frozen_s is not None
    killed._segment.close()  # without an end of its own
    with FrameWriter("cam", 64, 64, "yuv420p", prefix=prefix) as writer:
        writer.write(picture.planes)
        assert camera_status(prefix, "cam").frozen_s is None
