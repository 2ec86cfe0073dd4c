"""Cameras for tests: a handle on an RTSP server that loops video files at their own pace, with faults to order.

The server is a process of its own (`rtsp_server`), so that it can be killed and its timing is not the test's. Test
and server share two files: JSON of path to mode one way, a line for each access unit sent the other way.
"""

import ctypes
import json
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.rtsp_login import Scheme

Mode = Literal["run", "switch", "stall", "drop", "lose", "silent"]
Clock = Literal[
    "wall", "uptime", "past", "jump"
]  # of sender reports; a camera that does not know the time counts from zero

START_TIMEOUT = 30.0  # s


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills the child when the thread that started it ends (prctl(2))."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


@dataclass(frozen=True)
class Sent:
    """An access unit that left: at Unix `time`, from path `name`, frame `index` of its file, to `client`."""

    time: float
    name: str
    index: int
    client: int


class RtspServer:
    """The server process. `cameras`: a path's name to its file, or to two of them for `switch`; `login`: its user."""

    def __init__(
        self,
        cameras: Mapping[str, Path | Sequence[Path]],
        directory: Path,
        *,
        port: int = 0,
        rtcp: Clock | None = None,
        login: tuple[Scheme, str, str] | None = None,
    ) -> None:
        self.port = port
        self.login = login
        self.rtcp = rtcp
        self._files = {name: [f] if isinstance(f, Path) else list(f) for name, f in cameras.items()}
        self._mutex = threading.Lock()
        self._modes: dict[str, Mode] = dict.fromkeys(cameras, "run")
        self._control = directory / "rtsp-control.json"
        self._log = directory / "rtsp-sent.log"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of the server's process, which runs."""
        assert self._process is not None
        return self._process.pid

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def fault(self, mode: Mode, name: str | None = None) -> None:
        """Put one path, or all of them, in a mode; in effect within 0.1 s."""
        if name is not None and name not in self._modes:
            raise KeyError(name)
        with self._mutex:  # trials that run side by side have one server
            self._modes.update(dict.fromkeys([name] if name else self._modes, mode))
            draft = self._control.with_suffix(".new")
            draft.write_text(json.dumps(self._modes))
            draft.replace(self._control)

    def sent(self) -> list[Sent]:
        """Everything sent so far, over all starts of the server."""
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines(keepends=True)
        return [_parse_sent(line) for line in lines if line.endswith("\n")]

    def start(self) -> None:
        """Start the server, on the same port as before if there was one; returns when it listens."""
        self._control.parent.mkdir(parents=True, exist_ok=True)
        self._control.write_text(json.dumps(self._modes))
        paths = [f"{name}={','.join(str(f.resolve()) for f in files)}" for name, files in self._files.items()]
        options = ["--rtcp", self.rtcp] if self.rtcp else []
        options += ["--login", *self.login] if self.login else []
        command = [sys.executable, "-m", "tests.support.rtsp_server", *options, str(self.port)]
        command += [str(self._control.resolve()), str(self._log.resolve()), *paths]
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        self.port = self._wait_ready()

    def stop(self) -> None:
        """Kill the server; its clients see their connections end."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_ready(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        select.select([self._process.stdout], [], [], START_TIMEOUT)
        # Readable is a line, or the end of a process that failed; anything else is the deadline.
        if self._process.poll() is None and not select.select([self._process.stdout], [], [], 0)[0]:
            self.stop()
            raise RuntimeError(f"the RTSP server was not ready within {START_TIMEOUT} s")
        word, _, port = self._process.stdout.readline().partition(" ")
        if word != "ready":
            self.stop()
            raise RuntimeError("the RTSP server failed to start: see its standard error")
        return int(port)


def _parse_sent(line: str) -> Sent:
    moment, name, index, client = line.split()
    return Sent(float(moment), name, int(index), int(client))
