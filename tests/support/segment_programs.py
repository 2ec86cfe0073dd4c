"""Writers and readers that run in processes of their own, to be stopped and killed, and the pictures they exchange.

`start` forks them from a server that has imported this module and started no thread: a process takes milliseconds,
and everything it locks it has opened itself. A picture shows its number in every 8 bytes of every plane, and
carries it as its presentation time as well, so that a mixture of two pictures cannot go unseen.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import framesrv
from framesrv import Frame, FrameReader, FrameUnavailableError, FrameWriter, SegmentError, Stamp
from framesrv.segment import locks
from framesrv.segment.file import segment_path
from framesrv.segment.mapping import Segment

WIDTH, HEIGHT = 128, 96
HOLD = 0.05  # s, the longest pin of `look`
SURVIVED = 7  # exit status of `write_and_die` and `open_and_die` that came to their end

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", __name__])


@dataclass(frozen=True)
class Process:
    """A started program and the pipe to it."""

    process: BaseProcess
    pipe: Connection

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def answer(self, timeout: float = 60.0) -> Any:
        """The next object that the program sends."""
        assert self.pipe.poll(timeout), "no answer from the process"
        return self.pipe.recv()

    def kill(self) -> None:
        self.process.kill()
        self.join()

    def join(self, timeout: float = 60.0) -> int | None:
        """Waits for its end; its exit status."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, "the process does not end"
        return self.process.exitcode


def start(program: Callable[..., None], *arguments: object) -> Process:
    """Starts ``program(pipe, *arguments)`` in a process of its own."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=program, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return Process(process, ours)


def path_of(prefix: str, code: str) -> str:
    return segment_path(prefix, code)


def header(prefix: str, code: str, field: str) -> int:
    """A number of the segment's header."""
    segment = Segment.attach(path_of(prefix, code))
    try:
        return int(segment.header[field][0])
    finally:
        segment.close()


def pinned(prefix: str, code: str) -> list[int]:
    """The slots that somebody has locked."""
    segment = Segment.attach(path_of(prefix, code))
    try:
        slots = range(segment.geometry.slots)
        return [slot for slot in slots if locks.is_held(segment.fd, 16 + slot, exclusively=False)]
    finally:
        segment.close()


def paint(planes: Sequence[NDArray[np.uint8]], number: int) -> None:
    for index, plane in enumerate(planes):
        plane.view(np.uint64)[:] = number * 3 + index


def shows(planes: Sequence[NDArray[np.uint8]], number: int) -> bool:
    return all(bool((plane.view(np.uint64) == number * 3 + index).all()) for index, plane in enumerate(planes))


def whole(frame: Frame) -> bool:
    """Whether the frame is one picture from end to end, and the one its record tells of."""
    number = frame.stamp.pts
    return number is not None and len(frame.planes) == 3 and shows(frame.planes, number)


def put(writer: FrameWriter, number: int) -> bool:
    """Paints and publishes picture `number`; False if it was dropped."""
    with writer.next() as slot:
        if slot is None:
            return False
        paint(slot.planes, number)
        slot.stamp = Stamp.now(HEIGHT)._replace(pts=number)
    return True


@dataclass(frozen=True)
class Seen:
    """What a reader has seen.

    Attributes:
        frames: taken.
        torn: how many were not whole, or changed while they were pinned.
        disordered: how many were numbered below the one before.
        sources: of how many writers, where picture numbers are ``writer << 32 | n``.
        late: how many calls took much longer than their deadline.
    """

    frames: int = 0
    torn: int = 0
    disordered: int = 0
    sources: int = 0
    late: int = 0


def look(pipe: Connection, prefix: str, code: str, seed: int) -> None:
    """Takes the newest frame again and again, pinning it for 0 to `HOLD` seconds, while there is a segment."""
    chance = random.Random(seed)
    seen, last, timeout = Seen(), 0, 30.0
    pipe.send("ready")
    with FrameReader(code, prefix=prefix) as camera:
        while True:
            try:
                frame = camera.latest(max_age=None, timeout=timeout)
            except FrameUnavailableError:
                break
            timeout = 0.2
            with frame:
                before = whole(frame)
                time.sleep(chance.choice((0, 0, chance.uniform(0, HOLD))))
                after = whole(frame)
                seen = replace(
                    seen,
                    frames=seen.frames + 1,
                    torn=seen.torn + (not (before and after and frame.stamp.pts == frame.seq)),
                    disordered=seen.disordered + (frame.seq < last),
                )
                last = frame.seq
    pipe.send(seen)


def write(pipe: Connection, prefix: str, code: str, slots: int, attempts: int, enough: int) -> None:
    """Writes at full speed until so many were attempted and `enough` published; sends what came of them.

    Pictures are numbered as they will be published.
    """
    with FrameWriter(code, WIDTH, HEIGHT, "yuv420p", slots=slots, prefix=prefix) as writer:
        attempted = published = 0
        while attempted < attempts or published < enough:
            attempted += 1
            published += put(writer, published + 1)
        pipe.send((attempted, published, header(prefix, code, "frames"), header(prefix, code, "dropped")))


def hold(pipe: Connection, prefix: str, code: str) -> None:
    """Pins the newest frame, sends its number, and, told to, whether it is still the same."""
    with FrameReader(code, prefix=prefix) as camera, camera.latest(max_age=None, timeout=20) as frame:
        pipe.send(frame.seq)
        pipe.recv()
        pipe.send(whole(frame))


def hold_by_turns(pipe: Connection, prefix: str, code: str, seed: int) -> None:
    """Pins frame after frame, nearly all the time, until it is killed."""
    chance = random.Random(seed)
    with FrameReader(code, prefix=prefix) as camera:
        said = False
        while True:
            with camera.latest(max_age=None, timeout=20):
                if not said:
                    pipe.send("pinned")
                    said = True
                time.sleep(chance.uniform(0, HOLD))


def write_forever(pipe: Connection, prefix: str, code: str, source: int, resizing: bool) -> None:
    """Writes until it is killed, and says when it has begun; where `resizing`, its frames change their size."""
    writer = FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix)
    number = 0
    while True:
        if resizing and number % 8 == 0:
            writer.resize(WIDTH + number % 3 * 16, HEIGHT, "yuv420p")
        number += 1
        put(writer, source << 32 | number)
        if number == 1:
            pipe.send("writing")


def follow(pipe: Connection, prefix: str, code: str, last_source: int, each: bool) -> None:
    """Reads what many writers write one after the other, until it has seen a frame of the last one.

    Either the newest frame again and again, or `each` new one.
    """
    seen, last, sources, timeout = Seen(), 0, set[int](), 1.0
    pipe.send("ready")
    with FrameReader(code, prefix=prefix) as camera:
        while last_source not in sources:
            frames = camera.frames(timeout=timeout)
            begun = time.monotonic()
            with suppress(FrameUnavailableError):
                while last_source not in sources:
                    begun = time.monotonic()
                    with next(frames) if each else camera.latest(max_age=None, timeout=timeout) as frame:
                        seen = replace(
                            seen,
                            frames=seen.frames + 1,
                            torn=seen.torn + (not whole(frame)),
                            disordered=seen.disordered + (frame.seq < last + each),
                        )
                        last = frame.seq
                        sources.add((frame.stamp.pts or 0) >> 32)
            seen = replace(seen, late=seen.late + (time.monotonic() - begun > timeout + 3))
    pipe.send(replace(seen, sources=len(sources)))


def write_and_die(pipe: Connection, prefix: str, code: str, number: int, step: int) -> None:
    """Writes a frame and is killed before line `step` of this package's code that takes part in it."""
    writer = FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix)
    _die_at(step)
    put(writer, number)
    sys.settrace(None)
    os._exit(SURVIVED)


def open_and_die(pipe: Connection, prefix: str, code: str, width: int, step: int) -> None:
    """Makes, or adopts and replaces, the segment, and is killed before line `step` of it."""
    _die_at(step)
    writer = FrameWriter(code, width, HEIGHT, "yuv420p", prefix=prefix)
    sys.settrace(None)
    put(writer, 1)
    os._exit(SURVIVED)


def read_as(pipe: Connection, prefix: str, code: str, user: int, groups: list[int]) -> None:
    """Reads a frame as another user: sends its number, or the error; and what opening it for writing gives."""
    os.setgroups(groups)
    os.setgid(user)
    os.setuid(user)
    try:
        with FrameReader(code, prefix=prefix) as camera, camera.latest(max_age=None, timeout=2) as frame:
            pipe.send(frame.seq)
    except SegmentError as error:
        pipe.send(str(error))
    try:
        FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix)
    except SegmentError as error:
        pipe.send(str(error))


def keep_everything(pipe: Connection, prefix: str, code: str) -> None:
    """Takes every frame and gives none back."""
    kept = []
    with FrameReader(code, prefix=prefix) as camera:
        pipe.send("ready")
        while True:
            with suppress(FrameUnavailableError):
                kept.append(camera.latest(max_age=0, timeout=0.5))


def open_writer(pipe: Connection, prefix: str, code: str) -> None:
    """Tries to be the camera's writer: sends its pid or the error; goes on until told to end."""
    try:
        with FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            put(writer, 1)
            pipe.send(os.getpid())
            pipe.recv()
    except SegmentError as error:
        pipe.send(str(error))


def write_when_told(pipe: Connection, prefix: str, code: str) -> None:
    """Writes the picture of each number that is sent, at once."""
    with FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        pipe.send("ready")
        while number := pipe.recv():
            put(writer, number)


def _die_at(step: int) -> None:
    left = step

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(os.path.dirname(framesrv.__file__)):
            return None
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    sys.settrace(trace)
