"""The commands of snapd, run as processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import simplejpeg

from tests.support.edge import STREAM, Edge, Running, wait_until, write_config
from tests.support.rtsp import die_with_parent


@pytest.fixture
def config(edge: Edge, tmp_path: Path) -> Path:
    return write_config(edge, tmp_path / "framesrv.toml")


def snapd(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "snapd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=timeout, check=False)


def start_worker(edge: Edge, config: Path, *python: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, *(python or ("-m", "snapd")), "run", "--config", str(config), "-v"],
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    wait_until(lambda: edge.redis.exists(STREAM))
    return process


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> str:
    process.send_signal(number)
    log = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0, log
    return log


def reading(edge: Edge) -> bool:
    """Whether somebody waits for new requests."""
    return any("b" in client["flags"] for client in edge.redis.client_list())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_requests_in_hand_finish(edge: Edge, config: Path, number: signal.Signals) -> None:
    edge.camera("cam01")
    process = start_worker(edge, config)
    edge.wvp.delay = 1.0
    edge.send(*(edge.fields() for _ in range(3)))
    wait_until(lambda: edge.wvp.requests["POST"] == 3)
    log = end(process, number)
    assert [result.status for result in edge.wvp.results] == ["ok"] * 3
    assert edge.pending == 0
    assert len(re.findall(r"request_id=\w+ camera=cam01 entry=\S+ Answered status=ok", log)) == 3
    for stage in ("queued_ms=", "waiting_ms=", "converting_ms=", "encoding_ms=", "uploading_ms=", "deliver_ms="):
        assert stage in log
    assert edge.cos.secret_key not in log
    assert "q-signature" not in log


def test_signal_ends_an_idle_worker_at_once(edge: Edge, config: Path) -> None:
    waits = "from snapd.requests import redis, stream; stream.BLOCK, redis.READ_TIMEOUT = 120.0, 240.0"
    process = start_worker(edge, config, "-c", f"{waits}; from snapd.cli import main; main()")
    wait_until(lambda: reading(edge))
    began = time.monotonic()
    end(process)
    assert time.monotonic() - began < 30  # its read would have lasted for four times as long


def test_request_that_comes_after_the_signal_waits_for_the_next_start(edge: Edge, config: Path) -> None:
    edge.camera("cam01")
    process = start_worker(edge, config)
    edge.wvp.delay = 1.0
    edge.send(edge.fields())
    wait_until(lambda: edge.wvp.requests["POST"] == 1 and reading(edge))
    process.terminate()
    wait_until(lambda: not reading(edge))
    edge.send(edge.fields())
    assert process.wait(60) == 0
    assert (len(edge.wvp.results), edge.pending) == (1, 1)
    process = start_worker(edge, config)
    edge.wvp.wait(2, 30)
    end(process)


def test_worker_without_its_settings_says_which(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "bad.toml", store={"bucket": "", "secret_key": ""})
    done = snapd("run", "--config", config)
    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.decode().splitlines()] == [
        "store.bucket",
        "store.secret_key",
    ]


def test_grab_saves_a_picture(edge: Edge, config: Path, tmp_path: Path) -> None:
    edge.camera("cam01", 640, 360)
    out = tmp_path / "out"
    out.mkdir()
    done = snapd("grab", "cam01", "-o", out / "a.jpg", "--config", config)
    assert done.returncode == 0, done.stderr
    assert simplejpeg.decode_jpeg_header((out / "a.jpg").read_bytes())[:4] == (360, 640, "YCbCr", "420")
    assert [file.name for file in out.iterdir()] == ["a.jpg"]


def test_grab_scales_and_writes_to_standard_output_without_a_configured_camera(edge: Edge, config: Path) -> None:
    edge.camera("extra", 640, 360, "bgr24")
    done = snapd("grab", "extra", "-o", "-", "--width", 320, "--quality", 50, "--config", config)
    assert simplejpeg.decode_jpeg_header(done.stdout)[:2] == (180, 320)


@pytest.mark.parametrize(("code", "status", "words"), [("down", 1, "down"), ("../a", 2, "CODE"), ("stale", 1, "old")])
def test_grab_that_gets_no_picture_says_why(
    edge: Edge, config: Path, tmp_path: Path, code: str, status: int, words: str
) -> None:
    edge.camera("stale")
    done = snapd("grab", code, "-o", tmp_path / "a.jpg", "--max-age", 0.001, "--config", config)
    assert (done.returncode, done.stdout) == (status, b"")
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not (tmp_path / "a.jpg").exists()


def test_grab_writes_to_a_device_and_leaves_it_one(edge: Edge, config: Path, tmp_path: Path) -> None:
    """It replaced it by a file: for root that was the end of /dev/null."""
    edge.camera("cam01")
    controller, terminal = os.openpty()
    try:
        device = tmp_path / "null"
        device.symlink_to(os.ttyname(terminal))
        assert snapd("grab", "cam01", "-o", device, "--width", 16, "--config", config).returncode == 0
        assert device.is_char_device()
        assert os.read(controller, 2)
    finally:
        os.close(terminal)
        os.close(controller)


def test_grab_into_no_directory_says_so(edge: Edge, config: Path, tmp_path: Path) -> None:
    edge.camera("cam01")
    done = snapd("grab", "cam01", "-o", tmp_path / "no/a.jpg", "--config", config)
    assert done.returncode == 1
    assert b"No such file" in done.stderr


def test_request_prints_its_result(edge: Edge, config: Path) -> None:
    edge.camera("cam01")
    with Running(edge.settings()):
        done = snapd("request", "cam01", "--json", "--config", config)
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)) == {"request_id", "camera_code", "status", "url"}
        done = snapd("request", "down", "--config", config)
        assert (done.returncode, done.stdout.decode()) == (1, "error 摄像头流未连接: down\n")
        done = snapd("request", "cam01", "--callback-url", edge.wvp.url, "--config", config)
        assert (done.returncode, done.stdout.decode()) == (0, f"the result went to {edge.wvp.url}\n")
        assert len(edge.wvp.results) == 1


def test_verbose_request_shows_where_the_time_went(edge: Edge, config: Path) -> None:
    edge.camera("cam01")
    edge.cos.delay = 0.2
    with Running(edge.settings()):
        done = snapd("request", "cam01", "--verbose", "--config", config)
        first, *stages, total = done.stdout.decode().splitlines()
        assert first.startswith("ok http")
        times = {line.split()[0]: float(line.split()[1]) for line in stages}
        assert list(times) == ["queued", "waiting", "converting", "encoding", "uploading", "callback"]
        assert times["uploading"] >= 200
        assert float(total.split()[1]) == pytest.approx(sum(times.values()), abs=0.5)
        done = snapd("request", "down", "-v", "--json", "--callback-url", edge.wvp.url, "--config", config)
        assert (done.returncode, done.stdout) == (0, b"")
        assert [line.split()[0] for line in done.stderr.decode().splitlines()] == [
            "the", "queued", "waiting", "callback", "total",
        ]  # fmt: skip


def test_verbose_request_that_is_answered_without_a_trace_says_so(edge: Edge, config: Path) -> None:
    edge.camera("cam01")
    rule: dict[str, Any] = {"enabled": True, "nopass": True, "commands": ["+@all"]}
    try:
        edge.redis.acl_setuser("default", keys=["snap:done:*", "snap:result:*", STREAM], reset_keys=True, **rule)
        edge.redis.acl_setuser("default", keys=["%R~snap:trace:*"], **rule)
        with Running(edge.settings()):
            done = snapd("request", "cam01", "--verbose", "--config", config)
    finally:
        edge.redis.acl_setuser("default", keys=["*"], **rule)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert b"where the time went was not told" in done.stderr


def test_request_that_nobody_answers_times_out(edge: Edge, config: Path) -> None:
    done = snapd("request", "cam01", "--timeout", 0.3, "--config", config)
    assert done.returncode == 1
    assert b"no result" in done.stderr


def test_request_without_redis_says_so(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "c.toml", redis={"url": "redis://u:secret@127.0.0.1:1/0"})
    done = snapd("request", "cam01", "--config", config)
    assert done.returncode == 1
    assert b"nothing listens at 127.0.0.1:1" in done.stderr
    assert b"secret" not in done.stderr


def test_check_finds_all_well(edge: Edge, config: Path, tmp_path: Path) -> None:
    done = snapd("check", "--json", "--config", config)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert [one["name"] for one in found] == [
        "encoder",
        "redis",
        "group",
        "rights",
        "store settings",
        "store",
        "pages",
    ]
    assert all(one["ok"] for one in found)
    config = write_config(edge, tmp_path / "dir.toml", store={"kind": "dir", "path": str(tmp_path / "pictures")})
    done = snapd("check", "--config", config)
    assert done.returncode == 0
    assert b"ok     store: " in done.stdout


@pytest.mark.parametrize(
    ("sections", "status", "wrong"),
    [
        ({"redis": {"url": "redis://u:hidden@127.0.0.1:1/0"}}, 1, ["redis"]),
        ({"store": {"secret_key": "hidden"}}, 1, ["store"]),
        ({"store": {"bucket": ""}}, 2, ["store settings"]),
        ({"store": {"kind": "dir", "path": "/proc/no"}}, 1, ["store"]),
        ({"http": {"listen": "0.0.0.0:8390"}}, 2, ["pages"]),
    ],
)
def test_check_names_what_is_wrong(
    edge: Edge, tmp_path: Path, sections: dict[str, Any], status: int, wrong: list[str]
) -> None:
    done = snapd("check", "--json", "--config", write_config(edge, tmp_path / "c.toml", **sections))
    assert done.returncode == status
    assert [one["name"] for one in json.loads(done.stdout) if not one["ok"]] == wrong
    assert b"hidden" not in done.stdout + done.stderr


def test_directory_store_serves_requests(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    with Running(edge.settings(store={"kind": "dir", "path": str(tmp_path), "base_url": "http://edge/p"})):
        result = edge.ask(cos_path="/a/b.jpg")
    assert result.url == "http://edge/p/a/b.jpg"
    assert simplejpeg.decode_jpeg_header((tmp_path / "a/b.jpg").read_bytes())[:2] == (240, 320)


@pytest.mark.parametrize("command", ["run", "grab", "request", "check", "queue", "dead"])
def test_help_has_an_example(command: str) -> None:
    done = snapd(command, "--help")
    assert b"\\b" not in done.stdout
    assert f"snapd {command}" in done.stdout.decode().split("Example:")[1]


def test_commands_do_not_load_what_they_do_not_need() -> None:
    script = "import sys, snapd.cli; print(sorted({'redis', 'qcloud_cos', 'requests', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
