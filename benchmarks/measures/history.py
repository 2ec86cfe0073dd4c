"""What a camera's history costs: its decoder, whoever asks for a frame of then, and its writer beside its readers.

Frames of then are decoded by hand from the very packets that `FrameReader.at` takes, each way in turn.
"""

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from benchmarks.measures import video
from benchmarks.measures.cpu_meter import CpuMeter
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.process import SPAWN, BenchmarkError, child, wait_until
from benchmarks.measures.progress import rounds, wait
from benchmarks.measures.table import Figure, Goal, Report
from benchmarks.measures.times import MS, US, Times
from framesrv import FrameReader, History, HistoryPacket, HistoryUnavailableError
from framesrv.history.abandoned import remove_abandoned
from framesrv.history.file import history_path
from framesrv.history.writer import HistoryWriter
from framesrv.history.writer import Times as Stamps
from framesrv.segment import colour
from framesrv.segment.layout import Pixels
from tests.history.programs import BYTES, DESCRIPTION, GOP, is_whole, made
from tests.support.footage import Codec

CODECS: tuple[Codec, ...] = ("h264", "hevc")
SECONDS = 10.0  # of history
AGO = 5.0  # s
SAME = 4  # cameras of each kind: what one of them takes is too little to be compared
SETTLING = 3.0  # s from when all run until CPU time counts
READERS = 4
PACKETS = 1_000_000
BLOCK = 200  # packets written in a row
CODE = "camera"

WITH = [Camera(f"with{number}", "demand", SECONDS) for number in range(SAME)]
WITHOUT = [Camera(f"without{number}", "demand") for number in range(SAME)]


def run(seconds: float) -> Report:
    figures: list[Figure] = []
    notes: list[str] = []
    for codec in CODECS:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
            host = stack.enter_context(Host(directory, [*WITH, *WITHOUT], codec))
            pids = stack.enter_context(host.decoders(*(one.code for one in host.cameras)))
            figures += _cpu(pids, codec, seconds)
            found, note = _frames(host.prefix, codec, seconds)
            figures += found
            notes.append(note)
    written, note = _write()
    notes.append(note)
    return Report(
        f"history: {SECONDS:g} s of 1920x1080 at 25/s over RTSP, 4 Mb/s, a key frame every {video.GOP} frames",
        [*figures, *written],
        notes,
    )


def _cpu(pids: dict[str, int], codec: Codec, seconds: float) -> list[Figure]:
    wait(f"{video.NAMES[codec]}: all settle", SETTLING)
    kinds = {"with": WITH, "without": WITHOUT}
    meter = CpuMeter({kind: [pids[one.code] for one in cameras] for kind, cameras in kinds.items()})
    wait(f"{video.NAMES[codec]}: {len(pids)} cameras on demand at once", seconds)
    shares = meter.shares()
    name = f"{video.NAMES[codec]}, {SAME} cameras on demand, CPU of a core"
    return [Figure(name, shares["with"], "%", "the same without history", shares["without"], Goal("ratio", 1.10))]


def _frames(prefix: str, codec: Codec, seconds: float) -> tuple[list[Figure], str]:
    """Figures and a note."""
    ours, hand = Times(), Times()
    code = WITH[0].code
    with FrameReader(code, prefix=prefix) as camera, History(code, prefix=prefix) as history:
        wait_until(lambda: _kept(history) > AGO + 1, f"{AGO:g} s of history", SECONDS + AGO)
        size, told = os.stat(history_path(prefix, code)).st_size, int((SECONDS + 4) * 1_000_000)
        count = 0
        for number in rounds(f"{video.NAMES[codec]}: frames of {AGO:g} s ago", seconds, at_least=4):
            moment = history.span()[1] - AGO
            for at in (True, False) if number % 2 else (False, True):
                if at:
                    began = time.perf_counter_ns()
                    with camera.at(moment) as frame:
                        found = frame.planes[0].sum()
                    ours.add(time.perf_counter_ns() - began)
                else:
                    packets = history.packets(moment, moment)
                    began = time.perf_counter_ns()
                    planes = _by_hand(packets)
                    beside = planes[0].sum()
                    hand.add(time.perf_counter_ns() - began)
                    count += len(packets)
            if found != beside:
                raise BenchmarkError(f"the frame of {moment} is another one by hand")
    name = f"{video.NAMES[codec]}, a frame of {AGO:g} s ago"
    figures = [
        Figure(
            f"{name}, {what}",
            ours.quantile(percent, MS),
            "ms",
            "the same packets by PyAV, one thread",
            hand.quantile(percent, MS),
            Goal("ratio", 1.3) if percent == 50 else None,
        )
        for what, percent in (("median", 50), ("p99", 99))
    ]
    figures.append(Figure("bytes of shared memory", size, "", "as configured", told, Goal("ratio", 1)))
    return figures, f"{name}: {len(ours)} of them, {count / max(1, len(hand)):.0f} packets each on average"


def _kept(history: History) -> float:
    try:
        oldest, newest = history.span()
    except HistoryUnavailableError:
        return 0.0
    return newest - oldest


def _by_hand(packets: list[HistoryPacket]) -> tuple[Pixels, ...]:
    """The planes of the last packet's frame, copied."""
    parameters = packets[-1].parameters
    codec: Any = av.CodecContext.create(parameters.codec, "r")
    codec.thread_count = 1
    frame: Any = None
    for packet in packets:
        for one in codec.decode(av.Packet(packet.data)):
            frame = one
    for one in codec.decode(None):
        frame = one
    return tuple(plane.copy() for plane in colour.planes_of(frame))


def _write() -> tuple[list[Figure], str]:
    """Figures and a note: packets at full speed, with readers that look at each of theirs."""
    ours, bare = Times(), Times()
    prefix = f"benchmark-{os.getpid()}"
    target = memoryview(mmap.mmap(-1, BYTES))
    at = number = 0
    with ExitStack() as stack:
        writer = HistoryWriter(CODE, SECONDS, BYTES, prefix=prefix)
        stack.callback(remove_abandoned, prefix, CODE)
        stack.callback(writer.close)
        pipes = [stack.enter_context(_reader(prefix)) for _ in range(READERS)]
        for _ in rounds(f"{PACKETS} packets with {READERS} readers", 1e-3, at_least=-(-PACKETS // BLOCK)):
            for _ in range(BLOCK):
                number += 1
                data, now = made(number), time.time_ns()
                times: Stamps = (number, None, now, now, time.monotonic_ns(), False)
                description = DESCRIPTION if number % GOP == 1 else b""
                began = time.perf_counter_ns()
                writer.add(data, times, description)
                ours.add(time.perf_counter_ns() - began)
            for _ in range(BLOCK):
                data = made(number)
                at = 0 if at + len(data) > BYTES else at
                began = time.perf_counter_ns()
                target[at : at + len(data)] = data
                bare.add(time.perf_counter_ns() - began)
                at += len(data)
        read = torn = 0
        for pipe in pipes:
            pipe.send("end")
            if not pipe.poll(30):
                raise BenchmarkError("a reader of the history hangs")
            found, wrong = pipe.recv()
            read, torn = read + found, torn + wrong
    figures = [
        Figure(f"write a packet, {what}", ours.quantile(percent, US), "µs", "a bare copy", bare.quantile(percent, US))
        for what, percent in (("median", 50), ("p99", 99))
    ]
    figures.append(Figure("torn packets", torn, "", "packets read", read, Goal("value", 0)))
    return figures, f"{number} packets of up to 6 kB at full speed, in a history of {BYTES} bytes, {READERS} readers"


@contextmanager
def _reader(prefix: str) -> Iterator[Connection]:
    ours, theirs = SPAWN.Pipe()
    with child(_read, prefix, theirs):
        if not ours.poll(30):
            raise BenchmarkError("a reader of the history does not start")
        ours.recv()
        yield ours


def _read(prefix: str, pipe: Connection) -> None:
    """Reads until something is sent; sends how many packets it has read, and how many were torn."""
    read = torn = 0
    chance = np.random.default_rng(os.getpid())
    with History(CODE, prefix=prefix) as history:
        pipe.send("ready")
        while not pipe.poll():
            try:
                oldest, newest = history.span()
                found = history.packets(oldest + (newest - oldest) * chance.random())
            except HistoryUnavailableError:  # written over meanwhile
                continue
            read += len(found)
            torn += sum(not is_whole(packet) for packet in found)
    pipe.send((read, torn))
