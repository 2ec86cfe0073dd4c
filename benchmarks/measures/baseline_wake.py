"""The barest ways in which one process wakes another: a futex, a pipe."""

import mmap
import os
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np

from framesrv.segment import futex

TIMEOUT = 10.0  # s

_MESSAGE = struct.Struct("<qq")  # number, monotonic time it left
_PAGE = 4096


class Ping(Protocol):
    """One side sends numbers, the other waits for them; both are the same object in two processes."""

    def send(self, number: int) -> None: ...

    def receive(self, number: int) -> int | None:
        """Waits for that number: how many nanoseconds it took, None where it had come before this was called."""


class FutexPing:
    """A futex word in a file that both processes map, and beside it the time: FUTEX_WAKE and FUTEX_WAIT."""

    def __init__(self, path: Path) -> None:
        with path.open("ab+") as file:
            file.truncate(_PAGE)
            memory = mmap.mmap(file.fileno(), _PAGE)
        self._words = memoryview(memory).cast("I")
        self._longs = memoryview(memory).cast("q")
        self._address = np.frombuffer(memory, np.uint8).ctypes.data

    def send(self, number: int) -> None:
        self._longs[1] = time.monotonic_ns()
        self._words[0] = number
        futex.wake(self._address)

    def receive(self, number: int) -> int | None:
        if self._words[0] >= number:
            return None
        deadline = time.monotonic() + TIMEOUT
        while (seen := self._words[0]) < number and time.monotonic() < deadline:
            futex.wait(self._address, seen, TIMEOUT)
        return time.monotonic_ns() - int(self._longs[1])


class PipePing:
    """Sixteen bytes through a pipe."""

    def __init__(self, end: Connection) -> None:
        self._end = end

    def send(self, number: int) -> None:
        os.write(self._end.fileno(), _MESSAGE.pack(number, time.monotonic_ns()))

    def receive(self, number: int) -> int | None:
        waited = not self._end.poll()
        came = 0
        while came < number:
            content = os.read(self._end.fileno(), _MESSAGE.size)
            now = time.monotonic_ns()
            came, left = _MESSAGE.unpack(content)
        return now - left if waited else None
