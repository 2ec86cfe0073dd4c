"""The looks at a host, one a thing. Each gives what it found, and what it may not see."""

import ctypes
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from framesrv import __version__
from framesrv.errors import ConfigError
from framesrv.host.units import CONFIG, applied, systemd, upgrade
from framesrv.host.units.hand import by_hand, undone_by
from framesrv.host.units.known import known
from framesrv.host.units.software import installed
from framesrv.host.units.systemd import ROUTE, SNAPD, Unit, camera_code, unit_name
from framesrv.process import report
from framesrv.process.finding import Finding
from framesrv.process.report import Outcomes, Report
from framesrv.segment.file import SHM_DIRECTORY, segment_path
from framesrv.segment.owner import SUB
from framesrv.segment.status import CameraStatus, camera_status, camera_statuses
from framesrv.settings import Settings, find

WELL, IMPAIRED, DOWN = 0, 1, 2
CAMERA = "camera "  # begins the names of findings about one
SHORT, NONE = 0.02, 1024 * 1024  # share of a file system that is little, bytes that are nothing
WRONG_CLOCK = 60.0  # s
MUCH = 100  # requests that wait
JOURNAL_PATIENCE = 2.0  # s
OFTEN, JUST_NOW = 3, 600.0  # restarts of a unit, the last one within so many s
MANY = 3, 0.2  # uploads that failed of late: so many, and such a share


@dataclass(frozen=True)
class Unseen:
    """What could not be looked at, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Known:
    """What the looks go by: the configuration, None where it cannot be known; and what snapd says, likewise."""

    settings: Settings | None = None
    report: Report | None = None
    units: bool = False

    @property
    def codes(self) -> Sequence[str]:
        """The cameras that there must be."""
        if self.settings and self.settings.cameras:
            return [stream.code for stream in self.settings.streams]
        return self.report.cameras if self.report else ()


@dataclass(frozen=True)
class Seen:
    """What one look gave."""

    findings: Sequence[Finding] = ()
    unseen: Sequence[Unseen] = ()
    known: Known = field(default_factory=Known)


def configuration(config: Path | None) -> Seen:
    """What is configured, and whether that is what runs; the other looks go by it."""
    has_units = applied.exists()
    try:
        told = report.read(Path(os.environ.get(report.VARIABLE) or report.DIRECTORY) / report.NAME)
    except (OSError, ValueError):
        told = None
    try:
        settings, note = known(config)
    except ConfigError as error:
        problems = error.problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        wrong = Finding("configuration", DOWN, f"{problems[0]}{more}")
        return Seen([wrong], known=Known(None, told, has_units))
    knows = Known(settings, told, has_units)
    found = []
    if told and told.refused:
        found = [
            Finding("configuration", IMPAIRED, "snapd was told to load one that is wrong, and goes on as before")
        ]
    if note and not os.access(find(config) or CONFIG, os.R_OK):
        return Seen(found, [Unseen("configuration", note)], knows)
    if note:
        words = "; ".join([*_incomplete(settings), note])
        return Seen([Finding("configuration", IMPAIRED, words), *found], known=knows)
    since = f", as applied {_ago(applied.SNAPD.stat().st_mtime)} ago" if has_units else ""
    return Seen(found or [Finding("configuration", WELL, f"{settings.file or 'defaults'}{since}")], known=knows)


def _incomplete(settings: Settings) -> list[str]:
    """What is wrong where each key alone is right, and no service is started for it."""
    try:
        settings.http.check()
        settings.store.check()
    except ConfigError as error:
        return error.problems
    return []


def shared_memory() -> Seen:
    """Room for segments."""
    usage = shutil.disk_usage(SHM_DIRECTORY)
    words = f"{_megabytes(usage.free)} of {_megabytes(usage.total)} free in {SHM_DIRECTORY}"
    is_short = usage.free < SHORT * usage.total
    return Seen([Finding("shared memory", IMPAIRED if is_short else WELL, words)])


def disk(knows: Known) -> Seen:
    """Room for pictures, where they go to a directory."""
    told = knows.report
    place = told.place if told else knows.settings.store.path if knows.settings else ""
    if not place or (told is None and knows.settings and knows.settings.store.kind != "dir"):
        return Seen()
    try:
        usage = shutil.disk_usage(place)
        free, size = usage.free, usage.total
    except OSError as error:
        if told is None or told.free_bytes is None or told.size_bytes is None:
            return Seen(unseen=[Unseen("disk", f"{place}: {error.strerror}")])
        free, size = told.free_bytes, told.size_bytes
    words = f"{_megabytes(free)} of {_megabytes(size)} free in {place}"
    return Seen([Finding("disk", DOWN if free < NONE else IMPAIRED if free < SHORT * size else WELL, words)])


def clock(knows: Known) -> Seen:
    """This host's clock against others'."""
    told = knows.report
    for whose, ahead in (("the store", told.ahead_of_store), ("Redis", told.ahead_of_redis)) if told else ():
        if ahead is not None and abs(ahead) > WRONG_CLOCK:
            words = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of {whose}: set it (NTP)"
            # signatures are made by it
            return Seen([Finding("clock", DOWN if told and _are_down(told.uploads) else IMPAIRED, words)])
    known_by = "kept by NTP" if _is_synchronized() else "not kept by NTP, as far as the kernel knows"
    return Seen([Finding("clock", WELL, known_by)])


def snapd(knows: Known) -> Seen:
    """Whether requests are answered, and what has become of pictures and results."""
    told = knows.report
    if told is None:
        if knows.units and not _runs(SNAPD):
            return Seen()  # as is said of its unit
        return Seen(unseen=[Unseen("snapd", f"it has left no report in {report.DIRECTORY}")])
    if not os.path.exists(f"/proc/{told.pid}"):
        return Seen([Finding("snapd", DOWN, f"it has ended (pid {told.pid}), and nobody has started it again")])
    return Seen([*_requests(told), *_processes(told), *_uploads(told.uploads), *_rest(told)])


def cameras(knows: Known) -> Seen:
    """Each camera that is not live or is frozen, and how many are live."""
    settings = knows.settings or Settings()
    prefix, owner = settings.shm.prefix, settings.shm.owner
    if knows.codes:
        found = [camera_status(prefix, code, owner=owner) for code in knows.codes]
    else:
        found = camera_statuses(prefix, {}, owner)
    if not found:
        none = [Finding("cameras", IMPAIRED, "none is configured")] if knows.settings else []
        return Seen(none)
    hidden = [one for one in found if _is_hidden(prefix, one.code)]
    seen = [one for one in found if one not in hidden]
    wrong = [one for one in seen if one.state != "live" or one.pinned]
    unseen = (
        [Unseen("cameras", f"the frames of {len(hidden)} are not yours to read: {hidden[0].error}")] if hidden else []
    )
    if not seen:
        return Seen(unseen=unseen)
    frozen = [one for one in seen if one not in wrong and one.frozen_s is not None]
    status = DOWN if len(wrong) == len(found) else IMPAIRED
    lives = f"{len(seen) - len(wrong)} of {len(found)} live"
    return Seen(
        [
            *(Finding(f"{CAMERA}{one.code}", status, _camera_in_words(one)) for one in wrong),
            *(Finding(f"{CAMERA}{one.code}", IMPAIRED, _camera_in_words(one)) for one in frozen),
            Finding("cameras", WELL, lives),
        ],
        unseen,
    )


def units(knows: Known) -> Seen:
    """Units that do not run, or do not stay up."""
    if not knows.units:
        return Seen()
    if not systemd.RUNS.is_dir():
        return Seen(unseen=[Unseen("units", "systemd does not run on this host")])
    return Seen([finding for unit in _units(knows) for finding in _unit(unit)])


def versions(knows: Known) -> Seen:
    """What is installed, and what of it is not what runs."""
    told = knows.report
    if told and told.version != __version__:
        words = f"snapd runs {told.version}, {__version__} is installed: framesrv units sync"
        return Seen([Finding("versions", IMPAIRED, words)])
    here = Finding("versions", WELL, f"{__version__} is installed{' and runs' if told else ''}")
    if not knows.units or os.geteuid() != 0:
        unseen = [Unseen("versions", "what units were started with is root's to read")] if knows.units else []
        return Seen([here], unseen)
    now = installed()
    units = _units(knows)
    if behind := upgrade.behind(units):
        return Seen([Finding("versions", IMPAIRED, behind)])
    old = [changed for unit in units if (changed := now.changed_since(unit))]
    if not old:
        return Seen([here])
    parts = ", ".join(sorted({part for changed in old for part in changed}))
    words = f"{len(old)} units run with what is no longer installed ({parts}): framesrv units sync"
    return Seen([Finding("versions", IMPAIRED, words)])


def _units(knows: Known) -> list[Unit]:
    # both streams of a camera are one unit's
    names = dict.fromkeys(unit_name(code.removesuffix(SUB)) for code in knows.codes)
    router = [ROUTE] if (systemd.UNITS / f"{systemd.TARGET}.wants" / ROUTE).exists() else []
    return list(systemd.show([*names, SNAPD, *router]).values())


def _requests(told: Report) -> list[Finding]:
    if told.hang:
        return [Finding("requests", DOWN, f"{told.hang} of snapd hangs")]
    if told.away or not told.joined:
        return [Finding("requests", DOWN, told.status)]
    waiting = "" if told.lag is None else f", {told.lag} waiting"
    in_hand = "" if told.pending is None else f", {told.pending} in hand"
    words = f"snapd takes requests{waiting}{in_hand}"
    if told.lag and told.lag > MUCH:
        return [
            Finding("requests", IMPAIRED, f"{words}: more [snapshot] workers or processes, or a store that is slow")
        ]
    return [Finding("requests", WELL, words)]


def _processes(told: Report) -> list[Finding]:
    """Of a snapd that has several."""
    if not told.processes:
        return []
    count, name = len(told.processes), "processes"
    troubled = [(number, one) for number, one in enumerate(told.processes, 1) if one.trouble]
    if troubled:
        words = "; ".join(f"{number} of {count}: {one.trouble}" for number, one in troubled)
        return [Finding(name, IMPAIRED, words)]
    deaths = sum(one.deaths for one in told.processes)
    again = f"; started again: {deaths}" if deaths else ""
    return [Finding(name, WELL, f"{count} answer requests{again}")]


def _uploads(now: Outcomes) -> list[Finding]:
    if words := now.in_words("it takes no pictures"):
        return [Finding("store", DOWN if _are_down(now) else IMPAIRED, words)]
    total = now.ok_lately + now.failed_lately
    words = f"{now.ok_lately} of {total} uploads of the last {report.LATELY / 60:.0f} minutes succeeded"
    if now.failed_lately >= MANY[0] and now.failed_lately > MANY[1] * total:
        return [Finding("store", IMPAIRED, words)]
    return [Finding("store", WELL, words if total else _last(now))]


def _are_down(now: Outcomes) -> bool:
    """Whether none succeeds any more, as far as is known."""
    return now.failed > 0 and not now.ok_lately


def _rest(told: Report) -> list[Finding]:
    found = []
    if told.unrouted:
        found.append(Finding("router", DOWN, told.unrouted))
    if told.strangers:
        found.append(Finding("group", IMPAIRED, f"it is not this host's alone: {told.strangers}"))
    if told.consumer != told.wanted_consumer:
        words = f"another snapd reads as {told.wanted_consumer}, this one as {told.consumer}: give each its own"
        found.append(Finding("consumer", IMPAIRED, f"{words} [stream] consumer"))
    if words := told.callbacks.in_words("they fail, results go to their keys"):
        found.append(Finding("callbacks", IMPAIRED, words))
    else:
        ok = told.callbacks.ok_lately
        words = f"{ok} of the last {report.LATELY / 60:.0f} minutes succeeded" if ok else _last(told.callbacks)
        found.append(Finding("callbacks", WELL, words))
    if told.pages:
        found.append(Finding("pages", IMPAIRED, told.pages))
    return found


def _last(now: Outcomes) -> str:
    return f"the last one succeeded {_ago(now.succeeded_at)} ago" if now.succeeded_at else "none so far"


def _camera_in_words(camera: CameraStatus) -> str:
    attempts = f", attempt {camera.attempts}" if camera.attempts else ""
    return f"{camera.state}{attempts}: {camera.reason}"


def _is_hidden(prefix: str, code: str) -> bool:
    path = segment_path(prefix, code)
    return os.path.exists(path) and not os.access(path, os.R_OK)


def _unit(unit: Unit) -> list[Finding]:
    name = {SNAPD: "snapd", ROUTE: "router"}.get(unit.name, f"{CAMERA}{camera_code(unit.name)}")
    status = DOWN if unit.name == SNAPD else IMPAIRED
    if not unit.runs and (hand := by_hand(unit)):
        return [Finding(name, status, f"{hand} by hand: {undone_by(unit.name)}")]
    if not unit.runs:
        why = (unit.active == "failed" and _last_error(unit.name)) or f"journalctl -u '{unit.name}'"
        return [Finding(name, status, f"its unit is {unit.active}: {why}")]
    if unit.restarts >= OFTEN and (not unit.pid or time.time() - unit.started_at < JUST_NOW):
        words = f"started again {unit.restarts} times: journalctl -u '{unit.name}'"
        return [Finding(name, status if not unit.pid else IMPAIRED, words)]
    return []


def _last_error(name: str) -> str:
    """What a unit's process has said last of why it cannot go on; empty where it said nothing to this user."""
    # not --unit=, which gives also what systemd says of it
    command = ("journalctl", "--quiet", "--no-pager", "--priority=err", "--lines=1", "--output=cat")
    try:
        return systemd.run(*command, f"_SYSTEMD_UNIT={name}", timeout=JOURNAL_PATIENCE).strip()
    except systemd.UnitsError:
        return ""


def _runs(name: str) -> bool:
    return systemd.show([name])[name].runs


def _is_synchronized() -> bool:
    """Whether somebody keeps the kernel's clock, see adjtimex(2); a structure of zeros asks and changes nothing."""
    room = ctypes.create_string_buffer(512)
    return ctypes.CDLL(None).adjtimex(room) in range(5)  # TIME_ERROR is 5


def _ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e10 else f"{count / 1e9:.0f} GB"
