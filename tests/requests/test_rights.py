"""A user of Redis with the rights that the documents name, and with one less: one line says so, the rest goes on."""

import logging
import re
import shlex
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from snapd.pages.overview import Overview
from snapd.requests.redis import open_client
from snapd.requests.trouble import WITHOUT
from tests.requests.pending import DEAD, take_for, wear_out
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Running, wait_until, write_config
from tests.test_snapd_cli import snapd

OPERATING = (Path(__file__).parents[2] / "docs/operating.md").read_text()
LINE = next(line for line in OPERATING.splitlines() if line.startswith("redis-cli ACL SETUSER"))
RULES = shlex.split(LINE)[4:]
# XINFO is for who looks on, CLUSTER for clusters, some for who is routed to; without XREADGROUP nothing is answered.
USED = sorted(WITHOUT.keys() - {"XINFO", "CLUSTER", "XREADGROUP", "XDEL", "HSET", "HGETALL"})


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given back is taken again after a moment."""
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.3)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.1)
    monkeypatch.setattr("snapd.requests.acknowledgements.LONGEST_PAUSE", 0.5)


@pytest.fixture
def allow(edge: Edge) -> Iterator[Callable[..., str]]:
    """Gives the user the documented rights without some commands; the URL."""

    def allowed(*less: str) -> str:
        rules = [*(rule.replace(">PASSWORD", ">sesame") for rule in RULES), *(f"-{one.lower()}" for one in less)]
        edge.redis.execute_command("ACL", "SETUSER", "snapd", *rules)  # type: ignore[no-untyped-call]
        return f"redis://snapd:sesame@127.0.0.1:{edge.redis_server.port}/0"

    yield allowed
    edge.redis.acl_deluser("snapd")


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("Redis refuses")]


def answered(edge: Edge, name: str, times: int) -> bool:
    return sum(result.request_id == name for result in edge.wvp.results) >= times


def leave_something_of_each_kind(edge: Edge) -> list[str]:
    """A request that a dead snapd held, and one delivered too often; their ids."""
    held, poison = edge.fields(), edge.fields()
    edge.send(held, poison)
    wear_out(edge, take_for(edge, CONSUMER, 2)[1], 5)
    return [held["request_id"], poison["request_id"]]


def test_documented_rights_are_enough(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    edge.redis.xgroup_destroy(STREAM, GROUP)
    edge.redis.delete(STREAM)
    url = allow()
    with Running(edge.settings(redis={"url": url})):
        wait_until(lambda: edge.redis.exists(STREAM))
        by_key = edge.fields(callback_url=None, trace="1")
        edge.send(by_key)
        assert edge.result_by_key(by_key).status == "ok"
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0)
    names = leave_something_of_each_kind(edge)
    with Running(edge.settings(redis={"url": url})):
        # a dead letter is acknowledged first, then its sender is told
        wait_until(lambda: edge.pending == 0 and {result.request_id for result in edge.wvp.results} >= set(names))
    assert edge.redis.xlen(DEAD) == 1
    assert refusals(caplog) == []
    config = write_config(edge, tmp_path / "c.toml", redis={"url": url})
    assert snapd("queue", "--config", config).returncode == 0
    said = snapd("check", "--config", config).stdout.decode()
    assert "ok     redis:" in said
    assert "ok     group:" in said


def test_documents_name_every_command_that_is_used() -> None:
    named = {rule[1:].partition("|")[0].upper() for rule in RULES if rule.startswith("+")}
    assert named == WITHOUT.keys()
    table = OPERATING.partition("\n| without | |\n")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| (`[A-Z`, ]+`) \| (.*) \|$", table, re.MULTILINE))
    documented = {name: text for names, text in told.items() for name in re.findall("[A-Z]+", names)}
    assert documented == WITHOUT


@pytest.mark.parametrize("command", USED)
def test_command_taken_away_is_named_in_one_line_and_the_rest_goes_on(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture, command: str
) -> None:
    names = leave_something_of_each_kind(edge)
    sent_again = edge.fields()
    with Running(edge.settings(redis={"url": allow(command)})) as running:
        for times in (1, 2):
            edge.send(sent_again)
            wait_until(partial(answered, edge, sent_again["request_id"], times))
        assert {edge.ask().status for _ in range(5)} == {"ok"}
        wait_until(lambda: refusals(caplog))
        time.sleep(1.0)  # several rounds of everything
        assert [line.split(":")[0] for line in refusals(caplog)] == [f"Redis refuses {command}"]
        assert WITHOUT[command] in refusals(caplog)[0]
        assert not running.service.away
        allow()
        wait_until(lambda: edge.pending == 0)
    assert edge.redis.xlen(DEAD) == 1
    answers = [one for one in edge.wvp.results if one.request_id == sent_again["request_id"]]
    assert len({one.url for one in answers}) == 1
    assert {result.request_id for result in edge.wvp.results} >= set(names)
    assert len(refusals(caplog)) == 1


def test_nothing_is_read_without_the_right_to_and_everything_when_it_is_given(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    url = allow("XREADGROUP")
    with Running(edge.settings(redis={"url": url})) as running:
        edge.send(edge.fields())
        wait_until(lambda: running.service.away)
        time.sleep(1.5)  # several attempts
        assert [line.split(":")[0] for line in refusals(caplog)] == ["Redis refuses XREADGROUP"]
        assert "xreadgroup" in running.service.status
        calls = edge.redis.info("commandstats")["cmdstat_xreadgroup"]["rejected_calls"]
        allow()
        assert edge.wvp.wait(1, 30)[0].status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert calls < 12  # it is not spun on
    assert not [record for record in caplog.records if "cannot be read" in record.getMessage()]


def test_group_that_may_not_be_made_is_waited_for(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    edge.redis.xgroup_destroy(STREAM, GROUP)
    with Running(edge.settings(redis={"url": allow("XGROUP")})):
        edge.send(edge.fields())
        wait_until(lambda: refusals(caplog))
        edge.redis.xgroup_create(STREAM, GROUP, "0")
        assert edge.wvp.wait(1, 30)[0].status == "ok"
    assert [line.split(":")[0] for line in refusals(caplog)] == ["Redis refuses XGROUP"]


def test_request_without_a_callback_waits_or_is_a_dead_letter_where_no_key_may_be_written(
    edge: Edge, allow: Callable[..., str]
) -> None:
    with Running(edge.settings(redis={"url": allow("SET")})):
        edge.send(edge.fields(callback_url=None))
        wait_until(lambda: edge.redis.xlen(DEAD) == 1 and edge.pending == 0)


def test_keys_that_are_not_allowed_are_told_of_by_the_command_that_wanted_them(
    edge: Edge, caplog: pytest.LogCaptureFixture, allow: Callable[..., str]
) -> None:
    url = allow()
    edge.redis.execute_command("ACL", "SETUSER", "snapd", "resetkeys", f"~{STREAM}")  # type: ignore[no-untyped-call]
    with Running(edge.settings(redis={"url": url})):
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert {line.split(":")[0] for line in refusals(caplog)} == {"Redis refuses SET", "Redis refuses GET"}


def test_page_says_once_that_it_may_not_see_the_queue(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    overview = Overview(edge.settings(redis={"url": allow("XINFO")}))
    for _ in range(3):
        found = overview._look_at_queue()
        assert found.queue is None
        assert "xinfo" in found.problem
    assert [line.split(":")[0] for line in refusals(caplog)] == ["Redis refuses XINFO"]


def test_clock_of_this_host_serves_where_redis_does_not_tell_the_time(edge: Edge, allow: Callable[..., str]) -> None:
    with Running(edge.settings(redis={"url": allow("TIME", "INFO")})) as running:
        assert edge.ask().status == "ok"
        assert abs(running.service._stream.clock.now() - time.time()) < 5


def test_user_who_may_not_log_in_is_told_of_and_waited_for(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    url = allow()
    edge.redis.execute_command("ACL", "SETUSER", "snapd", "off")  # type: ignore[no-untyped-call]
    caplog.set_level(logging.WARNING)
    with Running(edge.settings(redis={"url": url})) as running:
        edge.send(edge.fields())
        wait_until(lambda: running.service.away)
        allow()
        edge.wvp.wait(1, 15)
    assert not any("sesame" in record.getMessage() for record in caplog.records)


def test_client_works_with_the_documented_rights(allow: Callable[..., str]) -> None:
    with open_client(allow()) as client:
        replies: Any = client.batch([("SET", "snap:done:x", "1", "NX"), ("GET", "snap:done:x")])
        assert replies == [True, b"1"]
        client.execute_command("SET", "snap:done:x", "", "PX", "1")
