"""Routing in a Redis cluster, where hosts' streams lie on several nodes, and behind Sentinel."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from framesrv.settings import NOBODY
from tests.support.cos import CosServer
from tests.support.edge import GROUP, STREAM, Edge, wait_until
from tests.support.hosts import died, host, left_on, route_by_hand, router, stream_of, take_by_hand, wait_for_hosts
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinels import Sentinels
from tests.support.wvp import WvpServer


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster"), replicas=0) as nodes:
        yield nodes


def test_requests_reach_hosts_whose_streams_lie_on_other_nodes(
    cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with CosServer() as cos, WvpServer() as wvp, Edge(cluster, cos, wvp) as edge:  # type: ignore[arg-type]
        edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        for code in ("cam01", "cam02"):
            edge.camera(code)
        owners = {cluster.owner(stream_of(edge, name).source).port for name in ("a", "b", "c")}
        assert len(owners) > 1
        dead = died(edge, "dead", ["cam01"])
        left = [edge.fields(), edge.fields()]
        route_by_hand(edge, dead, left[0])
        take_by_hand(edge, dead)
        route_by_hand(edge, dead, left[1])
        with host(edge, "a", ["cam01"]), host(edge, "b", ["cam02"]), host(edge, "c", []), router(edge) as routing:
            wait_for_hosts(routing, 2)
            requests = [edge.fields(code) for code in ("cam01", "cam02", "cam99") for _ in range(4)]
            edge.send(*requests)
            results = edge.wvp.wait(14, 20)
            streams = [dead, *(stream_of(edge, name) for name in ("a", "b", NOBODY))]
            wait_until(lambda: [left_on(edge, stream) for stream in streams] == [0, 0, 0, 0])
            wait_until(lambda: edge.pending == 0)
    assert {one.request_id for one in results} == {one["request_id"] for one in (*requests, *left)}
    assert len(results) == 14
    assert {(one.camera_code, one.status) for one in results} == {
        ("cam01", "ok"),
        ("cam02", "ok"),
        ("cam99", "error"),
    }
    assert "no script spans streams here" in caplog.text


@pytest.mark.timeout(120)
def test_requests_are_routed_on_when_the_master_changes(tmp_path: Path) -> None:
    with Sentinels(tmp_path) as sentinels, CosServer() as cos, WvpServer() as wvp, ExitStack() as stack:
        edge = stack.enter_context(Edge(sentinels, cos, wvp))  # type: ignore[arg-type]
        edge.camera("cam01")
        with host(edge, "a", ["cam01"]), router(edge) as routing:
            wait_for_hosts(routing, 1)
            assert edge.ask().status == "ok"
            old, new = sentinels.master, sentinels.replica
            old.kill()
            wait_until(lambda: sentinels.master is new, 60)
            with new.client() as client:
                wait_until(lambda: client.info("replication")["role"] == "master", 60)
                requests = [edge.fields() for _ in range(3)]
                for fields in requests:
                    client.xadd(STREAM, fields)
                wanted = {one["request_id"] for one in requests}
                wait_until(lambda: {one.request_id for one in edge.wvp.results} >= wanted, 60)
    assert {one.status for one in wvp.results} == {"ok"}
