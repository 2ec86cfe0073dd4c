"""snapd and its service manager: readiness, status, watchdog, and a configuration read again under load."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import simplejpeg

from tests.support.cos import CosServer
from tests.support.edge import STREAM, Edge, Fields, Running, wait_until, write_config
from tests.support.processes import ROOT, Program, wait_for
from tests.support.redis_server import RedisServer
from tests.support.rtsp import die_with_parent
from tests.support.service_manager import Manager
from tests.support.wvp import Callback, WvpServer

WATCHDOG = 1.0  # s, as WatchdogSec=


class Snapd:
    """A snapd with its configuration, and the manager that it tells of itself."""

    def __init__(self, edge: Edge, manager: Manager, program: Program, config: Path) -> None:
        self.edge, self.manager, self.program, self.config = edge, manager, program, config

    def reload(self, *more: str, **sections: dict[str, Any]) -> None:
        """Changes the file, and returns when it has been read again."""
        write_config(self.edge, self.config, *more, **sections)
        self.hang_up()

    def hang_up(self) -> None:
        ready = self.manager.count("READY")
        self.program.process.send_signal(signal.SIGHUP)
        self.manager.wait("READY", ready + 1)


@contextmanager
def running(edge: Edge, place: Path, watchdog: float | None = WATCHDOG, **sections: Any) -> Iterator[Snapd]:
    config = write_config(edge, place / "framesrv.toml", **sections)
    with (
        Manager(place / "notify", watchdog) as manager,
        Program(
            "snapd", "run", "-v", "--config", config, log=place / "snapd.log", environment=manager.environment
        ) as program,
    ):
        yield Snapd(edge, manager, program, config)


@pytest.fixture
def snapd(edge: Edge, tmp_path: Path) -> Iterator[Snapd]:
    with running(edge, tmp_path) as started:
        started.manager.wait_status(lambda text: text.startswith("serving"), "it serves")
        yield started


def answer(edge: Edge, fields: Fields) -> Callback:
    """The answer to this request, among others."""

    def answers() -> list[Callback]:
        return [result for result in edge.wvp.results if result.request_id == fields["request_id"]]

    edge.send(fields)
    wait_until(answers)
    (only,) = answers()
    return only


def test_ready_at_once_whether_redis_is_there_or_not_and_says_which(tmp_path: Path) -> None:
    redis_server = RedisServer(tmp_path / "redis")
    with (
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(redis_server, cos, wvp) as edge,
        running(edge, tmp_path) as snapd,
    ):
        manager = snapd.manager
        assert manager.wait("READY").fields["STATUS"].startswith("waiting for Redis")
        manager.wait_status(lambda text: text.startswith("waiting for Redis: ") and "refused" in text, "it says why")
        manager.wait("WATCHDOG", manager.count("WATCHDOG") + 3)
        with redis_server:
            manager.wait_status(lambda text: text.startswith("serving, 0 in hand"), "Redis is there")
        manager.wait_status(lambda text: text.startswith("Redis away: "), "Redis is away again")
        manager.wait("WATCHDOG", manager.count("WATCHDOG") + 8)  # which is no reason to be started again
        with redis_server:
            manager.wait_status(lambda text: text.startswith("serving"), "Redis is back")
        assert manager.count("READY") == 1
        assert snapd.program.stop() == 0


def test_status_tells_what_is_in_hand_until_the_end(snapd: Snapd) -> None:
    edge, manager = snapd.edge, snapd.manager
    edge.camera("cam01")
    edge.wvp.delay = 6.0
    edge.send(edge.fields(), edge.fields())
    manager.wait_status(lambda text: text == "serving, 2 in hand", "two in hand")
    snapd.program.process.send_signal(signal.SIGTERM)
    assert manager.wait("STOPPING").fields["STATUS"] == "stopping, 2 in hand"
    assert snapd.program.process.wait(20) == 0
    assert edge.pending == 0


def test_without_a_watchdog_only_changes_are_told(edge: Edge, tmp_path: Path) -> None:
    with running(edge, tmp_path, watchdog=None) as snapd:
        snapd.manager.wait_status(lambda text: text.startswith("serving"), "it serves")
        snapd.program.stop()
        assert [sorted(message.fields) for message in snapd.manager.messages] == [
            ["READY", "STATUS"],
            ["STATUS"],
            ["STATUS", "STOPPING"],
        ]


def test_stopped_snapd_is_silent(snapd: Snapd) -> None:
    snapd.manager.wait("WATCHDOG", 2)
    snapd.program.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: snapd.manager.silent_for("WATCHDOG") > 5 * WATCHDOG, "the watchdog hears nothing")
    snapd.program.process.send_signal(signal.SIGCONT)
    snapd.manager.wait("WATCHDOG", snapd.manager.count("WATCHDOG") + 1)
    snapd.program.stop()


def test_worker_that_is_held_beyond_its_limit_counts_as_hung(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named pipe in place of the file of credentials holds the worker that reads it in open(2)."""
    monkeypatch.setattr("snapd.configured.job_limit", lambda _: 1.0)
    monkeypatch.setattr("snapd.job.LATITUDE", 0.5)
    own = tmp_path / "credentials"
    own.write_text(
        f'secret_id = "{edge.cos.secret_id}"\nsecret_key = "{edge.cos.secret_key}"\ntoken = "{edge.cos.token}"\n'
    )
    content = own.read_bytes()
    edge.camera("cam01")
    with Running(edge.settings(store={"credentials_file": str(own)})) as snapd:
        assert edge.ask().status == "ok"
        assert snapd.service.hang == ""
        own.unlink()
        os.mkfifo(own)
        time.sleep(1.1)  # files are looked at once a second
        edge.send(edge.fields())
        wait_until(lambda: snapd.service.hang == "a worker")
        own.write_bytes(content)
        edge.wvp.wait(2, 30)
        wait_until(lambda: snapd.service.hang == "")


HASTY = """
import sys
import snapd.configured, snapd.job
snapd.configured.job_limit = lambda _: 1.0
snapd.job.LATITUDE = 0.5
from snapd.cli import main
main(["run", "--config", sys.argv[1]])
"""


def test_abort_of_a_hung_snapd_is_explained_by_one_sentence_before_its_threads(edge: Edge, tmp_path: Path) -> None:
    own = tmp_path / "credentials"
    keys = {"secret_id": edge.cos.secret_id, "secret_key": edge.cos.secret_key, "token": edge.cos.token}
    own.write_text("\n".join(f'{name} = "{value}"' for name, value in keys.items()))
    edge.camera("cam01")
    (tmp_path / "hasty.py").write_text(HASTY)
    config = write_config(edge, tmp_path / "framesrv.toml", store={"credentials_file": str(own)})
    with (
        Manager(tmp_path / "notify", WATCHDOG) as manager,
        Program(
            "hasty",
            config,
            log=tmp_path / "snapd.log",
            environment=manager.environment | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONFAULTHANDLER": "1"},
        ) as program,
    ):
        assert edge.ask().status == "ok"
        own.unlink()
        os.mkfifo(own)
        time.sleep(1.1)  # files are looked at once a second
        edge.send(edge.fields())
        manager.wait_status(lambda text: text == "a worker hangs", "it hangs")
        wait_for(lambda: "credentials.py" in program.output, "its threads are shown")
        assert program.stop(signal.SIGABRT) == -signal.SIGABRT  # as the watchdog does
        before, _, after = program.output.partition("Service hangs, a worker: the watchdog is told no more")
        assert "Thread 0x" not in before
        assert "hread 0x" in after.splitlines()[1]
        assert after.count("Current thread") == 1
        assert "Fatal Python error" not in program.output


def test_reloading_under_load_loses_nothing_and_knows_the_new_camera(snapd: Snapd) -> None:
    edge, manager = snapd.edge, snapd.manager
    for code in ("cam01", "cam02", "cam03", "new"):
        edge.camera(code)
    assert edge.ask(camera_code="new").message == "摄像头流未连接: new"
    asked: list[str] = []
    enough = threading.Event()

    def load() -> None:
        while not enough.is_set():
            batch = [edge.fields(f"cam0{number}") for number in (1, 2, 3)]
            asked.extend(fields["request_id"] for fields in batch)
            edge.send(*batch)
            time.sleep(0.02)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for number in range(6):
            known = ["new"] if number % 2 == 0 else []
            snapd.reload(*known, snapshot={"quality": 50 + number, "deadline": 30.0 + number})
            assert answer(edge, edge.fields("new")).status == ("ok" if known else "error")
            edge.wvp.wait(len(edge.wvp.results) + 30, 30)
    finally:
        enough.set()
        thread.join()
    wait_until(lambda: edge.pending == 0, 30)
    answers = Counter(result.request_id for result in edge.wvp.results if result.status == "ok")
    assert len(asked) > 150
    assert [answers[request_id] for request_id in asked] == [1] * len(asked)
    told = [message.fields for message in manager.messages if message.fields.keys() & {"RELOADING", "READY"}]
    assert ["RELOADING" in fields for fields in told] == [False, *[True, False] * 6]
    assert 0 <= time.monotonic() - int(told[-2]["MONOTONIC_USEC"]) / 1e6 < 60
    assert snapd.program.stop() == 0


def test_invalid_configuration_changes_nothing_and_is_told_line_by_line(snapd: Snapd) -> None:
    edge = snapd.edge
    edge.camera("cam01")
    good = snapd.config.read_text()
    snapd.config.write_text(good.replace("quality = 85", "quality = 850").replace("[[camera]]", "[[kamera]]", 1))
    snapd.hang_up()
    assert edge.ask().status == "ok"
    wrong = [line for line in snapd.program.output.splitlines() if "Configuration not reloaded: " in line]
    assert len(wrong) == 2
    assert "snapshot.quality: expected a whole number from 1 to 100" in wrong[1]
    assert "kamera: no such section" in wrong[0]
    assert "the changed configuration is wrong" in snapd.manager.statuses[-1]
    snapd.config.write_text(good)
    snapd.hang_up()
    assert "wrong" not in snapd.manager.statuses[-1]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"store": {"bucket": ""}}, "store.bucket: expected a value"),
        ({"result": {"signing_secret": "whsec_%%%"}}, "result.signing_secret: "),
        ({"result": {"allowed_callbacks": ("http://300.1.1.1",)}}, "result.allowed_callbacks: "),
    ],
)
def test_what_only_the_service_finds_wrong_changes_nothing_either(
    sections: dict[str, Any], words: str, snapd: Snapd
) -> None:
    snapd.edge.camera("cam01")
    snapd.reload("new", **sections)
    assert f"Configuration not reloaded: {words}" in snapd.program.output
    assert snapd.edge.ask().status == "ok"
    assert snapd.edge.ask(camera_code="new").status == "error"


def test_limits_and_credentials_are_taken_anew(snapd: Snapd) -> None:
    edge = snapd.edge
    edge.camera("cam01", 640, 480)

    def picture() -> bytes:
        return requests.get(edge.ask().url, timeout=5).content

    before = picture()
    snapd.reload(snapshot={"quality": 5})
    after = picture()
    assert simplejpeg.decode_jpeg_header(after)[:2] == (480, 640)
    assert after != before
    snapd.reload(store={"secret_key": "another"})
    assert edge.ask().message == "COS 上传失败"
    snapd.reload(result={"allowed_callbacks": ("http://127.0.0.1:1",)})
    fields = edge.fields()
    edge.send(fields)
    assert edge.result_by_key(fields).status == "ok"
    assert edge.cos.secret_key not in snapd.program.output


def test_change_that_needs_a_restart_is_named_and_not_made(snapd: Snapd) -> None:
    edge = snapd.edge
    edge.camera("cam01")
    snapd.reload(
        "new", redis={"url": "redis://:secret@127.0.0.1:1/0"}, stream={"name": "other"}, snapshot={"workers": 3}
    )
    assert "need a restart keys=redis.url,stream.name,snapshot.workers" in snapd.program.output
    assert "secret" not in snapd.program.output
    edge.camera("new")
    assert edge.ask(camera_code="new").status == "ok"


def test_readers_of_the_old_configuration_let_their_segments_go(snapd: Snapd) -> None:
    edge = snapd.edge

    def held() -> int:
        maps = Path(f"/proc/{snapd.program.pid}/maps").read_text()
        return sum(f"{edge.prefix}.cam01" in line for line in maps.splitlines())

    edge.camera("cam01")
    assert edge.ask().status == "ok"
    wait_until(lambda: held() > 0)
    for _ in range(3):
        snapd.reload()
    wait_until(lambda: held() == 0)
    assert edge.ask().status == "ok"


def test_hang_up_of_a_terminal_that_has_gone_ends_it(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    ours, theirs = pty.openpty()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "snapd", "run", "--config", str(config)],
            stdin=theirs,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    os.close(theirs)
    try:
        wait_until(lambda: edge.redis.exists(STREAM))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Reloaded" in (tmp_path / "log").read_text())
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
    finally:
        process.kill()
