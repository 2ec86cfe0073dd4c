"""The copies of the configuration that services start from: for each what it needs, and for it alone to read.

`framesrv units sync` writes them once everything is checked. So what is edited reaches no service before, and a
mistake in it none at all.
"""

import contextlib
import grp
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from framesrv import settings
from framesrv.host.units import APPLIED, SECRETS, USER
from framesrv.host.units.systemd import UnitsError
from framesrv.process.atomic import write_file
from framesrv.segment.owner import SUB, service_user
from framesrv.settings import Settings, ShmSettings

CAMERAS = APPLIED / "cameras"
SNAPD = APPLIED / "snapd.json"
READERS = settings.READERS  # how segments are named: for every reader of frames
ENVIRONMENT = APPLIED / "snapd.env"  # variables of its process; systemd reads them as root


def of_camera(loaded: Settings, code: str) -> Settings:
    """What a decoder is given: its camera, and how segments are named and shared."""
    return Settings(
        shm=_shm(loaded), cameras=tuple(camera for camera in loaded.cameras if camera.code == code.removesuffix(SUB))
    )


def of_snapd(loaded: Settings) -> Settings:
    """What snapd is given: everything but the cameras' sources, which hold their passwords."""
    cameras = tuple(camera.hidden for camera in loaded.cameras)
    return msgspec.structs.replace(loaded, file=None, shm=_shm(loaded), cameras=cameras)


def of_readers(loaded: Settings) -> Settings:
    """What everybody may know."""
    return Settings(shm=_shm(loaded))


def _shm(loaded: Settings) -> ShmSettings:
    """Decoders are no members of the readers' group, so it is named; and each is a user of its own."""
    return msgspec.structs.replace(loaded.shm, group=loaded.shm.group or USER, owner="")


def file_of(code: str) -> Path:
    """The copy of a camera's decoder."""
    return CAMERAS / f"{code}.json"


def write(loaded: Settings, variables: str) -> bool:
    """Writes what differs; `variables` are those of snapd's process.

    Returns:
        Whether anything did.

    Raises:
        UnitsError: a copy cannot be written, or there is no group to read it.
    """
    codes = [camera.code for camera in loaded.cameras]
    written = [
        *(_write(file_of(code), settings.to_json(of_camera(loaded, code)), service_user(code)) for code in codes),
        _write(SNAPD, settings.to_json(of_snapd(loaded)), SECRETS),
        _write(READERS, settings.to_json(of_readers(loaded)), "root", 0o644),
        _write(ENVIRONMENT, variables.encode(), "root", 0o600),
    ]
    return any(written)


def _write(path: Path, content: bytes, group: str, mode: int = 0o640) -> bool:
    """Writes one copy; False where it is there already."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise UnitsError(f"there is no group {group}: run `framesrv units install` first") from error
    try:
        if path.exists():
            status = path.stat()
            if (status.st_gid, status.st_mode & 0o7777) == (gid, mode) and path.read_bytes() == content:
                return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_file(path, content, mode=mode, group=gid, durable=True)
    except OSError as error:
        raise UnitsError(f"{path} cannot be written: {error.strerror}") from error
    return True


def codes() -> list[str]:
    """The cameras that were applied."""
    return sorted(file.stem for file in CAMERAS.glob("*.json"))


def exists() -> bool:
    """Whether sync has ever been here."""
    return os.path.exists(SNAPD)  # which says no where one may not look


def last() -> Settings:
    """What was applied last, as snapd has it. Raises ConfigError where it is absent, or not this user's to read."""
    return settings.load(SNAPD, {})


def is_all(loaded: Settings, variables: str) -> bool:
    """Whether everything that is configured has been applied, and nothing else."""
    wanted = {file_of(camera.code): of_camera(loaded, camera.code) for camera in loaded.cameras}
    if {*CAMERAS.iterdir()} != {*wanted}:
        return False
    wanted |= {SNAPD: of_snapd(loaded), READERS: of_readers(loaded)}
    same = all(path.exists() and path.read_bytes() == settings.to_json(one) for path, one in wanted.items())
    return same and ENVIRONMENT.exists() and ENVIRONMENT.read_text("utf-8") == variables


def keep(codes: Iterable[str]) -> None:
    """Removes the copies of all other cameras."""
    kept = {file_of(code).name for code in codes}
    for file in CAMERAS.iterdir():
        if file.name not in kept:
            file.unlink()


def remove() -> None:
    """Removes all copies."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(APPLIED)
