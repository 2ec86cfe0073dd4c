"""Traces as OpenTelemetry has them: what a collector gets over HTTP from a snapd that runs as a process."""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from snapd.telemetry.trace import STAGES
from tests.support.edge import Edge, wait_until, write_config
from tests.support.http_server import Fault, FaultyServer, HttpRequest, HttpResponse
from tests.support.processes import Program

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
COMPLAINT = "Spans are not exported"
Snapd = Callable[..., Program]


class Collector(FaultyServer):
    """Takes spans as an OpenTelemetry collector does: OTLP over HTTP, protobuf. `resource`: of the last batch."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}

    def answer(self, request: HttpRequest) -> HttpResponse:
        if (request.path, request.headers["content-type"]) != ("/v1/traces", "application/x-protobuf"):
            return HttpResponse(404)
        batch = ExportTraceServiceRequest.FromString(request.body)
        with self.changed:
            for resource in batch.resource_spans:
                self.resource = {one.key: one.value.string_value for one in resource.resource.attributes}
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.changed.notify_all()
        return HttpResponse(200, ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")

    def wait(self, count: int, timeout: float = 15.0) -> list[Span]:
        """All spans, once there are `count`."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.spans) >= count, timeout), self.spans
            return list(self.spans)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


@pytest.fixture
def snapd(edge: Edge, tmp_path: Path, collector: Collector) -> Iterator[Snapd]:
    """Starts one that exports to the collector."""
    config = write_config(edge, tmp_path / "framesrv.toml")
    programs: list[Program] = []

    def start(**environment: str) -> Program:
        given = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"} | environment
        program = Program(
            "snapd", "run", "--config", config, log=tmp_path / f"snapd{len(programs)}.log", environment=given
        )
        programs.append(program)
        wait_until(lambda: "Started" in program.output, 20)
        return program

    yield start
    for program in programs:
        program.__exit__()


def attributes(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


def test_request_is_one_trace_with_a_span_for_each_stage(edge: Edge, collector: Collector, snapd: Snapd) -> None:
    edge.camera("cam01")
    edge.cos.delay = 0.2
    program = snapd()
    fields = edge.fields()
    edge.send(fields)
    spans = collector.wait(1 + len(STAGES))
    (root,) = [span for span in spans if not span.parent_span_id]
    children = sorted((span for span in spans if span is not root), key=lambda span: span.start_time_unix_nano)
    assert root.name == "snapshot"
    found = attributes(root)
    assert (found["camera.code"], found["request.id"], found["outcome"]) == ("cam01", fields["request_id"], "ok")
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert [span.name for span in children] == list(STAGES)
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert {span.parent_span_id for span in children} == {root.span_id}
    starts = [span.start_time_unix_nano for span in children]
    ends = [span.end_time_unix_nano for span in children]
    assert starts == [root.start_time_unix_nano, *ends[:-1]]
    assert ends[-1] == root.end_time_unix_nano
    assert root.start_time_unix_nano == int(found["entry.id"].partition("-")[0]) * 1_000_000
    upload = children[STAGES.index("uploading")]
    assert upload.end_time_unix_nano - upload.start_time_unix_nano >= 200_000_000
    assert abs(root.end_time_unix_nano / 1e9 - edge.wvp.results[0].time) < 5
    assert collector.resource["service.name"] == "snapd"
    assert program.stop() == 0
    assert "WARN" not in program.output


def test_trace_goes_on_from_the_sender_s_own(edge: Edge, collector: Collector, snapd: Snapd) -> None:
    edge.camera("cam01")
    snapd(OTEL_SERVICE_NAME="edge-7")
    edge.send(edge.fields(traceparent=f"00-{TRACE_ID}-{PARENT_ID}-01"))
    spans = collector.wait(1 + len(STAGES))
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID}
    (root,) = [span for span in spans if span.name == "snapshot"]
    assert root.parent_span_id.hex() == PARENT_ID
    assert collector.resource["service.name"] == "edge-7"


def test_trace_that_its_sender_does_not_record_is_not_exported(
    edge: Edge, collector: Collector, snapd: Snapd
) -> None:
    edge.camera("cam01")
    program = snapd()
    edge.send(edge.fields(traceparent=f"00-{TRACE_ID}-{PARENT_ID}-00"))
    edge.wvp.wait(1, 30)
    assert program.stop() == 0
    assert collector.spans == []


@pytest.mark.parametrize("traceparent", ["", "rubbish", f"00-{'0' * 32}-{PARENT_ID}-01", b"\xff\x00", "00-" * 5000])
def test_odd_traceparent_begins_a_trace_of_its_own(
    edge: Edge, collector: Collector, snapd: Snapd, traceparent: str | bytes
) -> None:
    edge.camera("cam01")
    snapd()
    assert edge.ask(traceparent=traceparent).status == "ok"
    roots = [span for span in collector.wait(1 + len(STAGES)) if not span.parent_span_id]
    assert [span.name for span in roots] == ["snapshot"]


def test_error_is_the_status_of_its_span(edge: Edge, collector: Collector, snapd: Snapd) -> None:
    snapd()
    edge.send(edge.fields("down"))
    spans = {span.name: span for span in collector.wait(4)}
    assert set(spans) == {"snapshot", "queued", "waiting", "callback"}
    assert attributes(spans["snapshot"])["outcome"] == "error"
    assert spans["snapshot"].status.code == Status.STATUS_CODE_ERROR
    assert spans["snapshot"].status.message == "摄像头流未连接: down"


def test_what_is_left_is_exported_at_the_end(edge: Edge, collector: Collector, snapd: Snapd) -> None:
    edge.camera("cam01")
    program = snapd(OTEL_BSP_SCHEDULE_DELAY="600000")
    edge.ask()
    assert program.stop() == 0
    assert len(collector.spans) == 1 + len(STAGES)


def test_collector_that_is_away_costs_one_warning_and_no_answer(
    edge: Edge, collector: Collector, snapd: Snapd
) -> None:
    edge.camera("cam01")
    collector.stop()
    program = snapd()
    edge.send(*(edge.fields() for _ in range(20)))
    assert {result.status for result in edge.wvp.wait(20, 20)} == {"ok"}
    wait_until(lambda: COMPLAINT in program.output)
    edge.send(*(edge.fields() for _ in range(20)))
    edge.wvp.wait(40, 20)
    assert program.stop() == 0
    assert program.output.count("WARN") == 1
    assert re.search(rf"WARNING .*{COMPLAINT}.*refused", program.output)


def test_collector_that_hangs_holds_nothing_up(edge: Edge, collector: Collector, snapd: Snapd) -> None:
    edge.camera("cam01")
    collector.fault = Fault("hang")
    program = snapd(OTEL_EXPORTER_OTLP_TIMEOUT="120")
    edge.ask()
    wait_until(lambda: collector.requests["POST"])
    assert [edge.ask().status for _ in range(20)] == ["ok"] * 20
    assert program.stop(timeout=25) == 0  # two seconds, on a busy machine; the SDK alone would have waited for thirty


def test_collector_that_comes_back_gets_what_was_kept(edge: Edge, collector: Collector, snapd: Snapd) -> None:
    edge.camera("cam01")
    collector.fault = Fault(503, times=1)
    program = snapd()
    edge.ask()
    assert len(collector.wait(1 + len(STAGES))) == 1 + len(STAGES)
    wait_until(lambda: "Spans are exported again" in program.output)
    assert program.output.count(COMPLAINT) == 1


def test_queue_is_bounded(edge: Edge, collector: Collector, snapd: Snapd) -> None:
    edge.camera("cam01")
    go_on = threading.Event()
    answer = collector.answer

    def answer_later(request: HttpRequest) -> HttpResponse:
        go_on.wait(60)
        return answer(request)

    collector.answer = answer_later  # type: ignore[method-assign]
    queue = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
    program = snapd(**queue, OTEL_EXPORTER_OTLP_TIMEOUT="60")
    edge.ask()
    wait_until(lambda: collector.requests["POST"])  # the one thread that exports waits for that
    assert [edge.ask(trace="1").status for _ in range(10)] == ["ok"] * 10
    wait_until(lambda: len(edge.redis.keys("snap:trace:*")) == 10)  # written when the spans have been told
    wait_until(lambda: COMPLAINT in program.output)
    go_on.set()
    assert program.stop() == 0
    assert 10 <= len(collector.spans) <= 10 + 1 + len(STAGES)  # what the queue held, and the first request's
    assert program.output.count(COMPLAINT) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "nonsense"}, COMPLAINT),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "no spans are exported"),
    ],
)
def test_variable_that_cannot_be_costs_a_warning_and_no_answer(
    edge: Edge, snapd: Snapd, environment: dict[str, str], words: str
) -> None:
    edge.camera("cam01")
    program = snapd(**environment)
    assert edge.ask().status == "ok"
    wait_until(lambda: words in program.output)
    assert edge.ask().status == "ok"
    assert program.stop() == 0
    assert program.output.count(words) == 1
    assert "Traceback" not in program.output


def test_without_the_extra_one_line_says_what_to_install(
    edge: Edge, collector: Collector, snapd: Snapd, tmp_path: Path
) -> None:
    edge.camera("cam01")
    absent = tmp_path / "absent" / "opentelemetry"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError('absent', name='opentelemetry')")
    path = ":".join([str(absent.parent), *filter(None, sys.path)])
    program = snapd(PYTHONPATH=path)
    assert edge.ask().status == "ok"
    assert program.stop() == 0
    assert [line for line in program.output.splitlines() if "WARN" in line and "framesrv[otel]" in line]
    assert program.output.count("WARN") == 1
    assert collector.requests["POST"] == 0


def test_exporter_is_loaded_only_where_a_collector_is_named(edge: Edge, snapd: Snapd) -> None:
    def has_protobuf(program: Program) -> bool:
        return "google/_upb" in Path(f"/proc/{program.pid}/maps").read_text()

    assert has_protobuf(snapd())
    assert not has_protobuf(snapd(OTEL_EXPORTER_OTLP_ENDPOINT=""))
