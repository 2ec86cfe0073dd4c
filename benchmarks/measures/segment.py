"""Shared memory: what it costs to take the newest frame, to be woken by one, to write one."""

import fcntl
import mmap
import os
import random
import resource
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measures import video
from benchmarks.measures.baseline_wake import FutexPing, PipePing
from benchmarks.measures.process import SPAWN, BenchmarkError, child
from benchmarks.measures.progress import rounds
from benchmarks.measures.table import Figure, Goal, Report
from benchmarks.measures.times import MS, US, Times
from framesrv import FrameReader, FrameUnavailableError, FrameWriter, Stamp
from framesrv.segment.file import SHM_DIRECTORY, segment_path
from framesrv.segment.layout import OFFSETS, SLOT_BYTE, Pixels
from framesrv.segment.mapping import Segment

CODE = "camera"
READERS = 4
LONGEST_PIN = 0.05  # s
RATES = (500, video.FPS)  # frames a second: caches and CPUs awake, and as a camera finds them
PACE = 0.005  # s between writes: at full speed it is the scheduler that is measured
BLOCK = 200  # takes in a row
# of ImageNet, as is usual
MEAN, SCALE = np.array([123.7, 116.3, 103.5], np.float32), np.array([0.0171, 0.0175, 0.0174], np.float32)


def run(seconds: float) -> Report:
    planes = video.pictures(1)[0]
    prefix = f"benchmark-{os.getpid()}"
    try:
        figures = _take(prefix, planes, seconds)
        figures += _floats(prefix, planes, seconds)
        for rate in RATES:
            figures += _wake(prefix, rate, seconds)
        notes = [f"writes: at most {1 / PACE:.0f} a second, {READERS} readers elsewhere holding pins for 0 to 50 ms"]
        for slots in (2, READERS + 2):
            written, note = _write(prefix, planes, slots, seconds)
            figures += written
            notes.append(note)
    finally:
        Segment.remove_abandoned(prefix, CODE)
    return Report("segment: 1920x1080, yuv420p", figures, notes)


def _writer(prefix: str, slots: int = 2) -> FrameWriter:
    return FrameWriter(CODE, video.WIDTH, video.HEIGHT, "yuv420p", slots=slots, prefix=prefix)


# Taking the newest frame


def _take(prefix: str, planes: tuple[Pixels, ...], seconds: float) -> list[Figure]:
    ours, bare = Times(), Times()
    with _writer(prefix) as writer, FrameReader(CODE, prefix=prefix) as reader, _bare_reader(prefix) as hand:
        words, planes_of = hand.words, hand.planes
        for _ in rounds("take the newest frame", seconds):
            writer.write(planes)
            for _ in range(BLOCK):
                began = time.perf_counter_ns()
                with reader.latest(None) as frame:
                    _ = frame.planes
                ours.add(time.perf_counter_ns() - began)
            for _ in range(BLOCK):
                began = time.perf_counter_ns()
                slot = words[OFFSETS["newest"] // 4]
                fcntl.fcntl(hand.fd, fcntl.F_OFD_SETLK, hand.pins[slot])
                _ = planes_of[slot]
                fcntl.fcntl(hand.fd, fcntl.F_OFD_SETLK, hand.unpins[slot])
                bare.add(time.perf_counter_ns() - began)
    return _pair("take and release", ours, bare, "µs", "bare fcntl, lock and unlock", median=Goal("value", 15))


# Floats for neural networks


def _floats(prefix: str, planes: tuple[Pixels, ...], seconds: float) -> list[Figure]:
    """`Frame.tensor` and the usual way, in turns, into memory that is there already."""
    figures = []
    with _writer(prefix) as writer, FrameReader(CODE, prefix=prefix) as reader:
        writer.write(planes)
        with reader.latest(None) as frame:
            for width, height in ((video.WIDTH, video.HEIGHT), (640, 360)):
                ours, usual = Times(), Times()
                out = np.empty((1, 3, height, width), np.float32)
                for _ in rounds(f"floats of {width}x{height}", seconds / 2, at_least=10):
                    began = time.perf_counter_ns()
                    frame.tensor(width, height, mean=MEAN, scale=SCALE, out=out)
                    ours.add(time.perf_counter_ns() - began)
                    began = time.perf_counter_ns()
                    picture = frame.bgr(width, height)[..., ::-1].astype(np.float32)
                    out[0] = ((picture - MEAN) * SCALE).transpose(2, 0, 1)
                    usual.add(time.perf_counter_ns() - began)
                name = f"1080p to floats, NCHW, {width}x{height}"
                figures += _pair(name, ours, usual, "ms", "bgr, astype, mean, scale, transpose")[:1]
    return figures


@dataclass(frozen=True, slots=True)
class BareReader:
    """A segment as a reader without this package would have it, with all that can be made beforehand."""

    fd: int
    words: memoryview
    planes: list[memoryview]
    pins: list[bytes]
    unpins: list[bytes]


@contextmanager
def _bare_reader(prefix: str) -> Iterator[BareReader]:
    fd = os.open(segment_path(prefix, CODE), os.O_RDONLY)
    try:
        memory = memoryview(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ))
        pins, unpins = (
            [struct.pack("hhqqi4x", kind, os.SEEK_SET, SLOT_BYTE + slot, 1, 0) for slot in range(2)]
            for kind in (fcntl.F_RDLCK, fcntl.F_UNLCK)
        )
        yield BareReader(fd, memory.cast("I"), [memory, memory], pins, unpins)
    finally:
        os.close(fd)


# Waking a waiting reader


def _wake(prefix: str, rate: int, seconds: float) -> list[Figure]:
    """In turns, by another process to this one, which is asleep: a frame, a futex ping, a ping through a pipe."""
    ours, by_futex, by_pipe = Times(), Times(), Times()
    receiving, sending = SPAWN.Pipe(duplex=False)
    with ExitStack() as stack:
        word = Path(stack.enter_context(TemporaryDirectory(prefix=prefix, dir=SHM_DIRECTORY)), "word")
        pings = ((FutexPing(word), by_futex), (PipePing(receiving), by_pipe))
        stack.enter_context(child(_publish_and_ping, prefix, rate, word, sending))
        reader = stack.enter_context(FrameReader(CODE, prefix=prefix))
        frames = reader.frames(timeout=10.0)
        try:
            for _ in rounds(f"wake a waiting reader, {rate} frames a second", seconds, at_least=10):
                frame = next(frames)
                woken = time.monotonic_ns() - frame.stamp.arrived_ns
                ours.add(woken)
                for ping, times in pings:
                    spent = ping.receive(frame.stamp.pts or 0)
                    if spent is not None:
                        times.add(spent)
        except FrameUnavailableError as error:
            raise BenchmarkError(str(error)) from error
    Segment.remove_abandoned(prefix, CODE)
    name = f"publish until a reader has it, {rate}/s"
    by_pipe_too = _pair(name, ours, by_pipe, "µs", "16 bytes through a pipe")[:1]
    return [*_pair(name, ours, by_futex, "µs", "bare futex", median=Goal("value", 100)), *by_pipe_too]


def _publish_and_ping(prefix: str, rate: int, word: Path, sending: Connection) -> None:
    pings = (FutexPing(word), PipePing(sending))
    pause = 1 / rate / 3  # after it the other side is asleep again
    with _writer(prefix) as writer:
        number = 0
        while True:
            number += 1
            time.sleep(pause)
            with writer.next() as slot:
                if slot is not None:
                    slot.stamp = Stamp.now(video.HEIGHT)._replace(pts=number)
            for ping in pings:
                time.sleep(pause)
                ping.send(number)


# Writing


def _write(prefix: str, planes: tuple[Pixels, ...], slots: int, seconds: float) -> tuple[list[Figure], str]:
    """Figures and a note."""
    ours, bare = Times(), Times()
    targets = [tuple(_shared(plane) for plane in planes) for _ in range(slots)]
    tried = waits = 0
    with ExitStack() as stack:
        writer = stack.enter_context(_writer(prefix, slots))
        writer.write(planes)
        for _ in range(READERS):
            stack.enter_context(child(_hold, prefix))
        for number in rounds(f"write with {READERS} readers and {slots} slots", seconds, at_least=100):
            time.sleep(PACE)
            for write in (True, False) if number % 2 else (False, True):
                if not write:
                    began = time.perf_counter_ns()
                    for target, plane in zip(targets[number % slots], planes, strict=True):
                        np.copyto(target, plane)
                    bare.add(time.perf_counter_ns() - began)
                    continue
                tried += 1
                before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
                began = time.perf_counter_ns()
                published = writer.write(planes)
                spent = time.perf_counter_ns() - began
                waits += resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
                if published:
                    ours.add(spent)
    note = (
        f"{slots} slots: {tried} writes tried, {tried - len(ours)} frames dropped with every slot pinned; "
        f"the writer gave up the CPU of its own accord (a wait) {waits} times"
    )
    name = f"write, {slots} slots"
    return _pair(name, ours, bare, "ms", "np.copyto to shared memory", p99=Goal("difference", 1)), note


def _shared(plane: Pixels) -> Pixels:
    """Shared memory of the plane's form: its small pages are slower to copy to than the heap's huge ones."""
    return np.frombuffer(mmap.mmap(-1, plane.nbytes), np.uint8).reshape(plane.shape)


def _hold(prefix: str) -> None:
    with FrameReader(CODE, prefix=prefix) as reader:
        while True:
            with reader.latest(None, timeout=10.0):
                time.sleep(random.uniform(0, LONGEST_PIN))


def _pair(
    name: str,
    ours: Times,
    bare: Times,
    unit: str,
    beside: str,
    *,
    median: Goal | None = None,
    p99: Goal | None = None,
) -> list[Figure]:
    size = {"µs": US, "ms": MS}[unit]
    return [
        Figure(f"{name}, {what}", ours.quantile(percent, size), unit, beside, bare.quantile(percent, size), target)
        for what, percent, target in (("median", 50, median), ("p99", 99, p99))
    ]
