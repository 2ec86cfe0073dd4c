"""What `snapd run` and `snapd route` do: a service, with its signals, pages and traces, until it is told to stop."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from framesrv import log, settings
from framesrv.process.extras import sentence
from framesrv.process.notify import Notifier
from framesrv.process.starts import Starts
from snapd.pages.launcher import Launcher
from snapd.processes.channel import LIBRARIES
from snapd.processes.processes import Processes
from snapd.supervision import Supervision
from snapd.telemetry.counters import Counters
from snapd.telemetry.trace import Trace

if TYPE_CHECKING:
    from snapd.service import Service
    from snapd.telemetry.spans import Spans

LONGEST_WAIT = 10.0  # s after starts that ended soon; the watchdog is told nothing meanwhile
COLLECTOR = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

logger = logging.getLogger("snapd")


def serve(config: Path | None, log_format: log.Format, *, verbose: bool, router: bool = False) -> None:
    """Serves in this thread.

    Args:
        config: where the configuration is, as it was given.
        log_format: of this process and its pages'.
        verbose: whether to log every answered request.
        router: whether it is one.

    Raises:
        ConfigError: the configuration is wrong.
        EncoderError: the encoder is not on this host.
    """
    log.setup(log_format, level=logging.DEBUG if verbose else logging.INFO, quiet=LIBRARIES)
    loaded = settings.load(config)
    if router:
        loaded = _service(router=True).own(loaded)
    loaded.http.check()
    starts = Starts()
    starts.begin(LONGEST_WAIT, _waits)
    supervision = Supervision(config)
    counters = Counters(supervision.changed)
    spans = _spans()
    pages = Launcher(loaded.http, log_format, counters, supervision.changed) if loaded.http.listen else None

    def answered(trace: Trace) -> None:
        if pages:
            pages.answered(trace)
        if spans:
            spans.tell(trace)

    service: Service | Processes
    if loaded.snapshot.processes > 1:
        loaded.store.check()
        service = Processes(
            loaded,
            supervision.changed,
            answered,
            counters,
            log_format=log_format,
            verbose=verbose,
            traces=bool(pages or spans),
        )
    else:
        service = _service(router=router).open(
            loaded, on_change=supervision.changed, on_answered=answered, counters=counters
        )
    supervision.begin(service, pages)
    if pages:
        pages.start(service)
    stream = loaded.stream
    logger.info(
        "Started stream=%s group=%s consumer=%s cameras=%d processes=%d workers=%d store=%s",
        stream.source,
        stream.source_group,
        stream.consumer,
        len(loaded.cameras),
        loaded.snapshot.processes,
        loaded.snapshot.workers,
        loaded.store.kind,
    )
    try:
        service.run()
    finally:
        if pages:
            pages.stop()
            pages.join()
        if spans:
            spans.close()
    starts.end()
    logger.info("Stopped")


def _service(*, router: bool) -> "type[Service]":
    """What answers, and is imported by the process that does."""
    if router:
        from snapd.route import RouteService

        return RouteService
    from snapd.service import Service

    return Service


def _waits(words: str) -> None:
    """Tells that it waits before it begins."""
    logger.warning("%s", words)
    Notifier().ready(words)  # at once, as ever: nothing waits for this start


def _spans() -> "Spans | None":
    """Where a collector is named, what exports to it."""
    variable = next((name for name in COLLECTOR if os.environ.get(name)), None)
    if variable is None:
        return None
    try:
        from snapd.telemetry.spans import Spans

        return Spans()
    except ImportError as error:
        logger.warning("%s is set, but no spans are exported: %s", variable, sentence(error.name or "") or error)
    except (ValueError, OSError) as error:
        logger.warning("%s is set, but no spans are exported: %s", variable, error)
    return None
