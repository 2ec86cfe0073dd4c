"""Looks at the snapds and at the consumer group twice a second: what they use, what was delivered more than once."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks.chaos.backing import STREAM, Backing, StreamClient
from benchmarks.chaos.kept_process import KeptProcess, Usage

GROUP, DEAD = "edge_snap_group", "edge_snap_dead"
INTERVAL = 0.5  # s
WORKING = 17  # threads of a snapd that has begun to work: eight workers, as many that hand over, and the main one
WARM = 10.0  # s after that in which it grows to its size,
WORKED = 1.0  # if it used so many s of CPU time in them: one whose Redis or store is away does not grow
MOST = 10_000  # pending entries looked at


@dataclass(frozen=True, slots=True)
class Growth:
    """One process from early on, `seconds` ago, to now."""

    name: str
    pid: int
    seconds: float
    early: Usage
    late: Usage


class Sampler:
    """A thread that looks, until `stop`."""

    def __init__(self, processes: Sequence[KeptProcess], backing: Backing) -> None:
        self._processes = processes
        self._client = StreamClient(backing)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._born: dict[int, tuple[float, float]] = {}
        self._early: dict[int, tuple[float, Usage]] = {}
        self._deliveries: dict[str, int] = {}
        self._thread.start()

    @property
    def redelivered(self) -> dict[str, int]:
        """Entries that were seen pending after more than one delivery, and how many those were."""
        return {entry: times for entry, times in self._deliveries.items() if times > 1}

    def stop(self) -> None:
        """Looks no more."""
        self._stopped.set()
        self._thread.join()
        self._client.close()

    def growth(self) -> list[Growth]:
        """Every snapd that runs and has been seen for long enough."""
        now = time.monotonic()
        found = []
        for process in self._processes:
            late = process.usage()
            if late is not None and late.pid in self._early:
                since, early = self._early[late.pid]
                found.append(Growth(process.name, late.pid, now - since, early, late))
        return found

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            now = time.monotonic()
            for process in self._processes:
                usage = process.usage()
                if usage is None or usage.threads < WORKING:
                    continue  # it starts, or was stopped while it did
                born, spent = self._born.setdefault(usage.pid, (now, usage.cpu))
                if now - born >= WARM and usage.cpu - spent >= WORKED:
                    self._early.setdefault(usage.pid, (now, usage))
            with suppress(redis.RedisError, OSError), self._client.use() as client:
                pending: Any = client.xpending_range(STREAM, GROUP, min="-", max="+", count=MOST)
                for entry in pending:
                    key, times = entry["message_id"], entry["times_delivered"]
                    self._deliveries[key] = max(times, self._deliveries.get(key, 0))
