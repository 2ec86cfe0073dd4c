"""Entries that nobody can answer: dead letters, what they cost the others, and how they are put back."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.requests.pending import DEAD, assert_letter_is_made_once_and_put_back, take_for, wear_out
from tests.support.edge import CONSUMER, STREAM, Edge, Running, wait_until, write_config
from tests.support.held_up import HeldUp
from tests.support.redis_proxy import RedisProxy, Verdict
from tests.test_snapd_cli import snapd


def test_entry_delivered_too_often_is_a_dead_letter_and_can_be_replayed(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    fields = edge.fields() | {"more": b"\xff", "dead:reason": "mine"}
    edge.send(fields)
    (entry_id,) = take_for(edge, CONSUMER, 1)
    wear_out(edge, entry_id, 5)
    with Running(edge.settings()):
        assert edge.wvp.wait(1, 30)[0].message == "内部错误"
        wait_until(lambda: edge.pending == 0)
    assert not edge.cos.puts
    (letter,) = orjson.loads(snapd("dead", "--json", "--config", config).stdout)
    assert (letter["entry_id"], letter["deliveries"]) == (entry_id, 6)
    assert letter["reason"] == "delivered 5 times without an answer"
    assert letter["fields"].keys() == fields.keys() - {"dead:reason"}
    assert 0 <= letter["moved_at"] - letter["sent_at"] < 60
    shown = snapd("dead", "--config", config).stdout.decode()
    assert f"request {fields['request_id']} for cam01: delivered 5 times" in shown

    done = snapd("dead", "--replay", letter["id"], "--config", config)
    assert done.returncode == 0, done.stderr
    assert edge.redis.xlen(DEAD) == 0
    assert snapd("dead", "--config", config).stdout.decode() == f"no dead letters on {DEAD}\n"
    with Running(edge.settings()):
        assert edge.wvp.wait(2, 30)[1].status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert edge.wvp.results[1].request_id == fields["request_id"]


@pytest.mark.parametrize("letter", ["1-1", "no id"])
def test_replay_of_no_dead_letter_says_so(edge: Edge, tmp_path: Path, letter: str) -> None:
    done = snapd("dead", "--replay", letter, "--config", write_config(edge, tmp_path / "c.toml"))
    assert done.returncode == 1
    assert letter in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_dead_letters_have_no_place_and_the_entry_stays(edge: Edge) -> None:
    edge.redis.set(DEAD, "something else")
    edge.send(edge.fields())
    (entry_id,) = take_for(edge, CONSUMER, 1)
    wear_out(edge, entry_id, 5)
    with Running(edge.settings()):
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 1)


CRASH = """
import os, sys
from snapd import cli
from snapd.pictures import capture
def die(*_):
    os._exit(9)
ask = capture.Captures.join
capture.Captures.join = lambda self, code, *form: die() if code == "cam02" else ask(self, code, *form)
cli.main(sys.argv[1:])
"""


def test_request_that_kills_the_process_ends_as_a_dead_letter(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml", stream={"max_deliveries": 2})
    poison = edge.fields("cam02")
    edge.send(poison)
    command = [sys.executable, "-c", CRASH, "run", "--config", str(config)]
    for _ in range(2):
        assert subprocess.run(command, timeout=20, check=False).returncode == 9
    assert edge.redis.xlen(DEAD) == 0
    with subprocess.Popen(command) as process:
        edge.send(edge.fields())
        assert {result.status for result in edge.wvp.wait(2, 30)} == {"error", "ok"}
        process.terminate()
        assert process.wait(60) == 0
    assert edge.redis.xlen(DEAD) == 1


def test_last_try_is_made_alone_and_costs_the_others_little(edge: Edge, held_up: HeldUp) -> None:
    edge.send(*(edge.fields() for _ in range(8)))
    ids = take_for(edge, CONSUMER, 8)
    for entry_id in ids[2:5]:
        wear_out(edge, entry_id, 4)
    most = 0
    answer = edge.wvp.answer

    def count(request: Any) -> Any:
        nonlocal most
        time.sleep(0.2)
        most = max(most, len(in_hand))
        return answer(request)

    edge.wvp.answer = count  # type: ignore[method-assign]
    with Running(edge.settings()) as running:
        in_hand = running.service._stream._in_hand
        edge.send(edge.fields())
        edge.wvp.wait(2, 30)
        began, most = time.monotonic(), 0
        edge.wvp.wait(5, 30)
        assert most == 1
        edge.wvp.wait(9, 30)
        wait_until(lambda: edge.pending == 0)
    assert time.monotonic() - began < 2 + held_up.since(began)
    assert edge.redis.xlen(DEAD) == 0


def test_entry_that_cannot_be_read_is_a_dead_letter(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    with Running(edge.settings()), monkeypatch.context() as patch:
        patch.setattr("snapd.job.parse", fail)
        edge.send(edge.fields())
        wait_until(lambda: edge.redis.xlen(DEAD) == 1 and edge.pending == 0)


def once(command: bytes, key: bytes, verdict: Verdict) -> Callable[[list[bytes]], Verdict]:
    """`verdict` for the first such command, "pass" for all others."""
    left = [verdict]

    def judge(words: list[bytes]) -> Verdict:
        return left.pop() if left and words[0] == command and words[1] == key else "pass"

    return judge


@pytest.mark.parametrize("command", ["XADD", "SET", "XACK"])
def test_dead_letter_stays_single_when_the_connection_is_cut_before_an_answer(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The transaction that made the letter was sent again when its answer was lost: there were two."""
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    fields = edge.fields()
    edge.send(fields)
    wear_out(edge, take_for(edge, CONSUMER, 1)[0], 5)
    key = {"XADD": DEAD, "SET": f"snap:done:{fields['request_id']}", "XACK": STREAM}[command].encode()
    proxy = RedisProxy(edge.redis_server.port, once(command.encode(), key, "cut"))
    with proxy, Running(edge.settings(redis={"url": proxy.url})):
        assert edge.wvp.wait(1, 30)[0].message == "内部错误"
        wait_until(lambda: edge.pending == 0)
    assert edge.redis.xlen(DEAD) == 1
    assert len(edge.wvp.results) == 1


def test_letter_that_was_stuck_on_its_way_and_comes_late_is_refused(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    edge.send(edge.fields())
    wear_out(edge, take_for(edge, CONSUMER, 1)[0], 5)
    with RedisProxy(edge.redis_server.port, once(b"XADD", DEAD.encode(), "hold")) as proxy:
        with Running(edge.settings(redis={"url": proxy.url})):
            wait_until(lambda: edge.redis.xlen(DEAD) == 1 and edge.pending == 0)
        assert [answer[:4] for answer in proxy.release()] == [b"-ERR"]
    assert edge.redis.xlen(DEAD) == 1


def test_letter_that_another_snapd_made_before_it_died_is_not_made_again(edge: Edge) -> None:
    edge.send(edge.fields())
    (entry_id,) = take_for(edge, CONSUMER, 1)
    wear_out(edge, entry_id, 5)
    edge.redis.xadd(DEAD, {"dead:entry": entry_id, "dead:reason": "mine"})
    for _ in range(1500):  # more than one look's page
        edge.redis.xadd(DEAD, {"dead:entry": "1-1"})
    with Running(edge.settings()):
        wait_until(lambda: edge.pending == 0)
    assert edge.redis.xlen(DEAD) == 1501


def test_letters_dated_by_a_clock_ahead_are_followed_by_others(edge: Edge) -> None:
    edge.redis.xadd(DEAD, {"dead:entry": "1-1"}, id=f"{int((time.time() + 10**6) * 1000)}-7")
    edge.send(*(edge.fields() for _ in range(3)))
    for entry_id in take_for(edge, CONSUMER, 3):
        wear_out(edge, entry_id, 5)
    with Running(edge.settings()):
        wait_until(lambda: edge.pending == 0)
    letters: Any = edge.redis.xrange(DEAD)
    assert len({fields[b"dead:entry"] for _, fields in letters}) == len(letters) == 4


def test_letter_that_is_put_back_is_answered_anew_by_the_snapd_that_buried_it(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    assert_letter_is_made_once_and_put_back(edge, tmp_path)


def test_letter_says_why_there_was_no_answer(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, late: bool) -> str:
        if late:  # the letter's own
            return "key"
        raise LookupError("redis://me:hidden@a/0 is of no use")

    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    monkeypatch.setattr("snapd.answers.handover.Handover.deliver", fail)
    edge.send(edge.fields())
    with Running(edge.settings(stream={"max_deliveries": 2})):
        wait_until(lambda: edge.redis.xlen(DEAD) == 1 and edge.pending == 0)
    (letter,) = orjson.loads(snapd("dead", "--json", "--config", write_config(edge, tmp_path / "c.toml")).stdout)
    assert letter["reason"].startswith("delivered 2 times without an answer, at last: LookupError: redis://me:***@a")
    assert "hidden" not in letter["reason"]
    assert any(letter["reason"] in record.getMessage() for record in caplog.records)
