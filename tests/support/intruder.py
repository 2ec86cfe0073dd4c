"""What a decoder would try that was taken over: a program for within its unit, and what it says.

Usage: intruder.py OTHER SNAPD_PID OTHER_PID, with the code of another camera. It prints a line of JSON, what each
attempt came to: "done", or the error's name.
"""

import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Callable

MARK = "INTRUDER "
PTRACE_ATTACH = 16
SECRETS = (
    "/etc/framesrv/framesrv.toml",
    "/etc/framesrv/framesrv.env",
    "/etc/framesrv/applied/snapd.json",
    "/etc/framesrv/applied/snapd.env",
    "/run/framesrv",
    "/var/lib/framesrv",
)
OF_PROCESS = ("environ", "mem", "maps", "fd", "cwd", "root/etc/framesrv/framesrv.env")


def attempt(act: Callable[[], object]) -> str:
    """What became of it."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def read(path: str) -> None:
    """Reads a file, or lists a directory."""
    if os.path.isdir(path):
        os.listdir(path)
    else:
        with open(path, "rb") as file:
            file.read(1)


def trace(pid: int) -> None:
    """Attaches to a process as a debugger does."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def copy_memory(pid: int) -> None:
    """Reads another process's memory by process_vm_readv(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = ctypes.create_string_buffer(8)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(here), 8)
    remote = (ctypes.c_size_t * 2)(0x400000, 8)
    if libc.process_vm_readv(pid, local, 1, remote, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")


def main(other: str, *pids: str) -> None:
    """Tries everything."""
    own = os.environ["OWN"]
    files = {"segment": f"/dev/shm/framesrv.{other}", "history": f"/dev/shm/framesrv+history.{other}"}
    tried: dict[str, Callable[[], object]] = {f"read {path}": lambda path=path: read(path) for path in SECRETS}  # type: ignore[misc]
    tried[f"read {other}.json"] = lambda: read(f"/etc/framesrv/applied/cameras/{other}.json")
    tried[f"write {own}.json"] = lambda: os.open(f"/etc/framesrv/applied/cameras/{own}.json", os.O_WRONLY)
    tried["add a copy"] = lambda: os.open("/etc/framesrv/applied/cameras/x", os.O_WRONLY | os.O_CREAT)
    for what, file in files.items():
        tried[f"{what} read"] = lambda file=file: os.open(file, os.O_RDONLY)  # type: ignore[misc]
        tried[f"{what} write"] = lambda file=file: os.open(file, os.O_RDWR)  # type: ignore[misc]
        tried[f"{what} unlink"] = lambda file=file: os.unlink(file)  # type: ignore[misc]
        tried[f"{what} rename"] = lambda file=file: os.rename(file, f"{file}.away")  # type: ignore[misc]
        tried[f"{what} truncate"] = lambda file=file: os.truncate(file, 0)  # type: ignore[misc]
        tried[f"{what} chmod"] = lambda file=file: os.chmod(file, 0o640)  # type: ignore[misc]
    for pid in map(int, pids):
        for name in OF_PROCESS:
            tried[f"{pid} {name}"] = lambda pid=pid, name=name: read(f"/proc/{pid}/{name}")  # type: ignore[misc]
        tried[f"{pid} memory"] = lambda pid=pid: copy_memory(pid)  # type: ignore[misc]
        tried[f"{pid} trace"] = lambda pid=pid: trace(pid)  # type: ignore[misc]
        for name in ("SIGHUP", "SIGSTOP", "SIGTERM", "SIGKILL"):
            number = getattr(signal, name)
            tried[f"{pid} {name}"] = lambda pid=pid, number=number: os.kill(pid, number)  # type: ignore[misc]
    tried["become root"] = lambda: os.setuid(0)
    allowed: dict[str, Callable[[], object]] = {
        "own copy": lambda: read(f"/etc/framesrv/applied/cameras/{own}.json"),
        "own process": lambda: read("/proc/self/environ"),
    }
    said = {
        "refused": {name: attempt(act) for name, act in tried.items()},
        "allowed": {name: attempt(act) for name, act in allowed.items()},
        "groups": os.getgroups(),
        "environment": dict(os.environ),
    }
    print(MARK + json.dumps(said), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
