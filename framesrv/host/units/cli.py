"""The commands ``framesrv units ...``, and those that name units by cameras' codes.

What a command needs is imported when it runs: decoders share this program.
"""

import json
import sys

import click

from framesrv.errors import FramesrvError
from framesrv.host.units import CONFIG
from framesrv.log import shown


@click.group()
def units() -> None:
    """The cameras and snapd as services of systemd.

    \b
    use       another version of framesrv: an upgrade, or the way back
    install   once, and after each upgrade: unit files, the user framesrv, /etc/framesrv
    sync      after each change of /etc/framesrv/framesrv.toml or .env, and after each upgrade
    status    how every camera does
    sweep     removes what lies in the place of segments and is none
    remove    ends and takes away what install and sync have made
    """  # noqa: D301  click wants the character


@units.command()
def install() -> None:
    """Put the unit files in place and make the user framesrv. Nothing is started or restarted.

    The units run the framesrv whose command this is. Safe to run again; afterwards `framesrv units sync` starts
    what is configured.

    Example: sudo framesrv units install
    """
    from framesrv.host.units import applied, configuration, files, systemd
    from framesrv.host.units import sync as syncing

    systemd.require()
    with configuration.alone():
        changed = files.install()
        for path in changed:
            click.echo(f"wrote    {path}")
        if not applied.exists() and systemd.camera_units():  # of a version whose units read framesrv.toml itself
            try:
                syncing.bring_over(configuration.load())
            except FramesrvError as error:
                click.echo(
                    f"framesrv: units that end now are not started again before sync: {shown(str(error))}", err=True
                )
    click.echo(f"{'installed' if changed else 'nothing to change'}; next: edit {CONFIG}, then framesrv units sync")


@units.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option(
    "--force",
    is_flag=True,
    help="Go on although `framesrv check` finds something wrong, as Redis away, or a camera does not come back.",
)
@click.option("--json", "as_json", is_flag=True, help="One object at the end, for scripts: changed, units, faults.")
def sync(dry_run: bool, force: bool, as_json: bool) -> None:
    """Make the units what the configuration says: start, stop, restart or reload those that differ.

    Refuses with the errors of `framesrv check` before it touches anything. Then each service gets a copy of what it
    needs, below /etc/framesrv/applied, and starts from that, whatever becomes of the file that you edit. A camera
    whose settings are as before is left alone. After an upgrade, of framesrv or of anything that it needs, decoders
    are restarted one at a time, each live before the next; at the first that does not come back it stops, leaves the
    others as they are, and says how to go back. What was stopped, disabled or masked by hand is left alone and named;
    `framesrv start CODE` undoes that. Exit status 0 whether anything was to be done or not; 1 if something did not
    come to run or a camera is not live; it goes on trying by itself.

    Example: sudo framesrv units sync --json | jq .changed
    """
    from framesrv.host.units import configuration, files, software, systemd
    from framesrv.host.units import sync as syncing

    systemd.require()
    if files.outdated():
        raise systemd.UnitsError("the unit files are not those of this framesrv: run `framesrv units install` first")
    with configuration.alone():
        loaded = configuration.load()
        problems = configuration.problems(loaded)
        for problem in problems:
            click.echo(f"framesrv: {shown(problem)}", err=True)
        if problems and not force:
            raise systemd.UnitsError("nothing was changed; mend this, or use --force")
        installed = software.installed()
        steps = syncing.plan(loaded, installed)
        if dry_run:
            outcome = syncing.Outcome(changed=any(step.acts for step in steps), faults=[])
            if not as_json:
                for step in steps:
                    click.echo(step)
                return
        else:
            say = (lambda _: None) if as_json else click.echo
            outcome = syncing.apply(loaded, installed, steps, say, whatever_comes=force)
    if as_json:
        click.echo(json.dumps(outcome.to_json(steps)))
    else:
        kept = sum(not step.acts for step in steps)
        done = "changed" if outcome.changed else "nothing to do"
        click.echo(f"{done}: {len(loaded.cameras)} cameras and snapd; {kept} units left alone")
    for fault in outcome.faults:
        click.echo(f"framesrv: {shown(fault)}", err=True)
    if outcome.faults:
        sys.exit(1)


@units.command()
@click.argument("version", required=False)
@click.option("--force", is_flag=True, help="As of `framesrv units sync`.")
def use(version: str | None, force: bool) -> None:
    """Put an installed version in force: the first, a newer one, or the former again. Without one: list them.

    Versions lie side by side, as /opt/framesrv/0.1.0, and /opt/framesrv/current is a link to the one in force. This
    sees whether VERSION runs at all, changes the link, does `framesrv units install` of it and then `framesrv units
    sync`, which stops at the first camera that does not come back. Of versions that nothing runs the oldest are
    removed, so that three stay.

    Example: sudo /opt/framesrv/0.2.0/bin/framesrv units use 0.2.0
    """
    from framesrv.host.units import applied, configuration, switch, systemd, upgrade, versions

    systemd.require()
    if version is None:
        running = switch.running()
        for name in versions.installed():
            note = "in force" if name == versions.in_force() else ""
            click.echo(f"{name:24}  {note:8}  {upgrade.count(running.get(name, []))}".rstrip())
        return
    former = versions.in_force()
    with configuration.alone():
        switch.check(version)
        switch.put_in_force(version)
    if switch.run(version, "install", quiet=applied.exists()):
        switch.undo(former)
        raise systemd.UnitsError(f"{version} was not put in force")
    for link in switch.link_commands():
        click.echo(f"linked   {link}")
    if not applied.exists():
        return
    systemd.systemctl("reset-failed", "framesrv*.service")  # restarts of another version say nothing of this one
    click.echo(f"in force {version}" + (f", before it {former}" if former else ""))
    if status := switch.run(version, "sync", *(["--force"] if force else [])):
        if former not in ("", version):
            click.echo(f"framesrv: {version} is in force; to go back: framesrv units use {former}", err=True)
        sys.exit(status)
    for directory in switch.prune(former):
        click.echo(f"removed  {directory}")


@units.command("status")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for scripts.")
def show(as_json: bool) -> None:
    """Show every camera: its unit, its frames, and what its decoder says.

    The configuration is root's alone to read, so this needs root, as the other commands here. If it is wrong, what
    was applied last is shown. Standard error says so, or that it was edited since.

    Example: sudo framesrv units status --json | jq '.[] | select(.state != "live")'
    """
    from framesrv.host.units import software, systemd, table, upgrade
    from framesrv.host.units.known import known

    systemd.require()
    loaded, note = known(CONFIG)
    if note:
        click.echo(f"framesrv: {shown(note)}", err=True)
    found = table.rows(loaded, software.installed())
    if behind := upgrade.behind(systemd.show([row.unit for row in found]).values()):
        click.echo(f"framesrv: {behind}", err=True)
    if as_json:
        click.echo(json.dumps([row.to_json() for row in found]))
    else:
        table.echo(found)


@units.command()
@click.option("--purge", is_flag=True, help="Take away all else too, but for what the next three name.")
@click.option("--configuration", "settings", is_flag=True, help="With --purge: /etc/framesrv too.")
@click.option("--pictures", is_flag=True, help="With --purge: /var/lib/framesrv too, and all pictures in it.")
@click.option(
    "--redis", "from_redis", is_flag=True, help="With --purge: snapd's consumer group and dead letters too."
)
@click.option("--dry-run", is_flag=True, help="Only list what would be removed, and what would stay.")
def remove(purge: bool, settings: bool, pictures: bool, from_redis: bool, dry_run: bool) -> None:
    """Stop everything and take away the unit files, the copies of the configuration and the cameras' users.

    The router's /etc/framesrv/route goes too, if its file is still empty. The rest stays: the user framesrv,
    drop-ins of `systemctl edit`, the links to the commands, and such. With --purge that goes as well. Pictures, the
    configuration and what snapd keeps in Redis only go where they are named; the program itself is removed as it was
    installed.

    Example: sudo framesrv units remove --purge --redis --dry-run
    """
    from framesrv.host.units import configuration, removal, systemd

    given = zip(removal.NAMED, (settings, pictures, from_redis), strict=True)
    asked = [option for option, is_given in given if is_given]
    if asked and not purge:
        raise click.UsageError(f"{asked[0]} goes with --purge")
    systemd.require()
    with configuration.alone():
        if dry_run:
            removal.preview(asked if purge else None, click.echo)
            return
        removal.services(asked, click.echo)
        if purge:
            removal.rest(asked, click.echo)
            return
    click.echo(
        f"{CONFIG.parent}, /var/lib/framesrv, the user framesrv and more stay: "
        "`framesrv units remove --purge --dry-run` lists them"
    )


@units.command()
@click.argument("codes", nargs=-1, metavar="[CODE]...")
def sweep(codes: tuple[str, ...]) -> None:
    """Remove the segments in shared memory that no decoder writes, of some cameras or of all. What is live stays.

    In a camera's place whatever a stranger has put there is removed as well. framesrv.target runs this when it stops,
    and so does the unit of a camera that finds its place taken.

    Example: sudo framesrv units sweep 34020000001320000001
    """
    from framesrv.host.units import sweeping, systemd

    systemd.require()
    faults = sweeping.sweep(codes)
    for fault in faults:
        click.echo(f"framesrv: {shown(fault)}", err=True)
    if faults:
        sys.exit(1)


CODES = click.argument("codes", nargs=-1, required=True, metavar="CODE...")


@click.command()
@CODES
def start(codes: tuple[str, ...]) -> None:
    """Start the services of cameras, now and at each boot, whatever was stopped, disabled or masked by hand.

    CODE is a camera's, or snapd. Returns when they are ready; `framesrv ls` shows how the cameras do.

    Example: sudo framesrv start 34020000001320000001 snapd
    """
    from framesrv.host.units import by_code, configuration, systemd

    systemd.require()
    with configuration.alone():
        by_code.start(codes, click.echo)


@click.command()
@CODES
def restart(codes: tuple[str, ...]) -> None:
    """Restart the services of cameras, or of snapd; those that do not run are started.

    Example: sudo framesrv restart 34020000001320000001
    """
    from framesrv.host.units import by_code, configuration, systemd

    systemd.require()
    with configuration.alone():
        by_code.restart(codes, click.echo)


@click.command()
@CODES
def stop(codes: tuple[str, ...]) -> None:
    """Stop the services of cameras, or of snapd, until they are started by hand or the host boots.

    Returns when they have ended and their segments are gone. `framesrv units sync` leaves them alone. To take a
    camera out of service for good, write `enabled = false` into its [[camera]].

    Example: sudo framesrv stop 34020000001320000001
    """
    from framesrv.host.units import by_code, configuration, systemd

    systemd.require()
    with configuration.alone():
        faults = by_code.stop(codes, click.echo)
    for fault in faults:
        click.echo(f"framesrv: {shown(fault)}", err=True)
    if faults:
        sys.exit(1)


@click.command()
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is said from now on.")
@click.option("-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="The newest so many.")
def logs(codes: tuple[str, ...], follow: bool, lines: int) -> None:
    """Show what the services of cameras, or of snapd, have said; of all, without a CODE.

    It is in the journal: that takes root, or the group systemd-journal.

    Example: framesrv logs 34020000001320000001 snapd -f
    """
    from framesrv.host.units import by_code, systemd

    systemd.require(root=False)
    by_code.logs(codes, lines, follow=follow)
