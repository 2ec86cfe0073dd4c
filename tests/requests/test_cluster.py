"""A Redis cluster: one result for one request_id there too, by whatever address, and when a master dies."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from redis.crc import key_slot

from framesrv import ConfigError
from snapd.requests.once import Mark
from snapd.requests.redis import open_client, open_once
from snapd.requests.url import ClusterUrl
from tests.requests.pending import DEAD, assert_letter_is_made_once_and_put_back
from tests.support.cos import CosServer
from tests.support.edge import GROUP, STREAM, Edge, Fields, Running, wait_until, write_config
from tests.support.ports import free_port
from tests.support.processes import run
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_proxy import RedisProxy, Verdict
from tests.support.redis_server import RedisServer
from tests.support.wvp import WvpServer
from tests.test_snapd_cli import snapd


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def edge(cluster: RedisCluster) -> Iterator[Edge]:
    """A host whose Redis is the cluster, empty but for the group."""
    wait_until(cluster.is_whole)
    with CosServer() as cos, WvpServer() as wvp, Edge(cluster, cos, wvp) as surroundings:  # type: ignore[arg-type]
        cluster.flush()
        surroundings.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        surroundings.camera("cam01")
        yield surroundings


def address(cluster: RedisCluster, kind: str) -> str:
    """A URL of the cluster; "elsewhere" is one node, and not the one that has the stream."""
    if kind == "several nodes":
        return cluster.url
    others = [node for node in cluster.nodes[: cluster.masters] if node is not cluster.owner(STREAM)]
    return others[0].url if kind == "elsewhere" else others[0].url.replace("redis://", "redis+cluster://")


def told(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


@pytest.mark.parametrize("kind", ["several nodes", "one node", "elsewhere"])
def test_request_sent_again_gets_its_result_again_and_no_second_picture(
    edge: Edge, cluster: RedisCluster, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    requests = [edge.fields() for _ in range(20)]  # in slots of every master
    with Running(edge.settings(redis={"url": address(cluster, kind)})) as running:
        for times in (1, 2):
            edge.send(*requests)
            edge.wvp.wait(times * len(requests), 20)
            wait_until(lambda: edge.pending == 0)
        pictures = running.encoder.count
        assert edge.ask(callback_url=edge.wvp.url).status == "ok"
    results = {(result.request_id, result.url) for result in edge.wvp.results}
    assert len(results) == 21
    assert set(Counter(result.request_id for result in edge.wvp.results[:-1]).values()) == {2}
    assert pictures <= 20
    assert len(edge.cos.puts) == 21
    assert told(caplog) == ""


def test_cluster_that_does_not_tell_its_slots_is_learnt_key_by_key(
    edge: Edge, cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    for node in cluster.nodes:
        with node.client() as client:
            client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-cluster"])
    try:
        requests = [edge.fields() for _ in range(10)]
        with Running(edge.settings()):
            edge.send(*requests, *requests)
            edge.wvp.wait(20, 20)
            wait_until(lambda: edge.pending == 0)
    finally:
        for node in cluster.nodes:
            with node.client() as client:
                client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
    assert len(edge.cos.puts) == 10
    refused = [line for line in told(caplog).splitlines() if line.startswith("Redis refuses")]
    assert [line.split(":")[0] for line in refused] == ["Redis refuses CLUSTER"]


def test_results_go_to_their_keys(edge: Edge) -> None:
    fields = [edge.fields(callback_url=None) for _ in range(10)]
    with Running(edge.settings()):
        edge.send(*fields)
        assert {edge.result_by_key(one).status for one in fields} == {"ok"}
        wait_until(lambda: edge.pending == 0)


def test_entry_that_ended_without_an_answer_has_one_successor(edge: Edge) -> None:
    fields = [edge.fields() for _ in range(6)]
    for one in fields:
        edge.redis.set(f"snap:done:{one['request_id']}", Mark("taken", "1-1").to_json(), ex=60)
    with Running(edge.settings()), Running(edge.settings(stream={"consumer": "other"})):
        edge.send(*fields, *fields)
        edge.wvp.wait(12, 30)
        wait_until(lambda: edge.pending == 0)
    assert len(edge.cos.puts) == 6
    assert len({(result.request_id, result.url) for result in edge.wvp.results}) == 6


def test_dead_letter_is_made_once_and_put_back(edge: Edge, tmp_path: Path) -> None:
    assert_letter_is_made_once_and_put_back(edge, tmp_path)


def test_commands_work(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    with Running(edge.settings()):
        assert snapd("request", "cam01", "--config", config).stdout.startswith(b"ok ")
    found = orjson.loads(snapd("queue", "--json", "--config", config).stdout)
    assert (found["length"], found["lag"], found["pending"]) == (1, 0, 0)
    assert b"ok     redis:" in snapd("check", "--config", config).stdout


@pytest.mark.timeout(180)
def test_master_that_dies_costs_no_request(edge: Edge, cluster: RedisCluster) -> None:
    asked: list[Fields] = []

    def ask(count: int) -> None:
        for _ in range(count):
            asked.append(edge.fields())
            until = time.monotonic() + 30
            while True:
                try:
                    edge.redis.xadd(STREAM, asked[-1])
                    break
                except (redis.RedisError, redis.exceptions.RedisClusterException):
                    assert time.monotonic() < until
                    time.sleep(0.1)

    with Running(edge.settings()) as running:
        ask(10)
        edge.wvp.wait(10, 30)
        wait_until(lambda: cluster.replica_of(cluster.owner(STREAM)))
        dead = cluster.owner(STREAM)
        dead.kill()
        ask(10)
        names = {one["request_id"] for one in asked}
        wait_until(lambda: {result.request_id for result in edge.wvp.results} >= names, 60)
        assert running.thread.is_alive()
        dead.start()
        wait_until(cluster.is_whole)
        wait_until(lambda: edge.pending == 0, 60)
    assert {result.status for result in edge.wvp.results} == {"ok"}


def test_key_on_its_way_to_another_node_is_followed(edge: Edge, cluster: RedisCluster) -> None:
    key = "snap:done:moving"
    slot, source = key_slot(key.encode()), cluster.owner(key)
    target = next(node for node in cluster.nodes if node is not source and _role(node) == "master")
    with source.client() as here, target.client() as there, open_client(cluster.url) as client:
        ids: list[Any] = [_text(one.execute_command("CLUSTER MYID")) for one in (here, there)]
        assert client.set(key, "before") is True
        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        here.delete(key)
        assert client.set(key, "during", nx=True) is True
        assert client.batch([("GET", key), ("GET", f"{{{key}}}other"), ("GET", "elsewhere")]) == [
            b"during",
            None,
            None,
        ]
        for one in (there, here):
            one.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
        assert client.get(key) == b"during"
        assert client.batch([("GET", key)]) == [b"during"]


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[RedisServer]:
    """A cluster of one node: it has every slot, and refuses what has keys in two of them."""
    with RedisServer(tmp_path / "redis", cluster_enabled="yes", cluster_port=str(free_port())) as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: "cluster_state:ok" in _info(client))
        yield server


def test_managed_cluster_behind_one_address_costs_no_second_picture(
    one_node: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Transactions were refused with CROSSSLOT: entries were acknowledged alone, and asked again cost a picture."""
    with CosServer() as cos, WvpServer() as wvp, Edge(one_node, cos, wvp) as edge:
        edge.camera("cam01")
        fields = edge.fields()
        with Running(edge.settings()):
            for times in (1, 2):
                edge.send(fields)
                edge.wvp.wait(times, 30)
                wait_until(lambda: edge.pending == 0)
        assert len({(result.request_id, result.url) for result in wvp.results}) == len(cos.puts) == 1
    assert told(caplog) == ""


def test_proxy_without_transactions_and_other_commands_of_connections_works(
    one_node: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[bytes] = []

    def judge(words: list[bytes]) -> Verdict:
        if words[0] in {b"HELLO", b"CLIENT", b"MULTI", b"EXEC", b"WATCH", b"CLUSTER", b"INFO", b"TIME", b"TYPE"}:
            refused.append(words[0])
            return b"-ERR unknown command '%s', with args beginning with: \r\n" % words[0]
        return "pass"

    with (
        RedisProxy(one_node.port, judge) as proxy,
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(one_node, cos, wvp) as edge,
    ):
        edge.camera("cam01")
        fields = edge.fields()
        with Running(edge.settings(redis={"url": proxy.url})):
            edge.send(fields)
            wvp.wait(1, 30)
            edge.send(fields)
            wvp.wait(2, 30)
            wait_until(lambda: edge.pending == 0)
        assert len(cos.puts) == 1
    assert not {b"MULTI", b"EXEC", b"WATCH", b"HELLO"} & set(refused)
    assert [line.split(":")[0] for line in told(caplog).splitlines()] == [
        "Redis refuses INFO",
        "Redis refuses TIME",
    ]


def test_what_must_not_be_repeated_is_sent_to_one_node_once(edge: Edge, cluster: RedisCluster) -> None:
    sent: list[bytes] = []

    def judge(words: list[bytes]) -> Verdict:
        sent.append(words[0])
        return "cut" if words[0] == b"XADD" else "pass"

    proxy = RedisProxy(cluster.owner(DEAD).port, judge)
    with proxy, open_once(proxy.url) as client, pytest.raises(redis.ConnectionError):
        client.xadd(DEAD, {"a": "b"})
    assert sent.count(b"XADD") == 1
    assert edge.redis.xlen(DEAD) == 1


def test_cluster_url_has_everything() -> None:
    url = ClusterUrl.parse("rediss+cluster://me:p%40ss@a,b:1234,[::1]:5/0?ssl_ca_certs=/a.pem")
    assert url.nodes == [f"rediss://me:p%40ss@{host}/0?ssl_ca_certs=/a.pem" for host in ("a", "b:1234", "[::1]:5")]
    assert "p%40ss" not in repr(url)
    assert ClusterUrl.parse("redis+cluster://a").nodes == ["redis://a/0"]


@pytest.mark.parametrize("rest", ["", "host:x", "a,,b", "host/1", "host/service/0"])
def test_cluster_url_that_is_none_is_refused(edge: Edge, tmp_path: Path, rest: str) -> None:
    url = f"redis+cluster://u:hidden@{rest}"
    with pytest.raises(ConfigError):
        ClusterUrl.parse(url)
    done = run("snapd", "run", "--config", write_config(edge, tmp_path / "c.toml", redis={"url": url}))
    assert done.returncode == 2, done.stderr
    assert "redis.url: expected redis+cluster://" in done.stderr
    assert "hidden" not in done.stderr


def _role(node: RedisServer) -> str:
    with node.client() as client:
        found: Any = client.execute_command("ROLE")
        return _text(found[0])


def _info(client: redis.Redis) -> str:
    found: Any = client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    if isinstance(found, dict):
        return "\n".join(f"{key}:{value}" for key, value in found.items())
    return _text(found)


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
