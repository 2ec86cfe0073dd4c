"""Readers of frames: how late they have each, and what they cost, by number, language and way of waiting."""

import asyncio
import mmap
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import framesrv
from benchmarks.measures import progress, video
from benchmarks.measures.baseline_copies import (
    Meter,
    Readings,
    receive_by_queue,
    receive_by_socket,
    send_by_queues,
    send_by_sockets,
)
from benchmarks.measures.process import SPAWN, BenchmarkError, child
from benchmarks.measures.table import Figure, Goal, Report
from benchmarks.measures.times import MS, US
from framesrv import FrameReader, FrameSet, FrameWriter, Stamp
from framesrv.segment import futex
from framesrv.segment.file import SHM_DIRECTORY
from framesrv.segment.mapping import Segment

READERS = (1, 4, 16)
CAMERAS = (1, 4, 16)
PAUSE = 1 / video.FPS
SHARE = 0.3  # of the seconds asked for, for each of the many things measured
STARTING = 30.0  # s
NO_COMPILER = "no cc: nothing is measured of readers in C"


def run(seconds: float) -> Report:
    figures: list[Figure] = []
    notes: list[str] = [
        f"{video.WIDTH}x{video.HEIGHT}, yuv420p, {video.FPS} frames a second: all processes are cold",
        "latency: from publishing until a reader has the frame; since the wake-up: without the writer's own steps, "
        "from the moment at which it wakes its readers, as that of a bare futex",
    ]
    with TemporaryDirectory(prefix=f"benchmark-{os.getpid()}-", dir=SHM_DIRECTORY) as directory:
        bench = Bench(Path(directory), seconds * SHARE)
        if bench.c_reader is None:
            notes.append(NO_COMPILER)
        for count in READERS:
            figures += _readers(bench, count)
        for count in CAMERAS:
            figures += _cameras(bench, count)
    return Report("readers", figures, notes)


def _readers(bench: "Bench", count: int) -> list[Figure]:
    """Readers of one camera, each a process of its own, beside as many that wait on a bare futex."""
    name = f"{count} reader{'s' if count > 1 else ''}"
    found: dict[str, tuple[Readings, Readings]] = {}
    for way in WAYS:
        found[f"{way}, Python"] = bench.python(WAYS[way], count, 1)
        if bench.c_reader is not None:
            found[f"{way}, C"] = bench.c(way, count)
    copies = {"multiprocessing.Queue": bench.queues(count), "a Unix socket": bench.sockets(count)}
    figures = []
    for label, (ours, bare) in found.items():
        goal = Goal("ratio", 1.1 if label.endswith("C") else 1.5) if count == 1 and "frames" in label else None
        figures += _late(f"{name}, {label}", ours, bare, "bare futex", goal)
    for beside, theirs in copies.items():
        ours = found["frames, Python"][0]
        for percent, words in ((50, "median"), (99, "p99")):
            late = [one.late.quantile(percent, MS) for one in (ours, theirs)]
            figures.append(Figure(f"{name}, frames, Python: latency, {words}", late[0], "ms", beside, late[1]))
        figures.append(Figure(f"{name}, frames, Python: CPU of each", ours.share, "%", beside, theirs.share))
    return figures


def _cameras(bench: "Bench", count: int) -> list[Figure]:
    """One process that reads several cameras, beside one with a thread for each."""
    name = f"{count} camera{'s' if count > 1 else ''}"
    threads, _ = bench.python(_by_threads, 1, count)
    figures = []
    for label, way in (("FrameSet", _by_set), ("asyncio", _by_asyncio)):
        ours, _ = bench.python(way, 1, count)
        beside = "a thread a camera"
        for percent, words in ((50, "median"), (99, "p99")):
            late = [one.late.quantile(percent, US) for one in (ours, threads)]
            figures.append(Figure(f"{name}, {label}: latency, {words}", late[0], "µs", beside, late[1]))
        figures.append(Figure(f"{name}, {label}: CPU", ours.share, "%", beside, threads.share))
    return figures


def _late(name: str, ours: Readings, bare: Readings, beside: str, goal: Goal | None) -> list[Figure]:
    whole, waking = ours.late.quantile(50, US), ours.since_wake.quantile(50, US)
    median, slow = bare.late.quantile(50, US), bare.late.quantile(99, US)
    return [
        Figure(f"{name}: latency, median", whole, "µs", beside, median, goal),
        Figure(f"{name}: latency since the wake-up, median", waking, "µs", beside, median),
        Figure(f"{name}: latency, p99", ours.late.quantile(99, US), "µs", beside, slow),
        Figure(f"{name}: CPU of each", ours.share, "%", beside, bare.share),
    ]


# Publishing


@dataclass(frozen=True)
class Clock:
    """A page that publisher and readers share: a futex word, when that was woken last, and when each camera's."""

    words: memoryview
    longs: memoryview
    address: int

    @classmethod
    def of(cls, path: Path) -> "Clock":
        with path.open("ab+") as file:
            file.truncate(mmap.PAGESIZE)
            page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        return cls(memoryview(page).cast("I"), memoryview(page).cast("q"), np.frombuffer(page, np.uint8).ctypes.data)

    def ping(self) -> None:
        """Wakes who waits on the bare futex."""
        self.longs[1] = time.monotonic_ns()
        self.words[0] += 1
        futex.wake(self.address)


def _publish(prefix: str, codes: Sequence[str], path: Path) -> None:
    """A frame of each camera, copied as a decoder does, and half a period later a ping, again and again."""
    clock, wake, number = Clock.of(path), futex.wake, 0
    pictures = cycle(video.pictures(4))

    def noted(address: int) -> None:
        clock.longs[2 + number] = time.monotonic_ns()
        wake(address)

    with ExitStack() as stack:
        writers = [
            stack.enter_context(FrameWriter(code, video.WIDTH, video.HEIGHT, "yuv420p", slots=4, prefix=prefix))
            for code in codes
        ]
        while True:
            futex.wake = noted
            for number, writer in enumerate(writers):  # noqa: B007  `noted` reads it
                time.sleep(PAUSE / 2 / len(writers))
                with writer.next() as slot:
                    if slot is not None:
                        for view, plane in zip(slot.planes, next(pictures), strict=True):
                            np.copyto(view, plane)
                        slot.stamp = Stamp.now(video.HEIGHT)
            futex.wake = wake
            time.sleep(PAUSE / 2)
            clock.ping()


# Readers in Python: each tells, through a pipe, what its meter has found


def _by_frames(prefix: str, codes: Sequence[str], path: Path, seconds: float, told: Connection) -> None:
    clock = Clock.of(path)
    with FrameReader(codes[0], prefix=prefix) as camera:
        frames = camera.frames(timeout=STARTING)
        next(frames)
        meter = Meter()
        for frame in frames:
            now = time.monotonic_ns()
            meter.late(now - frame.stamp.arrived_ns, now - clock.longs[2])
            if meter.is_done(seconds):
                break
    told.send(meter.result())


def _by_latest(prefix: str, codes: Sequence[str], path: Path, seconds: float, told: Connection) -> None:
    clock = Clock.of(path)
    with FrameReader(codes[0], prefix=prefix) as camera:
        camera.latest(max_age=0, timeout=STARTING).release()
        meter = Meter()
        while not meter.is_done(seconds):
            with camera.latest(max_age=0, timeout=STARTING) as frame:
                now = time.monotonic_ns()
                meter.late(now - frame.stamp.arrived_ns, now - clock.longs[2])
    told.send(meter.result())


def _bare(prefix: str, codes: Sequence[str], path: Path, seconds: float, told: Connection) -> None:
    clock = Clock.of(path)
    futex.wait(clock.address, clock.words[0], STARTING)
    meter = Meter()
    while not meter.is_done(seconds):
        if futex.wait(clock.address, clock.words[0], STARTING):
            meter.late(time.monotonic_ns() - clock.longs[1])
    told.send(meter.result())


def _by_set(prefix: str, codes: Sequence[str], path: Path, seconds: float, told: Connection) -> None:
    with FrameSet(codes, prefix=prefix) as cameras:
        frames = cameras.frames(timeout=STARTING)
        next(frames)
        meter = Meter()
        for _, frame in frames:
            meter.late(time.monotonic_ns() - frame.stamp.arrived_ns)
            if meter.is_done(seconds):
                break
    told.send(meter.result())


def _by_threads(prefix: str, codes: Sequence[str], path: Path, seconds: float, told: Connection) -> None:
    meter = Meter()

    def follow(code: str) -> None:
        with FrameReader(code, prefix=prefix) as camera:
            for frame in camera.frames(timeout=STARTING):
                meter.late(time.monotonic_ns() - frame.stamp.arrived_ns)
                if meter.is_done(seconds):
                    return

    threads = [threading.Thread(target=follow, args=(code,)) for code in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send(meter.result())


def _by_asyncio(prefix: str, codes: Sequence[str], path: Path, seconds: float, told: Connection) -> None:
    async def follow(code: str, meter: Meter) -> None:
        with FrameReader(code, prefix=prefix) as camera:
            async for frame in camera.frames_async(timeout=STARTING):
                meter.late(time.monotonic_ns() - frame.stamp.arrived_ns)
                if meter.is_done(seconds):
                    return

    async def follow_all() -> None:
        meter = Meter()
        await asyncio.gather(*(follow(code, meter) for code in codes))
        told.send(meter.result())

    asyncio.run(follow_all())


WAYS: dict[str, Callable[..., None]] = {"frames": _by_frames, "latest": _by_latest}


class Bench:
    """Runs publishers and readers, and hears what readers tell.

    Attributes:
        c_reader: the compiled reader in C, None where there is no compiler.
    """

    def __init__(self, directory: Path, seconds: float) -> None:
        self._directory = directory
        self._seconds = seconds
        self._number = 0
        self.c_reader = _compiled(directory)

    def python(self, way: Callable[..., None], readers: int, cameras: int) -> tuple[Readings, Readings]:
        """So many processes that read the cameras that way, and as many that wait on a bare futex."""
        with self._published(cameras, f"{readers} by {way.__name__}, {cameras} cameras") as (prefix, codes, path):
            arguments = (prefix, codes, path, self._seconds)
            with _told(way, readers, *arguments) as ours, _told(_bare, readers, *arguments) as bare:
                return _heard(ours), _heard(bare)

    def c(self, way: str, readers: int) -> tuple[Readings, Readings]:
        """The same in C, of one camera."""
        with self._published(1, f"{readers} by {way} in C") as (prefix, codes, path), ExitStack() as stack:
            running = {
                one: [
                    stack.enter_context(
                        subprocess.Popen(
                            [str(self.c_reader), one, prefix, codes[0], path, str(self._seconds)],
                            stdout=subprocess.PIPE,
                            text=True,
                        )
                    )
                    for _ in range(readers)
                ]
                for one in (way, "bare")
            }
            found = {one: Readings() for one in running}
            for one, processes in running.items():
                for process in processes:
                    said = process.communicate(timeout=self._seconds + STARTING)[0].splitlines()
                    if process.returncode or not said[1:]:
                        raise BenchmarkError(f"the reader in C ended with status {process.returncode}")
                    late = [tuple(map(int, line.split())) for line in said[1:]]
                    found[one].add([ns for ns, _ in late], [ns for _, ns in late], float(said[0]))
            return found[way], found["bare"]

    def queues(self, readers: int) -> Readings:
        """So many processes that get copies through queues."""
        progress.line(f"{readers} by multiprocessing.Queue")
        queues = [SPAWN.Queue(2) for _ in range(readers)]
        with ExitStack() as stack:
            told = [stack.enter_context(_told(receive_by_queue, 1, queue, self._seconds))[0] for queue in queues]
            stack.enter_context(child(send_by_queues, queues, PAUSE))
            return _heard(told)

    def sockets(self, readers: int) -> Readings:
        """So many processes that get copies through sockets."""
        self._number += 1
        path = self._directory / f"socket{self._number}"
        progress.line(f"{readers} by a Unix socket")
        with (
            child(send_by_sockets, path, readers, PAUSE),
            _told(receive_by_socket, readers, path, self._seconds) as told,
        ):
            return _heard(told)

    @contextmanager
    def _published(self, cameras: int, label: str) -> Iterator[tuple[str, list[str], Path]]:
        self._number += 1
        prefix, path = f"{self._directory.name}-{self._number}", self._directory / f"clock{self._number}"
        codes = [f"camera{number}" for number in range(cameras)]
        try:
            progress.line(label)
            Clock.of(path)
            with child(_publish, prefix, codes, path):
                yield prefix, codes, path
        finally:
            for code in codes:
                with suppress(FileNotFoundError):
                    Segment.remove_abandoned(prefix, code)


@contextmanager
def _told(way: Callable[..., None], count: int, *arguments: Any) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        pipes = [SPAWN.Pipe(duplex=False) for _ in range(count)]
        for _, theirs in pipes:
            stack.enter_context(child(way, *arguments, theirs))
        yield [ours for ours, _ in pipes]


def _heard(pipes: Sequence[Connection]) -> Readings:
    found = Readings()
    for pipe in pipes:
        if not pipe.poll(STARTING * 4):
            raise BenchmarkError("a reader has told nothing")
        found.add(*pipe.recv())
    return found


def _compiled(directory: Path) -> Path | None:
    program, include = directory / "reader", Path(framesrv.__file__).parent / "include"
    source = Path(__file__).parent / "reader.c"
    words = ["cc", "-std=c11", "-O2", f"-I{include}", str(source), "-o", str(program), "-pthread"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    if done.returncode:
        raise BenchmarkError(done.stderr)
    return program
