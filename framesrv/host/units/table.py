"""``framesrv units status``: what systemd and the segments say of every camera, side by side."""

from dataclasses import asdict, dataclass
from typing import Any

import click

from framesrv.host.units import systemd
from framesrv.host.units.hand import Hand, by_hand, undone_by
from framesrv.host.units.software import Software
from framesrv.host.units.systemd import ROUTE, SNAPD, Unit, camera_code, unit_name
from framesrv.log import shown
from framesrv.segment.status import CameraStatus, camera_status
from framesrv.settings import Settings

COLOURS = {"active": "green", "failed": "red", "inactive": "red", "live": "green", "down": "red"}


@dataclass(frozen=True)
class Row:
    """One unit.

    Attributes:
        code: of its camera, None for snapd and a router.
        unit: its name.
        active: as systemd has it: ``active``, ``failed`` ...
        sub: more closely: ``running``, ``auto-restart`` ...
        configured: whether the configuration has that camera.
        state: of the camera's frames: ``live``, ``stalled``, ``connecting`` or ``down``; None for snapd.
        fps: frames a second.
        age_s: seconds since the newest frame.
        restarts: by systemd, since the unit was last started by hand.
        pid: of its process, None without one.
        status: what the process says of itself.
        changed: what of the installed software is not what the process was started with.
        by_hand: ``stopped``, ``disabled`` or ``masked`` where somebody did that; else empty.
    """

    code: str | None
    unit: str
    active: str
    sub: str
    configured: bool
    state: str | None
    fps: float
    age_s: float | None
    restarts: int
    pid: int | None
    status: str
    changed: tuple[str, ...] = ()
    by_hand: Hand = ""

    @property
    def name(self) -> str:
        """Its first column."""
        return self.code or ("router" if self.unit == ROUTE else "snapd")

    def to_json(self) -> dict[str, Any]:
        """As ``units status --json`` shows it."""
        return asdict(self)


def rows(loaded: Settings, software: Software) -> list[Row]:
    """Every configured camera in the configuration's order, then units of others, then snapd, and a router."""
    configured = {unit_name(one.code): one.code for one in loaded.cameras}
    others = {name: camera_code(name) for name in systemd.camera_units() if name not in configured}
    units = systemd.show([*configured, *others, SNAPD, ROUTE])
    found = [
        _row(
            units[name],
            code,
            name in configured,
            camera_status(loaded.shm.prefix, code, owner=loaded.shm.owner),
            software,
        )
        for name, code in (configured | others).items()
    ]
    routers = [units[ROUTE]] if units[ROUTE].runs or units[ROUTE].enabled == "enabled" else []
    return [*found, *(_row(unit, None, True, None, software) for unit in (units[SNAPD], *routers))]


def _row(unit: Unit, code: str | None, configured: bool, frames: CameraStatus | None, software: Software) -> Row:
    return Row(
        code=code,
        unit=unit.name,
        active=unit.active,
        sub=unit.sub,
        configured=configured,
        state=frames.state if frames else None,
        fps=frames.fps if frames else 0.0,
        age_s=frames.age_s if frames else None,
        restarts=unit.restarts,
        pid=unit.pid or None,
        status=shown(unit.status),
        changed=software.changed_since(unit),
        by_hand=by_hand(unit),
    )


def echo(found: list[Row]) -> None:
    """Prints the table."""
    width = max(len("CAMERA"), *(len(row.name) for row in found))
    click.echo(f"{'CAMERA':{width}}  {'UNIT':12}  {'FRAMES':10}  {'FPS':>5}  {'AGE':>9}  {'RESTARTS':>8}  STATUS")
    for row in found:
        unit = row.sub if row.active == "activating" else row.active
        age = "-" if row.age_s is None else f"{row.age_s:.2f} s"
        status = row.status
        if not row.configured:
            status = f"not configured: `framesrv units sync` stops it; {status}"
        elif row.by_hand:
            status = f"{row.by_hand} by hand: {undone_by(row.unit)}; {status}".removesuffix("; ")
        elif row.changed:
            status = f"{', '.join(row.changed)} changed: `framesrv units sync` restarts it; {status}"
        click.echo(
            f"{row.name:{width}}  {_coloured(unit, 12)}  {_coloured(row.state or '-', 10)}  "
            f"{row.fps:5.1f}  {age:>9}  {row.restarts:8}  {status}".rstrip()
        )


def _coloured(word: str, width: int) -> str:
    return click.style(f"{word:{width}}", fg=COLOURS.get(word, "yellow" if word != "-" else None))
