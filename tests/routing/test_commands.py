"""What commands, page, metrics and health say of a fleet."""

import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from framesrv.settings import NOBODY
from snapd.check import findings
from snapd.requests import fleet
from tests.support.edge import STREAM, Edge, wait_until, write_config
from tests.support.hosts import beat, died, host, left_on, route_by_hand, router, settings_of, stream_of, take_by_hand
from tests.support.pages import Shown
from tests.support.processes import Program
from tests.test_snapd_cli import snapd

ROUTED = {"routed": True, "host": "edge1"}


def test_fleet_is_told_in_words_and_as_json(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "c.toml")
    nothing = snapd("fleet", "--config", config)
    assert nothing.returncode == 0
    assert b"routers: none is alive" in nothing.stdout
    assert b"no host has [stream] routed = true" in nothing.stdout
    stream = died(edge, "edge0", ["cam01", "cam77"], ago=200.0)
    route_by_hand(edge, stream, edge.fields())
    (left,) = orjson.loads(snapd("fleet", "--json", "--config", config).stdout)["hosts"]
    assert (left["host"], left["state"], left["lag"], left["pending"]) == ("edge0", "dead", 1, 0)
    beat(edge, stream_of(edge, "edge2"), ["cam01"], ago=-60.0)
    with host(edge, "edge1", ["cam01", "cam02"]), router(edge) as routing:
        wait_until(lambda: "3 hosts" in routing.service.status)
        found = orjson.loads(snapd("fleet", "--json", "--config", config).stdout)
        said = snapd("fleet", "--config", config).stdout.decode()
    assert (found["stream"], found["lag"], found["pending"]) == (STREAM, 0, 0)
    hosts = {one["host"]: one for one in found["hosts"]}
    assert {name: one["state"] for name, one in hosts.items()} == {"edge0": "dead", "edge1": "live", "edge2": "live"}
    assert (hosts["edge0"]["cameras"], hosts["edge0"]["versions"]) == (["cam01", "cam77"], ["0.0.1"])
    assert hosts["edge1"]["cameras"] == ["cam01", "cam02"]
    assert 199 < hosts["edge0"]["heard_s"] < 260
    assert [one["state"] for one in found["routers"]] == ["live"]
    assert found["doubled"] == {"cam01": ["edge1", "edge2"]}
    assert "camera cam01 is on edge1 and edge2: edge1 answers" in said
    assert [line.split()[:3] for line in said.splitlines()[3:6]] == [
        ["edge0", "dead", "2"],
        ["edge1", "live", "2"],
        ["edge2", "live", "1"],
    ]


def test_check_names_a_missing_router_and_a_camera_that_another_has(edge: Edge) -> None:
    settings = settings_of(edge, "edge1", ["cam01"])
    (wrong,) = [finding for finding in findings(settings) if not finding.ok]
    assert (wrong.name, "no router reads edge_snap_request" in wrong.message) == ("router", True)
    with host(edge, "edge1", ["cam01"]), router(edge):
        wait_until(lambda: all(finding.ok for finding in findings(settings)))
        beat(edge, stream_of(edge, "edge0"), ["cam01"], ago=-60.0)
        (wrong,) = [finding for finding in findings(settings) if not finding.ok]
        assert wrong.message == "camera cam01 is on edge0 and edge1, edge0 answers"


def test_check_of_a_router_needs_no_store_and_names_the_dead(edge: Edge, tmp_path: Path) -> None:
    config = tmp_path / "route.toml"
    config.write_text(f'[redis]\nurl = "{edge.redis_server.url}"\n')
    assert snapd("check", "--config", config).returncode == 2
    done = snapd("check", "--router", "--config", config)
    assert (done.returncode, b"ok     hosts: 0 live" in done.stdout) == (0, True)
    died(edge, "edge0", ["cam01"])
    done = snapd("check", "--router", "--config", config)
    assert (done.returncode, b"0 live, dead: edge0" in done.stdout) == (1, True)
    edge.redis_server.stop()
    try:
        assert snapd("check", "--router", "--config", config).returncode == 1
    finally:
        edge.redis_server.start()


def test_queue_tells_of_both_streams_and_request_waits_for_the_host(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "c.toml", stream=ROUTED)
    with host(edge, "edge1", ["cam01"]), router(edge) as routing:
        wait_until(lambda: "1 hosts" in routing.service.status)
        assert snapd("request", "cam01", "--config", config).stdout.startswith(b"ok ")
        done = snapd("request", "cam01", "--callback-url", edge.wvp.url, "--config", config)
        assert b"the result went to" in done.stdout
        assert len(edge.wvp.results) == 1
        found = orjson.loads(snapd("queue", "--json", "--config", config).stdout)
        assert (found["stream"], found["lag"], found["pending"]) == (f"{STREAM}:edge1", 0, 0)
        assert (found["shared"]["stream"], found["shared"]["lag"]) == (STREAM, 0)
        assert f"{STREAM}, group" in snapd("queue", "--config", config).stdout.decode()


def test_host_out_of_service_is_forgotten_once_nothing_waits_there(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "c.toml", stream=ROUTED)
    stream = died(edge, "edge1", ["cam01"])
    route_by_hand(edge, stream, edge.fields())
    refused = snapd("forget", "--config", config)
    assert (refused.returncode, b"1 requests wait on edge_snap_request:edge1" in refused.stderr) == (1, True)
    edge.redis.xtrim(stream.source, 0)
    beat(edge, stream, ["cam01"], ago=-60.0)
    assert b"snapd of edge1 reads" in snapd("forget", "--config", config).stderr
    beat(edge, stream, ["cam01"], ago=60.0)
    assert snapd("forget", "--config", config).returncode == 0
    assert fleet.beats(edge.redis, stream, "hosts") == []
    assert edge.redis.keys("*edge1*") == []


def test_old_host_that_left_nothing_is_forgotten_by_routers(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.routing.registry.LEASE", 0.2)
    old = died(edge, "edge0", ["cam01"], ago=86_500.0)
    answered: Any = edge.redis.xadd(old.source, edge.fields())  # and the host had no time to remove it
    take_by_hand(edge, old)
    edge.redis.xack(old.source, old.source_group, answered)
    with router(edge):
        wait_until(lambda: fleet.beats(edge.redis, old, "hosts") == [])
        wait_until(lambda: not edge.redis.exists(old.source))


def test_pages_and_metrics_of_hosts_and_routers(edge: Edge, tmp_path: Path) -> None:
    of_host = write_config(edge, tmp_path / "host.toml", stream=ROUTED, http={"listen": "127.0.0.1:0"})
    of_router = write_config(edge, tmp_path / "route.toml", route={"listen": "127.0.0.1:0"})
    log = tmp_path
    with (
        Program("snapd", "run", "--config", of_host, log=log / "host.log") as running,
        Program("snapd", "route", "--config", of_router, log=log / "route.log") as routing,
    ):
        here, there = Shown(running, of_host, edge), Shown(routing, of_router, edge)
        wait_until(lambda: [one["state"] for one in there.json("/fleet")["hosts"]] == ["live"])
        assert here.json("/fleet")["hosts"][0]["host"] == "edge1"
        assert "<title>framesrv: hosts</title>" in there.get("/fleet.html").text
        assert here.json("/overview")["routed"] is True
        assert edge.ask().status == "ok"
        wait_until(lambda: there.metric("snapd_routed_requests_total", to="host") == 1)
        wait_until(lambda: there.metric("snapd_fleet_hosts", state="live") == 1)
        assert there.metric("snapd_fleet_cameras") == 4
        assert there.metric("snapd_fleet_routers") == 1
        assert here.metric("snapd_unrouted") == 0
        assert there.get("/readyz").status_code == 200
        assert (routing.stop(), running.stop()) == (0, 0)


@pytest.mark.timeout(90)
def test_killed_host_is_known_and_its_requests_are_answered_within_ten_seconds(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "c.toml", stream=ROUTED)
    with router(edge) as routing, Program("snapd", "run", "--config", config, log=tmp_path / "host.log") as running:
        wait_until(lambda: "1 hosts" in routing.service.status)
        assert edge.ask().status == "ok"
        wait_until(lambda: left_on(edge, stream_of(edge, "edge1")) == 0)
        running.stop(9)
        asked = [edge.fields() for _ in range(5)]
        edge.send(*asked)
        results = edge.wvp.wait(6, 20)[1:]
        assert {one.message for one in results} == {"摄像头流未连接: cam01"}
        assert fleet.LEASE + fleet.BEAT_EVERY + 1 <= 10  # what is promised; a busy machine takes longer
        wait_until(lambda: left_on(edge, stream_of(edge, "edge1")) == 0)
        began = time.monotonic()
        assert edge.ask().message == "摄像头流未连接: cam01"
        assert time.monotonic() - began < fleet.LEASE, "it is answered at once now"


def test_routed_host_that_ignores_unknown_cameras_is_refused(edge: Edge, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[stream]\nrouted = true\nunknown_camera = "ignore"\nhost = "-"\n')
    done = snapd("check", "--config", config)
    assert done.returncode == 2
    assert b"stream.host" in done.stderr
    config.write_text('[stream]\nrouted = true\nunknown_camera = "ignore"\n')
    assert b"stream.unknown_camera: expected" in snapd("check", "--config", config).stderr


def test_router_that_ignores_unknown_cameras_leaves_them_to_others(edge: Edge) -> None:
    with host(edge, "edge1", ["cam01"]), router(edge, stream={"unknown_camera": "ignore"}) as routing:
        wait_until(lambda: "1 hosts" in routing.service.status)
        edge.send(edge.fields("cam99"))
        assert edge.ask().status == "ok"
        wait_until(lambda: left_on(edge, fleet.of_host(edge.settings().stream, NOBODY)) == 0 and not edge.pending)
    assert json.dumps([one.camera_code for one in edge.wvp.results]) == '["cam01"]'
