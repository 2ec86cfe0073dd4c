"""The files of the units on a host: put in place, compared, taken away."""

import os
import pwd
import subprocess
import sys
import sysconfig
from pathlib import Path

from framesrv.host.units import CONFIG, USER, versions
from framesrv.host.units.systemd import UNITS, UnitsError, run, systemctl
from framesrv.process.atomic import write_file

SOURCES = (Path(__file__).parents[2] / "systemd", Path(__file__).parents[3] / "systemd")  # wheel, clone
NOBODY = "nobody"
TEMPLATE = Path(__file__).parent / "template.toml"  # of the configuration
TEMPLATE_BIN = "/opt/framesrv/bin/"  # what the files say in place of where our programs are
PLACES = {"sysusers.d": Path("/etc/sysusers.d"), "tmpfiles.d": Path("/etc/tmpfiles.d")}
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  ProtectHome= and PrivateTmp= hide these


def programs() -> Path:
    """The directory of the programs `framesrv` and `snapd` of this installation.

    Raises:
        UnitsError: they are not there, or services could not see them.
    """
    directory = Path(sysconfig.get_path("scripts"))
    missing = [name for name in ("framesrv", "snapd") if not os.access(directory / name, os.X_OK)]
    if missing:
        raise UnitsError(f"{directory / missing[0]} does not exist: install framesrv with pip, into /opt/framesrv")
    for used in (directory, Path(sys.base_prefix), Path(__file__)):
        where = used.resolve()
        if any(where.is_relative_to(hidden) for hidden in HIDDEN):
            raise UnitsError(
                f"{where} cannot be seen by services, which have no access to {', '.join(HIDDEN)}: "
                "install framesrv into /opt/framesrv, with a Python that is not in one of these"
            )
    return directory


def wanted() -> dict[Path, str]:
    """Every file as it must be: its place and its text."""
    source = next((directory for directory in SOURCES if directory.is_dir()), None)
    if source is None:
        raise UnitsError(f"the unit files are not at {SOURCES[0]}: install framesrv anew")
    directory = versions.as_units_say(programs())
    files = {}
    for path in sorted(file for file in source.rglob("*") if file.is_file()):
        below = path.relative_to(source)
        place = PLACES.get(below.parts[0], UNITS) / below.name
        files[place] = path.read_text("utf-8").replace(TEMPLATE_BIN, f"{directory}/")
    return files


def outdated() -> list[Path]:
    """The files that are missing, or are not those of this version and installation."""
    return [path for path, text in wanted().items() if not path.exists() or path.read_text("utf-8") != text]


def install() -> list[Path]:
    """Puts the files in place, makes the user and its directories; gives what was changed.

    Raises:
        UnitsError: the programs cannot be run as another user, so that nothing was changed; or systemd refuses.
    """
    files = wanted()
    changed = outdated()
    # decoders are users that do not exist yet, and in no group of anybody's
    tried = as_user([str(programs() / "framesrv"), "--version"], {}, user=NOBODY)
    if tried.returncode:
        raise UnitsError(
            f"{programs() / 'framesrv'} does not run as another user than this one: {tried.stderr.strip()[-500:]}; "
            "nothing was changed: install framesrv with umask 022, so that everybody can read it"
        )
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, files[path].encode(), mode=0o644)
    for name, tool in (("sysusers.d", ["systemd-sysusers"]), ("tmpfiles.d", ["systemd-tmpfiles", "--create"])):
        run(*tool, *(str(path) for path in files if path.parent == PLACES[name]))
    if not CONFIG.stat().st_size:
        write_file(CONFIG, TEMPLATE.read_bytes(), mode=0o600)
    systemctl("daemon-reload")
    return changed


def remove() -> list[Path]:
    """Takes the files away; gives which there were. The user and the configuration stay."""
    there = [path for path in wanted() if path.exists()]
    for path in there:
        path.unlink()
    systemctl("daemon-reload")
    return there


def as_user(
    command: list[str],
    environment: dict[str, str],
    timeout: float = 60.0,
    stdin: int = subprocess.DEVNULL,
    user: str = USER,
) -> subprocess.CompletedProcess[str]:
    """Runs a program of ours as snapd's user, or another, as systemd would.

    Raises:
        UnitsError: there is no such user, it may not run the program, or that took longer than `timeout` seconds.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise UnitsError(f"there is no user {user}: run `framesrv units install` first") from error
    try:
        return subprocess.run(
            command,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=os.getgrouplist(user, entry.pw_gid),
            env={"PATH": os.defpath, **environment},
            cwd="/",
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise UnitsError(
            f"{command[0]} cannot be run as user {user}: {error.strerror}; everybody must be able to read it"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnitsError(f"`{' '.join(command[:2])}` took longer than {timeout:g} s as user {user}") from error
