"""Requests past their deadline, and cameras that give no picture: neither costs the others anything."""

import threading
import time
from collections.abc import Iterator

import pytest

from framesrv import FrameUnavailableError
from framesrv.settings import ShmSettings
from snapd.pictures.capture import Captures
from snapd.pictures.encoder import Encoder
from tests.support.edge import GROUP, STREAM, Edge, Running, wait_until
from tests.support.http_server import Fault
from tests.support.wvp import WvpServer

LATE = "请求已超时"


@pytest.fixture
def edge(edge: Edge) -> Edge:
    edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    return edge


def test_late_request_is_answered_with_an_error_and_costs_no_picture(edge: Edge) -> None:
    edge.camera("cam01")
    edge.redis.xadd(STREAM, edge.fields(), id="1-1")
    with Running(edge.settings()) as running:
        assert [(result.status, result.message) for result in edge.wvp.wait(1, 30)] == [("error", LATE)]
        wait_until(lambda: edge.pending == 0)
        assert edge.ask().status == "ok"
        assert (running.encoder.count, len(edge.cos.puts)) == (1, 1)


@pytest.mark.parametrize("wrong", [-1e6, 1e6])
def test_clock_of_this_host_does_not_count(edge: Edge, monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    now = time.time
    monkeypatch.setattr("snapd.requests.redis.time.time", lambda: now() + wrong)
    edge.camera("cam01")
    edge.redis.xadd(STREAM, edge.fields(), id="1-1")
    with Running(edge.settings(store={"kind": "dir", "path": "/proc/no"})):
        assert edge.wvp.wait(1, 30)[0].message == LATE
        assert edge.ask().message == "COS 上传失败"  # it was served


def test_new_requests_do_not_starve_behind_late_ones_of_a_silent_platform(edge: Edge) -> None:
    edge.camera("cam01")
    with WvpServer() as silent:
        silent.fault = Fault("hang")
        late = [edge.fields(callback_url=silent.url) for _ in range(2000)]
        with edge.redis.pipeline(transaction=False) as pipeline:
            for number, fields in enumerate(late):
                pipeline.xadd(STREAM, fields, id=f"1-{number + 1}")
            pipeline.execute()
        with Running(edge.settings(result={"callback_timeout": 1.0})):
            edge.send(edge.fields())
            assert edge.wvp.wait(1, 20)[0].status == "ok"
            wait_until(lambda: edge.pending == 0)
        assert silent.requests["POST"] <= 2 * 8
    assert all(edge.redis.exists(f"snap:result:{fields['request_id']}") for fields in late)


def test_late_requests_are_called_back_where_that_works(edge: Edge) -> None:
    for number in range(50):
        edge.redis.xadd(STREAM, edge.fields(), id=f"1-{number + 1}")
    with Running(edge.settings()):
        edge.wvp.wait(50, 30)
        wait_until(lambda: edge.pending == 0)
    assert edge.redis.keys("snap:result:*") == []


def test_dead_camera_holds_no_worker_once_it_has_failed(edge: Edge) -> None:
    edge.camera("cam01")
    with Running(edge.settings(snapshot={"wait": 2.0})):
        assert edge.ask(camera_code="down").status == "error"
        began = time.monotonic()
        edge.send(*(edge.fields("down") for _ in range(64)), edge.fields("cam01"))
        results = edge.wvp.wait(66, 30)
        assert time.monotonic() - began < 64 / 8 * 2.0 / 2  # half of what they would take if each held its worker
        assert [result.camera_code for result in results if result.status == "ok"] == ["cam01"]


def test_camera_that_comes_back_is_served_again(edge: Edge) -> None:
    with Running(edge.settings()):
        assert edge.ask(camera_code="cam02").status == "error"
        edge.camera("cam02")
        assert edge.ask(camera_code="cam02").status == "ok"


@pytest.fixture
def captures(edge: Edge) -> Iterator[Captures]:
    made = Captures(Encoder("simplejpeg", 85), shm=ShmSettings(prefix=edge.prefix), max_age=3600.0, wait=5.0)
    yield made
    made.close()


def test_capture_can_be_joined_until_it_has_its_frame(edge: Edge, captures: Captures) -> None:
    capture = captures.join("cam03")
    waiting = threading.Thread(target=capture.picture)
    waiting.start()
    wait_until(capture._lock.locked)
    assert captures.join("cam03") is capture
    edge.camera("cam03")
    waiting.join(5)
    assert capture.picture().width == 320
    assert captures.join("cam03") is not capture


def test_failing_camera_is_waited_for_now_and_then_by_one_request(
    edge: Edge, captures: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.pictures.capture.TRY_EVERY", 0.0)
    captures._wait = 0.3
    for _ in range(2):
        waiting = captures.join("cam03")
        with pytest.raises(FrameUnavailableError):
            waiting.picture()
    assert captures.join("cam03") is not waiting
