"""Processes that get no more than a share of a core each, by the kernel (cpu.max of cgroups, or cpu.cfs_quota_us).

Each stays on one core: the threads of one interpreter, of which one runs at a time, are slower on several.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HIERARCHIES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/cpu"))
PERIOD = 100_000  # us, in which the share is had


def possible() -> bool:
    """Whether they can be held here: as root, where a hierarchy of cgroups has the controller of CPU time."""
    return _hierarchy() is not None


@contextmanager
def held(pids: Iterable[int], share: float) -> Iterator[None]:
    """Each of these, in turns on each core, for the length of the block; then their CPU time is free again."""
    hierarchy = _hierarchy()
    if hierarchy is None:
        raise OSError("no cgroup can be made that holds CPU time")
    places: list[Path] = []
    cores = sorted(os.sched_getaffinity(0))
    try:
        for number, pid in enumerate(pids):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {cores[number % len(cores)]})
            place = hierarchy / f"framesrv-benchmark-{os.getpid()}-{pid}"
            place.mkdir()
            places.append(place)
            quota = round(PERIOD * share)
            if (place / "cpu.max").exists():
                (place / "cpu.max").write_text(f"{quota} {PERIOD}")
            else:
                (place / "cpu.cfs_period_us").write_text(str(PERIOD))
                (place / "cpu.cfs_quota_us").write_text(str(quota))
            (place / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for place in places:
            for left in (place / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    (hierarchy / "cgroup.procs").write_text(left)
            place.rmdir()


def _hierarchy() -> Path | None:
    for hierarchy in HIERARCHIES:
        trial = hierarchy / f"framesrv-benchmark-{os.getpid()}"
        try:
            trial.mkdir()
        except OSError:
            continue
        try:
            if (trial / "cpu.max").exists() or (trial / "cpu.cfs_quota_us").exists():
                return hierarchy
        finally:
            trial.rmdir()
    return None
