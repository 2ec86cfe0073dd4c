"""The users that decoders run as, one a camera: made by systemd-sysusers(8), removed with the camera."""

import grp
import pwd
from collections.abc import Iterable, Sequence
from pathlib import Path

from framesrv.host.units.systemd import run
from framesrv.process.atomic import write_file
from framesrv.segment.owner import service_user

FILE = Path("/etc/sysusers.d/framesrv-cameras.conf")
HEADING = "# The users of the cameras' decoders. `framesrv units sync` writes this file.\n"


def make(codes: Sequence[str]) -> None:
    """Makes the users that are missing. Those of cameras that are gone stay, see `keep`.

    Raises:
        UnitsError: systemd refused.
    """
    lines = {service_user(code): f'u {service_user(code)} - "Camera {code}"\n' for code in codes}
    _write(_listed() | lines)
    run("systemd-sysusers", str(FILE))


def keep(codes: Iterable[str]) -> None:
    """Removes the users of all other cameras, none of which has a process any more.

    Raises:
        UnitsError: one cannot be removed.
    """
    wanted = {service_user(code) for code in codes}
    listed = _listed()
    for name in listed.keys() - wanted:
        if any(user.pw_name == name for user in pwd.getpwall()):
            run("userdel", name)
        if any(group.gr_name == name for group in grp.getgrall()):  # which userdel leaves on some hosts
            run("groupdel", name)
    _write({name: line for name, line in listed.items() if name in wanted})


def made() -> list[str]:
    """The users that were made."""
    return sorted(_listed())


def _listed() -> dict[str, str]:
    """The lines of the file, by the user of each."""
    if not FILE.exists():
        return {}
    lines = FILE.read_text("utf-8").splitlines(keepends=True)
    return {line.split()[1]: line for line in lines if line.startswith("u ")}


def _write(lines: dict[str, str]) -> None:
    if not lines:
        FILE.unlink(missing_ok=True)
    elif lines != _listed():
        FILE.parent.mkdir(parents=True, exist_ok=True)
        write_file(FILE, (HEADING + "".join(lines.values())).encode(), mode=0o644)
