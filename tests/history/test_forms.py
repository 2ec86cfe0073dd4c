"""The frame of a moment has the form that the camera's frames have, whatever its stream is like."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framesrv import FrameReader, History, HistoryUnavailableError, camera_status
from framesrv.codec.presentation import Presentation
from framesrv.history.writer import HistoryWriter
from tests.history.feed import feed
from tests.history.test_decoders import decoding, shown
from tests.support.footage import footage, read_code
from tests.support.processes import wait_for


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
@pytest.mark.parametrize("rotate", [None, 90, 180])
def test_frame_is_turned_and_told_as_it_is_configured(
    pixel_format: Any, rotate: int | None, kept: Callable[..., HistoryWriter], history: History, camera: FrameReader
) -> None:
    video = footage(width=320, height=240, frames=50, gop=25, number=3)
    presentation = Presentation(pixel_format, True, Fraction(16, 9), rotate)
    fed = feed(kept(), video, clock=True, presentation=presentation)
    last = history.packets(history.span()[0])[-10]
    with camera.at(last.captured_at) as frame:
        assert frame.pixel_format == pixel_format
        assert (frame.width, frame.height) == ((240, 320) if rotate == 90 else (320, 240))
        assert frame.rotated == (rotate or 0)
        assert frame.sample_aspect_ratio == (Fraction(3, 4) if rotate == 90 else Fraction(4, 3))
        assert frame.stamp.clock == "camera"
        upright = np.rot90(frame.bgr(), (rotate or 0) // 90)
        assert read_code(upright) == (3, fed.index(last.pts or 0))
        planes = frame.planes
    assert all(not plane.flags.writeable for plane in planes)  # and they stay


@pytest.mark.parametrize(("codec", "structure"), [("h264", "open"), ("h264", "refresh"), ("hevc", "open")])
def test_pictures_that_lead_a_key_frame_or_recover_slowly_are_given_or_said_to_be_none(
    codec: Any, structure: Any, kept: Callable[..., HistoryWriter], history: History, camera: FrameReader
) -> None:
    bframes = 2 if structure == "open" else 0
    video = footage(
        codec=codec, width=320, height=240, frames=100, gop=25, number=4, bframes=bframes, structure=structure
    )
    fed = feed(kept(), video, clock=True)
    packets = history.packets(history.span()[0])
    given = 0
    for packet in packets[5:-5:3]:
        try:
            frame = camera.at(packet.captured_at)
        except HistoryUnavailableError:
            continue
        with frame:
            given += 1
            assert read_code(frame.planes[0]) == (4, fed.index(packet.pts or 0))
    assert given >= len(packets[5:-5:3]) * (0.5 if structure == "refresh" else 1)


@pytest.mark.parametrize(("codec", "bframes"), [("h264", 2), ("hevc", 2), ("mjpeg", 0)])
def test_a_recording_whose_parameters_are_its_containers_has_a_history_as_well(
    codec: Any, bframes: int, tmp_path: Path, prefix: str
) -> None:
    video = footage(codec=codec, width=320, height=240, frames=100, gop=25, number=5, bframes=bframes)
    with (
        decoding(tmp_path, prefix, str(video), decode="all") as program,
        FrameReader("cam", prefix=prefix) as camera,
        History("cam", prefix=prefix) as history,
    ):
        wait_for(lambda: camera_status(prefix, "cam").state == "live", "it is played")
        seen = {}
        for frame in camera.frames(timeout=10):
            with frame:
                code = read_code(frame.bgr())
                assert code is not None
                seen[frame.captured_at] = code[1]
            if len(seen) == 20:
                break
        settled = sorted(seen.items())[10:]  # with pictures out of order it takes some to know their times
        for at, index in settled:
            assert shown(camera, at) == (index, at)
        newest = history.packets(history.span()[1])[-1]
        assert newest.parameters.codec == codec
        assert (newest.parameters.width, newest.parameters.height) == (320, 240)
        assert program.stop() == 0
