"""A snapd of one, two and four processes, in turns: requests a second, and CPU time for each.

Redis, the store and the platform are on the same cores, so that more processes could not be told from fewer where all
cores are busy. So each process is held to a share of one core, which leaves them the rest: how much is then answered
in a second hangs on the processes alone.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measures import quota
from benchmarks.measures.backend import open_backend
from benchmarks.measures.flood import CAMERAS, SOURCE, WORKERS, Flood, cost, flood, rate
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.table import Figure, Goal, Report

PROCESSES = (1, 2, 4)  # the first stands beside all others
SHARE = 0.15  # of a core, for each process
REQUESTS = 80  # for each process, of a flood, for each second that things are measured: about what it can do
TURN = 3.0  # s, of what things are measured for, that stand for one more flood of each kind; the median counts
LINEAR = 0.95  # of what would be in proportion


def run(seconds: float) -> Report:
    turns, share = max(1, round(seconds / TURN)), SHARE if quota.possible() else None
    requests = round(REQUESTS * min(seconds, TURN))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
        backend = stack.enter_context(open_backend(directory))
        cameras = [Camera(code, source=SOURCE) for code in CAMERAS]
        host = stack.enter_context(Host(directory, cameras, sections=backend.sections))
        stack.enter_context(host.decoders(*CAMERAS))
        found: dict[int, list[Flood]] = {processes: [] for processes in PROCESSES}
        for turn in range(1, turns + 1):
            for processes, floods in found.items():
                label = f"{processes} processes, {turn} of {turns}"
                floods.append(flood(host, backend, requests * processes, processes, WORKERS, label, share=share))
    figures = []
    for processes in PROCESSES[1:]:
        one, many, beside = found[PROCESSES[0]], found[processes], "1 process"
        linear = Goal("ratio", LINEAR * processes, at_least=True) if share else None
        figures += [
            Figure(f"{processes} processes, requests answered", rate(many), "/s", beside, rate(one), linear),
            Figure(
                f"{processes} processes, CPU time of each request",
                cost(many),
                "ms",
                beside,
                cost(one),
                Goal("ratio", 1 / LINEAR),
            ),
        ]
    cores = len(os.sched_getaffinity(0))
    held = (
        f"each process held to {SHARE:.0%} of one core by the kernel, the one that keeps them to nothing"
        if share
        else "no cgroup can be made here that holds CPU time: they are as fast as the cores allow, so no ratio is due"
    )
    return Report(
        f"processes: requests for {len(CAMERAS)} cameras of 640x360; Redis, storage and platform on the same "
        f"{cores} cores",
        figures,
        [
            f"{held}; CPU time with that of the last",
            f"{turns} floods of each kind, of {requests} requests for each process, {WORKERS} workers in each",
        ],
        [],
    )
