"""``framesrv start``, `stop`, `restart` and `logs`: systemd's own commands, by the codes of cameras."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from framesrv.errors import ConfigError, FramesrvError, SegmentError
from framesrv.history.abandoned import remove_abandoned
from framesrv.host.units import applied, configuration, systemd
from framesrv.host.units.hand import by_hand, name_of
from framesrv.host.units.systemd import SNAPD, systemctl, unit_name
from framesrv.segment.file import segment_path

PATIENCE = 60.0, 10.0  # s for units to start or stop together, and more for each
JOURNALCTL = "journalctl"

Say = Callable[[str], None]


def units_of(names: Sequence[str]) -> list[str]:
    """The units of these cameras; ``snapd`` is snapd's.

    Raises:
        ConfigError: with a line for each that is none.
    """
    known = {name_of(unit): unit for unit in (*systemd.camera_units(), *_applied(), SNAPD)}
    problems = [_unknown(name, sorted(known)) for name in names if name not in known]
    if problems:
        raise ConfigError(problems)
    return [known[name] for name in dict.fromkeys(names)]


def start(names: Sequence[str], say: Say) -> None:
    """Starts units, at each boot too, whatever was done to them by hand; waits until they are ready.

    Raises:
        ConfigError: there is no such unit.
        UnitsError: systemd refused, or one did not become ready.
    """
    _change("start", names, say)


def restart(names: Sequence[str], say: Say) -> None:
    """The same, for units that may run already."""
    _change("restart", names, say)


def _change(action: Literal["start", "restart"], names: Sequence[str], say: Say) -> None:
    units = units_of(names)
    for unit in systemd.show(units).values():
        hand = by_hand(unit)
        if hand == "masked":
            systemctl("unmask", "--quiet", *(["--runtime"] if unit.enabled == "masked-runtime" else []), unit.name)
        if hand in ("masked", "disabled"):
            systemctl("enable", "--quiet", unit.name)
            say(f"enabled  {unit.name}  ({hand} by hand before)")
        if unit.name != SNAPD and not unit.runs:  # what lies there is no running unit's
            remove_abandoned(applied.last().shm.prefix, name_of(unit.name))
    systemctl(action, *units, timeout=PATIENCE[0] + PATIENCE[1] * len(units))
    for name in units:
        say(f"{action}ed  {name}")


def stop(names: Sequence[str], say: Say) -> list[str]:
    """Stops units until the next boot; waits until they have ended and their segments are gone.

    Returns:
        A sentence for each segment that is still there.

    Raises:
        ConfigError: there is no such unit.
        UnitsError: systemd refused, or one did not end.
    """
    units = units_of(names)
    systemctl("stop", *units, timeout=PATIENCE[0] + PATIENCE[1] * len(units))
    for unit in units:
        say(f"stopped  {unit}")
    codes = [name_of(unit) for unit in units if unit != SNAPD]
    prefix = applied.last().shm.prefix if codes else ""
    return [fault for code in codes for fault in _cleared(prefix, code)]


def _cleared(prefix: str, code: str) -> list[str]:
    """Removes what a decoder that had to be killed has left; a sentence if that cannot be."""
    path = Path(segment_path(prefix, code))
    try:
        remove_abandoned(prefix, code)
    except (SegmentError, OSError) as error:
        return [f"{path} is still there: {error}"]
    return [f"{path} is still there: another process than its unit writes it"] if path.exists() else []


def logs(names: Sequence[str], lines: int, *, follow: bool) -> NoReturn:
    """Becomes journalctl(1), over what these units say; over all of them where none is named.

    Raises:
        ConfigError: there is no such unit.
        FramesrvError: there is no journalctl on this host.
    """
    units = units_of(names) if names else ["framesrv@*.service", SNAPD]
    command = [JOURNALCTL, "--no-pager", f"--lines={lines}", *(["--follow"] if follow else [])]
    command += [f"--unit={unit}" for unit in units]
    try:
        os.execvp(JOURNALCTL, command)  # noqa: S606
    except OSError as error:
        raise FramesrvError(f"{JOURNALCTL} cannot be run: {error.strerror}") from error


def _applied() -> list[str]:
    """The units of all cameras that were applied."""
    return [unit_name(code) for code in applied.codes()]


def _unknown(name: str, known: Sequence[str]) -> str:
    """What to say of a name that no unit has."""
    try:
        loaded = configuration.load()
    except FramesrvError:  # wrong, or not this user's to read
        pass
    else:
        if loaded.camera(name):
            return f"camera {name} is configured and not applied yet: sudo framesrv units sync"
        if name in loaded.disabled:
            return f"camera {name} is out of service: enabled = false in {loaded.file}"
    from difflib import get_close_matches  # which only a mistake needs

    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no camera {name} here; {hint}known: {', '.join(known)}"
