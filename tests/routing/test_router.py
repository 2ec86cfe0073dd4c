"""`snapd route`: each request reaches the host that has its camera, once; what no host has is answered at once."""

import time
from collections import Counter
from typing import Any

import pytest

from framesrv.settings import NOBODY
from snapd.requests import fleet
from snapd.requests.once import Mark
from snapd.telemetry.trace import find
from tests.support.edge import GROUP, STREAM, Edge, wait_until
from tests.support.hosts import (
    beat,
    died,
    host,
    left_on,
    route_by_hand,
    router,
    settings_of,
    stream_of,
    take_by_hand,
    wait_for_hosts,
)

NOT_CONNECTED = "摄像头流未连接: {}"


def test_each_request_is_answered_by_the_host_that_has_its_camera(edge: Edge) -> None:
    with host(edge, "edge1", ["cam01"]) as first, host(edge, "edge2", ["cam02"]) as second, router(edge) as routing:
        wait_for_hosts(routing, 2)
        edge.send(*(edge.fields(code) for code in ("cam01", "cam02", "cam01")))
        edge.send(edge.fields("cam99"), edge.fields("cam99", camera_code=None), edge.fields("cam01", cos_path="../x"))
        results = edge.wvp.wait(6, 15)
        assert sorted((one.camera_code, one.status, one.message) for one in results) == [
            ("", "error", "请求字段不完整"),
            ("cam01", "error", "cos_path 不合法"),
            ("cam01", "ok", ""),
            ("cam01", "ok", ""),
            ("cam02", "ok", ""),
            ("cam99", "error", NOT_CONNECTED.format("cam99")),
        ]
        assert (first.encoder.count, second.encoder.count) == (1, 1)
        wait_until(lambda: edge.pending == 0)
        names = ("edge1", "edge2", NOBODY)
        wait_until(lambda: [left_on(edge, stream_of(edge, name)) for name in names] == [0, 0, 0])
    assert edge.wvp.bad == []


def test_deadline_trace_and_age_count_from_the_platforms_entry(edge: Edge) -> None:
    with host(edge, "edge1", ["cam01"]), router(edge) as routing:
        wait_for_hosts(routing, 1)
        late = edge.fields()
        edge.redis.xadd(STREAM, late, id=f"{int((time.time() - 61) * 1000)}-0")
        assert edge.wvp.wait(1, 30)[0].message == "请求已超时"
        forged = {"routed:entry": "1-0", "routed:tries": "99"}  # which only routers write
        traced = edge.fields(trace="1", traceparent="00-1-2-01", **forged)
        entry_id: Any = edge.redis.xadd(STREAM, traced)
        assert edge.wvp.wait(2, 30)[1].status == "ok"
        wait_until(lambda: find(edge.redis, traced["request_id"]))
        trace = find(edge.redis, traced["request_id"])
        assert trace is not None
        assert trace.entry_id == entry_id.decode()
        assert trace.received_at == int(entry_id.split(b"-")[0]) / 1000


def test_new_camera_is_known_to_the_next_request(edge: Edge) -> None:
    with host(edge, "edge1", ["cam01"]) as running, router(edge) as routing:
        wait_for_hosts(routing, 1)
        running.service.reload(settings_of(edge, "edge1", ["cam01", "cam02"]))
        stream = stream_of(edge, "edge1")
        before: Any = edge.redis.hgetall(fleet.key_of(stream, "hosts"))
        wait_until(lambda: {*edge.redis.hgetall(fleet.key_of(stream, "hosts")).values()} != {*before.values()})
        assert edge.ask(camera_code="cam02").status == "ok"


def test_entry_that_came_twice_is_answered_once(edge: Edge) -> None:
    """As where a router in a cluster died between adding it to a host's stream and acknowledging it."""
    streams = [stream_of(edge, name) for name in ("edge1", "edge1", "edge2")]
    requests = [edge.fields() for _ in range(5)]
    for fields in requests:
        origin = route_by_hand(edge, streams[0], fields)
        for stream in streams[1:]:
            route_by_hand(edge, stream, fields, origin)
    with host(edge, "edge1", ["cam01"]), host(edge, "edge2", ["cam01"]):
        edge.wvp.wait(5, 15)
        wait_until(lambda: [left_on(edge, stream) for stream in streams] == [0, 0, 0])
        again = edge.fields() | {"request_id": requests[0]["request_id"]}
        route_by_hand(edge, streams[2], again)  # another entry of the same request is told the result again
        edge.wvp.wait(6, 15)
        wait_until(lambda: left_on(edge, streams[2]) == 0)
    counted = Counter(one.request_id for one in edge.wvp.results)
    assert sorted(counted.values()) == [1, 1, 1, 1, 2]
    assert len({one.url for one in edge.wvp.results}) == 5


def test_what_a_dead_host_left_is_answered_by_another_or_by_the_router(edge: Edge) -> None:
    stream = died(edge, "edge0", ["cam01", "cam03"])
    requests = [edge.fields("cam01"), edge.fields("cam03"), edge.fields("cam01"), edge.fields("cam03")]
    for fields in requests[:2]:
        route_by_hand(edge, stream, fields)
    take_by_hand(edge, stream)
    for fields in requests[2:]:
        route_by_hand(edge, stream, fields)
    with host(edge, "edge1", ["cam01"]), router(edge) as routing:
        results = edge.wvp.wait(4, 20)
        wait_until(lambda: left_on(edge, stream) == 0)
        assert edge.ask(camera_code="cam03").message == NOT_CONNECTED.format("cam03")
        assert "; dead: edge0" in routing.service.status
    by_code = {code: {one.message for one in results if one.camera_code == code} for code in ("cam01", "cam03")}
    assert by_code == {"cam01": {""}, "cam03": {NOT_CONNECTED.format("cam03")}}


def test_tries_at_hosts_that_died_count(edge: Edge) -> None:
    stream = died(edge, "edge0", ["cam01"])
    fields = edge.fields()
    origin = route_by_hand(edge, stream, fields, tries=4)
    take_by_hand(edge, stream)
    with host(edge, "edge1", ["cam01"]), router(edge):
        assert edge.wvp.wait(1, 20)[0].message == "内部错误"
        wait_until(lambda: edge.redis.xlen("edge_snap_dead") == 1)
    letters: Any = edge.redis.xrange("edge_snap_dead")
    letter = letters[0][1]
    assert letter[b"dead:entry"].decode() == origin
    assert letter[b"dead:deliveries"] == b"6"
    assert {name for name in letter if not name.startswith(b"dead:")} == {name.encode() for name in fields}


def test_camera_on_two_hosts_is_said_and_one_of_them_answers(edge: Edge) -> None:
    with host(edge, "edge2", ["cam01"]) as second, host(edge, "edge1", ["cam01", "cam02"]) as first:
        with router(edge) as routing:
            wait_until(lambda: "2 hosts with 2 cameras" in routing.service.status)
            edge.send(*(edge.fields() for _ in range(10)))
            edge.wvp.wait(10, 15)
            assert (first.encoder.count > 0, second.encoder.count) == (True, 0)
            wait_until(lambda: "camera cam01 is on edge1 and edge2, edge1 answers" in routing.service.status)
        first.service.stop()
        first.thread.join(20)
    assert {one.status for one in edge.wvp.results} == {"ok"}


def test_routers_share_the_work_and_what_one_left_is_routed_by_another(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.routing.router.CLAIM_AFTER", 0.3)
    monkeypatch.setattr("snapd.requests.stream.CLAIM_EVERY", 0.2)
    edge.send(*(edge.fields() for _ in range(20)))
    edge.redis.xreadgroup(GROUP, "route-killed", {STREAM: ">"}, count=10)
    with host(edge, "edge1", ["cam01"]), router(edge) as one, router(edge) as other:
        results = edge.wvp.wait(20, 20)
        names = {one.service.report.consumer, other.service.report.consumer}
        wait_until(lambda: edge.pending == 0)
    assert len({result.request_id for result in results}) == 20
    assert {result.status for result in results} == {"ok"}
    assert len(names) == 2


def test_stream_of_a_host_that_is_no_stream_costs_others_nothing(edge: Edge) -> None:
    stream = stream_of(edge, "edge0")
    edge.redis.set(stream.source, "not a stream")
    with host(edge, "edge1", ["cam02"]), router(edge) as routing:
        wait_for_hosts(routing, 1)
        beat(edge, stream, ["cam01"], ago=-60.0)
        wait_for_hosts(routing, 2)
        edge.send(edge.fields("cam01"), edge.fields("cam02"))
        assert edge.wvp.wait(1, 30)[0].camera_code == "cam02"
        assert edge.pending == 1


def test_host_says_that_no_router_runs(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.requests.presence.RENEWED_EVERY", 0.2)
    with host(edge, "edge1", ["cam01"]) as running:
        before = running.changes
        wait_until(lambda: "no router reads edge_snap_request" in running.service.status)
        wait_until(lambda: running.changes > before)  # pages and the service manager are told
        assert running.service.report.unrouted
        with router(edge):
            wait_until(lambda: "no router" not in running.service.status)


def test_two_hosts_of_one_name_are_said(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.requests.presence.RENEWED_EVERY", 0.2)
    stream = died(edge, "edge1", ["cam77"], ago=-60.0)
    edge.redis.xgroup_createconsumer(stream.source, stream.source_group, stream.consumer)
    with host(edge, "edge1", ["cam01"]) as running:
        wait_until(lambda: "give each host a name of its own, [stream] host" in running.service.status)


def test_host_that_was_stopped_leaves_the_answer_to_the_one_that_has_taken_over(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    """It went on where it had been stopped, and the platform heard of one request twice."""
    first = stream_of(edge, "edge1")
    fields = edge.fields()
    edge.cos.delay = 2.0
    with host(edge, "edge1", ["cam01"]):
        origin = route_by_hand(edge, first, fields)
        wait_until(lambda: edge.cos.requests["PUT"])
        at = f"{stream_of(edge, 'edge2').source} 5-0"
        edge.redis.set(f"snap:done:{fields['request_id']}", Mark("taken", origin, at=at).to_json(), ex=60)
        wait_until(lambda: "Another host has taken the request up" in caplog.text)
    assert edge.wvp.results == []


def test_entry_whose_successor_has_ended_as_well_is_answered_by_the_next(edge: Edge) -> None:
    """It was named the successor on a host that died before it had begun: the one after it waited for minutes."""
    first, second, third = (stream_of(edge, name) for name in ("edge1", "edge2", "edge3"))
    fields = edge.fields()
    origin = route_by_hand(edge, third, fields)
    name = fields["request_id"]
    mark = Mark("taken", origin, at=f"{first.source} 1-0")
    edge.redis.set(f"snap:done:{name}", mark.to_json(), ex=100)
    edge.redis.set(b"snap:next:" + name.encode() + b":" + mark.name, f"{origin} {second.source} 2-0", ex=100)
    for stream in (first, second):
        edge.redis.xgroup_create(stream.source, stream.source_group, id="0", mkstream=True)
    with host(edge, "edge3", ["cam01"]):
        assert edge.wvp.wait(1, 30)[0].status == "ok"
