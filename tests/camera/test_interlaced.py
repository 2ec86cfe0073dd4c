"""Interlaced cameras: no combs where something moves, all lines where nothing does, and no picture later for it."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from framesrv import FrameReader
from framesrv.segment.layout import Pixels
from tests.camera.test_decoder import decoder
from tests.camera.test_sources import gray, pictures
from tests.support.footage import draw_code, read_code
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts

STEP = 30  # brightness by which a line must differ from both its neighbours, the same way, to be one of a comb


def video(path: Path, width: int, height: int, fields: str = "tff=1", frames: int = 50) -> Path:
    """A bar that moves from field to field, below it lines that stand still."""
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "tune": "zerolatency", "crf": "12", "x264-params": fields}
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 10
        stream.time_base = Fraction(1, 25)
        for index in range(frames):
            luma = np.full((height, width), 60, np.uint8)
            for field in (0, 1):
                at = (2 * index + field) * 6 % (width - 100)
                luma[field : height // 2 : 2, at : at + 80] = 200
            luma[height * 3 // 4 :: 2] = 160
            draw_code(luma, 2, index, black=16, white=235)
            whole = np.concatenate([luma, np.full((height // 2, width), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(whole, "yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def combs(luma: Pixels) -> int:
    """Pixels of a comb, in the rows in which the bar moves."""
    rows = luma[luma.shape[0] // 6 : luma.shape[0] // 2 - 8].astype(int)
    above, below = rows[1:-1] - rows[:-2], rows[1:-1] - rows[2:]
    return int(((above * below > 0) & (np.minimum(abs(above), abs(below)) > STEP)).sum())


def still_lines(luma: Pixels) -> float:
    """By how much each line differs from the next where they stand still."""
    rows = luma[luma.shape[0] * 3 // 4 + 8 : -8].astype(int)
    return float(np.mean(abs(np.diff(rows, axis=0))))


@pytest.mark.parametrize("fields", ["tff=1", "bff=1"])
@pytest.mark.parametrize(("width", "height"), [(720, 576), (1920, 1080)])
@pytest.mark.parametrize("wanted", ["yuv420p", "bgr24"])
def test_interlaced_pictures_have_no_combs_and_come_in_time(
    fields: str, width: int, height: int, wanted: str, tmp_path: Path
) -> None:
    path = video(tmp_path / "video.mp4", width, height, fields)
    with RtspServer({"cam": path}, tmp_path) as server:
        playing = pictures(server.url("cam"), pixel_format=wanted)
        given = [(gray(one).copy(), one.stamp.pts) for one in itertools.islice(playing, 12)]
        codes = [read_code(luma) for luma, _ in given]
        raw = next(pictures(server.url("cam"), pixel_format=wanted, deinterlace="never"))
        assert combs(gray(raw)) > 1000
    first = codes[0]
    assert first is not None
    assert codes == [(2, first[1] + step) for step in range(12)]  # none is another's, none is left out
    assert [combs(luma) for luma, _ in given[1:]] == [0] * 11
    assert all(still_lines(luma) > 60 for luma, _ in given[1:])
    times = [pts for _, pts in given if pts is not None]
    assert all(abs(later - earlier - 40_000_000) < 2 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("policy", ["keyframes", "fps:3", "demand"])
def test_policies_that_leave_out_frames_show_no_combs_either(policy: str, tmp_path: Path) -> None:
    path = video(tmp_path / "video.mp4", 720, 576)
    counts = Counts()
    counts.demanded = True
    with RtspServer({"cam": path}, tmp_path) as server:
        given = [gray(one).copy() for one in itertools.islice(pictures(server.url("cam"), counts, decode=policy), 4)]
    assert [combs(luma) for luma in given[1:]] == [0] * 3


def test_first_picture_of_all_has_no_combs_either(tmp_path: Path) -> None:
    """A snapshot may be taken of it: a camera on demand, or one that was away."""
    path = video(tmp_path / "video.mp4", 720, 576)
    with RtspServer({"cam": path}, tmp_path) as server:
        assert combs(gray(next(pictures(server.url("cam"))))) == 0


def field_pictures(path: Path, width: int, height: int) -> Path:
    """H.265 whose pictures are fields, each with every second line of what moves and of lines that stand still."""
    with av.open(str(path), "w") as container:
        params = "log-level=none:interlace=tff:keyint=20:min-keyint=20"
        options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "12", "x265-params": params}
        stream: Any = container.add_stream("libx265", rate=50, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height // 2, "yuv420p", Fraction(1, 50)
        for index in range(60):
            luma = np.full((height // 2, width), 60, np.uint8)
            at = index * 6 % (width - 100)
            luma[height // 8 : height // 4, at : at + 80] = 200
            luma[height * 3 // 8 :: 2] = 160
            draw_code(luma, 2, index, black=16, white=235)
            whole = np.concatenate([luma, np.full((height // 4, width), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(whole, "yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_fields_of_h265_are_shown_one_by_one_with_their_proportions(tmp_path: Path, prefix: str) -> None:
    """Each was taken for a frame of two: every second of its lines was made anew; and shown at half its height."""
    path = field_pictures(tmp_path / "video.mp4", 720, 576)
    with RtspServer({"cam": path}, tmp_path) as server:
        given = [(gray(one).copy(), one.stamp) for one in itertools.islice(pictures(server.url("cam")), 12)]
        with decoder(tmp_path, prefix, server.url("cam")) as program, FrameReader("cam", prefix=prefix) as reader:
            with reader.latest(max_age=None, timeout=20) as frame:
                assert (frame.width, frame.height, frame.display_size) == (720, 288, (720, 576))
            assert program.stop() == 0
    codes = [read_code(luma) for luma, _ in given]
    first = codes[0]
    assert first is not None
    assert codes == [(2, first[1] + step) for step in range(12)]
    assert all(still_lines(luma) > 60 for luma, _ in given)
    assert {stamp.sample_aspect_ratio for _, stamp in given} == {Fraction(1, 2)}


def test_progressive_pictures_are_left_as_they_are(tmp_path: Path) -> None:
    path = video(tmp_path / "video.mp4", 720, 576, "keyint=10")
    auto = [gray(one).copy() for one in itertools.islice(pictures(path), 5)]
    never = [gray(one).copy() for one in itertools.islice(pictures(path, deinterlace="never"), 5)]
    assert all(np.array_equal(one, other) for one, other in zip(auto, never, strict=True))
    assert all(combs(one) > 1000 for one in auto)  # which are in the picture, for all we know
