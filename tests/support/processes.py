"""Our own programs as processes, with a configuration of their own: for tests that start and kill them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.rtsp import die_with_parent

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # s


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """The first true value of `condition`, looked at 100 times a second."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise TimeoutError(f"not within {timeout:g} s: {what}")


def write_config(path: Path, sections: Mapping[str, Any], cameras: list[dict[str, Any]]) -> Path:
    """A configuration file."""
    tables = [(f"[{name}]", keys) for name, keys in sections.items()] + [("[[camera]]", keys) for keys in cameras]
    lines = [line for head, keys in tables for line in (head, *(f"{k} = {json.dumps(v)}" for k, v in keys.items()))]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def run(*arguments: str | Path, timeout: float = PATIENCE, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m ARGUMENTS`` to its end."""
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, **options)


class Program:
    """A program of ours in the background; killed at the end if it still runs."""

    def __init__(self, *arguments: str | Path, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                preexec_fn=die_with_parent,  # noqa: PLW1509  it makes one system call
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """What it has said."""
        return self.log.read_text("utf-8", "replace")

    def stop(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Sends a signal and waits; gives the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
