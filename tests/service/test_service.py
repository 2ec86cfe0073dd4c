"""The service, from an entry of the stream to its result: real Redis, pictures and HTTP."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import requests
import simplejpeg

from tests.support.cos import CosServer
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Fields, Running, wait_until
from tests.support.held_up import HeldUp
from tests.support.http_server import Fault
from tests.support.redis_server import RedisServer
from tests.support.wvp import WvpServer


@pytest.fixture
def running(edge: Edge) -> Iterator[Running]:
    with Running(edge.settings()) as service:
        yield service


def test_request_becomes_a_picture_in_the_store_and_a_callback_with_its_url(edge: Edge, running: Running) -> None:
    edge.camera("cam01", 1280, 720)
    fields = edge.fields(cos_path="/快照/c 1/a+b.jpg")
    edge.send(fields)
    result = edge.wvp.wait(1, 30)[0]
    assert (result.request_id, result.camera_code, result.status) == (fields["request_id"], "cam01", "ok")
    fetched = requests.get(result.url, timeout=5)
    assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/jpeg")
    assert simplejpeg.decode_jpeg_header(fetched.content)[:4] == (720, 1280, "YCbCr", "420")
    assert list(edge.cos.objects) == ["快照/c 1/a+b.jpg"]
    wait_until(lambda: edge.pending == 0)
    assert not edge.redis.exists(f"snap:result:{fields['request_id']}")


def test_bgr_frame_is_encoded_where_it_lies_and_shows_the_same(edge: Edge, running: Running) -> None:
    edge.camera("cam01", 321, 241, "bgr24")
    assert edge.ask().status == "ok"
    (stored,) = edge.cos.objects.values()
    assert np.all(np.abs(simplejpeg.decode_jpeg(stored.body, "BGR").astype(int) - 100) <= 2)


def test_temporary_credentials_upload_and_are_in_the_url(redis_server: RedisServer) -> None:
    with (
        CosServer(token="tok/en+1") as cos,
        WvpServer() as wvp,
        Edge(redis_server, cos, wvp) as edge,
        Running(edge.settings()),
    ):
        edge.redis.flushall()
        edge.camera("cam01")
        assert requests.get(edge.ask().url, timeout=5).status_code == 200


def test_request_is_acknowledged_only_after_its_result_is_handed_over(edge: Edge, running: Running) -> None:
    edge.camera("cam01")
    edge.wvp.delay = 0.5
    edge.send(edge.fields())
    wait_until(lambda: edge.wvp.requests["POST"])
    assert (edge.pending, edge.wvp.results) == (1, [])
    edge.wvp.wait(1, 30)
    wait_until(lambda: edge.pending == 0)


@pytest.mark.parametrize("fault", [500, 302, "reset"])
def test_result_goes_to_its_key_when_the_callback_fails(edge: Edge, running: Running, fault: Any) -> None:
    edge.camera("cam01")
    edge.wvp.fault = Fault(fault)
    fields = edge.fields()
    edge.send(fields)
    assert edge.result_by_key(fields).status == "ok"


@pytest.mark.parametrize(
    "url",
    [None, "", "http://127.0.0.1:1", "ftp://127.0.0.1/", "no url", "http://[", "http://a:99999", "http://é\x00/"],
)
def test_result_goes_to_its_key_when_there_is_no_callback_to_make(
    edge: Edge, running: Running, url: str | None
) -> None:
    edge.camera("cam01")
    fields = edge.fields(callback_url=url)
    edge.send(fields)
    assert edge.result_by_key(fields).status == "ok"
    wait_until(lambda: edge.pending == 0)


def test_only_allowed_callbacks_are_made(edge: Edge) -> None:
    edge.camera("cam01")
    for allowed, called in (("http://127.0.0.1:1", 0), (f"HTTP://{edge.wvp.domain}", 1)):
        with Running(edge.settings(result={"allowed_callbacks": (allowed,)})):
            fields = edge.fields()
            edge.send(fields)
            wait_until(lambda: edge.pending == 0)
        assert edge.wvp.requests["POST"] == called
        assert bool(edge.redis.exists(f"snap:result:{fields['request_id']}")) is not bool(called)


def test_long_reply_of_a_callback_is_not_read(edge: Edge, running: Running, held_up: HeldUp) -> None:
    edge.camera("cam01")
    answer = edge.wvp.answer

    def long_answer(request: Any) -> Any:
        response = answer(request)
        return type(response)(response.status, b"x" * 50_000_000)

    edge.wvp.answer = long_answer  # type: ignore[method-assign]
    began = time.monotonic()
    assert edge.ask().status == "ok"
    wait_until(lambda: edge.pending == 0)
    assert time.monotonic() - began < 2 + held_up.since(began)


def test_connections_are_kept_from_request_to_request(edge: Edge) -> None:
    edge.camera("cam01")
    with Running(edge.settings(snapshot={"workers": 1})):
        for _ in range(10):
            assert edge.ask().status == "ok"
    assert (edge.cos.connections, edge.wvp.connections) == (1, 1)


def test_upload_is_tried_once_more(edge: Edge, running: Running) -> None:
    edge.camera("cam01")
    edge.cos.fault = Fault(500, times=1)
    assert edge.ask().status == "ok"
    assert [put.status for put in edge.cos.puts] == [500, 200]


@pytest.mark.parametrize(("fault", "tries"), [(500, 2), ("reset", 2), (403, 1)])
def test_upload_that_fails_is_an_error_result(edge: Edge, running: Running, fault: Any, tries: int) -> None:
    edge.camera("cam01")
    edge.cos.fault = Fault(fault)
    result = edge.ask()
    assert (result.status, result.message) == ("error", "COS 上传失败")
    assert len(edge.cos.puts) == tries
    edge.cos.fault = None
    assert edge.ask().status == "ok"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_code": None}, "请求字段不完整"),
        ({"camera_code": ""}, "请求字段不完整"),
        ({"cos_path": None}, "请求字段不完整"),
        ({"cos_path": ""}, "请求字段不完整"),
        ({"cos_path": "/"}, "cos_path 不合法"),
        ({"cos_path": "../a.jpg"}, "cos_path 不合法"),
        ({"cos_path": "a/./b.jpg"}, "cos_path 不合法"),
        ({"cos_path": "//a.jpg"}, "cos_path 不合法"),
        ({"cos_path": "a\nb.jpg"}, "cos_path 不合法"),
        ({"cos_path": b"\xff\xfe.jpg"}, "请求字段编码错误"),
        ({"camera_code": b"cam\x80"}, "请求字段编码错误"),
        ({"camera_code": "nosuch"}, "摄像头流未连接: nosuch"),
        ({"camera_code": "../cam01"}, "摄像头流未连接: ../cam01"),
        ({"camera_code": "down"}, "摄像头流未连接: down"),
    ],
)
def test_request_that_cannot_be_served_gets_its_message(
    edge: Edge, running: Running, changes: Fields, message: str
) -> None:
    edge.camera("cam01")
    result = edge.ask(**changes)
    assert (result.status, result.message) == ("error", message)
    wait_until(lambda: edge.pending == 0)
    assert not edge.cos.puts
    assert edge.ask().status == "ok"


def test_callback_url_of_rubbish_gets_its_error_by_the_key(edge: Edge, running: Running) -> None:
    fields = edge.fields(callback_url=b"http://\xff\xfe/")
    edge.send(fields)
    assert edge.result_by_key(fields).message == "请求字段编码错误"


@pytest.mark.parametrize("request_id", [None, "", b"\xff\x00\xfe"])
def test_request_without_an_id_is_acknowledged_and_nobody_is_told(
    edge: Edge, running: Running, request_id: Any
) -> None:
    edge.camera("cam01")
    edge.send(edge.fields(request_id=request_id))
    assert edge.ask().status == "ok"
    wait_until(lambda: edge.pending == 0)
    assert (len(edge.wvp.results), edge.wvp.bad, edge.redis.keys("snap:result:*")) == (1, [], [])


def test_camera_of_another_host_is_left_to_it_when_told_so(edge: Edge) -> None:
    edge.camera("cam01")
    with Running(edge.settings(stream={"unknown_camera": "ignore"})):
        edge.send(edge.fields("elsewhere"))
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert (len(edge.wvp.results), edge.redis.keys("snap:result:*")) == (1, [])


def test_hosts_with_a_group_each_on_one_stream_answer_for_their_own_cameras_alone(edge: Edge) -> None:
    edge.camera("cam01")
    edge.camera("cam02")
    hosts = []
    for number, codes in enumerate((["cam01"], ["cam02"], []), 1):
        stream = {"unknown_camera": "ignore", "group": f"host{number}"}
        settings_of_host = edge.settings(stream=stream)
        cameras = tuple(camera for camera in settings_of_host.cameras if camera.code in codes)
        hosts.append(msgspec.structs.replace(settings_of_host, cameras=cameras))
    with Running(hosts[0]), Running(hosts[1]), Running(hosts[2]):
        sent = [edge.fields(f"cam0{1 + number % 2}") for number in range(20)]
        sent.append(edge.fields("cam02", cos_path=""))
        edge.send(*sent)
        edge.wvp.wait(len(sent), 30)
        groups: Any = edge.redis.xinfo_groups(STREAM)
        assert len(groups) == 3
        wait_until(lambda: all(edge.redis.xpending(STREAM, group["name"])["pending"] == 0 for group in groups))
    assert sorted(result.request_id for result in edge.wvp.results) == sorted(str(one["request_id"]) for one in sent)
    assert [result.message for result in edge.wvp.results if result.status != "ok"] == ["请求字段不完整"]


def test_path_outside_the_prefix_of_the_store_is_refused(edge: Edge) -> None:
    edge.camera("cam01")
    with Running(edge.settings(store={"key_prefix": "snap/"})):
        assert edge.ask(cos_path="/snap/a.jpg").status == "ok"
        assert edge.ask(cos_path="other/a.jpg").message == "cos_path 不合法"


def test_failure_nobody_thought_of_is_answered_and_the_service_goes_on(
    edge: Edge, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.camera("cam01")
    with monkeypatch.context() as patch:
        patch.setattr(running.encoder, "jpeg", lambda *_: 1 // 0)
        assert edge.ask().message == "内部错误"
    assert edge.ask().status == "ok"
    wait_until(lambda: edge.pending == 0)


def test_requests_taken_together_share_one_encode_and_get_a_result_each(edge: Edge, running: Running) -> None:
    edge.camera("cam01")
    edge.camera("cam02")
    wait_until(lambda: edge.redis.exists(STREAM))
    batch = [edge.fields("cam01") for _ in range(8)]
    edge.send(*batch)
    results = edge.wvp.wait(8, 30)
    assert {result.request_id for result in results} == {fields["request_id"] for fields in batch}
    assert len({result.url for result in results}) == len(edge.cos.objects) == 8
    assert running.encoder.count == 1
    edge.send(*(edge.fields(code) for code in ("cam01", "cam02") * 20))
    assert all(result.status == "ok" for result in edge.wvp.wait(48, 30))
    assert running.encoder.count - 1 < 40


def test_requests_taken_together_share_the_error_of_their_camera(
    edge: Edge, running: Running, held_up: HeldUp
) -> None:
    began = time.monotonic()
    edge.send(*(edge.fields("down") for _ in range(8)))
    results = edge.wvp.wait(8, 30)
    assert {result.message for result in results} == {"摄像头流未连接: down"}
    assert time.monotonic() - began < 1.5 + held_up.since(began)  # one wait of 0.3 s, not eight


def test_own_pending_requests_are_answered_at_the_next_start(edge: Edge) -> None:
    edge.camera("cam01")
    edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    lost = [edge.fields() for _ in range(20)]
    edge.send(*lost)
    edge.redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=20)
    edge.redis.xtrim(STREAM, maxlen=19, approximate=False)
    with Running(edge.settings()):
        results = edge.wvp.wait(19, 30)
        wait_until(lambda: edge.pending == 0)
    assert [result.status for result in results] == ["ok"] * 19
    assert {result.request_id for result in results} == {fields["request_id"] for fields in lost[1:]}


def test_group_that_vanishes_is_made_again(edge: Edge, running: Running) -> None:
    edge.camera("cam01")
    assert edge.ask().status == "ok"
    edge.redis.flushall()
    assert edge.ask().status == "ok"


def test_requests_in_hand_while_redis_goes_away_are_answered_once(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "redis", appendonly=True) as server,
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(server, cos, wvp) as edge,
        Running(edge.settings()),
    ):
        edge.camera("cam01")
        wvp.delay = 1.0
        edge.send(*(edge.fields() for _ in range(4)))
        wait_until(lambda: wvp.requests["POST"] == 4)
        server.kill()
        server.start()
        wvp.wait(4, 30)
        wvp.delay = 0.0
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0, 20)
    assert len(wvp.results) == 5


def test_request_whose_result_cannot_be_handed_over_stays_pending(
    edge: Edge, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.3)
    edge.camera("cam01")
    fields = edge.fields(callback_url="http://127.0.0.1:1")
    try:
        edge.redis.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-set"])
        edge.send(fields)
        wait_until(lambda: len(edge.cos.puts) >= 2)
        assert edge.pending == 1
    finally:
        edge.redis.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
    assert edge.result_by_key(fields).status == "ok"
    wait_until(lambda: edge.pending == 0)


def test_busy_workers_leave_requests_in_redis(edge: Edge) -> None:
    edge.camera("cam01")
    edge.cos.delay = 0.5
    with Running(edge.settings(snapshot={"workers": 2})):
        edge.send(*(edge.fields() for _ in range(6)))
        wait_until(lambda: edge.cos.requests["PUT"] == 2)
        pending: Any = edge.redis.xpending(STREAM, GROUP)
        assert pending["pending"] == 2
        edge.wvp.wait(6, 30)


def test_slow_platform_leaves_requests_in_redis_but_for_those_it_is_told_of(edge: Edge) -> None:
    edge.camera("cam01")
    edge.wvp.delay = 0.5
    with Running(edge.settings(snapshot={"workers": 2})):
        edge.send(*(edge.fields() for _ in range(8)))
        wait_until(lambda: edge.wvp.requests["POST"] == 2)
        pending: Any = edge.redis.xpending(STREAM, GROUP)
        assert pending["pending"] <= 4  # two that are handed over, two that wait for that
        edge.wvp.wait(8, 30)


def test_idle_service_stops_at_once(edge: Edge, held_up: HeldUp) -> None:
    with Running(edge.settings()):
        wait_until(lambda: edge.redis.exists(STREAM))
        began = time.monotonic()
    assert time.monotonic() - began < 0.5 + held_up.since(began)


def test_service_stops_at_once_while_redis_is_away(edge: Edge, held_up: HeldUp) -> None:
    with Running(edge.settings(redis={"url": "redis://127.0.0.1:1/0"})):
        time.sleep(0.2)  # into its pauses, which have nothing to wait for
        began = time.monotonic()
    assert time.monotonic() - began < 0.5 + held_up.since(began)


def test_error_that_nobody_thought_of_is_one_traceback_however_often_it_comes(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def put(*_: Any, **__: Any) -> str:
        raise LookupError("of all things")

    edge.camera("cam01")
    monkeypatch.setattr("snapd.stores.cos.CosStore.put", put)
    with Running(edge.settings()):
        for _ in range(4):
            assert edge.ask().message == "内部错误"
    told = [record for record in caplog.records if "of all things" in record.getMessage()]
    assert [record.exc_info is not None for record in told] == [True, False, False, False]
