"""One result for one request_id, whatever is delivered again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from snapd.requests.once import Decision, IdempotencyKeys, Mark, Turn
from snapd.requests.redis import open_client
from snapd.wire.request import Request
from snapd.wire.result import Result
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Fields, Running, wait_until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given back is taken again after a moment."""
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.05)


def deliver(edge: Edge, fields: Fields, consumer: str = CONSUMER) -> str:
    """Sends a request that a consumer takes and never answers; the entry's id."""
    edge.send(fields)
    reply: Any = edge.redis.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=1)
    entry_id: str = reply[0][1][0][0].decode()
    return entry_id


def mark(edge: Edge, fields: Fields, state: Any, entry_id: str, result: Result | None = None) -> None:
    edge.redis.set(f"snap:done:{fields['request_id']}", Mark(state, entry_id, result).to_json(), ex=60)


def marked(edge: Edge, fields: Fields) -> Any:
    return orjson.loads(edge.redis.get(f"snap:done:{fields['request_id']}") or b"null")


@contextmanager
def keys_denied(edge: Edge, *allowed: str) -> Iterator[None]:
    """Only these keys can be used, by anyone."""
    rule = {"enabled": True, "nopass": True, "commands": ["+@all"]}
    edge.redis.acl_setuser("default", keys=list(allowed), reset_keys=True, **rule)  # type: ignore[arg-type]
    try:
        yield
    finally:
        edge.redis.acl_setuser("default", keys=["*"], **rule)  # type: ignore[arg-type]


def answered_once(edge: Edge, fields: Fields) -> None:
    answered_alike(edge, fields, 1)


def answered_alike(edge: Edge, fields: Fields, times: int) -> None:
    """Each entry was answered once, and all with the same result."""
    wait_until(lambda: edge.pending == 0)
    assert [result.request_id for result in edge.wvp.results] == [fields["request_id"]] * times
    assert len({(result.status, result.url) for result in edge.wvp.results}) == 1
    assert len(edge.cos.puts) <= 1


def test_answer_is_remembered_for_an_hour(edge: Edge) -> None:
    fields = edge.fields()
    with Running(edge.settings()):
        edge.send(fields)
        wait_until(lambda: edge.wvp.results and edge.pending == 0)
    assert marked(edge, fields)["state"] == "done"
    assert 3590 < int(edge.redis.ttl(f"snap:done:{fields['request_id']}")) <= 3600


def test_entries_with_one_id_in_one_batch_get_the_same_result_and_cost_one_picture(edge: Edge) -> None:
    fields = edge.fields()
    edge.send(fields, fields, fields)
    with Running(edge.settings()):
        answered_alike(edge, fields, 3)
    assert len(edge.cos.puts) == 1


def test_request_sent_again_after_its_answer_is_answered_again_without_a_second_picture(edge: Edge) -> None:
    fields = edge.fields()
    with Running(edge.settings()) as running:
        for times in (1, 2, 3):
            edge.send(fields)
            edge.wvp.wait(times, 30)
            answered_alike(edge, fields, times)
        assert running.encoder.count == 1


def test_request_sent_again_is_answered_where_it_says_now(edge: Edge) -> None:
    fields = edge.fields()
    with Running(edge.settings()):
        edge.send(fields)
        edge.wvp.wait(1, 30)
        wait_until(lambda: edge.pending == 0)
        edge.send({name: value for name, value in fields.items() if name != "callback_url"})
        assert edge.result_by_key(fields).url == edge.wvp.results[0].url
    assert len(edge.wvp.results) == len(edge.cos.puts) == 1


def test_entry_of_a_request_sent_again_is_silent_when_it_is_delivered_again(edge: Edge) -> None:
    fields = edge.fields()
    with Running(edge.settings()):
        edge.send(fields)
        edge.wvp.wait(1, 30)
        edge.send(fields)
        edge.wvp.wait(2, 30)
        wait_until(lambda: edge.pending == 0)
    first, second = marked(edge, fields)["earlier"][0], marked(edge, fields)["entry"]
    key = f"snap:done:{fields['request_id']}"
    content = edge.redis.get(key)
    client = open_client(edge.redis_server.url)
    keys = IdempotencyKeys(client, lambda *_: False, 60)
    for entry_id in (first, second):
        request = Request(entry_id, fields["request_id"], "cam01", "a.jpg", "")
        assert keys.begin([request])[0].turn is Turn.DONE
    assert edge.redis.get(key) == content
    client.close()


def test_two_entries_with_one_id_at_two_instances_get_the_same_result(edge: Edge) -> None:
    edge.wvp.delay = 0.5
    fields = edge.fields()
    two = edge.settings(stream={"consumer": "other"}, snapshot={"workers": 1})
    with Running(edge.settings(snapshot={"workers": 1})), Running(two):
        edge.send(fields, fields)
        edge.wvp.wait(2, 20)
        answered_alike(edge, fields, 2)
    consumers: Any = edge.redis.xinfo_consumers(STREAM, GROUP)
    assert len(consumers) == 2


def test_waiting_for_another_entry_is_no_delivery(edge: Edge) -> None:
    edge.wvp.delay = 1.5  # ten looks, more than max_deliveries
    fields = edge.fields()
    with Running(edge.settings()):
        edge.send(fields, fields)
        edge.wvp.wait(2, 20)
        answered_alike(edge, fields, 2)
    assert edge.redis.xlen("edge_snap_dead") == 0


def test_entry_delivered_again_after_its_answer_is_only_acknowledged(edge: Edge) -> None:
    fields = edge.fields()
    mark(edge, fields, "done", deliver(edge, fields))
    with Running(edge.settings()) as running:
        wait_until(lambda: edge.pending == 0)
        assert running.encoder.count == 0
    assert edge.wvp.results == []


def test_result_of_an_earlier_delivery_is_handed_over_and_not_captured_again(edge: Edge) -> None:
    fields = edge.fields()
    kept = Result.ok(fields["request_id"], "cam01", "http://store/kept.jpg")
    mark(edge, fields, "result", deliver(edge, fields), kept)
    with Running(edge.settings()):
        answered_once(edge, fields)
    assert edge.wvp.results[0].url == kept.url
    assert not edge.cos.puts


def test_result_that_could_not_be_handed_over_is_handed_over_later(edge: Edge) -> None:
    fields = edge.fields(callback_url="http://127.0.0.1:1")
    with Running(edge.settings()):
        with keys_denied(edge, STREAM, "snap:done:*"):
            edge.send(fields)
            wait_until(lambda: (marked(edge, fields) or {}).get("state") == "result")
        assert edge.result_by_key(fields).status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert len(edge.cos.puts) == 1


@pytest.mark.parametrize("holder", ["itself", "answered", "nobody"])
def test_request_whose_entry_ended_before_its_result_is_answered(edge: Edge, holder: str) -> None:
    fields = edge.fields()
    entry_id = deliver(edge, fields)
    if holder == "nobody":
        edge.redis.set(f"snap:done:{fields['request_id']}", b"\xffrubbish")
    else:
        mark(edge, fields, "taken", entry_id if holder == "itself" else "1-1")
    with Running(edge.settings()):
        answered_once(edge, fields)


def test_result_that_another_entry_left_is_handed_over(edge: Edge) -> None:
    fields = edge.fields()
    mark(edge, fields, "result", "1-1", Result.ok(fields["request_id"], "cam01", "http://store/kept.jpg"))
    edge.send(fields)
    with Running(edge.settings()):
        answered_once(edge, fields)
    assert not edge.cos.puts


def test_entry_waits_for_another_instance_to_end_and_goes_on_if_that_answered_nothing(edge: Edge) -> None:
    fields = edge.fields()
    first = deliver(edge, fields, "other")
    mark(edge, fields, "taken", first)
    with Running(edge.settings()) as running:
        edge.send(fields)
        wait_until(lambda: int(edge.redis.xpending(STREAM, GROUP)["pending"]) == 2)
        assert running.encoder.count == 0
        edge.redis.xack(STREAM, GROUP, first)
        answered_once(edge, fields)


def test_redis_trouble_with_the_marks_costs_no_answer(edge: Edge) -> None:
    with Running(edge.settings()), keys_denied(edge, STREAM, "snap:result:*"):
        edge.send(*(edge.fields() for _ in range(3)))
        edge.wvp.wait(3, 30)
        wait_until(lambda: edge.pending == 0)
    for kind in ("done", "next", "result"):
        assert edge.redis.keys(f"snap:{kind}:*") == []


def test_answer_that_comes_between_two_looks_is_not_taken_for_a_mark_left_behind(edge: Edge) -> None:
    """Two callbacks came for one request: its mark was read, its entry ended, and the mark was replaced."""
    first, second = (Request(f"{number}-0", "r", "cam01", "a.jpg", "") for number in (1, 2))
    client = open_client(edge.redis_server.url)

    def ends_meanwhile(*_: str) -> bool:
        with client.pipeline() as pipeline:
            keys = IdempotencyKeys(client, lambda *_: True, 60)
            keys.done(first, Result.ok("r", "cam01", "http://store/a.jpg"), Decision(Turn.GO))(pipeline)
            pipeline.execute()
        return False

    assert IdempotencyKeys(client, ends_meanwhile, 60).begin([first])[0].turn is Turn.GO
    assert IdempotencyKeys(client, ends_meanwhile, 60).begin([second])[0].turn is Turn.WAIT
    (again,) = IdempotencyKeys(client, ends_meanwhile, 60).begin([second])
    assert (again.turn, again.result) == (Turn.GO, Result.ok("r", "cam01", "http://store/a.jpg"))
    client.delete("snap:done:r")
    client.close()


def test_answer_that_is_noted_while_marks_are_read_does_not_count_as_forgotten(
    edge: Edge, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request sent again at once was answered well, and the log said that Redis forgets answers."""
    first, second = (Request(f"{number}-0", "r", "cam01", "a.jpg", "") for number in (1, 2))
    result, decision = Result.ok("r", "cam01", "http://store/a.jpg"), Decision(Turn.GO)
    with open_client(edge.redis_server.url) as client:
        keys = IdempotencyKeys(client, lambda *_: False, 60)
        keys.keep(first, result, decision)
        note, ask = keys.done(first, result, decision), client.batch

        def batch(commands: Any) -> Any:
            replies = ask(commands)
            note(client)
            return replies

        monkeypatch.setattr(client, "batch", batch)
        assert keys.begin([second])[0].result == result
    assert "forgotten" not in caplog.text
