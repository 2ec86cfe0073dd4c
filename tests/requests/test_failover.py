"""A master that dies with what its replica had not heard, and servers that cannot take a command for the moment."""

import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.requests.pending import DEAD, take_for, wear_out
from tests.support.cos import CosServer
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Fields, Running, wait_until
from tests.support.redis_proxy import RedisProxy, Verdict
from tests.support.redis_sentinels import Sentinels
from tests.support.redis_server import RedisServer
from tests.support.wvp import WvpServer

logger = logging.getLogger(__name__)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given back is taken again after a moment."""
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.5)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.1)


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    with Sentinels(tmp_path / "sentinels") as servers:
        yield servers


def undone(running: list[Running]) -> int:
    return sum(one.service._counters.counts()["undone"].get("", 0) for one in running)


def is_replicated(sentinels: Sentinels) -> bool:
    with sentinels.master.client() as client:
        info: Any = client.info("replication")
    return bool(info["slave0"]["offset"] == info["master_repl_offset"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("count", [1, 2])
def test_failover_that_undoes_acknowledgements_loses_nothing_and_who_has_answered_knows(
    sentinels: Sentinels, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What was answered came again, with a picture and a callback: its mark was gone with its acknowledgement."""
    with CosServer() as cos, WvpServer() as wvp, Edge(sentinels, cos, wvp) as edge, ExitStack() as stack:  # type: ignore[arg-type]
        edge.camera("cam01")
        requests: list[Fields] = [edge.fields() for _ in range(40)]
        edge.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        edge.send(*requests)
        wait_until(lambda: is_replicated(sentinels))
        old, new = sentinels.master, sentinels.replica
        sentinels.lose_replica()
        running = [
            stack.enter_context(Running(edge.settings(stream={"consumer": f"snapd-{number}"})))
            for number in range(count)
        ]
        wvp.wait(len(requests), 20)
        wait_until(lambda: edge.pending == 0)
        old.kill()
        new.signal(signal.SIGCONT)
        with new.client(decode_responses=False) as client:
            wait_until(lambda: sentinels.master is new and client.info("replication")["role"] == "master", 60)
            assert client.xpending(STREAM, GROUP)["pending"] + client.xinfo_groups(STREAM)[0]["lag"] > 0
            after = [edge.fields() for _ in range(5)]
            for fields in after:
                client.xadd(STREAM, fields)
            names = {fields["request_id"] for fields in after}
            wait_until(lambda: {result.request_id for result in wvp.results} >= names, 60)

            def left() -> int:
                groups: Any = client.xinfo_groups(STREAM)
                return int(groups[0]["pending"]) + int(groups[0]["lag"])

            wait_until(lambda: left() == 0, 60)
            assert client.xlen(DEAD) == 0
        answers = Counter(result.request_id for result in wvp.results)
        silent = undone(running)
    assert answers.keys() == {fields["request_id"] for fields in requests + after}
    twice = sum(times - 1 for times in answers.values())
    logger.info("undone=%d silent=%d twice=%d", len(requests), silent, twice)
    assert silent + twice == len(requests)
    assert max(answers.values()) <= 2
    if count == 1:
        assert twice == 0
        assert len(cos.puts) == len(requests + after)
    assert any("Redis had forgotten answers" in record.getMessage() for record in caplog.records) == (silent > 0)


@pytest.mark.timeout(180)
def test_results_by_key_and_dead_letters_that_a_failover_undoes_are_there_again(sentinels: Sentinels) -> None:
    with CosServer() as cos, WvpServer() as wvp, Edge(sentinels, cos, wvp) as edge:  # type: ignore[arg-type]
        edge.camera("cam01")
        by_key = [edge.fields(callback_url=None) for _ in range(5)]
        poison = edge.fields()
        edge.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        edge.send(poison)
        wear_out(edge, take_for(edge, CONSUMER, 1)[0], 5)
        edge.send(*by_key)
        wait_until(lambda: is_replicated(sentinels))
        old, new = sentinels.master, sentinels.replica
        sentinels.lose_replica()
        with Running(edge.settings()) as running, new.client(decode_responses=False) as client:
            wait_until(lambda: edge.pending == 0)
            assert edge.redis.xlen(DEAD) == 1
            old.kill()
            new.signal(signal.SIGCONT)
            wait_until(lambda: sentinels.master is new and client.info("replication")["role"] == "master", 60)
            names = {fields["request_id"] for fields in by_key}
            wait_until(lambda: all(client.exists(f"snap:result:{name}") for name in names), 60)
            wait_until(lambda: client.xlen(DEAD) == 1, 60)
            wait_until(lambda: client.xpending(STREAM, GROUP)["pending"] == 0, 60)
            assert running.encoder.count <= len(by_key)
        assert len(cos.puts) == len(by_key)


def rejected(edge: Edge, command: str) -> int:
    found: Any = edge.redis.info("commandstats")
    return int(found.get(f"cmdstat_{command}", {}).get("rejected_calls", 0))


@pytest.mark.usefixtures("soon")
def test_master_that_became_a_replica_is_waited_for_and_not_spun_on(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    edge.wvp.delay = 1.0
    edge.redis.config_resetstat()
    with Running(edge.settings()) as running:
        edge.send(*(edge.fields() for _ in range(3)))
        wait_until(lambda: edge.wvp.requests["POST"] == 3)
        edge.redis.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        try:
            edge.wvp.wait(3, 30)
            wait_until(lambda: running.service.away)
            time.sleep(3)  # an outage is a length of time
            calls = sum(rejected(edge, one) for one in ("set", "xack", "xgroup|create", "xreadgroup", "xclaim"))
        finally:
            edge.redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        edge.wvp.delay = 0.0
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert 0 < calls < 60
    assert len(edge.wvp.results) == len(edge.cos.puts) == 4
    assert edge.redis.xlen(DEAD) == 0
    assert any("is a replica, which takes no writes" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("soon")
def test_full_redis_is_waited_for_and_nobody_is_answered_twice(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    by_callback, by_key = [edge.fields() for _ in range(5)], [edge.fields(callback_url=None) for _ in range(3)]
    edge.send(*by_callback, *by_key)
    edge.redis.config_resetstat()
    edge.redis.config_set("maxmemory", "1")
    try:
        with Running(edge.settings(stream={"max_deliveries": 2})):
            edge.wvp.wait(5, 30)
            time.sleep(3)  # longer than max_deliveries would be counted in
            assert edge.pending == 8
            refused = rejected(edge, "set")
            edge.redis.config_set("maxmemory", "0")
            assert {edge.result_by_key(fields).status for fields in by_key} == {"ok"}
            wait_until(lambda: edge.pending == 0)
            edge.send(by_callback[0])
            edge.wvp.wait(6, 30)
    finally:
        edge.redis.config_set("maxmemory", "0")
    assert 0 < refused < 100
    assert set(Counter(result.request_id for result in edge.wvp.results[:5]).values()) == {1}
    assert edge.wvp.results[5].url == next(
        one.url for one in edge.wvp.results if one.request_id == by_callback[0]["request_id"]
    )
    assert len(edge.cos.puts) == 8
    assert edge.redis.xlen(DEAD) == 0
    lines = [record.getMessage() for record in caplog.records if "not acknowledged yet" in record.getMessage()]
    assert len(lines) == 1


PASSING = [
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "BUSY Redis is busy running a script.",
]


@pytest.mark.parametrize("answer", PASSING, ids=lambda answer: str(answer).split()[0])
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("command", ["XGROUP", "XREADGROUP", "XPENDING", "INFO"])
def test_reading_waits_for_a_server_that_cannot_now(
    edge: Edge, caplog: pytest.LogCaptureFixture, answer: str, command: str
) -> None:
    asked = 0

    def judge(words: list[bytes]) -> Verdict:
        nonlocal asked
        if words[0] != command.encode() or asked >= 3:
            return "pass"
        asked += 1
        return b"-%s\r\n" % answer.encode()

    proxy = RedisProxy(edge.redis_server.port, judge)
    with proxy, Running(edge.settings(redis={"url": proxy.url})):
        edge.send(edge.fields())
        assert edge.wvp.wait(1, 15)[0].status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert asked > 0
    assert len(edge.wvp.results) == 1
    assert not any("Redis refuses" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("answer", PASSING, ids=lambda answer: str(answer).split()[0])
def test_answer_that_cannot_be_noted_now_is_noted_and_acknowledged_later(
    edge: Edge, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    trouble = True

    def judge(words: list[bytes]) -> Verdict:
        return b"-%s\r\n" % answer.encode() if trouble and words[0] == b"SET" else "pass"

    fields = edge.fields()
    proxy = RedisProxy(edge.redis_server.port, judge)
    with proxy, Running(edge.settings(redis={"url": proxy.url})):
        edge.send(fields)
        edge.wvp.wait(1, 30)
        wait_until(lambda: any("not acknowledged yet" in record.getMessage() for record in caplog.records))
        assert edge.pending == 1
        trouble = False
        wait_until(lambda: edge.pending == 0)
        assert b'"done"' in (edge.redis.get(f"snap:done:{fields['request_id']}") or b"")
    assert len(edge.wvp.results) == 1
    assert not any("Redis refuses" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("soon")
def test_entry_that_waits_to_be_acknowledged_is_not_taken_for_a_dead_ones(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another snapd would answer it again: it had been idle for as long as an answer can take."""
    monkeypatch.setattr("snapd.requests.acknowledgements.HELD_EVERY", 0.2)
    monkeypatch.setattr("snapd.requests.acknowledgements.LONGEST_PAUSE", 0.5)
    monkeypatch.setattr("snapd.configured.job_limit", lambda _: 2.0)
    monkeypatch.setattr("snapd.requests.stream.CLAIM_EVERY", 0.1)
    trouble = True

    def judge(words: list[bytes]) -> Verdict:
        return b"-OOM command not allowed\r\n" if trouble and words[0] == b"SET" else "pass"

    proxy = RedisProxy(edge.redis_server.port, judge)
    with proxy, Running(edge.settings(redis={"url": proxy.url})):
        edge.send(edge.fields())
        edge.wvp.wait(1, 30)
        with Running(edge.settings(stream={"consumer": "other"})):
            time.sleep(5)  # more than twice as long as others wait
            trouble = False
            wait_until(lambda: edge.pending == 0)
    assert len(edge.wvp.results) == 1


def test_address_that_moves_to_another_server_is_followed(tmp_path: Path) -> None:
    """A managed Redis fails over behind its name: who is still connected to the old master hears READONLY."""
    with (
        RedisServer(tmp_path / "one") as one,
        RedisServer(tmp_path / "two") as two,
        RedisProxy(one.port, lambda _: "pass") as name,
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(one, cos, wvp) as edge,
        Edge(two, cos, wvp) as moved,
    ):
        edge.camera("cam01")
        with Running(edge.settings(redis={"url": name.url})):
            assert edge.ask().status == "ok"
            name.target = two.port
            edge.redis.execute_command("REPLICAOF", "127.0.0.1", str(two.port))  # type: ignore[no-untyped-call]
            for _ in range(3):
                assert moved.ask().status == "ok"
            wait_until(lambda: moved.pending == 0)
