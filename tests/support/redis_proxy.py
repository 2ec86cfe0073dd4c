"""Stands between a client and Redis (or a sentinel), sees every command, and may keep it or its answer back.

What becomes of a command is said by `judge`:

| verdict | |
|---------|-|
| "pass"  | it is carried, and its answer back |
| "cut"   | it is carried; in place of the answer the connection is reset |
| "hold"  | the connection is reset; the command is carried at `release`, as if it had been stuck on its way |
| bytes   | the answer, without Redis hearing of it |
"""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO, Literal

from tests.support.tcp_server import TcpServer

Verdict = Literal["pass", "cut", "hold"] | bytes

_RESET = struct.pack("ii", 1, 0)


class RedisProxy(TcpServer):
    def __init__(self, target: int, judge: Callable[[list[bytes]], Verdict]) -> None:
        super().__init__()
        self.target = target
        self.judge = judge
        self.held: list[bytes] = []
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def release(self) -> list[bytes]:
        """Carries what was held; the first line of each answer."""
        held, self.held = self.held, []
        answers = []
        for command in held:
            with socket.create_connection(("127.0.0.1", self.target)) as far, far.makefile("rb") as replies:
                far.sendall(command)
                answers.append(_reply(replies).splitlines()[0])
        return answers

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for one in list(self._open):
            _reset(one)

    def serve(self, connection: socket.socket) -> None:
        """Carries commands until one is not to be."""
        with suppress(OSError, EOFError), socket.create_connection(("127.0.0.1", self.target)) as far:
            near = connection
            self._open |= {near, far}
            commands, replies = near.makefile("rb"), far.makefile("rb")
            while True:
                raw, words = _command(commands)
                verdict = self.judge(words)
                if isinstance(verdict, bytes):
                    near.sendall(verdict)
                    continue
                if verdict == "hold":
                    self.held.append(raw)
                    break
                far.sendall(raw)
                answer = _reply(replies)
                if verdict == "cut":
                    break
                near.sendall(answer)
        _reset(connection)


def _command(stream: IO[bytes]) -> tuple[bytes, list[bytes]]:
    first = _line(stream)
    raw = first
    words: list[bytes] = []
    for _ in range(int(first[1:])):
        size = _line(stream)
        word = stream.read(int(size[1:]) + 2)
        raw, words = raw + size + word, [*words, word[:-2]]
    return raw, words


def _reply(stream: IO[bytes]) -> bytes:
    """One answer of RESP2, whole."""
    first = _line(stream)
    if first[:1] == b"$" and int(first[1:]) >= 0:
        return first + stream.read(int(first[1:]) + 2)
    if first[:1] == b"*":
        return first + b"".join(_reply(stream) for _ in range(int(first[1:])))
    return first


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline()
    if not line:
        raise EOFError
    return line


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.shutdown(socket.SHUT_RDWR)
    one.close()
