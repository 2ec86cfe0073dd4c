"""What of a unit its file cannot say for every host: ``UNIT.d/50-framesrv.conf``, written by ``framesrv units sync``.

What `systemctl edit` writes stands beside it and wins.
"""

from collections.abc import Iterator
from pathlib import Path

from framesrv.host.units import USER
from framesrv.host.units.systemd import SNAPD, UNITS, systemctl, unit_name
from framesrv.process.atomic import write_file
from framesrv.segment.owner import service_user
from framesrv.settings import Settings

NAME = "50-framesrv.conf"


def write(loaded: Settings) -> None:
    """Writes those that are needed, and removes all others.

    Raises:
        UnitsError: systemd refused.
    """
    wanted = dict(_wanted(loaded))
    gone = [path for path in _present() if path not in wanted]
    changed = {path: text for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in changed.items():
        path.parent.mkdir(exist_ok=True)
        write_file(path, text.encode(), mode=0o644)
    _remove(gone)
    if gone or changed:
        systemctl("daemon-reload")


def remove() -> None:
    """Removes all of them."""
    _remove(_present())


def _wanted(loaded: Settings) -> Iterator[tuple[Path, str]]:
    for camera in loaded.cameras:
        user = service_user(camera.code)
        if user != f"framesrv-{camera.code}":
            yield _place(unit_name(camera.code)), f"[Service]\nUser={user}\n"
    if loaded.shm.group not in ("", USER):
        yield _place(SNAPD), f"[Service]\nSupplementaryGroups={loaded.shm.group}\n"


def _place(unit: str) -> Path:
    return UNITS / f"{unit}.d" / NAME


def _present() -> list[Path]:
    return [*UNITS.glob(f"framesrv@*.service.d/{NAME}"), *UNITS.glob(f"{SNAPD}.d/{NAME}")]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()
        if not any(path.parent.iterdir()):  # else somebody's own is there
            path.parent.rmdir()
