"""How snapd does, for everybody on its host: one small file, which snapd replaces when something has changed.

So ``framesrv health`` tells also those who may ask neither Redis nor the service manager. It lies in the directory
that systemd makes and removes with the unit, see RuntimeDirectory= in systemd.exec(5), and holds no secret.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from framesrv.process.atomic import write_file

VARIABLE = "RUNTIME_DIRECTORY"
DIRECTORY = "/run/framesrv-snapd"  # of framesrv-snapd.service
NAME = "report.json"
LATELY = 300.0  # s


class Outcomes(Struct, frozen=True):
    """What became of attempts of one kind; times are Unix seconds.

    Attributes:
        failed: how many did since the last one that succeeded.
        failing_since: when the first of these did; None if none did.
        reason: why the newest of them did, in words.
        trouble: the same as one word for programs.
        failed_at: when the newest of them did.
        succeeded_at: when one last did; None if none ever did.
        ok_lately: how many succeeded in the last five minutes,
        failed_lately: and how many did not.
    """

    failed: int = 0
    failing_since: float | None = None
    reason: str = ""
    trouble: str = ""
    failed_at: float | None = None
    succeeded_at: float | None = None
    ok_lately: int = 0
    failed_lately: int = 0

    def in_words(self, what: str) -> str:
        """``what: why, 12 failed since 07:31``; empty if the last one succeeded."""
        if not self.failed:
            return ""
        since = time.strftime("%H:%M", time.localtime(self.failing_since))
        return f"{what}: {self.reason}, {self.failed} failed since {since}"


class ProcessReport(Struct, frozen=True):
    """One of the processes of a snapd that has several.

    Attributes:
        pid: its own; 0 while it does not run.
        trouble: what is wrong with it, in words; empty if nothing is.
        deaths: how often it had to be started again.
    """

    pid: int
    trouble: str = ""
    deaths: int = 0


class Report(Struct, frozen=True):
    """How snapd does.

    Attributes:
        pid: its own.
        version: of its software.
        began: Unix seconds at which it did.
        status: in words, as the service manager is told.
        joined: whether it has ever been a consumer of the group.
        away: why Redis cannot be read; empty if it can.
        hang: what hangs; empty if nothing does.
        strangers: hosts with other cameras that read from the same group, in words; empty if there are none.
        unrouted: that no router brings requests here, in words; empty if one does, or none is needed.
        consumer: the name that it reads under,
        wanted_consumer: and the one that is configured.
        configured_at: Unix seconds at which the configuration in force was read.
        cameras: the codes of its cameras.
        refused: whether one that was read since is wrong.
        pages: why the pages are not shown; empty if they are, or are turned off.
        uploads: of pictures to the store.
        callbacks: of results to the platform.
        lag: requests that nobody has taken yet; None if not known.
        pending: requests that were taken and not acknowledged; None if not known.
        place: the directory of the store; empty for another store.
        free_bytes: left there at the last upload; None if not known.
        size_bytes: of that file system.
        ahead_of_store: seconds by which the clock of this host is ahead of the store's; None if not known.
        ahead_of_redis: the same of Redis.
        processes: those that answer requests, where it has several; `pid` is of the one that keeps them.
    """

    pid: int
    version: str
    began: float
    status: str = ""
    joined: bool = False
    away: str = ""
    hang: str = ""
    strangers: str = ""
    unrouted: str = ""
    consumer: str = ""
    wanted_consumer: str = ""
    configured_at: float = 0.0
    cameras: tuple[str, ...] = ()
    refused: bool = False
    pages: str = ""
    uploads: Outcomes = Outcomes()
    callbacks: Outcomes = Outcomes()
    lag: int | None = None
    pending: int | None = None
    place: str = ""
    free_bytes: int | None = None
    size_bytes: int | None = None
    ahead_of_store: float | None = None
    ahead_of_redis: float | None = None
    processes: tuple[ProcessReport, ...] = ()

    def in_words(self, in_hand: int, *, stopping: bool) -> str:
        """All of that for the service manager, with how many requests are in hand: what matters most first."""
        what = f"{in_hand} in hand"
        if stopping:
            return f"stopping, {what}"
        if not self.joined:
            return f"waiting for Redis: {self.away}" if self.away else "waiting for Redis"
        if self.away:
            return f"Redis away: {self.away}"
        words = [f"serving, {what}"]
        if self.unrouted:
            words = [self.unrouted, what]
        if uploads := self.uploads.in_words("the store takes no pictures"):
            words = [uploads, what]  # whoever gets no picture is not served
        if callbacks := self.callbacks.in_words("callbacks fail"):
            words.append(callbacks)
        if self.strangers:
            words.append(f"the group is not this host's alone: {self.strangers}")
        return "; ".join(words)


_decoder = msgspec.json.Decoder(Report)


def place(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where this process is to write it; None where no service manager has made a place."""
    directory = environment.get(VARIABLE, "").partition(":")[0]
    return Path(directory) / NAME if directory else None


def write(path: Path, report: Report) -> None:
    """Replaces it. Raises OSError."""
    write_file(path, msgspec.json.encode(report), mode=0o644)


def read(path: Path) -> Report:
    """What snapd wrote last.

    Raises:
        OSError: there is none, or it may not be read.
        ValueError: it is none, or one of another version.
    """
    return _decoder.decode(path.read_bytes())
