"""The usual ways of giving frames to other processes: a copy for each, through a queue or a socket."""

import multiprocessing.queues
import socket
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.measures.times import Times

NBYTES = 1920 * 1080 * 3 // 2
TIMEOUT = 10.0  # s
LEAST = 2  # frames, below which nothing can be said of how late they are


def send_by_queues(queues: "Sequence[multiprocessing.queues.Queue[tuple[int, bytes]]]", pause: float) -> None:
    """Puts a frame into each queue, again and again; where one is full, its reader misses the frame."""
    frame = np.zeros(NBYTES, np.uint8)
    while True:
        time.sleep(pause)
        sent = time.monotonic_ns()
        for queue in queues:
            if not queue.full():
                queue.put((sent, frame.tobytes()))


def receive_by_queue(
    queue: "multiprocessing.queues.Queue[tuple[int, bytes]]", seconds: float, told: Connection
) -> None:
    """Tells how late each frame was, in nanoseconds, and which share of a core it took, in %."""
    queue.get(timeout=TIMEOUT)
    meter = Meter()
    while not meter.is_done(seconds):
        sent, _ = queue.get(timeout=TIMEOUT)
        meter.late(time.monotonic_ns() - sent)
    told.send(meter.result())


def send_by_sockets(path: Path, readers: int, pause: float) -> None:
    """Sends a frame to each reader that is connected, again and again."""
    frame = bytes(NBYTES)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(readers)
        connections = [server.accept()[0] for _ in range(readers)]
        while connections:
            time.sleep(pause)
            sent = time.monotonic_ns().to_bytes(8, "little")
            for connection in list(connections):
                try:
                    connection.sendall(sent)
                    connection.sendall(frame)
                except OSError:  # it has ended
                    connections.remove(connection)


def receive_by_socket(path: Path, seconds: float, told: Connection) -> None:
    """As `receive_by_queue`."""
    memory = bytearray(8 + NBYTES)
    with socket.socket(socket.AF_UNIX) as connection:
        deadline = time.monotonic() + TIMEOUT
        while connection.connect_ex(str(path)) and time.monotonic() < deadline:
            time.sleep(0.01)
        connection.settimeout(TIMEOUT)
        meter: Meter | None = None
        while meter is None or not meter.is_done(seconds):
            rest = memoryview(memory)
            while rest:
                rest = rest[connection.recv_into(rest) :]
            if meter is None:
                meter = Meter()
            else:
                meter.late(time.monotonic_ns() - int.from_bytes(memory[:8], "little"))
    told.send(meter.result())


class Meter:
    """How late frames were, and the CPU time of this process meanwhile."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spent = time.process_time()
        self._late: list[int] = []
        self._since_wake: list[int] = []

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began

    def is_done(self, seconds: float) -> bool:
        """Whether so much time has passed, and enough has come in it: on a busy machine that may take longer."""
        return self.seconds >= seconds and len(self._late) >= LEAST

    def late(self, ns: int, since_wake: int | None = None) -> None:
        """Notes how late a frame was: since it was published, and since its writer woke the readers."""
        self._late.append(ns)
        self._since_wake.append(ns if since_wake is None else since_wake)

    def result(self) -> tuple[list[int], list[int], float]:
        """All of that, and the share of a core, in %."""
        return self._late, self._since_wake, (time.process_time() - self._spent) / self.seconds * 100


class Readings:
    """What several readers tell of the same frames."""

    def __init__(self) -> None:
        self.late, self.since_wake = Times(), Times()
        self.shares: list[float] = []

    def add(self, late: Sequence[int], since_wake: Sequence[int], share: float) -> None:
        """Adds what one has told."""
        for ns in late:
            self.late.add(ns)
        for ns in since_wake:
            self.since_wake.add(ns)
        self.shares.append(share)

    @property
    def share(self) -> float:
        """Of a core, of each, in %."""
        return sum(self.shares) / len(self.shares)
