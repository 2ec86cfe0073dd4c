"""The configuration as the services will see it, and what of it a unit was started with."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from framesrv import settings
from framesrv.errors import ConfigError, SegmentError
from framesrv.host import check
from framesrv.host.units import CONFIG, applied, environment
from framesrv.host.units.files import as_user, programs
from framesrv.host.units.systemd import SNAPD, UnitsError, camera_code, run
from framesrv.segment.access import group_id
from framesrv.settings import Settings, ShmSettings
from framesrv.settings.variables import is_key

STATE = Path("/run/framesrv")  # of root alone; units copy here what they read, see framesrv@.service
CHECK_PATIENCE = 60.0  # s
READABLE_BY_GROUP = 0o040


def load() -> Settings:
    """The configuration as it stands there, with the environment file: what sync would apply.

    Raises:
        ConfigError: with a line for every problem there is.
    """
    return settings.load(CONFIG, {})


def problems(loaded: Settings) -> list[str]:
    """What is wrong with it; empty if nothing is. No service is given it for that.

    Raises:
        ConfigError: something of it can never work.
        UnitsError: the check could not be made.
    """
    findings = [*_checked(applied.of_snapd(loaded)), *(finding.to_json() for finding in check.sources(loaded))]
    # what lies in a segment's place is cleared by the unit, see framesrv@.service
    wrong = [
        one for one in findings if not one["ok"] and not str(one["name"]).startswith((check.SEGMENT, check.HISTORY))
    ]
    return [f"{one['name']}: {one['message']}" for one in wrong] + _unwritable(loaded) + _unreadable(loaded.shm)


def _checked(candidate: Settings) -> list[dict[str, object]]:
    """What ``framesrv check`` finds, run as snapd's user over what snapd would be given."""
    command = [str(programs() / "framesrv"), "check", "--json", "--config", "/dev/stdin"]
    others = {name: value for name, value in environment.read().items() if not is_key(name)}
    # a file without a name, which may be opened anew; its name in messages is that of what it is made of
    with open(os.memfd_create("framesrv"), "wb") as file:
        file.write(settings.to_json(candidate))
        file.flush()
        done = as_user(command, others, CHECK_PATIENCE, stdin=file.fileno())
    said, errors = (text.replace("/dev/stdin", str(CONFIG)) for text in (done.stdout, done.stderr))
    if done.returncode == 2:
        raise ConfigError([line.removeprefix("framesrv: ") for line in errors.splitlines()])
    try:
        findings: list[dict[str, object]] = json.loads(said)
    except ValueError as error:
        raise UnitsError(f"`framesrv check` failed: {errors.strip()[-500:]}") from error
    return findings


def _unwritable(loaded: Settings) -> list[str]:
    """A directory store that the user may write to, and snapd's unit may not."""
    store = loaded.store
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


def _unreadable(shm: ShmSettings) -> list[str]:
    """Segments that snapd, another user than their decoders, could not read."""
    wrong = []
    try:
        group_id(shm.group)
    except SegmentError as error:
        wrong.append(f"shm.group: {error}")
    if not shm.permissions & READABLE_BY_GROUP:
        wrong.append(f'shm.mode: "{shm.mode}" keeps snapd from reading frames: expected one that lets the group read')
    if shm.owner:
        wrong.append("shm.owner: expected none: units run each decoder as a user of its own, framesrv-CODE")
    return wrong


def as_started(unit: str, moment: Literal["started", "loaded"] = "started") -> Settings | None:
    """What a unit read when it was started, or last loaded again: each keeps a copy. None where that is not known."""
    file = applied.SNAPD if unit == SNAPD else applied.file_of(camera_code(unit))
    try:
        return settings.load(STATE / unit / moment / file.name, {})
    except ConfigError:
        return None


def same_for_decoder(code: str, one: Settings, other: Settings) -> bool:
    """Whether a camera's decoder is the same in both."""
    return one.camera(code) == other.camera(code) and one.shm == other.shm


def same_for_snapd(one: Settings, other: Settings, *, fixed: bool) -> bool:
    """Whether snapd is the same in both, in what it cannot load again (`fixed`) or in all else."""
    if fixed:
        keys = [(name, key) for name, names in settings.FIXED.items() for key in names]
        keys.append(("shm", "group"))  # which its unit must be in
        return all(getattr(getattr(one, name), key) == getattr(getattr(other, name), key) for name, key in keys)
    same = all(
        getattr(one, name) == getattr(other, name) for name in ("stream", "snapshot", "result", "store", "http")
    )
    return same and {camera.code for camera in one.cameras} == {camera.code for camera in other.cameras}


def same_variables() -> bool:
    """Whether the other lines of the environment file are as they were when snapd was started."""
    return environment.others(STATE / SNAPD / "started" / applied.ENVIRONMENT.name) == environment.others()


def forget(unit: str) -> None:
    """Removes the copies of a unit that is no more."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(STATE / unit)


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
