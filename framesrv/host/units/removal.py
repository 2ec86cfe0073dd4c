"""``framesrv units remove``: what of framesrv is on a host, and its removal.

With `--purge` all goes that is not somebody's work. Pictures, the configuration and what snapd keeps in Redis only go
where they are asked for by name.
"""

import grp
import pwd
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from framesrv.host.units import (
    APPLIED,
    CONFIG,
    ROUTER,
    ROUTER_CONFIG,
    SECRETS,
    USER,
    applied,
    configuration,
    dropins,
    files,
    systemd,
    users,
    versions,
)
from framesrv.host.units.configuration import STATE
from framesrv.host.units.files import as_user, programs
from framesrv.host.units.switch import COMMANDS, LINKS
from framesrv.host.units.systemd import ROUTE, SLICE, SNAPD, SWEEP, TARGET, UNITS, UnitsError, run, systemctl

PICTURES = Path("/var/lib/framesrv")
STOP_PATIENCE = 60.0  # s
REDIS_PATIENCE = 60.0  # s
NAMED = ("--configuration", "--pictures", "--redis")  # what is only taken where it is asked for

Say = Callable[[str], None]


@dataclass(frozen=True)
class Thing:
    """One thing that stays without `--purge`.

    Attributes:
        name: for people.
        option: the one of `NAMED` that asks for it; empty: `--purge` alone does.
        remove: takes it away.
    """

    name: str
    option: str
    remove: Callable[[], object]


def services(asked: Sequence[str], say: Say) -> None:
    """Stops everything and takes away what `install` and `sync` have made; from Redis too, if that is asked for.

    Raises:
        UnitsError: systemd refuses, or Redis. What was done so far stays, and the same call goes on from there.
    """
    names = systemd.camera_units()
    if (UNITS / TARGET).exists():
        systemctl("stop", TARGET, *names, SNAPD, ROUTE, SWEEP, timeout=STOP_PATIENCE)  # waits for each
        systemctl("disable", "--quiet", TARGET, SNAPD, ROUTE, *names)
        systemctl("stop", SLICE)
    if "--redis" in asked:
        for line in _redis():
            say(line)
    for name in (*names, SNAPD, ROUTE):
        configuration.forget(name)
    dropins.remove()
    users.keep([])
    applied.remove()
    for path in files.remove():
        say(f"removed  {path}")
    if _router_is_unconfigured():
        shutil.rmtree(ROUTER_CONFIG.parent)
        say(f"removed  {ROUTER_CONFIG.parent}")


def rest(asked: Sequence[str], say: Say) -> None:
    """Takes away what else there is, and says what stays.

    Raises:
        UnitsError: a user or a group cannot be removed, as when somebody's program still runs as it.
    """
    for thing in _things():
        if thing.option in ("", *asked):
            thing.remove()
            say(f"removed  {thing.name}")
        else:
            say(f"stays    {thing.name}  ({thing.option})")
    systemctl("daemon-reload")
    say(f"stays    {sys.prefix}, this program itself")


def preview(asked: Sequence[str] | None, say: Say) -> None:
    """Says what would be removed and what would stay; `asked` is None without `--purge`."""
    for line in _redis("--dry-run") if "--redis" in (asked or ()) else []:
        say(line)
    for path in (path for path in [*files.wanted(), users.FILE, APPLIED] if path.exists()):
        say(f"remove   {path}")
    for name in users.made():
        say(f"remove   user {name}")
    if _router_is_unconfigured():
        say(f"remove   {ROUTER_CONFIG.parent}")
    for thing in _things():
        goes = asked is not None and thing.option in ("", *asked)
        how = "" if goes else f"  ({thing.option or '--purge'})"
        say(f"{'remove  ' if goes else 'stays   '} {thing.name}{how}")


def _things() -> Iterator[Thing]:
    yield from _made_by_hand()
    if CONFIG.parent.exists():
        yield Thing(str(CONFIG.parent), "--configuration", lambda: shutil.rmtree(CONFIG.parent))
    kept = PICTURES.exists() and any(PICTURES.iterdir())
    option, owner = ("--pictures", ", the owner of the pictures") if kept else ("", "")
    if PICTURES.exists():
        yield Thing(str(PICTURES), option, lambda: shutil.rmtree(PICTURES))
    if any(user.pw_name == USER for user in pwd.getpwall()):  # whose number nobody else is to get while they stay
        yield Thing(f"user {USER}{owner}", option, lambda: run("userdel", USER))
    if any(user.pw_name == ROUTER for user in pwd.getpwall()):
        yield Thing(f"user {ROUTER}", "", lambda: run("userdel", ROUTER))
    for name, its in ((USER, option), (SECRETS, ""), (ROUTER, "")):
        if any(group.gr_name == name for group in grp.getgrall()):
            yield Thing(f"group {name}", its, lambda name=name: run("groupdel", name))  # type: ignore[misc]
    if STATE.exists():
        yield Thing(str(STATE), "", lambda: shutil.rmtree(STATE))


def _router_is_unconfigured() -> bool:
    """Whether nothing but the empty file that `install` has made is where the router's configuration goes."""
    place = ROUTER_CONFIG.parent
    return place.is_dir() and not any(path != ROUTER_CONFIG or path.stat().st_size for path in place.iterdir())


def _made_by_hand() -> Iterator[Thing]:
    for path in sorted({*UNITS.glob("framesrv*.service.d"), *UNITS.glob("framesrv.*.d")}):
        if any(file.name != dropins.NAME for file in path.iterdir()):  # by `systemctl edit`
            yield Thing(str(path), "", lambda path=path: shutil.rmtree(path))  # type: ignore[misc]
    for link in (LINKS / command for command in COMMANDS):
        if link.is_symlink() and versions.home() in link.readlink().parents:
            yield Thing(str(link), "", link.unlink)


def _redis(*options: str) -> list[str]:
    """Has snapd remove what it keeps in Redis, with what was applied last; gives what it says."""
    if not applied.exists():
        raise UnitsError("nothing was applied here, so it is not known which Redis: snapd forget --config FILE")
    command = [str(programs() / "snapd"), "forget", "--config", str(applied.SNAPD), *options]
    done = as_user(command, {}, REDIS_PATIENCE)
    if done.returncode:
        raise UnitsError(done.stderr.strip().removeprefix("snapd: "))
    return done.stdout.splitlines()
