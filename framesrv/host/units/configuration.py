"""The configuration as the services will see it, and what of it a unit was started with."""

import contextlib
import fcntl
import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from framesrv import settings
from framesrv.errors import ConfigError
from framesrv.host.units import CONFIG, ENVIRONMENT
from framesrv.host.units.files import as_user, programs
from framesrv.host.units.systemd import SNAPD, UnitsError, run
from framesrv.settings import Settings

STATE = Path("/run/framesrv")  # of root alone; units copy here what they read, see framesrv@.service
CHECK_PATIENCE = 60.0  # s


def load() -> tuple[Settings, dict[str, str]]:
    """The settings of the services, and the variables of their environment file.

    Raises:
        ConfigError: with a line for every problem there is.
    """
    environment = read_environment()
    return settings.load(CONFIG, environment), environment


def problems(environment: dict[str, str]) -> list[str]:
    """What ``framesrv check`` finds wrong, run as the services' user; empty if nothing is.

    Raises:
        ConfigError: the configuration is wrong, or that user cannot read it.
        UnitsError: the check could not be made.
    """
    command = [str(programs() / "framesrv"), "check", "--json", "--config", str(CONFIG)]
    done = as_user(command, environment, CHECK_PATIENCE)
    if done.returncode == 2:
        raise ConfigError([line.removeprefix("framesrv: ") for line in done.stderr.splitlines()])
    try:
        findings = json.loads(done.stdout)
    except ValueError as error:
        raise UnitsError(f"`framesrv check` failed: {done.stderr.strip()[-500:]}") from error
    wrong = [f"{one['name']}: {one['message']}" for one in findings if not one["ok"]]
    return wrong + _unwritable()


def _unwritable() -> list[str]:
    """A directory store that the user may write to, and snapd's unit may not."""
    store = load()[0].store
    if store.kind != "dir" or not store.path:
        return []
    shown = run("systemctl", "show", SNAPD, "--property=ReadWritePaths", "--value")
    allowed = ["/var/lib/framesrv", *(word.lstrip("-+") for word in shown.split())]
    if any(Path(store.path).is_relative_to(path) for path in allowed):
        return []
    return [
        f"store.path: {store.path} is read-only to {SNAPD}: choose one below /var/lib/framesrv, or write "
        f"`ReadWritePaths={store.path}` below [Service] with `systemctl edit {SNAPD}`"
    ]


def as_started(unit: str, moment: Literal["started", "loaded"] = "started") -> Settings | None:
    """What a unit read when it was started, or last loaded again: each keeps a copy. None where that is not known."""
    place = STATE / unit
    try:
        # a process keeps the environment that it was started with
        return settings.load(place / moment / CONFIG.name, read_environment(place / "started" / ENVIRONMENT.name))
    except ConfigError:
        return None


def same_for_decoder(code: str, one: Settings, other: Settings) -> bool:
    """Whether a camera's decoder is the same in both."""
    return one.camera(code) == other.camera(code) and one.shm == other.shm


def same_for_snapd(one: Settings, other: Settings, *, fixed: bool) -> bool:
    """Whether snapd is the same in both, in what it cannot load again (`fixed`) or in all else."""
    if fixed:
        keys = [(name, key) for name, names in settings.FIXED.items() for key in names]
        return all(getattr(getattr(one, name), key) == getattr(getattr(other, name), key) for name, key in keys)
    same = all(
        getattr(one, name) == getattr(other, name) for name in ("stream", "snapshot", "result", "store", "http")
    )
    return same and {camera.code for camera in one.cameras} == {camera.code for camera in other.cameras}


def same_environment(unit: str) -> bool:
    """Whether the environment file is as it was when the unit was started."""
    return read_environment(STATE / unit / "started" / ENVIRONMENT.name) == read_environment()


def forget(unit: str) -> None:
    """Removes the copies of a unit that is no more."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(STATE / unit)


def read_environment(file: Path = ENVIRONMENT) -> dict[str, str]:
    """The environment file as systemd reads it, without its rarest forms (continued lines, escapes)."""
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8"]) from error
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, is_pair, value = line.strip().partition("=")
        if not name or name[0] in "#;":
            continue
        if not is_pair:
            raise ConfigError([f"{file}: line {number}: expected FRAMESRV_SECTION__KEY=value"])
        value = value.strip()
        try:
            found[name.strip()] = shlex.split(value)[0] if value[:1] in ("'", '"') else value
        except ValueError as error:
            raise ConfigError([f"{file}: line {number}: expected a closing quotation mark"]) from error
    return found


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While it lasts nobody else changes units. Raises UnitsError if somebody does."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    with (STATE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnitsError("another `framesrv units` is at work: wait until it has done") from error
        yield
