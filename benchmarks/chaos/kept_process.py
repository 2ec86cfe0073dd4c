"""A program of ours that is kept running as systemd keeps a service: started again shortly after it dies."""

import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measures.process import GRACE, cpu_seconds, start

RESTART = 0.5  # s from a death to the next start


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses: megabytes of 10^6 bytes in memory, open descriptors, seconds of CPU time, threads."""

    pid: int
    memory: float
    descriptors: int
    cpu: float
    threads: int


class KeptProcess:
    """Started, and ended, from one thread: it dies with it.

    Args:
        name: for people; its output goes to a file of that name.
        words: ``python -m`` of these.
        logs: the directory for its output.
        environment: added to ours.
    """

    def __init__(self, name: str, words: list[str], logs: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.environment = environment
        self.log = logs / f"{name}.log"
        self.ended: list[int] = []  # the exit statuses it chose itself, nobody having told it to end
        self.starts = 0
        self._words = [sys.executable, "-m", *words]
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0
        self._held = False

    @property
    def pid(self) -> int | None:
        """None while it is down."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def tend(self) -> None:
        """Starts it if it is down and that is due. To be called often."""
        if self.pid is not None or self._held:
            return
        if self._process is not None:
            self._bury()
        elif time.monotonic() >= self._start_at:
            self._process = start(self._words, self.log, **self.environment)
            self.starts += 1

    def kill(self) -> None:
        """SIGKILL, and held down until `release`."""
        self._held = True
        if self._process is not None:
            if self._process.poll() is not None:
                self._bury()
                return
            self._process.kill()
            self._process.wait()
            self._process = None

    def release(self) -> None:
        """It may be started again."""
        self._held, self._start_at = False, time.monotonic() + RESTART

    def signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> int | None:
        """Ends it in good order; the exit status, None if it was down."""
        process, self._process = self._process, None
        self._held = True
        if process is None or process.poll() is not None:
            return None
        process.send_signal(signal.SIGCONT)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(GRACE)
        process.kill()
        return process.wait()

    def usage(self) -> Usage | None:
        """None while it is down."""
        pid = self.pid
        if pid is None:
            return None
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            cpu = cpu_seconds(pid)
        except OSError:
            return None
        found = {key: int(value) for key, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)}
        if "VmRSS" not in found:  # a zombie
            return None
        return Usage(pid, found["VmRSS"] * 1.024e-3, descriptors, cpu, found["Threads"])

    def _bury(self) -> None:
        assert self._process is not None
        self.ended.append(self._process.returncode)
        self._process, self._start_at = None, time.monotonic() + RESTART
