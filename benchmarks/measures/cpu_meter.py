"""CPU time of several processes over the same stretch of time."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.measures.process import BenchmarkError, cpu_seconds
from tests.support.processes import alive, descendants


class CpuMeter:
    """Counts from when it is made.

    Args:
        parties: a name to its processes; those that they have started by then belong to them.
    """

    def __init__(self, parties: Mapping[str, Iterable[int]]) -> None:
        self._pids = {
            name: [one for pid in pids for one in (pid, *descendants(pid))] for name, pids in parties.items()
        }
        self._began = time.monotonic()
        self._before = self._spent()
        self._idle = _machine()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began

    def shares(self) -> dict[str, float]:
        """Each name's CPU time, in % of one core.

        Raises:
            BenchmarkError: one of the processes has ended, which would pass for cheap.
        """
        for name, pids in self._pids.items():
            if not all(map(alive, pids)):
                raise BenchmarkError(f"{name}: a process ended while its CPU time was measured")
        seconds = self.seconds
        return {name: (now - self._before[name]) / seconds * 100 for name, now in self._spent().items()}

    @property
    def busy(self) -> float:
        """How much of all the machine's cores was used, by whomever, in %."""
        (idle, total), (before, then) = _machine(), self._idle
        return 100 - (idle - before) / max(1, total - then) * 100

    def _spent(self) -> dict[str, float]:
        return {name: sum(map(cpu_seconds, pids)) for name, pids in self._pids.items()}


def _machine() -> tuple[int, int]:
    """Idle and all ticks of all cores since it was started (proc_stat(5))."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)
