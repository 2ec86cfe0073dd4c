"""Metrics in Prometheus's form: read from headers, Redis and what snapd told when somebody scrapes, not before."""

import shutil
import time
from collections.abc import Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from framesrv import SHM_DIRECTORY, CameraStatus, __version__
from snapd.pages.channel import Condition
from snapd.pages.overview import BacklogFound
from snapd.routing.overview import Fleet
from snapd.telemetry.counters import Kind
from snapd.telemetry.trace import STAGES, Trace

STATES = ("live", "stalled", "connecting", "down")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

Labelled = Mapping[tuple[str, ...], float]

# Of each camera, from its header: name, help, what it is.
CAMERA_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("frames", "Frames published in shared memory.", "frames"),
    ("dropped_frames", "Frames not published because readers had pinned every slot.", "dropped"),
    (
        "overwritten_frames",
        "Frames written over the newest because readers had pinned all others.",
        "readers_blocked",
    ),
    ("corrupt_frames", "Frames and packets found damaged and held back.", "corrupt"),
    ("reconnects", "Times the source was lost.", "reconnects"),
    ("received_bytes", "Bytes of packets received from the source.", "received"),
    ("decode_seconds", "Time spent decoding.", "decode_s"),
)
CAMERA_GAUGES: tuple[tuple[str, str, str], ...] = (
    ("frame_age_seconds", "Time since the newest frame arrived.", "age_s"),
    ("frame_rate_hertz", "Frames a second, over about the last sixteen.", "fps"),
    ("width_pixels", "Width of the frames; 0 while unknown.", "width"),
    ("height_pixels", "Height of the frames; 0 while unknown.", "height"),
    ("decoder_start_time_seconds", "Unix time at which the decoder began; it changes with a restart.", "started_at"),
    ("shared_memory_bytes", "Size of the segment.", "nbytes"),
    ("failed_attempts", "Attempts to reach the source that failed since it last gave pictures.", "attempts"),
    ("clock_ahead_seconds", "By how much the camera's clock is before this host's.", "clock_ahead_s"),
)
QUEUE_GAUGES: tuple[tuple[str, str, str], ...] = (
    ("queue_lag_requests", "Requests on the stream that no consumer has taken yet.", "lag"),
    ("queue_pending_requests", "Requests taken and not acknowledged.", "pending"),
    (
        "queue_oldest_pending_seconds",
        "Age of the oldest request taken and not acknowledged; 0 if none.",
        "oldest_pending_s",
    ),
    ("dead_letters", "Requests on the dead-letter stream.", "dead"),
)


disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each of the first, which nobody looks at


class Latency:
    """How long requests took, whole and by stage."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._whole = Histogram(
            "snapd_request_seconds",
            "From XADD to the result handed over, by the clock of Redis.",
            registry=registry,
            buckets=BUCKETS,
        )
        stage = Histogram(
            "snapd_request_stage_seconds",
            "The part of that which each stage took.",
            ["stage"],
            registry=registry,
            buckets=BUCKETS,
        )
        self._stages = {name: stage.labels(name) for name in STAGES}

    def observe(self, trace: Trace) -> None:
        """Counts one answered request."""
        self._whole.observe(trace.seconds)
        for name, seconds in trace.stages:
            self._stages[name].observe(seconds)


class Figures(Collector):
    """All else, of one moment.

    Attributes:
        viewers: streams that are watched.
        encoded: pictures encoded for viewers.
    """

    def __init__(self) -> None:
        self.condition = Condition()
        self.cameras: list[CameraStatus] = []
        self.queue = BacklogFound(None)
        self.fleet: Fleet | None = None
        self.viewers = 0
        self.encoded = 0

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        yield from _service(self.condition)
        yield from _queue(self.queue)
        yield from _fleet(self.fleet)
        yield from _cameras(self.cameras)
        free = shutil.disk_usage(SHM_DIRECTORY)
        yield _gauge("framesrv_shared_memory_free_bytes", "Free in /dev/shm.", free.free)
        yield _gauge("framesrv_shared_memory_size_bytes", "Size of /dev/shm.", free.total)
        yield _gauge("snapd_page_viewers", "Streams of pictures that are watched.", self.viewers)
        yield _counter("snapd_page_pictures", "Pictures encoded for viewers.", {(): self.encoded})


class Process(ProcessCollector):
    """CPU time, memory and files of a process; also where a unit hides all of /proc but processes."""

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class Processes(Collector):
    """The same of snapd: of its one process, or of each that it has, whose number is the label `process`.

    Args:
        pid: of the one, or of the one that keeps the others.
        figures: tell of these.
    """

    def __init__(self, pid: int, figures: Figures) -> None:
        self._pid, self._figures = pid, figures

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        several = self._figures.condition.processes
        pids = {str(number): one.pid for number, one in enumerate(several, 1) if one.pid}
        families: dict[str, Metric] = {}
        for name, pid in ({"main" if several else "": self._pid} | pids).items():
            for found in Process(namespace="snapd", pid=partial(int, pid), registry=None).collect():
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    family.add_sample(sample.name, {"process": name} if name else {}, sample.value)
        yield from families.values()


class Metrics:
    """What is scraped.

    Args:
        pid: of snapd.

    Attributes:
        figures: to be filled before `text`.
        latency: to be told of every answered request.
    """

    def __init__(self, pid: int) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self.latency = Latency(self._registry)
        self.figures = Figures()
        self._registry.register(self.figures)
        self._registry.register(Processes(pid, self.figures))
        Process(namespace="snapd_page", registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type, in the form that `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _service(condition: Condition) -> Iterator[Metric]:
    build = GaugeMetricFamily(
        "snapd_build_info", "Always 1; the label says which version this is.", labels=["version"]
    )
    build.add_metric([__version__], 1)
    yield build
    joined = condition.joined and not condition.away
    yield _gauge("snapd_stream_joined", "Whether snapd reads the request stream.", joined)
    yield _gauge(
        "snapd_group_shared", "Whether hosts with other cameras read from the same group.", bool(condition.strangers)
    )
    yield _gauge("snapd_unrouted", "Whether no router brings requests to this host.", bool(condition.unrouted))
    running = [one.pid != 0 for one in condition.processes] or [True]
    processes = GaugeMetricFamily("snapd_processes", "Processes that answer requests.", labels=["state"])
    for state, number in (("running", sum(running)), ("down", len(running) - sum(running))):
        processes.add_metric([state], number)
    yield processes
    deaths = sum(one.deaths for one in condition.processes)
    yield _counter("snapd_process_deaths", "Times one of several processes was started again.", {(): deaths})
    yield _gauge("snapd_hanging", "Whether a thread of snapd hangs.", bool(condition.hang))
    if condition.configured_at:
        text = "Unix time at which the configuration in force was read."
        yield _gauge("snapd_configuration_time_seconds", text, condition.configured_at)
    text = "Uploads that failed since the last one that did not."
    yield _gauge("snapd_store_failures_in_a_row", text, condition.uploads.failed)
    text = "Callbacks that failed since the last one that did not."
    yield _gauge("snapd_callback_failures_in_a_row", text, condition.callbacks.failed)
    if condition.free_bytes is not None and condition.size_bytes is not None:
        yield _gauge("snapd_store_free_bytes", "Free where the directory store is.", condition.free_bytes)
        yield _gauge("snapd_store_size_bytes", "Size of that file system.", condition.size_bytes)
    if condition.store is not None:
        yield _gauge(
            "snapd_store_up", "Whether the store took the last picture, or answered last.", condition.store.ok
        )
    counts = condition.counts
    requests = {"": 0} | dict(counts.get("requests", {}))
    results: Labelled = {("error" if name else "ok", name): number for name, number in requests.items()}
    yield _counter("snapd_requests", "Answered requests.", results, "result", "reason")
    redelivered = counts.get("redeliveries", {}).get("", 0)
    yield _counter("snapd_redeliveries", "Requests that were taken up again.", {(): redelivered})
    routed: Labelled = {(name,): number for name, number in counts.get("routed", {}).items()}
    text = "Requests that this router has moved to a host, or to where routers answer what nobody can."
    yield _counter("snapd_routed_requests", text, routed, "to")
    moved = counts.get("moved", {}).get("", 0)
    yield _counter("snapd_moved_requests", "Requests that this router took from dead hosts.", {(): moved})
    undone = counts.get("undone", {}).get("", 0)
    yield _counter("snapd_undone_answers", "Answers that Redis had forgotten and snapd knew.", {(): undone})
    kinds: dict[Kind, str] = {
        "store_errors": "Uploads that failed, after their second try.",
        "callback_errors": "Callbacks that failed, after their second try.",
        "removed": "Pictures that were removed from a directory, for their age or for space.",
    }
    for kind, text in kinds.items():
        classes: Labelled = {(name,): number for name, number in counts.get(kind, {}).items()}
        name = "pictures_removed" if kind == "removed" else kind
        yield _counter(f"snapd_{name}", text, classes, "class")


def _queue(found: BacklogFound) -> Iterator[Metric]:
    yield _gauge("snapd_redis_up", "Whether Redis told of the queue.", found.queue is not None)
    if found.queue is not None:  # what is not known is left out: old numbers would look like new ones
        for name, text, attribute in QUEUE_GAUGES:
            yield _gauge(f"snapd_{name}", text, getattr(found.queue, attribute) or 0)


def _fleet(fleet: Fleet | None) -> Iterator[Metric]:
    """Of a router."""
    if fleet is None:
        return
    hosts = GaugeMetricFamily("snapd_fleet_hosts", "Hosts that requests are routed to.", labels=["state"])
    for state in ("live", "dead"):
        hosts.add_metric([state], sum(host.state == state for host in fleet.hosts))
    yield hosts
    cameras = {code for host in fleet.hosts if host.state == "live" for code in host.cameras}
    yield _gauge("snapd_fleet_cameras", "Cameras that live hosts have.", len(cameras))
    yield _gauge("snapd_fleet_doubled_cameras", "Cameras that several live hosts have.", len(fleet.doubled))
    routers = sum(router.state == "live" for router in fleet.routers)
    yield _gauge("snapd_fleet_routers", "Routers that are alive.", routers)
    lag = GaugeMetricFamily("snapd_fleet_lag_requests", "Requests that a host has not taken yet.", labels=["host"])
    for host in fleet.hosts:
        if host.lag is not None:
            lag.add_metric([host.host], host.lag)
    yield lag


def _cameras(cameras: list[CameraStatus]) -> Iterator[Metric]:
    for name, text, attribute in CAMERA_COUNTERS:
        counts: Labelled = {(camera.code,): getattr(camera, attribute) for camera in cameras if camera.started_at}
        yield _counter(f"framesrv_camera_{name}", text, counts, "camera")
    for name, text, attribute in CAMERA_GAUGES:
        gauge = GaugeMetricFamily(f"framesrv_camera_{name}", text, labels=["camera"])
        for camera in cameras:
            if getattr(camera, attribute) is not None:
                gauge.add_metric([camera.code], getattr(camera, attribute))
        yield gauge
    frozen = GaugeMetricFamily(
        "framesrv_camera_frozen_seconds",
        "Time for which all pictures have been the same; 0 while not.",
        labels=["camera"],
    )
    for camera in cameras:
        frozen.add_metric([camera.code], camera.frozen_s or 0)
    yield frozen
    causes = GaugeMetricFamily(
        "framesrv_camera_cause", "Always 1; the label says why nothing comes.", labels=["camera", "cause"]
    )
    for camera in cameras:
        if camera.cause and camera.state != "live":
            causes.add_metric([camera.code, camera.cause], 1)
    yield causes
    states = GaugeMetricFamily(
        "framesrv_camera_state", "1 for the camera's state, 0 for others.", labels=["camera", "state"]
    )
    for camera in cameras:
        for state in STATES:
            states.add_metric([camera.code, state], camera.state == state)
    yield states


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, values: Labelled, *labels: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for label, value in values.items():
        family.add_metric(list(label), value)
    return family
