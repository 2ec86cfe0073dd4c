"""Users of Redis with the documented rights are enough for hosts that are routed to, and for routers."""

import logging
import re
from collections.abc import Callable, Iterator

import pytest

from snapd.requests import fleet
from snapd.requests.trouble import WITHOUT
from tests.requests.test_rights import OPERATING, RULES, refusals
from tests.support.edge import Edge, Running, wait_until
from tests.support.hosts import host, left_on, router, settings_of, wait_for_hosts

ROUTERS = re.findall(r"A router's user needs `([^`]+)` as well", OPERATING)[0].split()


@pytest.fixture
def allow(edge: Edge) -> Iterator[Callable[..., str]]:
    """A user with the documented rights, and others or fewer; the URL."""

    def allowed(*more: str) -> str:
        rules = [*(rule.replace(">PASSWORD", ">sesame") for rule in RULES), *more]
        edge.redis.execute_command("ACL", "SETUSER", "snapd", *rules)  # type: ignore[no-untyped-call]
        return f"redis://snapd:sesame@127.0.0.1:{edge.redis_server.port}/0"

    yield allowed
    edge.redis.acl_deluser("snapd")


@pytest.mark.parametrize("without", [(), ("-eval", "-evalsha")])
def test_documented_rights_are_enough(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture, without: tuple[str, ...]
) -> None:
    caplog.set_level(logging.INFO)
    redis = {"url": allow(*ROUTERS, *without)}
    with host(edge, "edge1", ["cam01"], redis=redis), router(edge, redis=redis) as routing:
        wait_for_hosts(routing, 1)
        assert {edge.ask().status for _ in range(3)} == {"ok"}
        wait_until(lambda: left_on(edge, fleet.of_host(edge.settings().stream, "edge1")) == 0)
        wait_until(lambda: edge.pending == 0)
    assert refusals(caplog) == []
    assert ("no script spans streams" in caplog.text) == bool(without)


@pytest.mark.parametrize("command", ["XDEL", "HSET", "HGETALL"])
def test_right_that_a_host_lacks_is_named_in_one_line(
    edge: Edge, allow: Callable[..., str], caplog: pytest.LogCaptureFixture, command: str
) -> None:
    stream = fleet.of_host(edge.settings().stream, "edge1")
    with Running(settings_of(edge, "edge1", ["cam01"], redis={"url": allow(f"-{command.lower()}")})):
        wait_until(lambda: edge.redis.exists(stream.source))
        edge.redis.xadd(stream.source, edge.fields())
        edge.redis.xadd(stream.source, edge.fields())
        assert {one.status for one in edge.wvp.wait(2, 30)} == {"ok"}
        wait_until(lambda: refusals(caplog))
    told = refusals(caplog)
    assert [WITHOUT[command] in line for line in told] == [True]
