"""Cameras of one policy, all at once, and whether the machine carries them: nothing lost, nothing late.

A camera is carried when its decoder publishes all that its policy promises, takes in the stream as fast as it comes
(seen from outside: what lies unread in its connection's sockets does not grow), drops nothing, and every snapshot
is answered with a picture, 99 of 100 within a second.
"""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Self

from benchmarks.measures import video
from benchmarks.measures.backend import Backend
from benchmarks.measures.cpu_meter import CpuMeter
from benchmarks.measures.host import Host
from benchmarks.measures.process import BenchmarkError, Memory, memory
from benchmarks.measures.progress import bar, rounds, wait
from benchmarks.measures.stages import Samples
from framesrv.segment.file import segment_path
from framesrv.segment.mapping import Segment

TOGETHER = 4 * len(os.sched_getaffinity(0))  # decoders started at a time
SETTLING = 2.0  # s from when all run until they are measured
ANSWERING = 15.0  # s that the last snapshots get
TICK = 0.02  # s
LOOKS = 5  # at the sockets: the least counts, since a key frame on its way is no delay

SHARE = 0.97  # of what should have come, which a camera must reach
LATEST = 0.5  # s of stream that may lie in sockets
SLOWEST = 1000.0  # ms, p99 of snapshots


@dataclass(frozen=True, slots=True)
class FrameCounters:
    """What a camera's header counts."""

    frames: int
    nbytes: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Trial:
    """So many cameras for a while.

    Attributes:
        failures: sentences; none if the machine carries them.
        decoders: CPU time of all of them, in % of one core; so is `server`, the RTSP server's.
        busy: how much of all cores was used, in %.
        memory: of a decoder, on average.
        snapshots: those that were answered with a picture.
        asked: for how many.
    """

    cameras: int
    failures: Sequence[str]
    decoders: float
    server: float
    busy: float
    memory: Memory
    snapshots: Samples
    asked: int = 0


class Load:
    """A host's cameras, as many of them running as are asked for.

    Args:
        host: whose cameras all have the same policy.
        backend: where requests for snapshots go, to a snapd that runs.
        fps: frames that a decoder of that policy publishes each second.
        name: of the policy, for the progress bar.
    """

    def __init__(self, host: Host, backend: Backend, fps: float, name: str) -> None:
        self._host = host
        self._backend = backend
        self._fps = fps
        self._name = name
        self._codes = [camera.code for camera in host.cameras]
        self._sizes = video.sizes()
        self._rate = fmean(self._sizes) * video.FPS
        self._batches: list[tuple[ExitStack, dict[str, int]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shrink(0)

    @property
    def pids(self) -> dict[str, int]:
        """The running decoders' process numbers."""
        return {code: pid for _, batch in self._batches for code, pid in batch.items()}

    def resize(self, cameras: int) -> None:
        """Runs so many, and lets them settle.

        Raises:
            BenchmarkError: they did not come up.
        """
        self._shrink(cameras)
        with bar(f"{self._name}: {cameras} decoders start") as show:
            while len(self.pids) < cameras:
                first = len(self.pids)
                codes = self._codes[first : min(cameras, first + TOGETHER)]
                stack = ExitStack()
                self._batches.append((stack, stack.enter_context(self._host.decoders(*codes))))
                show(len(self.pids) / cameras)
        wait(f"{self._name}: {cameras} decoders settle", SETTLING)

    def trial(self, seconds: float, rate: float) -> Trial:
        """Those that run, for so long, with `rate` snapshots a second of one after the other.

        Raises:
            BenchmarkError: requests were not answered at all.
        """
        pids = self.pids
        before = {code: self._counters(code) for code in pids}
        meter = CpuMeter({"decoders": pids.values(), "server": [self._host.server]})
        snapshots, failures = self._ask(f"{self._name}: {len(pids)} cameras", seconds, rate)
        asked = len(snapshots) + len(failures)
        shares, busy, spent = meter.shares(), meter.busy, meter.seconds
        after = {code: self._counters(code) for code in pids}
        failures += self._lost(before, after, spent)
        failures += self._behind()
        if len(snapshots) > 1 and snapshots.total(99) > SLOWEST:
            failures.append(f"p99 of snapshots {snapshots.total(99) / 1000:.1f} s")
        used = [memory(pid) for pid in pids.values()]
        average = Memory(fmean(one.private for one in used), fmean(one.shared for one in used))
        return Trial(len(pids), failures, shares["decoders"], shares["server"], busy, average, snapshots, asked)

    def _shrink(self, cameras: int) -> None:
        while len(self.pids) > cameras:
            self._batches.pop()[0].close()

    def _ask(self, label: str, seconds: float, rate: float) -> tuple[Samples, list[str]]:
        """Asks over and over; returns with the last answer."""
        cloud, codes = self._backend.cloud, cycle(self.pids)
        samples, failures = Samples(), list[str]()
        sent: dict[str, int] = {}

        def hear() -> None:
            for result in cloud.results():
                began = sent.pop(result.request_id, None)
                if began is None:  # asked in a trial that was given up
                    continue
                if result.status == "ok":
                    samples.took(result.request_id, (result.answered_ns - began) / 1e6)
                else:
                    failures.append(f"a snapshot was answered {result.message}")

        began = due = time.monotonic()
        for _ in rounds(label, seconds):
            if rate and time.monotonic() >= due and time.monotonic() - began < seconds:
                now = time.monotonic_ns()
                sent[self._backend.requester.send(next(codes))[0]] = now
                due += 1 / rate
            time.sleep(TICK)
            hear()
        deadline = time.monotonic() + ANSWERING
        while sent:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{len(sent)} snapshots were not answered within {ANSWERING:g} s")
            time.sleep(TICK)
            hear()
        return samples, failures

    def _counters(self, code: str) -> FrameCounters:
        segment = Segment.attach(segment_path(self._host.prefix, code))
        try:
            header = segment.header
            return FrameCounters(int(header["seq"][0]), int(header["bytes"][0]), int(header["dropped"][0]))
        finally:
            segment.close()

    def _lost(self, before: dict[str, FrameCounters], after: dict[str, FrameCounters], seconds: float) -> list[str]:
        """What was not published, taken in or was dropped."""
        found = []
        frames = {code: after[code].frames - before[code].frames for code in after}
        promised = self._fps * seconds
        short = [count for count in frames.values() if count < SHARE * promised - 1]  # one may fall to either side
        if short:
            found.append(f"{len(short)} cameras published too little, one {min(short)} of {promised:.0f} frames")
        least = SHARE * self._least(seconds)
        slow = [code for code in after if after[code].nbytes - before[code].nbytes < least]
        if slow:
            found.append(f"{len(slow)} cameras did not get all of their stream")
        dropped = sum(after[code].dropped - before[code].dropped for code in after)
        if dropped:
            found.append(f"{dropped} frames dropped")
        return found

    def _least(self, seconds: float) -> int:
        """Bytes that the stream brings in that time, from wherever in the footage it brings least."""
        count = int(seconds * video.FPS) - 1  # a frame may fall to either side
        frames = list(islice(cycle(self._sizes), len(self._sizes) + count))
        return min(sum(frames[first : first + count]) for first in range(len(self._sizes)))

    def _behind(self) -> list[str]:
        looks = []
        for _ in range(LOOKS):
            looks.append(unread(self._host.port))
            time.sleep(1 / video.FPS)
        least = [min(look.get(port, 0) for look in looks) / self._rate for port in looks[0]]
        late = [seconds for seconds in least if seconds > LATEST]
        return [f"{len(late)} cameras behind by up to {max(late):.1f} s"] if late else []


def unread(port: int) -> dict[int, int]:
    """Bytes that lie in the sockets of each connection to a port of this host, by the client's port (proc(5))."""
    established = "01"
    found: dict[int, int] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues = line.split()[:5]
        here, there = (int(address.partition(":")[2], 16) for address in (local, remote))
        if state == established and port in (here, there):
            client = there if here == port else here
            found[client] = found.get(client, 0) + sum(int(queue, 16) for queue in queues.split(":"))
    return found
