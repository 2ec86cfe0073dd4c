"""Versions of framesrv side by side: ``/opt/framesrv/VERSION``, a virtual environment each, and ``current``.

``current`` is a link to the one in force. Unit files and the commands in ``/usr/local/bin`` go through it, so an
upgrade and the way back change one link. An environment that has no such link beside it is on its own, as ever.
"""

import re
import sys
from pathlib import Path

from framesrv.host.units.systemd import Unit, UnitsError

CURRENT = "current"
_NAME = re.compile(r"[0-9][A-Za-z0-9.+~_-]*")


def home() -> Path:
    """Where the versions lie beside this one."""
    return Path(sys.prefix).parent


def own() -> str:
    """This version, by the name of its directory; empty if it does not lie beside others."""
    name = Path(sys.prefix).resolve().name
    return name if _NAME.fullmatch(name) else ""


def in_force() -> str:
    """The version that ``current`` is a link to; empty without one."""
    try:
        return (home() / CURRENT).readlink().name
    except OSError:  # none, or no link
        return ""


def installed() -> list[str]:
    """Every version that is there, the one that was installed last first."""
    marks = [path for path in home().glob("*/pyvenv.cfg") if _NAME.fullmatch(path.parent.name)]
    return [path.parent.name for path in sorted(marks, key=lambda path: path.stat().st_ctime, reverse=True)]


def as_units_say(programs: Path) -> Path:
    """The directory of our programs as units name it: through the link, where there is one.

    Raises:
        UnitsError: another version than this one is in force.
    """
    present = in_force()
    if not present or not own():
        return programs
    if present != own():
        raise UnitsError(f"this is framesrv {own()}, and {present} is in force: run `framesrv units use {own()}`")
    return home() / CURRENT / programs.name


def environment_of(unit: Unit) -> Path | None:
    """The virtual environment that a unit's process runs in; None if that cannot be told."""
    try:
        program = Path(f"/proc/{unit.pid}/cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace")
    except OSError:  # it has ended
        return None
    return Path(program).parent.resolve().parent if program.startswith("/") else None


def of(unit: Unit) -> str:
    """The version that a unit's process runs, among those that lie side by side; empty if it is none of them."""
    environment = environment_of(unit)
    if environment is None or environment.parent != home().resolve() or not _NAME.fullmatch(environment.name):
        return ""
    return environment.name
