"""What is scraped: that it is true, in good form, there when Redis is not, and all that alerts and dashboard use."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from snapd.pages.metrics import Metrics, Process
from snapd.routing.overview import Fleet, HostSeen
from tests.support.edge import Edge, wait_until
from tests.support.http_server import Fault
from tests.support.pages import Shown, shown
from tests.support.processes import ROOT

MONITORING = ROOT / "monitoring"
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
TYPES = {"counter": "_total", "gauge": "", "histogram": ""}


@pytest.fixture
def pages(edge: Edge, tmp_path: Path) -> Iterator[Shown]:
    edge.camera("cam01", 640, 480)
    with shown(edge, tmp_path) as program:
        wait_until(lambda: program.get("/readyz").status_code == 200)
        yield program


def test_requests_are_counted_by_result_and_reason_and_timed_by_stage(pages: Shown) -> None:
    edge = pages.edge
    for code in ("cam01", "cam01", "down"):
        edge.ask(camera_code=code)
    edge.ask(cos_path="../x")
    wait_until(lambda: pages.metric("snapd_request_seconds_count") == 4)
    assert pages.metric("snapd_requests_total", result="ok", reason="") == 2
    assert pages.metric("snapd_requests_total", result="error", reason="not_connected") == 1
    assert pages.metric("snapd_requests_total", result="error", reason="bad_path") == 1
    for stage, count in {"queued": 4, "encoding": 2, "uploading": 2, "callback": 4}.items():
        assert pages.metric("snapd_request_stage_seconds_count", stage=stage) == count
    assert 0 < pages.metric("snapd_request_stage_seconds_sum", stage="encoding") < 4 * 10


def test_errors_are_counted_by_class(pages: Shown) -> None:
    edge = pages.edge
    edge.cos.fault = Fault(503)
    assert edge.ask().status == "error"
    edge.cos.fault = Fault(403)
    assert edge.ask().status == "error"
    edge.cos.fault = None
    for url in ("http://127.0.0.1:1", "http://169.254.169.254"):
        fields = edge.fields(callback_url=url)
        edge.send(fields)
        assert edge.result_by_key(fields).status == "ok"
    edge.wvp.fault = Fault(404, times=1)
    fields = edge.fields()
    edge.send(fields)
    assert edge.result_by_key(fields).status == "ok"
    wait_until(lambda: pages.metric("snapd_request_seconds_count") == 5)
    assert pages.metric("snapd_store_failures_in_a_row") == 0
    assert pages.metric("snapd_callback_failures_in_a_row") == 3
    assert 0 <= time.time() - pages.metric("snapd_configuration_time_seconds") < 600
    assert pages.metric("snapd_store_errors_total", **{"class": "failed"}) == 1
    assert pages.metric("snapd_store_errors_total", **{"class": "refused"}) == 1
    for name in ("unreachable", "refused", "status_4xx"):
        assert pages.metric("snapd_callback_errors_total", **{"class": name}) == 1, name


def test_queue_and_requests_taken_up_again_are_told(pages: Shown) -> None:
    edge = pages.edge
    edge.wvp.fault = Fault("hang")
    edge.send(edge.fields())
    wait_until(lambda: pages.metric("snapd_queue_pending_requests") == 1)
    wait_until(lambda: pages.metric("snapd_queue_oldest_pending_seconds") > 0)
    pages.program.process.kill()
    pages.program.process.wait()
    edge.wvp.fault = None
    place = pages.config.parent / "again"
    place.mkdir()
    with shown(edge, place) as again:
        wait_until(lambda: again.metric("snapd_redeliveries_total") == 1)
        wait_until(lambda: again.metric("snapd_queue_pending_requests") == 0)
    assert edge.pending == 0


def test_cameras_are_told_by_their_headers(pages: Shown) -> None:
    writer = pages.edge.writers["cam01"]
    writer.count("reconnects", 3)
    writer.count("corrupt", 5)
    writer.count("dropped", 7)
    writer.count("decode", 1_500_000_000)
    writer.count("bytes", 9000)
    wait_until(lambda: pages.metric("framesrv_camera_reconnects_total", camera="cam01") == 3)
    found = {name: value for (name, labels), value in pages.metrics().items() if labels == {("camera", "cam01")}}
    assert found["framesrv_camera_corrupt_frames_total"] == 5
    assert found["framesrv_camera_dropped_frames_total"] == 7
    assert found["framesrv_camera_decode_seconds_total"] == 1.5
    assert found["framesrv_camera_received_bytes_total"] == 9000
    assert found["framesrv_camera_frames_total"] == 1
    assert found["framesrv_camera_width_pixels"] == 640
    assert found["framesrv_camera_shared_memory_bytes"] > 2 * 640 * 480 * 1.5
    assert 0 < found["framesrv_camera_frame_age_seconds"] < 600
    assert 0 <= time.time() - found["framesrv_camera_decoder_start_time_seconds"] < 600
    assert found["framesrv_camera_frozen_seconds"] == 0
    writer.frozen(time.monotonic_ns() - 600_000_000_000)

    def frozen_for() -> float:
        with writer.next():
            pass
        return pages.metric("framesrv_camera_frozen_seconds", camera="cam01")

    wait_until(lambda: 599 < frozen_for() < 900)
    writer.describe(error="the camera refuses the user", cause="unauthorized", attempts=3)
    assert pages.metric("framesrv_camera_cause", camera="cam01", cause="unauthorized") == 0, "frames come"
    writer.connecting()
    wait_until(lambda: pages.metric("framesrv_camera_cause", camera="cam01", cause="unauthorized") == 1)
    assert pages.metric("framesrv_camera_failed_attempts", camera="cam01") == 3
    assert pages.metric("framesrv_camera_state", camera="down", state="down") == 1
    assert pages.metric("framesrv_camera_state", camera="cam01", state="down") == 0


def test_scrape_is_answered_while_redis_hangs_and_tells_no_old_numbers(pages: Shown) -> None:
    edge = pages.edge
    assert pages.metric("snapd_redis_up") == 1
    assert edge.redis_server.pid
    edge_pid = edge.redis_server.pid

    os.kill(edge_pid, signal.SIGSTOP)
    try:
        wait_until(lambda: pages.metric("snapd_redis_up") == 0)
        names = {name for name, _ in pages.metrics()}
        assert "snapd_queue_lag_requests" not in names
        assert "framesrv_camera_state" in names
    finally:
        os.kill(edge_pid, signal.SIGCONT)
    wait_until(lambda: pages.metric("snapd_redis_up") == 1)


def test_metrics_are_in_both_of_prometheus_forms(pages: Shown) -> None:
    plain = pages.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    open_form = pages.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert open_form.headers["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics(open_form.text)}  # type: ignore[no-untyped-call]
    assert names == {family.name for family in text_string_to_metric_families(plain.text)}


def test_names_and_units_keep_to_the_conventions(pages: Shown) -> None:
    pages.edge.ask()
    text = pages.get("/metrics").text
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"(snapd|framesrv)_[a-z_]+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in TYPES, family.name
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent|count|total)\Z", family.name)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in seen, key
            seen.add(key)
            if family.type == "counter":
                assert sample.name == f"{family.name}_total"
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_processes_are_told_of_where_the_rest_of_proc_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to(f"/proc/{os.getpid()}")
    registry = CollectorRegistry()
    Process(namespace="snapd", proc=str(tmp_path), registry=registry)
    found = {sample.name: sample.value for family in registry.collect() for sample in family.samples}
    assert found["snapd_process_resident_memory_bytes"] > 0
    assert found["snapd_process_open_fds"] > 2
    assert 0 <= time.time() - found["snapd_process_start_time_seconds"] < 7200


def expressions() -> list[str]:
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    return rules + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def selectors(expression: str) -> list[Any]:
    """The parser knows PromQL, but none of Grafana's variables."""
    found: list[Any] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")), visit)
    return found


def of_a_router() -> list[tuple[str, frozenset[tuple[str, str]]]]:
    """The names and labels of the metrics that only a router has."""
    metrics = Metrics(os.getpid())
    hosts = (HostSeen("edge1", "dead", ("cam01",), ("0.1.0",), 0, 0, 60.0),)
    metrics.figures.fleet = Fleet("edge_snap_request", 0, 0, hosts, (), {})
    families = text_string_to_metric_families(metrics.text("")[0].decode())
    return [(sample.name, frozenset(sample.labels.items())) for family in families for sample in family.samples]


def test_alerts_and_dashboard_use_only_metrics_that_exist(pages: Shown) -> None:
    edge = pages.edge
    edge.cos.fault = Fault(503, times=2)
    edge.ask()
    fields = edge.fields(callback_url="http://127.0.0.1:1")
    edge.send(fields)
    edge.result_by_key(fields)
    wait_until(lambda: pages.metric("snapd_callback_errors_total", **{"class": "unreachable"}) == 1)
    edge.writers["cam01"].describe(error="refused", cause="unauthorized")
    edge.writers["cam01"].connecting()
    wait_until(lambda: pages.metric("framesrv_camera_cause", camera="cam01", cause="unauthorized") == 1)
    labels: dict[str, set[str]] = {"up": {"job"}}
    found = [*pages.metrics()]
    pages.reload(store={"kind": "dir", "path": str(pages.config.parent / "pictures")})
    edge.camera("cam02")
    edge.ask(camera_code="cam02")
    wait_until(lambda: pages.metric("snapd_store_free_bytes") > 0)
    assert pages.metric("snapd_store_free_bytes") <= pages.metric("snapd_store_size_bytes")
    for name, given in [*found, *pages.metrics(), *of_a_router()]:
        labels.setdefault(name, set()).update(name for name, _ in given)
    used = 0
    for expression in expressions():
        for selector in selectors(expression):
            used += 1
            assert selector.name in labels, selector.name
            for matcher in selector.matchers.matchers:
                assert matcher.name in labels[selector.name] | {"instance"}, expression
    assert used > 60
    for variable in DASHBOARD["templating"]["list"][1:]:
        query = re.match(r"label_values\((\w+)", variable["query"]["query"])
        assert query
        assert query[1] in labels


def test_rules_are_whole() -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    assert len(names) == len(set(names))
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"].startswith("{{ $labels.instance }}: ")
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "rules", str(MONITORING / "alerts.yml")], check=False)
        assert done.returncode == 0


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns, rows = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
