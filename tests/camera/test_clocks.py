"""The camera's clock: believed while it is right, and named where somebody should set it."""

import time
from itertools import islice, pairwise
from pathlib import Path

import pytest

from framesrv import FrameReader, camera_status
from tests.camera.test_sources import pictures
from tests.support.footage import footage
from tests.support.processes import Program, run, wait_for, write_config
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts


def test_clock_that_is_years_behind_is_said_and_pictures_carry_the_time_of_arrival(
    tmp_path: Path, prefix: str
) -> None:
    with RtspServer({"cam": footage(width=320, height=240)}, tmp_path, rtcp="past") as server:
        cameras = [{"code": "cam", "source": server.url("cam")}]
        config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, cameras)
        with (
            Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "decode.log") as program,
            FrameReader("cam", prefix=prefix) as reader,
        ):
            wait_for(
                lambda: camera_status(prefix, "cam").seq and camera_status(prefix, "cam").clock_ahead_s, "both", 20
            )
            status = camera_status(prefix, "cam")
            assert status.clock_ahead_s == pytest.approx(-10 * 365 * 86_400, abs=5)
            assert status.state == "live"
            assert status.reason == "its clock is 10 years slow"
            assert "its clock is 10 years slow" in run("framesrv", "ls", "--config", config).stdout
            with reader.latest(max_age=1.0, timeout=5.0) as frame:
                assert abs(frame.captured_at - time.time()) < 5
                assert frame.stamp.clock == "arrival"
            wait_for(lambda: "The camera's clock is 10 years slow: set it" in program.output, "the log says it")
            assert program.stop() == 0


def test_clock_that_jumps_in_mid_stream_moves_no_picture_by_more_than_it_may_be_wrong(tmp_path: Path) -> None:
    sink = Counts()
    with RtspServer({"cam": footage(width=640, height=360)}, tmp_path, rtcp="jump") as server:
        playing = pictures(server.url("cam"), sink)
        stamps = [picture.stamp for picture in islice(playing, 125)]
    assert {"camera", "arrival"} <= {stamp.clock for stamp in stamps}
    steps = [after.captured_ns - before.captured_ns for before, after in pairwise(stamps)]
    assert all(abs(step) < 2e9 for step in steps)
    assert sink.ahead is not None
    assert sink.ahead < -3e8
