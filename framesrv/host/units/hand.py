"""What somebody has stopped, disabled or masked by systemctl: `sync` leaves it alone, `framesrv start` undoes it."""

from pathlib import Path
from typing import Literal

from framesrv.host.units import ROUTER_CONFIG, applied
from framesrv.host.units.systemd import ROUTE, SNAPD, TARGET, Unit, camera_code

Hand = Literal["", "stopped", "disabled", "masked"]


def by_hand(unit: Unit) -> Hand:
    """How somebody has taken a unit out of service; empty if nobody has.

    Only for what `sync` has put into service before. The units are started again however they end, but for a wrong
    configuration. So one that has run since the boot, and does not now, was stopped; and it was killed where it took
    too long to stop. After a boot systemd starts it again, as it is enabled.
    """
    if unit.enabled.startswith("masked"):
        return "masked"
    if not _applied(unit).exists():
        return ""
    if unit.enabled == "disabled":
        return "disabled"
    stopped = unit.ended and (unit.active == "inactive" or (unit.active == "failed" and unit.result == "timeout"))
    return "stopped" if stopped else ""


def name_of(unit: str) -> str:
    """What people call a unit: its camera's code, ``snapd``, or ``router``."""
    return {SNAPD: "snapd", ROUTE: "router"}.get(unit) or camera_code(unit)


def undone_by(unit: str) -> str:
    """The command that puts a unit back into service."""
    by_systemd = unit in (TARGET, ROUTE)
    return f"sudo systemctl enable --now {unit}" if by_systemd else f"sudo framesrv start {name_of(unit)}"


def _applied(unit: Unit) -> Path:
    if unit.name == ROUTE:
        return ROUTER_CONFIG
    return applied.SNAPD if unit.name in (SNAPD, TARGET) else applied.file_of(camera_code(unit.name))
