"""``framesrv demo``: everything at once, and nothing left behind however it ends."""

import re
import signal
from pathlib import Path

import av
import pytest

from tests.conftest import SHM
from tests.support.footage import footage
from tests.support.processes import Program, alive, descendants, run, wait_for
from tests.support.rtsp import RtspServer

LINE = re.compile(r"^(demo\d)\s+([\d.]+) ms\s+(\d+) bytes\s+(\S+\.jpg)$", re.MULTILINE)


def segments() -> list[Path]:
    return list(SHM.glob("framesrv-demo-*"))


def test_demo_serves_a_picture_a_second_and_ends_by_itself(tmp_path: Path) -> None:
    done = run("framesrv", "demo", "--seconds", "3", "--output", tmp_path / "out", timeout=60)
    assert done.returncode == 0, done.stderr
    served = LINE.findall(done.stdout)
    assert len(served) == 3
    for code, _, size, path in served:
        assert code == "demo1"
        assert Path(path).stat().st_size == int(size)
        with av.open(path) as picture:
            frame = next(picture.decode(video=0))
            assert (frame.width, frame.height) == (1280, 720)
    assert re.search(r"^3 of 3 requests served, p50 [\d.]+ ms", done.stdout, re.MULTILINE)
    assert not segments()


def test_demo_takes_cameras_of_ones_own(tmp_path: Path) -> None:
    with RtspServer({"a": footage(width=640, height=360), "b": footage(width=320, height=240)}, tmp_path) as server:
        arguments = ["--source", server.url("a"), "--source", server.url("b"), "--seconds", "4"]
        done = run("framesrv", "demo", *arguments, "--output", tmp_path / "out", timeout=60)
    assert done.returncode == 0, done.stderr
    assert {code for code, *_ in LINE.findall(done.stdout)} == {"demo1", "demo2"}


def test_demo_without_a_reachable_camera_says_why_and_fails(tmp_path: Path) -> None:
    arguments = ["--source", "rtsp://user:hunter2@127.0.0.1:1/x", "--seconds", "2", "--output", str(tmp_path / "out")]
    done = run("framesrv", "demo", *arguments, timeout=90)
    assert done.returncode == 1
    assert "error: 摄像头流未连接: demo1" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_demo_leaves_nothing_behind_however_it_ends(number: int, tmp_path: Path) -> None:
    with Program("framesrv", "demo", "--output", tmp_path / "out", log=tmp_path / "demo.log") as program:
        wait_for(lambda: LINE.search(program.output), "a first picture")
        below = descendants(program.pid)
        assert len(below) >= 3
        status = program.stop(number)
        assert status == (-9 if number == signal.SIGKILL else 0)
        wait_for(lambda: not [pid for pid in below if alive(pid)], "all children end")
        assert not segments()
