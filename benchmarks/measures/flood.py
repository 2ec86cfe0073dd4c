"""A flood of requests: what each costs snapd, how many a second one core and two processes answer.

Beside it stands a bare loop, in turns: the same steps by hand, one after the other in this process.
"""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.measures.backend import Backend
from benchmarks.measures.baseline_script import ScriptBaseline
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.process import cpu_seconds
from benchmarks.measures.progress import bar
from benchmarks.measures.quota import held
from benchmarks.measures.table import Figure, Goal
from tests.support.processes import descendants

CAMERAS = [f"small{number}" for number in range(1, 5)]
SOURCE = "test:640x360@5"
RATE = 60  # requests of a flood, for each second that things are measured
BY_HAND = 0.2  # as many, by hand
WARM = 50  # requests before: connections are made, modules imported, every process has joined
TURN = 3.0  # s, of what things are measured for, that stand for one more of each kind; the median counts
WORKERS, MANY_WORKERS = 8, 32


@dataclass(frozen=True, slots=True)
class Flood:
    """What answered one: requests a second, and CPU time for each in ms."""

    rate: float
    cost: float


def measure(
    directory: Path, backend: Backend, seconds: float, upload: float, callback: float
) -> tuple[list[Figure], str]:
    """The figures, and how they came to be.

    Args:
        directory: for configuration and logs.
        backend: where requests go.
        seconds: for which each thing is measured, about.
        upload: seconds that the store takes where it is slow.
        callback: seconds that the platform does.
    """
    directory.mkdir()
    requests, turns = max(1, round(RATE * seconds)), max(1, round(seconds / TURN))
    few = max(1, round(requests * BY_HAND))
    cameras = [Camera(code, source=SOURCE) for code in CAMERAS]
    with (
        Host(directory, cameras, sections=backend.sections) as host,
        host.decoders(*CAMERAS),
        ScriptBaseline(host, backend.cloud.endpoints, backend.client) as script,
    ):
        hand, core, one, two, slow, slow_hand = (list[Flood]() for _ in range(6))
        for turn in range(1, turns + 1):
            label = f"{turn} of {turns}"
            backend.cloud.delay(0, 0)
            hand.append(_by_hand(script, backend, few, f"a bare loop, {label}"))
            core.append(flood(host, backend, requests, 1, WORKERS, f"flood, one core, {label}", one_core=True))
            one.append(flood(host, backend, requests, 1, WORKERS, f"flood, one process, {label}"))
            two.append(flood(host, backend, requests, 2, WORKERS, f"flood, two processes, {label}"))
            backend.cloud.delay(upload, callback)
            slow.append(flood(host, backend, requests, 1, MANY_WORKERS, f"slow store and platform, {label}"))
            slow_hand.append(_by_hand(script, backend, max(1, few // 10), f"the same by a bare loop, {label}"))
        backend.cloud.delay(0, 0)
    loop, cores = "a bare loop", len(os.sched_getaffinity(0))
    figures = [
        Figure("flood of 640x360, CPU time each", cost(core), "ms", loop, cost(hand), Goal("value", 2.5)),
        Figure("the same, served by one core", rate(core), "/s", loop, rate(hand), Goal("value", 400, True)),
        Figure(f"the same, one process on {cores} cores", rate(one), "/s", loop, rate(hand)),
        Figure(f"the same, two processes on {cores} cores", rate(two), "/s", "one process", rate(one)),
        Figure(
            f"640x360, {upload * 1000:.0f} ms at the store, {callback * 1000:.0f} at the platform, "
            f"{MANY_WORKERS} workers",
            rate(slow),
            "/s",
            loop,
            rate(slow_hand),
            Goal("value", 180, True),
        ),
    ]
    note = (
        f"floods: {turns} of {requests} requests over {len(CAMERAS)} cameras of 640x360, {WORKERS} workers; "
        f"Redis, storage and platform on the same {cores} cores; requests that come together share a picture"
    )
    return figures, note


def flood(
    host: Host,
    backend: Backend,
    requests: int,
    processes: int,
    workers: int,
    label: str,
    *,
    one_core: bool = False,
    share: float | None = None,
) -> Flood:
    """One of a snapd of its own.

    Args:
        host: whose.
        backend: where requests go.
        requests: how many.
        processes: that snapd has.
        workers: that each of these has.
        label: of the progress.
        one_core: whether all of it is to stay on one core.
        share: of a core that each process gets at most; None: as much as there is.
    """
    with ExitStack() as stack:
        with _one_core() if one_core else nullcontext():
            snapd = stack.enter_context(host.processes(processes, workers))
        show = stack.enter_context(bar(label))
        _send(backend, WARM * processes)
        for _ in range(WARM * processes):
            backend.cloud.callback()
        pids = [snapd, *descendants(snapd)] if processes > 1 else [snapd]
        if share is not None:
            stack.enter_context(held(pids[-processes:], share))
        spent, began = sum(map(cpu_seconds, pids)), time.monotonic_ns()
        ended = began
        _send(backend, requests)
        for number in range(requests):
            ended = backend.cloud.callback().answered_ns
            show((number + 1) / requests)
        spent = sum(map(cpu_seconds, pids)) - spent
    return Flood(requests / (ended - began) * 1e9, spent / requests * 1000)


def _by_hand(script: ScriptBaseline, backend: Backend, count: int, label: str) -> Flood:
    with bar(label) as show:
        spent, began = time.process_time(), time.monotonic_ns()
        ended = began
        for number, code in enumerate(islice(cycle(CAMERAS), count)):
            script.serve(code)
            ended = backend.cloud.callback().answered_ns
            show((number + 1) / count)
        spent = time.process_time() - spent
    return Flood(count / (ended - began) * 1e9, spent / count * 1000)


def _send(backend: Backend, count: int) -> None:
    backend.requester.send(*islice(cycle(CAMERAS), count))


@contextmanager
def _one_core() -> Iterator[None]:
    """What is started in this block stays on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def rate(floods: list[Flood]) -> float:
    """Requests a second, the median."""
    return statistics.median(flood.rate for flood in floods)


def cost(floods: list[Flood]) -> float:
    """CPU time of each, in ms, the median."""
    return statistics.median(flood.cost for flood in floods)
