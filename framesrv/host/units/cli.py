"""The commands ``framesrv units ...``. What a command needs is imported when it runs: decoders share this program."""

import json
import sys

import click

from framesrv.errors import FramesrvError
from framesrv.host.units import CONFIG
from framesrv.log import shown

STOP_PATIENCE = 60.0  # s


@click.group()
def units() -> None:
    """The cameras and snapd as services of systemd.

    \b
    install   once, and after each upgrade: unit files, the user framesrv, /etc/framesrv
    sync      after each change of /etc/framesrv/framesrv.toml, and after each upgrade
    status    how every camera does
    remove    ends and takes away what install and sync have made
    """  # noqa: D301  click wants the character


@units.command()
def install() -> None:
    """Put the unit files in place and make the user framesrv. Nothing is started or restarted.

    The units run the framesrv whose command this is. Safe to run again; afterwards `framesrv units sync` starts
    what is configured.

    Example: sudo framesrv units install
    """
    from framesrv.host.units import files, systemd

    systemd.require()
    changed = files.install()
    for path in changed:
        click.echo(f"wrote    {path}")
    click.echo(f"{'installed' if changed else 'nothing to change'}; next: edit {CONFIG}, then framesrv units sync")


@units.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option("--force", is_flag=True, help="Go on although `framesrv check` finds something wrong, as Redis away.")
def sync(dry_run: bool, force: bool) -> None:
    """Make the units what the configuration says: start, stop, restart or reload those that differ.

    Refuses with the errors of `framesrv check` before it touches anything. A camera whose settings are as before
    is left alone. After an upgrade, of framesrv or of anything that it needs, decoders are restarted one at a time,
    each live before the next. Exit status 1 if something did not come to run or a camera is not live; it goes on
    trying by itself.

    Example: sudo framesrv units sync --dry-run
    """
    from framesrv.host.units import configuration, files, software, systemd
    from framesrv.host.units import sync as syncing

    systemd.require()
    if files.outdated():
        raise systemd.UnitsError("the unit files are not those of this framesrv: run `framesrv units install` first")
    with configuration.alone():
        loaded, environment = configuration.load()
        problems = configuration.problems(environment)
        for problem in problems:
            click.echo(f"framesrv: {shown(problem)}", err=True)
        if problems and not force:
            raise systemd.UnitsError("nothing was changed; mend this, or use --force")
        installed = software.installed()
        steps = syncing.plan(loaded, installed)
        if dry_run:
            for step in steps:
                click.echo(f"{step.action:8} {step.unit}  ({step.reason})")
            return
        faults = syncing.apply(loaded, installed, steps, click.echo)
    kept = sum(step.action == "keep" for step in steps)
    click.echo(f"{len(loaded.cameras)} cameras and snapd; {kept} units left alone")
    for fault in faults:
        click.echo(f"framesrv: {shown(fault)}", err=True)
    if faults:
        sys.exit(1)


@units.command("status")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for scripts.")
def show(as_json: bool) -> None:
    """Show every camera: its unit, its frames, and what its decoder says.

    The configuration is for the services alone to read, so this needs root, as the other commands here.

    Example: sudo framesrv units status --json | jq '.[] | select(.state != "live")'
    """
    from framesrv.host.units import configuration, software, table

    found = table.rows(configuration.load()[0], software.installed())
    if as_json:
        click.echo(json.dumps([row.to_json() for row in found]))
    else:
        table.echo(found)


@units.command()
def remove() -> None:
    """Stop everything and take the unit files away. The configuration, pictures and the user stay.

    Example: sudo framesrv units remove
    """
    from framesrv.host.units import configuration, files, systemd
    from framesrv.host.units.systemd import SLICE, SNAPD, SWEEP, TARGET, systemctl

    systemd.require()
    with configuration.alone():
        names = systemd.camera_units()
        if (systemd.UNITS / TARGET).exists():
            systemctl("stop", TARGET, *names, SNAPD, SWEEP, timeout=STOP_PATIENCE)  # waits for each
            systemctl("disable", "--quiet", TARGET, SNAPD, *names)
            systemctl("stop", SLICE)
        for name in (*names, SNAPD):
            configuration.forget(name)
        gone = files.remove()
    for path in gone:
        click.echo(f"removed  {path}")
    click.echo(f"{CONFIG.parent}, /var/lib/framesrv and the user framesrv stay: they are yours to remove")


@units.command()
def sweep() -> None:
    """Remove the segments in shared memory that no decoder writes. What is live stays.

    framesrv.target runs this when it stops, for what killed decoders have left.
    """
    from framesrv import settings
    from framesrv.segment.mapping import Segment
    from framesrv.segment.status import camera_statuses

    loaded = settings.load(CONFIG)
    failed = False
    for camera in camera_statuses(loaded.shm.prefix, loaded.policies):
        if camera.state != "down":
            continue
        try:
            Segment.remove_abandoned(loaded.shm.prefix, camera.code)
        except (FramesrvError, ValueError, OSError) as error:
            click.echo(f"framesrv: {shown(str(error))}", err=True)
            failed = True
    if failed:
        sys.exit(1)
