"""Child processes of a benchmark: they end with it, however it ends; and what they cost."""

import multiprocessing
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.rtsp import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
GRACE = 10.0  # s from SIGTERM to SIGKILL

# spawned, not forked: readers and writers of a segment do not survive a fork
SPAWN = multiprocessing.get_context("spawn")


class BenchmarkError(Exception):
    """Something did not work, so that there is nothing to measure."""


@contextmanager
def child(target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Runs a function in a process of its own, which is ended with the block."""
    process = SPAWN.Process(target=_run, args=(target, *arguments), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(GRACE)
        process.kill()


def _run(target: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    die_with_parent()
    target(*arguments)


@contextmanager
def shielded() -> Iterator[None]:
    """Processes started in this block do not hear Ctrl-C: they end when the benchmark ends them."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def start(arguments: Sequence[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts a command in the project's root and in a session of its own, its output to `log`.

    No setting of the user's own environment reaches it. It dies with the thread that starts it.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAMESRV_")}
    with log.open("ab") as output:
        return subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=inherited | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )


@contextmanager
def command(arguments: Sequence[str], log: Path, **environment: str) -> Iterator[int]:
    """Runs a command as `start` does, for the length of the block, and gives its process number."""
    process = start(arguments, log, **environment)
    try:
        yield process.pid
    except Exception as error:
        if process.poll() is None:
            raise
        said = log.read_text(errors="replace")[-1000:]
        raise BenchmarkError(f"{' '.join(arguments)} ended with status {process.returncode}: {said}") from error
    finally:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Returns when `condition` holds; BenchmarkError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what}: not within {timeout:g} s")
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used; to the nanosecond, where /proc/PID/stat counts in hundredths."""
    # the clock id of another process's CPU time, as clock_getcpuclockid(3) makes it
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process in MB of 10^6 bytes: what nobody else has mapped, and what others have, too."""

    private: float
    shared: float


def memory(pid: int) -> Memory:
    """What a process has in memory now."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()

    def megabytes(kind: str) -> float:
        return sum(map(int, re.findall(rf"^{kind}_(?:Clean|Dirty): +(\d+)", rollup, re.MULTILINE))) * 1.024e-3

    return Memory(megabytes("Private"), megabytes("Shared"))


def has_mapped(pid: int, name: str) -> bool:
    """Whether a file whose path contains `name` is mapped into a process."""
    return name in Path(f"/proc/{pid}/maps").read_text()
