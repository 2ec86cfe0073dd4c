"""Which processes hold locks on a segment: ``/proc/PID/fdinfo``, see proc(5).

The kernel names no owner of an open-file-description lock, as it may have several. It shows such locks with the
descriptors that they belong to, to root and to the owner of the process.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """A process that holds locks.

    Attributes:
        pid: its number.
        name: of its program, as the kernel has it.
        locked: the bytes of which it holds shared locks.
    """

    pid: int
    name: str
    locked: frozenset[int]

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name})"


def holders(fd: int, among: range) -> list[Holder]:
    """Who holds shared locks on bytes `among` those of the open file, as far as this user may see."""
    there = os.fstat(fd)
    found = []
    for process in sorted(
        (entry for entry in PROCESSES.iterdir() if entry.name.isdecimal()), key=lambda e: int(e.name)
    ):
        locked: set[int] = set()
        # it has ended, or is not this user's
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(descriptor.stat(), there):
                        locked.update(_shared_locks(process / "fdinfo" / descriptor.name, among))
        if locked:
            found.append(Holder(int(process.name), _name(process), frozenset(locked)))
    return found


def _shared_locks(fdinfo: Path, among: range) -> Iterator[int]:
    """The bytes of lines as ``lock:  1: OFDLCK  ADVISORY  READ -1 00:1a:4711 100 100``."""
    for line in fdinfo.read_text("ascii").splitlines():
        words = line.split()
        if words[:1] == ["lock:"] and words[2:5] == ["OFDLCK", "ADVISORY", "READ"]:
            first, last = words[-2:]
            yield from (byte for byte in among if int(first) <= byte and (last == "EOF" or byte <= int(last)))


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "ended"
