"""From one installed version to another: what ``framesrv units use`` does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from framesrv.host.units import systemd, versions
from framesrv.host.units.files import NOBODY, as_user
from framesrv.host.units.systemd import ROUTE, SNAPD, UnitsError
from framesrv.host.units.versions import CURRENT, home

KEPT = 3  # versions that stay installed: the one in force, the one before it, and one more
COMMANDS = ("framesrv", "snapd")
LINKS, PACKAGED = Path("/usr/local/bin"), Path("/usr/bin")
PATIENCE = 60.0  # s for a program to say its version


def check(version: str) -> None:
    """Sees whether a version can be run by everybody.

    Raises:
        UnitsError: it is not installed, or does not even say what it is.
    """
    there = versions.installed()
    if version not in there:
        raise UnitsError(f"there is no {home() / version}; installed there: {', '.join(there) or 'none'}")
    program = _program(version)
    tried = as_user([str(program), "--version"], {}, PATIENCE, user=NOBODY)
    if tried.returncode:
        said = tried.stderr.strip()[-500:]
        raise UnitsError(f"{program} does not run as any user; nothing was changed: {said}")


def put_in_force(version: str) -> None:
    """Has the link point to a version, for whatever is started from now on.

    Raises:
        UnitsError: there is something else in the link's place.
    """
    link = home() / CURRENT
    if link.exists() and not link.is_symlink():
        raise UnitsError(f"{link} is no link: move it away")
    passing = home() / f".{CURRENT}-{os.getpid()}"
    passing.symlink_to(version)
    passing.replace(link)


def undo(former: str) -> None:
    """Has the link point to the former version again; takes it away if there was none."""
    if former:
        put_in_force(former)
    else:
        (home() / CURRENT).unlink()


def link_commands() -> list[Path]:
    """Links the commands where everybody finds them, unless a Debian package has; gives the links that were made.

    Raises:
        UnitsError: there is a program of that name that is not ours.
    """
    made = []
    for command in COMMANDS:
        target, link = home() / CURRENT / "bin" / command, LINKS / command
        if (PACKAGED / command).is_symlink() or (link.is_symlink() and link.readlink() == target):
            continue
        if link.exists() and not link.is_symlink():
            raise UnitsError(f"{link} is somebody else's program: move it away")
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        made.append(link)
    return made


def run(version: str, *command: str, quiet: bool = False) -> int:
    """Runs ``framesrv units ...`` of a version; gives its exit status."""
    sys.stdout.flush()
    out = subprocess.DEVNULL if quiet else None
    return subprocess.run([str(_program(version)), "units", *command], check=False, stdout=out).returncode


def running() -> dict[str, list[str]]:
    """The units that run each version."""
    found: dict[str, list[str]] = {}
    for unit in systemd.show([*systemd.camera_units(), SNAPD, ROUTE]).values():
        if version := versions.of(unit):
            found.setdefault(version, []).append(unit.name)
    return found


def prune(former: str) -> list[Path]:
    """Removes old versions: all but a few, the former one, and what still runs. Gives what is gone."""
    there = versions.installed()
    stay = {versions.in_force(), versions.own(), former, *running()} & set(there)
    stay.update([name for name in there if name not in stay][: max(0, KEPT - len(stay))])
    gone = [home() / name for name in there if name not in stay]
    for directory in gone:
        shutil.rmtree(directory)
    return gone


def _program(version: str) -> Path:
    return home() / version / "bin" / "framesrv"
