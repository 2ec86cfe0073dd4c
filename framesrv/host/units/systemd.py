"""systemd as this package uses it: names of units, ``systemctl`` with a deadline, and what it shows."""

import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from framesrv.errors import ConfigError, FramesrvError

RUNS = Path("/run/systemd/system")  # see sd_booted(3)
TARGET = "framesrv.target"
SNAPD = "framesrv-snapd.service"
SWEEP = "framesrv-sweep.service"
ROUTE = "framesrv-route.service"  # which root starts and stops, and nothing here
SLICE = "framesrv.slice"
UNITS = Path("/etc/systemd/system")

TIMEOUT = 30.0  # s for a call that waits for nothing
LONGEST_NAME = 255  # of a unit, see systemd.unit(5)

_SHOWN = (
    "Id,ActiveState,SubState,NRestarts,StatusText,MainPID,ExecMainStartTimestampMonotonic,FragmentPath,DropInPaths,"
    "LoadState,UnitFileState,Result,InactiveEnterTimestampMonotonic"
)


class UnitsError(FramesrvError):
    """systemd, or this host, does not allow what was to be done."""


@dataclass(frozen=True)
class Unit:
    """A unit as systemd shows it.

    Attributes:
        name: with its suffix.
        active: ``active``, ``inactive``, ``failed``, ``activating``, ``deactivating``, ``reloading``.
        sub: more closely, as ``running`` or ``auto-restart``.
        restarts: times systemd started it again by itself, since it was last started by hand.
        status: in words, as its process tells it.
        pid: of its process, 0 without one.
        started_at: Unix time at which its process was started, 0 without one.
        files: of which systemd has it.
        enabled: as systemd has it: ``enabled``, ``disabled``, ``masked``, ``masked-runtime`` ...
        result: of its last run: ``success``, ``exit-code``, ``timeout`` ...
        ended: whether it has run since the boot, and does not now.
    """

    name: str
    active: str
    sub: str
    restarts: int
    status: str
    pid: int
    started_at: float
    files: tuple[str, ...]
    enabled: str = "enabled"
    result: str = "success"
    ended: bool = False

    @property
    def runs(self) -> bool:
        """Whether it has a process, or will have one without anybody's doing."""
        return self.active in ("active", "activating", "reloading")


def require(*, root: bool = True) -> None:
    """Raises UnitsError where systemd does not run, or we are not `root`."""
    if not RUNS.is_dir():
        raise UnitsError("systemd does not run on this host: use `framesrv up` instead of units")
    if root and os.geteuid() != 0:
        raise UnitsError("only root may do this: try it with sudo")


def unit_name(code: str) -> str:
    """The name of a camera's unit, its code escaped as systemd-escape(1) does.

    Raises:
        ConfigError: the name would be too long for systemd.
    """
    escaped = "".join(
        char if re.match(r"[A-Za-z0-9_]", char) or (char == "." and index) else f"\\x{ord(char):02x}"
        for index, char in enumerate(code)
    )
    name = f"framesrv@{escaped}.service"
    if len(name) > LONGEST_NAME:
        raise ConfigError([f"camera {code}: expected fewer -, which are four characters each in a unit's name"])
    return name


def camera_code(name: str) -> str:
    """The camera of a unit: the inverse of `unit_name`."""
    escaped = name.removeprefix("framesrv@").removesuffix(".service")
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), escaped)


def systemctl(*arguments: str, timeout: float = TIMEOUT) -> str:
    """Runs systemctl and gives its output.

    Raises:
        UnitsError: it failed, with its words, or took longer than `timeout` seconds. What it began may go on.
    """
    return run("systemctl", *arguments, timeout=timeout)


def run(*command: str, timeout: float = TIMEOUT) -> str:
    """Runs a program of systemd's and gives its output; raises UnitsError as `systemctl` does."""
    shown = " ".join(command[:4]) + (" ..." if len(command) > 4 else "")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise UnitsError(f"{command[0]} is not installed on this host") from error
    except subprocess.TimeoutExpired as error:
        raise UnitsError(f"`{shown}` took longer than {timeout:g} s") from error
    if done.returncode:
        raise UnitsError(f"`{shown}` failed: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout


def camera_units() -> list[str]:
    """The names of all decoders' units that are enabled, run, or failed."""
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", "--full", "framesrv@*.service")
    enabled = [link.name for link in UNITS.glob(f"{TARGET}.wants/framesrv@*.service")]
    return sorted({line.split()[0] for line in listed.splitlines() if line.strip()} | set(enabled))


def enable(names: Iterable[str]) -> None:
    """Enables what is not enabled yet: each such call has systemd read all its files again."""
    missing = [name for name in names if not any(link.name == name for link in UNITS.glob("*.wants/framesrv*"))]
    if missing:
        systemctl("enable", "--quiet", *missing)


def show(names: Iterable[str]) -> dict[str, Unit]:
    """What systemd knows of units; one that it does not know is ``inactive``."""
    asked: Sequence[str] = list(names)
    if not asked:
        return {}
    found: dict[str, Unit] = {}
    for block in systemctl("show", f"--property={_SHOWN}", "--", *asked).split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.strip().splitlines() if "=" in line)
        if "Id" in fields:
            found[fields["Id"]] = _unit(fields)
    return found


def _unit(fields: dict[str, str]) -> Unit:
    started = int(fields.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    pid = int(fields.get("MainPID") or 0)
    return Unit(
        name=fields["Id"],
        active=fields.get("ActiveState", "inactive"),
        sub=fields.get("SubState", "dead"),
        restarts=int(fields.get("NRestarts") or 0),
        status=fields.get("StatusText", ""),
        pid=pid,
        started_at=time.time() - time.monotonic() + started if pid and started else 0.0,
        files=tuple(f"{fields.get('FragmentPath', '')} {fields.get('DropInPaths', '')}".split()),
        enabled=fields.get("UnitFileState") or fields.get("LoadState", ""),
        result=fields.get("Result", ""),
        ended=int(fields.get("InactiveEnterTimestampMonotonic") or 0) > 0,
    )
