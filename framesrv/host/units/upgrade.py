"""An upgrade under way: it goes from unit to unit, and stops at the first that does not come back.

Which one that was is kept until the next boot, so that whoever runs `framesrv units sync` again and again, as
configuration management does, loses no camera more.
"""

import json
from collections.abc import Iterable, Sequence

from framesrv.host.units import systemd, versions
from framesrv.host.units.configuration import STATE
from framesrv.host.units.software import Software
from framesrv.host.units.systemd import ROUTE, SNAPD, Unit, camera_code
from framesrv.process.atomic import write_file
from framesrv.segment import layout
from framesrv.segment.file import layout_version, segment_path
from framesrv.segment.status import camera_status
from framesrv.settings import Settings

FILE = STATE / "stopped.json"
FORMER = "the former software"


def stop_at(unit: str, software: Software) -> None:
    """Keeps that the upgrade to this software has stopped at a unit."""
    write_file(FILE, json.dumps({"unit": unit, "software": software.mark}).encode(), mode=0o600)


def stopped_at(loaded: Settings, software: Software) -> str:
    """The unit at which the upgrade to this software has stopped, if it is still not well; else empty."""
    unit, mark = _kept()
    return unit if unit and mark == software.mark and not _is_well(unit, loaded) else ""


def failed_at(unit: str, software: Software) -> bool:
    """Whether the upgrade to another software than this has stopped at that unit."""
    at, mark = _kept()
    return at == unit and mark != software.mark


def forget() -> None:
    """Removes what was kept."""
    FILE.unlink(missing_ok=True)


def _kept() -> tuple[str, str]:
    """The unit and the software; empty if no upgrade has stopped."""
    try:
        kept = json.loads(FILE.read_bytes())
        return str(kept["unit"]), str(kept["software"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "", ""


def _is_well(unit: str, loaded: Settings) -> bool:
    if unit == SNAPD:
        return systemd.show([SNAPD])[SNAPD].status.startswith("serving")
    code = camera_code(unit)
    if code not in {camera.code for camera in loaded.cameras}:
        return True  # it is no more
    return camera_status(loaded.shm.prefix, code, owner=loaded.shm.owner).state == "live"


def sentence(unit: str, left: Sequence[str]) -> str:
    """What to say of the units that were left, and how to go back."""
    former = sorted({version for one in systemd.show(left).values() if (version := versions.of(one))})
    runs = " or ".join(former) or FORMER
    back = next((name for name in former if name in versions.installed()), "")
    how = f"framesrv units use {back}" if back else "install the former version again, then framesrv units sync"
    return (
        f"the upgrade stops at {unit}: {count(left)} still {_run(left)} {runs}, until they are started again. "
        f"To go back: {how}. To go on all the same: framesrv units sync --force"
    )


def behind(units: Iterable[Unit]) -> str:
    """Which units run another version than the one that is installed, in a sentence; empty if none does."""
    groups: dict[str, list[str]] = {}
    for unit in units:
        version = versions.of(unit)
        if version and version != versions.own():
            groups.setdefault(version, []).append(unit.name)
    if not groups or not versions.own():
        return ""
    run = ", ".join(f"{count(names)} {_run(names)} {version}" for version, names in sorted(groups.items()))
    return f"{run}; {versions.own()} is installed: framesrv units sync"


def count(names: Sequence[str]) -> str:
    """Units in words, as "2 cameras and snapd"."""
    cameras = sum(name not in (SNAPD, ROUTE) for name in names)
    words = [f"{cameras} camera{'' if cameras == 1 else 's'}"] if cameras else []
    words += [word for name, word in ((SNAPD, "snapd"), (ROUTE, "the router")) if name in names]
    return " and ".join(words)


def _run(names: Sequence[str]) -> str:
    return "runs" if len(names) == 1 else "run"


def readers_first(loaded: Settings) -> bool:
    """Whether snapd has to change before the decoders: it reads the segments that are there, and will be."""
    found = [layout_version(segment_path(loaded.shm.prefix, camera.code)) for camera in loaded.cameras]
    there = [version for version in found if version is not None]
    return bool(there) and layout.OLDEST <= min(there) < layout.VERSION
