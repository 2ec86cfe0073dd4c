"""Where the time of a request went: what a service tells of each one that it has answered."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest

from snapd.telemetry.trace import CALLBACK_PARTS, STAGES, Stopwatch, Trace, waterfall
from snapd.wire.messages import EXPIRED, INTERNAL
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Running, wait_until
from tests.support.http_server import Fault

ALL = list(STAGES)


@pytest.fixture
def traces() -> list[Trace]:
    return []


@pytest.fixture
def running(edge: Edge, traces: list[Trace]) -> Iterator[Running]:
    with Running(edge.settings(), traces.append) as service:
        yield service


def told(traces: list[Trace], fields: dict[Any, Any]) -> Trace:
    """The one trace of that request."""
    wait_until(lambda: any(trace.request_id == fields["request_id"] for trace in traces))
    (trace,) = [trace for trace in traces if trace.request_id == fields["request_id"]]
    return trace


def names(trace: Trace) -> list[str]:
    return [name for name, _ in trace.stages]


def test_every_stage_of_a_request_is_told_and_together_they_are_its_whole_time(
    edge: Edge, running: Running, traces: list[Trace]
) -> None:
    edge.camera("cam01", 1280, 720)
    edge.ask()  # connections are made
    fields = edge.fields()
    began = time.monotonic()
    edge.send(fields)
    edge.wvp.wait(2, 30)
    trace = told(traces, fields)
    took = time.monotonic() - began
    assert (trace.camera_code, trace.outcome, trace.message) == ("cam01", "ok", "")
    assert names(trace) == ALL
    assert all(seconds > 0 for _, seconds in trace.stages[1:])
    assert trace.seconds < took + 0.1  # what two clocks may differ by
    assert trace.received_at == int(trace.entry_id.partition("-")[0]) / 1000
    assert abs(trace.received_at - time.time()) < 60


def test_time_is_told_of_the_stage_that_took_it(edge: Edge, running: Running, traces: list[Trace]) -> None:
    edge.camera("cam01")
    edge.ask()
    edge.cos.delay, edge.wvp.delay = 0.3, 0.5
    fields = edge.fields()
    edge.send(fields)
    seconds = dict(told(traces, fields).stages)
    assert seconds["uploading"] >= 0.3
    assert seconds["callback"] >= 0.5
    assert max(seconds, key=seconds.__getitem__) == "callback"


def test_request_that_waited_in_redis_was_queued(edge: Edge, traces: list[Trace]) -> None:
    edge.camera("cam01")
    fields = edge.fields()
    edge.send(fields)
    time.sleep(0.4)  # for so long nobody takes it
    with Running(edge.settings(), traces.append):
        seconds = dict(told(traces, fields).stages)
    assert seconds["queued"] >= 0.3


def test_camera_without_a_frame_costs_waiting_and_no_picture(
    edge: Edge, running: Running, traces: list[Trace]
) -> None:
    fields = edge.fields("down")
    edge.send(fields)
    trace = told(traces, fields)
    assert (trace.outcome, trace.message) == ("error", "摄像头流未连接: down")
    assert names(trace) == ["queued", "waiting", "callback"]
    assert dict(trace.stages)["waiting"] >= 0.3


def test_late_request_was_queued_and_called_back(edge: Edge, traces: list[Trace]) -> None:
    edge.camera("cam01")
    fields = edge.fields()
    edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    edge.send(fields)
    time.sleep(0.2)
    with Running(edge.settings(snapshot={"deadline": 0.1}), traces.append):
        trace = told(traces, fields)
    assert (trace.outcome, trace.message) == ("error", EXPIRED)
    assert names(trace) == ["queued", "callback"]


def test_of_a_shared_picture_one_request_alone_has_the_encoding(
    edge: Edge, running: Running, traces: list[Trace]
) -> None:
    edge.camera("cam01", 1280, 720)
    edge.send(*(edge.fields() for _ in range(6)))
    wait_until(lambda: len(traces) == 6)
    assert running.encoder.count == 1
    assert sorted(map(names, traces), key=len) == [["queued", "waiting", "uploading", "callback"]] * 5 + [ALL]


def test_upload_that_fails_is_a_stage_like_any_other(edge: Edge, running: Running, traces: list[Trace]) -> None:
    edge.camera("cam01")
    edge.cos.fault = Fault(500)
    fields = edge.fields()
    edge.send(fields)
    trace = told(traces, fields)
    assert trace.outcome == "error"
    assert names(trace) == ALL


def test_answer_is_told_once_and_when_it_was_handed_over(
    edge: Edge, traces: list[Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the request was delivered: of the last try, which had the result from an earlier one."""
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    edge.camera("cam01")
    rule: dict[str, Any] = {"enabled": True, "nopass": True, "commands": ["+@all"]}
    fields = edge.fields(callback_url="")
    edge.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    try:
        edge.redis.acl_setuser("default", keys=["snap:done:*", STREAM], reset_keys=True, **rule)
        with Running(edge.settings(stream={"max_deliveries": 1000}), traces.append):
            edge.send(fields)
            wait_until(lambda: pending(edge) and pending(edge)[0]["times_delivered"] >= 3)
            assert traces == []
            edge.redis.acl_setuser("default", keys=["*"], **rule)
            trace = told(traces, fields)
            wait_until(lambda: edge.pending == 0)
    finally:
        edge.redis.acl_setuser("default", keys=["*"], **rule)
    assert len(traces) == 1
    assert (trace.outcome, names(trace)) == ("ok", ["queued", "callback"])


def test_dead_letter_is_told_as_the_error_that_its_sender_got(
    edge: Edge, traces: list[Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.05)
    fields = edge.fields()
    edge.send(fields)
    edge.redis.xgroup_create(STREAM, GROUP, "0")
    for _ in range(5):  # delivered to a process that died each time
        if not edge.redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}):
            edge.redis.xclaim(STREAM, GROUP, CONSUMER, 0, [row["message_id"] for row in pending(edge)])
    with Running(edge.settings(), traces.append):
        trace = told(traces, fields)
    assert edge.redis.xlen("edge_snap_dead") == 1
    assert (trace.outcome, trace.message, names(trace)) == ("error", INTERNAL, ["queued", "callback"])


def pending(edge: Edge) -> list[dict[str, Any]]:
    found: Any = edge.redis.xpending_range(STREAM, GROUP, "-", "+", 10)
    return list(found)


def test_listener_that_fails_breaks_no_answer(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    edge.camera("cam01")

    def fail(_: Trace) -> None:
        raise RuntimeError("no ears")

    with Running(edge.settings(), fail):
        assert [edge.ask().status for _ in range(20)] == ["ok"] * 20  # more than there are workers
        wait_until(lambda: edge.pending == 0)
    assert "no ears" in caplog.text


def test_listener_that_is_slow_keeps_nobody_from_being_acknowledged(edge: Edge) -> None:
    edge.camera("cam01")
    go_on = threading.Event()
    with Running(edge.settings(), lambda _: go_on.wait(30)):
        try:
            assert edge.ask().status == "ok"
            wait_until(lambda: edge.pending == 0)
        finally:
            go_on.set()


def test_sender_who_asks_for_it_sees_where_the_time_went(edge: Edge, running: Running, traces: list[Trace]) -> None:
    edge.camera("cam01")
    fields = edge.fields(trace="1")
    key = f"snap:trace:{fields['request_id']}"
    edge.send(fields)
    wait_until(lambda: edge.redis.exists(key))
    content: Any = edge.redis.get(key)
    assert 0 < int(edge.redis.ttl(key)) <= 60
    assert list(orjson.loads(content)["stages"]) == ALL
    kept, heard = Trace.parse(content), told(traces, fields)
    assert replace(kept, stages=()) == replace(heard, stages=())
    assert [seconds for _, seconds in kept.stages] == pytest.approx(
        [seconds for _, seconds in heard.stages], abs=1e-6
    )
    assert set(json.loads(edge.wvp.results[0].raw)) == {"request_id", "camera_code", "status", "url"}


@pytest.mark.parametrize("value", [None, "", "0", "yes", b"\xff"])
def test_nothing_is_kept_for_a_sender_who_does_not_ask(
    edge: Edge, running: Running, traces: list[Trace], value: Any
) -> None:
    edge.camera("cam01")
    fields, last = edge.fields(trace=value), edge.fields(trace="1")
    for one in (fields, last):
        edge.send(one)
        told(traces, one)
    assert traces[0].outcome == "ok"
    wait_until(lambda: edge.redis.exists(f"snap:trace:{last['request_id']}"))
    assert not edge.redis.exists(f"snap:trace:{fields['request_id']}")


def test_trace_that_redis_refuses_costs_a_warning_and_no_answer(
    edge: Edge, running: Running, traces: list[Trace], caplog: pytest.LogCaptureFixture
) -> None:
    edge.camera("cam01")
    edge.ask()
    rule: dict[str, Any] = {"enabled": True, "nopass": True, "commands": ["+@all"]}
    try:
        edge.redis.acl_setuser("default", keys=["snap:done:*", "snap:result:*", STREAM], reset_keys=True, **rule)
        fields = edge.fields(trace="1")
        edge.send(fields)
        assert told(traces, fields).outcome == "ok"
        wait_until(lambda: "cannot see where the time went" in caplog.text)
    finally:
        edge.redis.acl_setuser("default", keys=["*"], **rule)
    assert edge.pending == 0
    assert not edge.redis.exists(f"snap:trace:{fields['request_id']}")


def test_waterfall_shows_each_stage_after_the_one_before() -> None:
    stages = tuple(zip(STAGES, (0.01, 0.01, 0.0001, 0.02, 0.04, 0.02), strict=True))
    *lines, total = waterfall(Trace("r", "cam01", "1-0", 1.0, stages, "ok"))
    assert [line.split()[:3] for line in lines] == [
        ["queued", "10.0", "ms"],
        ["waiting", "10.0", "ms"],
        ["converting", "0.1", "ms"],
        ["encoding", "20.0", "ms"],
        ["uploading", "40.0", "ms"],
        ["callback", "20.0", "ms"],
    ]
    assert total.split() == ["total", "100.1", "ms"]
    bars = [(line.index("█"), line.rindex("█") + 1) for line in lines]
    assert bars == sorted(bars)
    assert all(abs(after[0] - before[1]) <= 1 for before, after in pairwise(bars))
    lengths = [end - begin for begin, end in bars]
    assert lengths[2] == 1  # however short
    assert abs(lengths[4] - 2 * lengths[3]) <= 2
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize("stages", [(), (("queued", 1e-9),), (("queued", 3e6), ("callback", 1e-6))])
def test_waterfall_of_any_times_stays_within_80_columns(stages: tuple[tuple[str, float], ...]) -> None:
    lines = list(waterfall(Trace("r", "c", "1-0", 1.0, stages, "ok")))
    assert len(lines) == len(stages) + 1
    assert max(map(len, lines)) < 80


def test_each_time_stands_once_in_the_line_of_the_log() -> None:
    stopwatch = Stopwatch()
    for name in ("queued", "waiting", "converting", "encoding", "uploading", *CALLBACK_PARTS):
        stopwatch.add(name, 0.5)
    names = [word.partition("_ms=")[0] for word in str(stopwatch).split()]
    assert names == ["queued", "waiting", "converting", "encoding", "uploading", "keep", "place", "deliver"]
    assert str(Stopwatch()) == "queued_ms=0.0"
