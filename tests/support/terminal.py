"""A terminal with a program on it: a real pseudo-terminal, and pyte to make a picture of what is written to it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

import pyte
import pytest

from tests.support.processes import PATIENCE, ROOT
from tests.support.rtsp import die_with_parent

TAKEN_AND_GIVEN_BACK = ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h"))  # the screen; the cursor


class Terminal:
    """Runs ``python -m ARGUMENTS`` in a session of its own, whose terminal this is.

    Args:
        arguments: of Python.
        columns: of the terminal; and `lines`.
        stdin: whether the program's standard input is the terminal too.
        stderr: whether its standard error is.
        environment: what is added to this process's.
    """

    def __init__(
        self,
        *arguments: object,
        columns: int = 80,
        lines: int = 24,
        stdin: bool = True,
        stderr: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        try:
            self._ours, self._theirs = pty.openpty()
        except OSError as error:
            pytest.skip(f"there are no pseudo-terminals here: {error}")
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.errors = TemporaryFile()  # noqa: SIM115  closed on leaving
        self.resize(columns, lines, tell=False)
        self.before = termios.tcgetattr(self._theirs)
        given = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=ROOT,
            stdin=self._theirs if stdin else subprocess.DEVNULL,
            stdout=self._theirs,
            stderr=self._theirs if stderr else self.errors,
            env=given | {"TERM": "xterm-256color"} | dict(environment or {}),
            start_new_session=True,
            preexec_fn=self._prepare,  # noqa: PLW1509  it makes two system calls
        )

    def _prepare(self) -> None:
        die_with_parent()
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()
        self.hang_up()
        os.close(self._theirs)

    @property
    def rows(self) -> list[str]:
        """What is to be seen, line by line, without the space at their ends."""
        self._read(0)
        return [line.rstrip() for line in self.screen.display]

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        self._read(0)
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def wait(self, condition: Callable[[list[str]], Any], timeout: float = PATIENCE) -> list[str]:
        """The rows, once they are so."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            rows = self.rows
            if condition(rows):
                return rows
            self._read(0.05)
        raise TimeoutError("\n".join(["never seen; at the end:", *self.rows]))

    def end(self, timeout: float = PATIENCE) -> tuple[int, str]:
        """Waits for the program's end; its status, and what it wrote to standard error."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it did not end"
            self._read(0.02)
            if self._ours < 0:
                time.sleep(0.02)
        self._read(0)
        self.errors.seek(0)
        return self.process.returncode, self.errors.read().decode()

    def is_restored(self) -> bool:
        """Whether the terminal's modes are what they were, and its screen and cursor are back."""
        self._read(0)
        modes = termios.tcgetattr(self._theirs)
        return modes == self.before and all(
            self.written.rfind(back) > self.written.rfind(taken) >= 0 for taken, back in TAKEN_AND_GIVEN_BACK
        )

    def hang_up(self) -> None:
        """As when a connection is lost."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def _read(self, timeout: float) -> None:
        while self._ours >= 0 and select.select([self._ours], [], [], timeout)[0]:
            timeout = 0
            data = os.read(self._ours, 65536)
            self.written += data
            self._stream.feed(data)
