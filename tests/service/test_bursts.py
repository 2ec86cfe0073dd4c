"""Several pictures for one request: taken in time, named one by one, and no worker kept by the wait between them."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest

from snapd.wire.burst import Burst
from snapd.wire.messages import word_of
from snapd.wire.request import parse
from tests.pages.painting import painting
from tests.support.edge import GROUP, STREAM, Edge, Running, wait_until
from tests.support.held_up import HeldUp
from tests.support.http_server import Fault

FIELDS = {b"request_id": b"r1", b"camera_code": b"cam01", b"cos_path": b"a{n}.jpg"}


def result_of(edge: Edge, fields: dict[Any, Any]) -> dict[str, Any]:
    edge.result_by_key(fields)
    found: dict[str, Any] = json.loads(edge.redis.get(f"snap:result:{fields['request_id']}"))  # type: ignore[arg-type]
    return found


def burst(edge: Edge, count: int, interval: float | str, **changes: Any) -> dict[Any, Any]:
    changes = {"callback_url": None, "cos_path": "b/{n}.jpg"} | changes
    return edge.fields(count=str(count), interval=str(interval), **changes)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"count": "0"}, "count"),
        ({"count": "21"}, "count"),
        ({"count": "2.0"}, "count"),
        ({"count": "nan"}, "count"),
        ({"count": "1e400"}, "count"),
        ({"interval": "1"}, "interval"),
        ({"count": "3", "interval": "0"}, "interval"),
        ({"count": "3", "interval": "0.01"}, "interval"),
        ({"count": "3", "interval": "1e400"}, "interval"),
        ({"count": "3", "interval": "inf"}, "interval"),
        ({"count": "3", "interval": "-1"}, "interval"),
        ({"count": "3", "interval": "1s"}, "interval"),
        ({"count": "3", "interval": "٣"}, "interval"),
        ({"count": "3", "interval": "15.1"}, "interval"),
        ({"count": "3", "interval": "6"}, "interval"),  # longer than the deadline of these tests
        ({"count": "12"}, "count"),
    ],
)
def test_burst_that_cannot_be_is_told_by_the_fields_name(fields: dict[str, str], problem: str) -> None:
    found = parse("1-1", FIELDS | {name.encode(): value.encode() for name, value in fields.items()}, longest=10.0)
    assert (found.problem, found.burst) == (f"{problem} 不合法", None)
    assert word_of(found.problem) == f"bad_{problem}"


def test_burst_has_a_path_for_each_picture_and_they_are_as_paths_must_be() -> None:
    def problem(path: str, count: str = "10") -> str:
        return parse("1-1", FIELDS | {b"cos_path": path.encode(), b"count": count.encode()}).problem

    assert [problem(path) for path in ("a{n}", "{n}", "{n}/a", "a{n}{n}", "x" * 847 + "{n}")] == [""] * 5
    assert problem("a", "1") == ""
    assert {problem(path) for path in ("a", "a{N}", "{ n }", "x" * 848 + "{n}")} == {"cos_path 不合法"}
    assert Burst(3, 1.0).paths("a/{n}.jpg") == ["a/1.jpg", "a/2.jpg", "a/3.jpg"]
    assert parse("1-1", FIELDS).problem == ""  # to a single picture it is a path as any other
    assert parse("1-1", FIELDS).cos_path == "a{n}.jpg"


def test_pictures_are_a_while_apart_and_one_result_has_their_addresses(edge: Edge) -> None:
    edge.camera("cam01")
    with painting(edge.writers["cam01"], 50), Running(edge.settings()):
        fields = burst(edge, 4, 0.25)
        edge.send(fields)
        result = result_of(edge, fields)
        assert {name for name in result if name != "urls"} == {"request_id", "camera_code", "status"}
        assert result["status"] == "ok"
        names = [url.partition("?")[0].rpartition("/b/")[2] for url in result["urls"]]
        assert names == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
        times = [float(edge.cos.objects[f"b/{number}.jpg"].about["captured-at"]) for number in range(1, 5)]
        assert all(before < after for before, after in pairwise(times))
        assert times[-1] - times[0] > 0.3
        wait_until(lambda: edge.pending == 0)
        # Sent again, it gets the same answer without other pictures.
        edge.redis.delete(f"snap:result:{fields['request_id']}")
        edge.send(fields)
        assert result_of(edge, fields) == result
        assert len(edge.cos.puts) == 4


def test_wait_between_pictures_keeps_no_worker(edge: Edge) -> None:
    """One worker, and bursts that wait for long: others are answered meanwhile, and other bursts end."""
    edge.camera("cam01")
    with Running(edge.settings(snapshot={"workers": 1})):
        bursts = [burst(edge, 2, 30, cos_path=f"{number}-{{n}}.jpg") for number in range(5)]
        edge.send(*bursts)
        wait_until(lambda: len(edge.cos.objects) == 5)
        single, short = edge.fields(callback_url=None), burst(edge, 2, 0.2)
        edge.send(single, short)
        assert edge.result_by_key(single).status == "ok"
        assert len(edge.result_by_key(short).urls) == 2
        assert len(edge.cos.objects) == 8
    assert edge.pending == 5


def test_pictures_are_taken_in_time_though_the_store_is_slow(edge: Edge, held_up: HeldUp) -> None:
    edge.camera("cam01")
    with painting(edge.writers["cam01"], 50), Running(edge.settings()):
        edge.cos.delay = 1.0
        fields = burst(edge, 3, 0.1)
        edge.send(fields)
        assert len(result_of(edge, fields)["urls"]) == 3
    times = [float(edge.cos.objects[f"b/{number}.jpg"].about["captured-at"]) for number in range(1, 4)]
    assert times[-1] - times[0] < 1.5 + held_up.seconds  # with an upload before each, it would be 2 s at least


def test_error_says_which_pictures_are_stored_all_the_same(edge: Edge) -> None:
    edge.camera("cam01")
    with Running(edge.settings(result={"reason": True})):
        fields = burst(edge, 8, 0.3)
        edge.send(fields)
        wait_until(lambda: edge.cos.objects)
        edge.cos.fault = Fault(403)
        result = result_of(edge, fields)
        assert (result["status"], result["message"], result["reason"]) == ("error", "COS 上传失败", "store_forbidden")
        names = [url.partition("?")[0].rpartition("/")[2] for url in result["urls"]]
        assert names == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg", "7.jpg"][: len(edge.cos.objects)]
        edge.cos.fault = None
        fields = burst(edge, 3, 0.4, cos_path="c/{n}.jpg")
        edge.send(fields)
        wait_until(lambda: "c/1.jpg" in edge.cos.objects)
        edge.writers.pop("cam01").close()
        result = result_of(edge, fields)
        assert (result["status"], result["message"]) == ("error", "摄像头流未连接: cam01")
        assert len(result["urls"]) == sum(name.startswith("c/") for name in edge.cos.objects) >= 1
        fields = burst(edge, 2, 0.4, code="down")
        edge.send(fields)
        assert set(result_of(edge, fields)) == {"request_id", "camera_code", "status", "message", "reason"}


def test_burst_that_is_stopped_in_the_middle_stays_for_the_next_start(edge: Edge) -> None:
    edge.camera("cam01")
    fields = burst(edge, 2, 20)
    with Running(edge.settings()):
        edge.send(fields)
        wait_until(lambda: len(edge.cos.objects) == 1)
        began = time.monotonic()
    assert time.monotonic() - began < 10  # it does not wait for the second picture
    assert edge.pending == 1
    assert not edge.redis.exists(f"snap:result:{fields['request_id']}")
    with Running(edge.settings()):
        wait_until(lambda: len(edge.cos.puts) == 2)  # the first one again
        assert edge.pending == 1


def test_others_of_the_group_are_told_that_a_burst_is_still_in_hand(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.camera("cam01")
    monkeypatch.setattr("snapd.service.RENEW_AFTER", 0.5)
    edge.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    with Running(edge.settings()):
        fields, sent_at = burst(edge, 3, 1), time.monotonic()
        edge.send(fields)

        def is_renewed() -> bool:
            elapsed = time.monotonic() - sent_at
            pending: Any = edge.redis.xpending_range(STREAM, GROUP, "-", "+", 10)
            assert [row["times_delivered"] for row in pending] in ([], [1])
            return any(row["time_since_delivered"] / 1000 < elapsed - 0.9 for row in pending)

        wait_until(is_renewed)
        assert len(result_of(edge, fields)["urls"]) == 3


def test_bursts_beyond_the_room_for_them_keep_their_workers(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.camera("cam01")
    monkeypatch.setattr("snapd.service.WAITING", 1)
    with Running(edge.settings(snapshot={"workers": 2})):
        bursts = [burst(edge, 3, 0.3, cos_path=f"{number}-{{n}}.jpg") for number in range(4)]
        edge.send(*bursts)
        assert [len(edge.result_by_key(fields).urls) for fields in bursts] == [3] * 4
