"""Answered requests as OpenTelemetry traces, exported in batches by a thread of the SDK's own.

Imported only where a collector is named in the environment; needs ``framesrv[otel]``. What else the SDK can be told
by variables (OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_BSP_MAX_QUEUE_SIZE, …) holds.
A collector that cannot be reached costs one line in the log, and the spans for which the queue has no room.
"""

import logging
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from framesrv import __version__
from snapd.telemetry.trace import Trace

logger = logging.getLogger(__name__)

CLOSING = 2.0  # s in which what is left must have gone at the end
LIBRARY = "opentelemetry"  # the loggers below this say the same at every try


class _Complaint(logging.Handler):
    """Says the first thing that the library complains of, and then nothing until an export has succeeded."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._said:
            self._said = True
            cause = f": {record.exc_info[1]}" if record.exc_info else ""
            logger.warning("Spans are not exported, going on without them reason=%r", record.getMessage() + cause)

    def over(self) -> None:
        if self._said:
            self._said = False
            logger.info("Spans are exported again")


class _Exporter(OTLPSpanExporter):
    def __init__(self, complaint: _Complaint) -> None:
        super().__init__()
        self._complaint = complaint

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._complaint.over()
        return result


class Spans:
    """Exports traces to the collector that the environment names.

    Raises:
        ValueError: a variable of the SDK cannot be what it is; OSError likewise, for a file that one names.
    """

    def __init__(self) -> None:
        complaint = _Complaint()
        library = logging.getLogger(LIBRARY)
        library.handlers, library.propagate = [complaint], False
        ours = Resource.create({"service.name": "snapd", "service.version": __version__})
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,  # it would wait for half a minute
        )
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(complaint)))
        self._tracer = self._provider.get_tracer("snapd", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def tell(self, trace: Trace) -> None:
        """Puts a request into the queue, as a span with one child for each stage. For any thread."""
        began = round(trace.received_at * 1000) * 1_000_000
        root = self._tracer.start_span(
            "snapshot",
            self._propagator.extract({"traceparent": trace.traceparent}),
            SpanKind.CONSUMER,
            {
                "camera.code": trace.camera_code,
                "request.id": trace.request_id,
                "entry.id": trace.entry_id,
                "outcome": trace.outcome,
            },
            start_time=began,
        )
        inside = set_span_in_context(root)
        for name, seconds in trace.stages:
            span = self._tracer.start_span(name, inside, start_time=began)
            began += round(seconds * 1e9)
            span.end(began)
        if trace.outcome != "ok":
            root.set_status(Status(StatusCode.ERROR, trace.message))
        root.end(began)

    def close(self) -> None:
        """Exports what is left, for a short while."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING)
