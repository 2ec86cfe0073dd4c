"""``framesrv decode``, ``up``, ``ls`` and ``check`` as real processes, with real signals."""

import contextlib
import io
import json
import os
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from framesrv import CameraStatus, FrameReader, FrameUnavailableError, camera_status, cli
from tests.conftest import SHM
from tests.process.test_notify import transport_stream
from tests.support.footage import footage, read_code
from tests.support.held_up import HeldUp
from tests.support.processes import Program, alive, descendants, run, wait_for, write_config
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.users import ALICE, BOB, as_user, needs_root

PICTURE = "test:320x240@25"


def configure(tmp_path: Path, prefix: str, cameras: list[dict[str, Any]], **sections: Any) -> Path:
    store = {"store": {"kind": "dir", "path": str(tmp_path / "store")}, "http": {"listen": ""}}
    return write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}, **store, **sections}, cameras)


def decoder(tmp_path: Path, prefix: str, source: str | Path, code: str = "cam", **keys: Any) -> Program:
    config = configure(tmp_path, prefix, [{"code": code, "source": str(source), **keys}])
    return Program("framesrv", "decode", code, "--config", config, log=tmp_path / f"{code}.log")


def wait_live(prefix: str, code: str = "cam", state: str = "live") -> CameraStatus:
    def is_there() -> CameraStatus | None:
        status = camera_status(prefix, code)
        return status if status.state == state else None

    status: CameraStatus = wait_for(is_there, f"{code} is {state}")
    return status


def test_sigterm_ends_a_decoder_within_two_seconds_and_removes_the_segment(
    tmp_path: Path, prefix: str, held_up: HeldUp
) -> None:
    with decoder(tmp_path, prefix, PICTURE) as program:
        wait_live(prefix)
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 2 + held_up.since(began)
        assert camera_status(prefix, "cam").state == "down"
        assert not (SHM / f"{prefix}.cam").exists()


@pytest.mark.parametrize("mode", ["stall", "silent"])
def test_sigterm_ends_a_decoder_that_hangs_in_its_source(
    mode: Any, tmp_path: Path, prefix: str, held_up: HeldUp
) -> None:
    with RtspServer({"cam": footage(width=320, height=240, frames=50)}, tmp_path) as server:
        with decoder(tmp_path, prefix, server.url("cam"), timeout=60.0) as program:
            wait_live(prefix)
            server.fault(mode)
            wait_live(prefix, state="stalled")
            began = time.monotonic()
            assert program.stop() == 0
            assert time.monotonic() - began < 2 + held_up.since(began)
        assert not (SHM / f"{prefix}.cam").exists()


def test_decoder_whose_segment_is_removed_makes_it_anew_and_says_so(tmp_path: Path, prefix: str) -> None:
    path = SHM / f"{prefix}.cam"
    harms: list[Callable[[], object]] = [path.unlink, partial(os.truncate, path, 4096)]
    with decoder(tmp_path, prefix, PICTURE) as program:
        before = wait_live(prefix)
        with FrameReader("cam", prefix=prefix) as reader:
            for do_harm in harms:
                frames = reader.frames(timeout=5)
                next(frames)
                number = path.stat().st_ino
                do_harm()
                wait_for(lambda: path.exists() and path.stat().st_ino != number, "there is another segment")  # noqa: B023
                assert wait_live(prefix).frames > before.frames
                reader.latest(max_age=0, timeout=5).release()
        assert "was removed and is made anew" in program.output
        assert "was cut short and is made anew" in program.output
        assert program.stop() == 0
    assert not path.exists()


@needs_root
def test_decoder_whose_segments_name_is_a_strangers_ends_with_73(tmp_path: Path, prefix: str) -> None:
    path = SHM / f"{prefix}.cam"
    as_user(BOB, lambda: path.write_bytes(b"mine"))
    config = configure(tmp_path, prefix, [{"code": "cam", "source": PICTURE}])
    config.chmod(0o644)
    given = os.open(config, os.O_RDONLY)  # its directory is not for others to enter

    def decode() -> tuple[int, str]:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                cli.main(["decode", "cam", "--config", f"/proc/self/fd/{given}"])
            except SystemExit as end:
                return int(end.code or 0), said.getvalue()
        return 0, ""

    try:
        status, said = as_user(ALICE, decode)
        assert status == 73
        assert f"belongs to {BOB}, and only root can take it away" in said
        assert "sudo framesrv units sweep" in said
    finally:
        os.close(given)
        path.unlink()


def test_second_decoder_for_a_camera_is_refused_and_the_first_goes_on(tmp_path: Path, prefix: str) -> None:
    with decoder(tmp_path, prefix, PICTURE) as program:
        status = wait_live(prefix)
        second = run("framesrv", "decode", "cam", "--config", tmp_path / "framesrv.toml")
        assert second.returncode == 1
        assert f"already has a live writer (pid {program.pid})" in second.stderr
        assert "Traceback" not in second.stderr
        wait_for(lambda: camera_status(prefix, "cam").seq > status.seq + 5, "the first goes on")
        assert camera_status(prefix, "cam").pid == program.pid
        program.stop()


@pytest.mark.parametrize(
    ("code", "words"),
    [("nobody", "camera nobody is not in .*; configured: cam"), ("cam", "expected test:WIDTHxHEIGHT@FPS")],
)
def test_unknown_camera_or_impossible_source_is_refused(code: str, words: str, tmp_path: Path, prefix: str) -> None:
    config = configure(tmp_path, prefix, [{"code": "cam", "source": "test:nonsense"}])
    done = run("framesrv", "decode", code, "--config", config)
    assert done.returncode == 2
    assert re.search(words, done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_decoder_outlives_its_camera_and_comes_back(tmp_path: Path, prefix: str) -> None:
    with (
        RtspServer({"cam": footage(width=320, height=240, frames=50, number=8)}, tmp_path) as server,
        decoder(tmp_path, prefix, server.url("cam"), timeout=2.0) as program,
    ):
        first = wait_live(prefix)
        server.stop()
        lost = wait_live(prefix, state="connecting")
        assert lost.reconnects == 1
        wait_for(lambda: "refused" in camera_status(prefix, "cam").error, "the reason is told")
        with FrameReader("cam", prefix=prefix) as reader:
            with pytest.raises(FrameUnavailableError, match="refused") as caught:
                reader.latest(max_age=0.001, timeout=0.1)
            assert caught.value.reason == "connecting"
            server.start()
            frames = reader.frames(timeout=20)
            frame = next(frames)
            assert frame.seq > first.seq
            assert read_code(frame.planes[0]) is not None
        assert program.pid == camera_status(prefix, "cam").pid
        program.stop()


def test_decoder_that_was_killed_leaves_its_last_frame_to_the_next(tmp_path: Path, prefix: str) -> None:
    with decoder(tmp_path, prefix, PICTURE) as first:
        wait_live(prefix)
        first.stop(signal.SIGKILL)
        before = camera_status(prefix, "cam")
        assert before.state == "down"
    with FrameReader("cam", prefix=prefix) as reader, decoder(tmp_path, prefix, PICTURE) as second:
        assert next(reader.frames(timeout=20)).seq > before.seq
        second.stop()


def test_readers_go_on_across_a_resolution_change(tmp_path: Path, prefix: str) -> None:
    files = [footage(width=640, height=360, frames=50), footage(width=320, height=240, frames=50)]
    with (
        RtspServer({"cam": files}, tmp_path) as server,
        decoder(tmp_path, prefix, server.url("cam")) as program,
        FrameReader("cam", prefix=prefix) as reader,
    ):
        wait_live(prefix)
        last, widths = 0, []
        for frame in reader.frames(timeout=10):
            assert frame.seq > last
            last = frame.seq
            widths.append(frame.width)
            if len(widths) == 10:
                server.fault("switch")
            if frame.width == 320 and widths.count(320) > 10:
                break
        assert widths[0] == 640
        program.stop()


def test_decoder_imports_cv2_only_for_an_opencv_source(tmp_path: Path, prefix: str) -> None:
    video = footage(width=320, height=240, frames=50)
    for source, expected in ((str(video), False), (f"opencv:{video}", True)):
        with decoder(tmp_path, prefix, source) as program:
            wait_live(prefix)
            assert ("cv2" in Path(f"/proc/{program.pid}/maps").read_text()) is expected
            program.stop()


def test_log_masks_the_password_of_a_source(tmp_path: Path, prefix: str) -> None:
    with decoder(tmp_path, prefix, "rtsp://user:hunter2@127.0.0.1:1/cam") as program:
        wait_for(lambda: "no stream" in program.output, "the loss is logged")
        program.stop()
        assert "hunter2" not in program.output
        assert "rtsp://user:***@127.0.0.1:1/cam" in program.output
        assert "camera=cam" in program.output


def test_ls_shows_every_state(tmp_path: Path, prefix: str) -> None:
    cameras = [
        {"code": "live", "source": PICTURE, "decode": "fps:10"},
        {"code": "lost", "source": "rtsp://user:hunter2@127.0.0.1:1/x"},
        {"code": "down", "source": PICTURE},
    ]
    config = configure(tmp_path, prefix, cameras)
    with (
        Program("framesrv", "decode", "live", "--config", config, log=tmp_path / "live.log") as live,
        Program("framesrv", "decode", "lost", "--config", config, log=tmp_path / "lost.log") as lost,
    ):
        wait_live(prefix, "live")
        wait_for(lambda: camera_status(prefix, "lost").error, "the lost camera's reason")
        shown = {one["code"]: one for one in json.loads(run("framesrv", "ls", "--json", "--config", config).stdout)}
        table = run("framesrv", "ls", "--config", config)
        assert [one["state"] for one in shown.values()] == ["live", "connecting", "down"]
        assert " ".join(shown["live"]) == (
            "code state width height pixel_format decode fps seq age_s dropped corrupt reconnects readers_blocked "
            "pid cause attempts restarts transport frozen_s clock_ahead_s pinned history_s history_from"
        )
        assert (shown["live"]["pid"], shown["live"]["width"], shown["live"]["decode"]) == (live.pid, 320, "fps:10")
        assert shown["down"]["pid"] is None
        assert shown["down"]["age_s"] is None
        assert "refused" in table.stdout
        assert "hunter2" not in table.stdout
        assert "\x1b" not in table.stdout
        live.stop()
        lost.stop()


def test_check_says_what_is_wrong_and_shows_no_secret(tmp_path: Path, prefix: str) -> None:
    cameras = [{"code": "cam", "source": "rtsp://user:hunter2@192.0.2.1/x"}]
    redis = {"url": "redis://:hunter2@127.0.0.1:1/0"}
    config = configure(tmp_path, prefix, cameras, redis=redis, store={"kind": "cos", "secret_key": "hunter2"})
    done = run("framesrv", "check", "--config", config)
    assert done.returncode == 1
    assert re.search(r"WRONG +redis: nothing listens at 127.0.0.1:1: Connection refused", done.stdout)
    assert re.search(r"WRONG +store.*bucket", done.stdout)
    assert re.search(r"ok +shared memory: \d+ bytes needed for 1 cameras", done.stdout)
    assert "hunter2" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("store/*"))


def test_check_is_content_with_a_host_in_order(tmp_path: Path, prefix: str) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        config = configure(tmp_path, prefix, [{"code": "cam", "source": PICTURE}], redis={"url": redis.url})
        done = run("framesrv", "check", "--json", "--config", config)
        findings = json.loads(done.stdout)
        assert done.returncode == 0, done.stdout
        assert {"configuration", "shared memory", "redis"} <= {finding["name"] for finding in findings}
        assert all(finding["ok"] for finding in findings)


CODES = ("cam0", "-cam1", "--help")  # codes may begin with what options begin with


def up(tmp_path: Path, prefix: str, redis: RedisServer) -> Program:
    cameras = [{"code": code, "source": PICTURE} for code in CODES]
    config = configure(tmp_path, prefix, cameras, redis={"url": redis.url})
    return Program("framesrv", "up", "--config", config, log=tmp_path / "up.log")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_ends_everything_also_a_child_that_hangs(number: int, tmp_path: Path, prefix: str) -> None:
    with RedisServer(tmp_path / "redis") as redis, up(tmp_path, prefix, redis) as program:
        for code in CODES:
            wait_live(prefix, code)
        below = descendants(program.pid)
        assert len(below) >= 4
        os.kill(camera_status(prefix, CODES[1]).pid or 0, signal.SIGSTOP)
        assert program.stop(number) == 0
        assert not [pid for pid in below if alive(pid)]
        assert not list(SHM.glob(f"{prefix}.*"))


def test_up_starts_a_child_again_that_died_and_leaves_the_others_alone(tmp_path: Path, prefix: str) -> None:
    with RedisServer(tmp_path / "redis") as redis, up(tmp_path, prefix, redis) as program:
        pids = [wait_live(prefix, code).pid for code in CODES]
        os.kill(pids[1] or 0, signal.SIGKILL)
        wait_for(lambda: camera_status(prefix, CODES[1]).pid not in (pids[1], None), "it runs again")
        wait_live(prefix, CODES[1])
        assert [camera_status(prefix, code).pid for code in (CODES[0], CODES[2])] == [pids[0], pids[2]]
        assert f"child died child={CODES[1]} status=-9" in program.output
        program.stop()


def test_decoders_that_hang_in_their_source_are_started_again_and_no_others(tmp_path: Path, prefix: str) -> None:
    """A named pipe whose writer is silent holds its decoding thread, whatever the time-outs.

    Under `up` one of a camera with one stream hung for ever, as no service manager's watchdog was there.
    """
    pipes = [tmp_path / "camera.ts", tmp_path / "substream.ts"]
    for pipe in pipes:
        os.mkfifo(pipe)
    hung: list[dict[str, Any]] = [
        {"code": "hung", "source": str(pipes[0]), "timeout": 0.5},
        {"code": "cam", "source": PICTURE, "substream": str(pipes[1]), "timeout": 0.5},
    ]
    stream = transport_stream(footage(width=320, height=240, frames=100))
    with contextlib.ExitStack() as things:
        redis = things.enter_context(RedisServer(tmp_path / "redis"))
        config = configure(tmp_path, prefix, hung, redis={"url": redis.url})
        program = things.enter_context(Program("framesrv", "up", "--config", config, log=tmp_path / "up.log"))
        for pipe in pipes:
            camera_end = things.enter_context(pipe.open("wb"))
            camera_end.write(stream)
            camera_end.flush()
        wait_live(prefix, "hung")
        wait_live(prefix, "cam.sub")
        other = wait_live(prefix, "cam")
        both = ("hung", "cam.sub")
        wait_for(lambda: all(camera_status(prefix, code).restarts for code in both), "they are started again")
        assert program.output.count("it ends, to be started again") == 2
        assert "child died child=hung status=1" in program.output
        assert camera_status(prefix, "cam").pid == other.pid
        program.stop()


def test_up_that_is_killed_leaves_no_process(tmp_path: Path, prefix: str) -> None:
    with RedisServer(tmp_path / "redis") as redis, up(tmp_path, prefix, redis) as program:
        for code in CODES:
            wait_live(prefix, code)
        below = descendants(program.pid)
        program.stop(signal.SIGKILL)
        wait_for(lambda: not [pid for pid in below if alive(pid)], "all children end")
        assert not list(SHM.glob(f"{prefix}.*"))
