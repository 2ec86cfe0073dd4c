"""Snapshots: from a request on the stream to its callback, stage by stage, and how many a second.

Beside it stand, in turns, the same steps done by hand, one after the other in this process, as a script would; the
older way, one process that does everything in threads; and, for a camera that nobody decodes, an ffmpeg for each.
"""

import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measures import baseline_loops, baseline_threads
from benchmarks.measures.backend import Backend, open_backend
from benchmarks.measures.baseline_script import FfmpegPerPicture, ScriptBaseline
from benchmarks.measures.charts import Bars
from benchmarks.measures.flood import measure as measure_flood
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.process import wait_until
from benchmarks.measures.progress import bar, rounds
from benchmarks.measures.stages import (
    CALLBACK,
    CONVERT,
    ENCODE,
    PERCENTS,
    QUEUED,
    STAGES,
    UPLOAD,
    WAITING,
    Samples,
    read_log,
)
from benchmarks.measures.table import Figure, Goal, Report

WORKERS = (8, 16)
CAMERAS = [f"camera{number}" for number in range(1, 5)]
IDLE = [f"idle{number}" for number in range(1, 13)]  # so many that each is idle again when its turn comes
BURST = 200  # requests
BURSTS = 3  # of each kind, in turns; the median counts
SAMPLE = 20  # requests one at a time: their rate does not change with their number
UPLOAD_DELAY, CALLBACK_DELAY = 0.08, 0.02  # s
BLOCK = 10  # requests of one kind in a row
LONGEST_PAUSE = 0.04  # s before a request, so that it meets the camera at any point between two frames
STALE = 2.1  # s; snapd takes no frame as old as this
AT_LEAST = 5  # rounds


def run(seconds: float) -> Report:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
        backend = stack.enter_context(open_backend(directory))
        cameras = [*map(Camera, CAMERAS), *(Camera(code, "demand") for code in IDLE)]
        host = stack.enter_context(Host(directory, cameras, sections=backend.sections))
        script = stack.enter_context(ScriptBaseline(host, backend.cloud.endpoints, backend.client))

        with host.decoders(CAMERAS[0]):
            ours, hand, threads = _in_turns(host, backend, script, seconds)
        idle = _idle(host, backend, seconds)
        started = _by_ffmpeg(host, backend, seconds) if baseline_loops.available("ffmpeg") else None
        with host.decoders(*CAMERAS):
            throughput = _throughput(host, backend, script)
        flood, how = measure_flood(directory / "flood", backend, seconds, UPLOAD_DELAY, CALLBACK_DELAY)
    figures = _beside("request to callback", ours, "the same steps by hand", hand, Goal("ratio", 1.5))
    figures += _beside("request to callback", ours, "one process, in threads", threads)
    for stage in (QUEUED, WAITING, CONVERT, ENCODE, UPLOAD, CALLBACK):
        figures += _stage(stage, ours, hand)
    figures += _beside("idle camera on demand", idle, "a decoded one", ours, Goal("value", 250))
    if started:
        figures += _beside("idle camera on demand", idle, "an ffmpeg for each", started)
    return Report(
        "snapshot: cameras of 1920x1080 at 25/s over RTSP; Redis, storage and platform on loopback",
        [*figures, *throughput, *flood],
        [*_notes(ours, hand, threads, idle, started), how],
        [
            _bars("snapshot", "A snapshot", {"snapd": ours, "by hand": hand, "in threads": threads}),
            _bars(
                "snapshot-idle",
                "A snapshot of a camera that is not decoded",
                {"on demand": idle} | ({"ffmpeg for each": started} if started else {}),
            ),
        ],
    )


def _notes(ours: Samples, hand: Samples, threads: Samples, idle: Samples, started: Samples | None) -> list[str]:
    notes = [
        f"{len(ours)} requests to snapd, {len(hand)} by hand, {len(threads)} to one process, which reads the camera "
        f"with cv2, one at a time; {len(idle)} to idle cameras",
        "stages as snapd logs them (-v): queued is from XADD, by Redis's clock, to the millisecond",
        f"served: {BURSTS} bursts of {BURST} over {len(CAMERAS)} cameras, {UPLOAD_DELAY * 1000:.0f} ms added to each "
        f"upload, {CALLBACK_DELAY * 1000:.0f} ms to each callback; one at a time: {SAMPLE} of them",
    ]
    if started is None:
        return [*notes, "ffmpeg is not installed here: nothing stands for the way that starts one for each picture"]
    return [*notes, f"{len(started)} times an ffmpeg; with fewer than 100 requests, p99 lies near the slowest"]


def _in_turns(
    host: Host, backend: Backend, script: ScriptBaseline, seconds: float
) -> tuple[Samples, Samples, Samples]:
    """In turns, a block of requests to snapd, a block by a script, a block to the process with threads."""
    code = CAMERAS[0]
    ours, hand, threads = Samples(), Samples(), Samples()
    with (
        host.snapd(WORKERS[0]) as log,
        baseline_threads.threaded_service(host.url, backend.redis_url, backend.cloud.endpoints) as other,
    ):
        ways: list[tuple[Callable[[], str], Samples]] = [
            (lambda: backend.requester.send(code)[0], ours),
            (lambda: script.serve(code), hand),
            (lambda: backend.requester.send(code, stream=baseline_threads.STREAM)[0], threads),
        ]
        for serve, _ in ways:  # connections are made, modules imported
            for _ in range(BLOCK):
                serve()
                backend.cloud.callback()
        for _ in rounds("request to callback", seconds * len(ways), AT_LEAST):
            for serve, samples in ways:
                for _ in range(BLOCK):
                    time.sleep(random.uniform(0, LONGEST_PAUSE))
                    _measure(serve, samples, backend)
            other.hear()
    ours.went(read_log(log))
    hand.went(script.stages)
    threads.went(other.stages)
    return ours, hand, threads


def _idle(host: Host, backend: Backend, seconds: float) -> Samples:
    """Requests for cameras on demand that nobody has looked at lately."""
    samples = Samples()
    with host.decoders(*IDLE), host.snapd(WORKERS[0]) as log:
        backend.requester.send(*IDLE)
        for _ in IDLE:  # all work
            backend.cloud.callback()
        codes = cycle(IDLE)
        for _ in rounds("request to callback, idle cameras", seconds * 2, AT_LEAST):
            code = next(codes)
            wait_until(lambda code=code: _is_idle(host, code), f"{code} idle")  # type: ignore[misc]
            time.sleep(random.uniform(0, LONGEST_PAUSE))
            _measure(lambda code=code: backend.requester.send(code)[0], samples, backend)  # type: ignore[misc]
    samples.went(read_log(log))
    return samples


def _is_idle(host: Host, code: str) -> bool:
    """Whether nothing is decoded, and the newest frame is too old to be taken."""
    status = host.status(code)
    return not status.fps and (status.age_s is None or status.age_s > STALE)


def _by_ffmpeg(host: Host, backend: Backend, seconds: float) -> Samples:
    samples = Samples()
    with FfmpegPerPicture(host, backend.cloud.endpoints, backend.client) as started:
        for _ in rounds("request to callback, an ffmpeg for each", seconds, AT_LEAST):
            _measure(lambda: started.serve(CAMERAS[0]), samples, backend)
    samples.went(started.stages)
    return samples


def _measure(serve: Callable[[], str], samples: Samples, backend: Backend) -> None:
    began = time.monotonic_ns()
    name = serve()
    samples.took(name, (backend.cloud.callback().answered_ns - began) / 1e6)


def _beside(name: str, ours: Samples, beside: str, theirs: Samples, median: Goal | None = None) -> list[Figure]:
    return [
        Figure(
            f"{name}, p{percent}",
            ours.total(percent),
            "ms",
            beside,
            theirs.total(percent),
            median if percent == PERCENTS[0] else None,
        )
        for percent in PERCENTS
    ]


def _stage(stage: str, ours: Samples, hand: Samples) -> list[Figure]:
    return [
        Figure(f"{stage}, p{percent}", ours.stage(stage, percent), "ms", "by hand", hand.stage(stage, percent))
        for percent in PERCENTS
    ]


def _bars(name: str, title: str, ways: dict[str, Samples]) -> Bars:
    bars = [(f"{way}, p{percent}", samples.around(percent)) for way, samples in ways.items() for percent in PERCENTS]
    parts = {stage: [values[number] for _, values in bars] for number, stage in enumerate(STAGES)}
    return Bars(name, f"{title}, from request to callback", "ms", [label for label, _ in bars], parts)


def _throughput(host: Host, backend: Backend, script: ScriptBaseline) -> list[Figure]:
    far = backend.cloud
    far.delay(UPLOAD_DELAY, CALLBACK_DELAY)
    began = ended = time.monotonic_ns()
    with bar("requests a second, one at a time") as show:
        for number, code in enumerate(islice(cycle(CAMERAS), SAMPLE)):
            script.serve(code)
            ended = far.callback().answered_ns
            show((number + 1) / SAMPLE)
    single = SAMPLE / (ended - began) * 1e9
    rates: list[list[float]] = [[], []]
    for number in range(BURSTS):
        for workers, found in zip(WORKERS, rates, strict=True):
            found.append(_burst(host, backend, workers, f"{number + 1} of {BURSTS}"))
    few, many = (statistics.median(found) for found in rates)
    return [
        Figure(f"served, {WORKERS[0]} workers", few, "/s", "one at a time by hand", single, Goal("value", 60, True)),
        Figure(f"served, {WORKERS[1]} workers", many, "/s", f"{WORKERS[0]} workers", few, Goal("ratio", 1, True)),
    ]


def _burst(host: Host, backend: Backend, workers: int, which: str) -> float:
    """Requests served a second."""
    far = backend.cloud
    with host.snapd(workers), bar(f"requests a second, {workers} workers, {which}") as show:
        backend.requester.send(*CAMERAS)
        for _ in CAMERAS:  # it is up
            far.callback()
        began = ended = time.monotonic_ns()
        backend.requester.send(*islice(cycle(CAMERAS), BURST))
        for number in range(BURST):
            ended = far.callback().answered_ns
            show((number + 1) / BURST)
    return BURST / (ended - began) * 1e9
