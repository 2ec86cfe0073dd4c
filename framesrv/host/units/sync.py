"""``framesrv units sync``: the units as the configuration wants them, with as little stir as that takes.

Nothing that runs with what it would be started with is touched. Decoders are restarted one at a time, each live
before the next, so that an upgrade is never seen by more than one camera at once.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from framesrv.errors import FramesrvError, FrameUnavailableError
from framesrv.history.abandoned import remove_abandoned
from framesrv.host.units import applied, configuration, dropins, environment, systemd, upgrade, users, versions
from framesrv.host.units.hand import Hand, by_hand, undone_by
from framesrv.host.units.software import Software
from framesrv.host.units.systemd import ROUTE, SNAPD, TARGET, Unit, UnitsError, camera_code, systemctl, unit_name
from framesrv.log import mask
from framesrv.segment.reader import SegmentReader
from framesrv.segment.status import camera_status
from framesrv.settings import Settings

LIVE_PATIENCE = 20.0  # s that a camera gets to be live again, if it was before
START_PATIENCE = 10.0, 0.5  # s that all new ones get together, and more for each: a host's start is work
STOP_PATIENCE = 60.0  # s for systemd to stop what is to be stopped
SERVING_PATIENCE, LOOK_EVERY = 8.0, 0.2  # s for snapd to reach Redis, and between looks at its status
AGAIN, JUST_NOW = 3, 10.0  # times that systemd has started a unit again, the last one so many s ago: it does not hold
TURN = 1.0  # s between looks at what a camera that gives no frame says
IN_VAIN = ("unauthorized", "name_unknown", "not_found", "no_video", "format", "limit")  # causes that no wait mends
READY_PATIENCE = 60.0  # s for one unit to stop, if it runs, and to be ready

Action = Literal["stop", "start", "restart", "reload", "leave", "keep"]
Say = Callable[["Step"], None]


@dataclass(frozen=True)
class Step:
    """One unit, what becomes of it, and why.

    Attributes:
        unit: its name.
        action: ``leave`` is for what was taken out of service by `hand`.
        reason: why.
        hand: what was done by hand.
        upgrade: whether it is only because its software, or its unit file, is another.
    """

    unit: str
    action: Action
    reason: str
    hand: Hand = ""
    upgrade: bool = False

    def __str__(self) -> str:
        return f"{self.action:8} {self.unit}  ({self.reason})"

    @property
    def acts(self) -> bool:
        """Whether the unit is touched."""
        return self.action not in ("leave", "keep")


def plan(loaded: Settings, software: Software) -> list[Step]:
    """What is to be done, in order: stops, what is left alone by hand, starts, restarts, snapd last.

    But snapd comes before the restarts where they bring segments of a new layout and it will understand both.

    Args:
        loaded: what is configured.
        software: what is installed.
    """
    wanted = [unit_name(camera.code) for camera in loaded.cameras]
    existing = systemd.camera_units()
    units = systemd.show([*wanted, SNAPD, TARGET, ROUTE])
    target = by_hand(units[TARGET])
    steps = [
        Step(name, "stop", "out of service" if camera_code(name) in loaded.disabled else "no longer configured")
        for name in existing
        if name not in wanted
    ]
    steps += [_step(units[name], loaded, software, target) for name in wanted]
    order: Sequence[Action] = ("stop", "leave", "start", "restart", "keep")
    steps.sort(key=lambda step: order.index(step.action))
    of_snapd = _step(units[SNAPD], loaded, software, target)
    first = of_snapd.upgrade and upgrade.readers_first(loaded)
    place = sum(step.action in ("stop", "leave", "start") for step in steps) if first else len(steps)
    return [*steps[:place], of_snapd, *steps[place:], *_of_router(units[ROUTE], software)]


def _of_router(unit: Unit, software: Software) -> list[Step]:
    """A router is started and stopped by hand alone; one that runs is brought to another version."""
    changed = software.changed_since(unit) if unit.runs else ()
    return [_changed(unit, changed)] if changed else []


def _step(unit: Unit, loaded: Settings, software: Software, target: Hand) -> Step:
    hand = by_hand(unit)
    if hand == "masked" or (hand and not unit.runs):
        return Step(unit.name, "leave", f"{hand} by hand; {undone_by(unit.name)}", hand)
    if target and not unit.runs:
        return Step(unit.name, "leave", f"{TARGET} is {target} by hand; {undone_by(TARGET)}")
    step = _differs(unit, loaded, software)
    if hand and step.action == "keep":
        return Step(unit.name, "leave", f"disabled by hand, does not start at boot; {undone_by(unit.name)}", hand)
    return replace(step, hand=hand)


def _differs(unit: Unit, loaded: Settings, software: Software) -> Step:
    """What becomes of a unit that nobody has taken out of service."""
    if not unit.runs:
        return Step(unit.name, "start", "failed" if unit.active == "failed" else "not running")
    if not unit.pid:
        return Step(unit.name, "restart", "it waits to be started again")
    if changed := software.changed_since(unit):
        return _changed(unit, changed)
    if upgrade.failed_at(unit.name, software):  # it may have come back by itself: see whether it stays
        return Step(unit.name, "restart", "another version did not come back here")
    started = configuration.as_started(unit.name)
    if started is None:
        return Step(unit.name, "restart", "what it was started with is not known")
    if unit.name != SNAPD:
        code = camera_code(unit.name)
        same = configuration.same_for_decoder(code, started, applied.of_camera(loaded, code))
        return Step(unit.name, "keep", "as configured") if same else Step(unit.name, "restart", "its settings differ")
    wanted = applied.of_snapd(loaded)
    if not configuration.same_variables() or not configuration.same_for_snapd(started, wanted, fixed=True):
        return Step(SNAPD, "restart", "its settings differ, in what cannot be loaded again")
    last = configuration.as_started(SNAPD, "loaded")
    if last is None or not configuration.same_for_snapd(last, wanted, fixed=False):
        return Step(SNAPD, "reload", "cameras, limits or credentials differ")
    return Step(SNAPD, "keep", "as configured")


def _changed(unit: Unit, changed: Iterable[str]) -> Step:
    """Of a unit that runs other software than is installed."""
    former = versions.of(unit)
    other = former not in ("", versions.own())
    why = f"it runs {former}" if other else f"changed since it was started: {', '.join(changed)}"
    return Step(unit.name, "restart", why, upgrade=True)


def prepare(loaded: Settings) -> bool:
    """Puts in place what the units start from: users, drop-ins, copies. What runs does not notice.

    Returns:
        Whether a copy is another than before.

    Raises:
        UnitsError: it cannot be put there.
    """
    users.make([camera.code for camera in loaded.cameras])
    dropins.write(loaded)
    return applied.write(loaded, environment.others())


def bring_over(loaded: Settings) -> None:
    """The same for the units that there are. A camera without one is left to `sync`, to put into service."""
    existing = systemd.camera_units()
    cameras = tuple(camera for camera in loaded.cameras if unit_name(camera.code) in existing)
    prepare(msgspec.structs.replace(loaded, cameras=cameras))


@dataclass(frozen=True)
class Outcome:
    """What came of a sync.

    Attributes:
        changed: whether anything is not as it was before.
        faults: a sentence for each unit that did not come to run, and each camera not live.
    """

    changed: bool
    faults: list[str]

    def to_json(self, steps: Iterable[Step]) -> dict[str, Any]:
        """As ``units sync --json`` shows it, with the steps that were planned."""
        units = [
            {
                "unit": step.unit,
                "camera": None if step.unit in (SNAPD, ROUTE) else camera_code(step.unit),
                "action": step.action,
                "reason": step.reason,
                "by_hand": step.hand,
            }
            for step in steps
        ]
        return {"changed": self.changed, "units": units, "faults": [mask(fault) for fault in self.faults]}


def apply(
    loaded: Settings, software: Software, steps: list[Step], say: Say, *, whatever_comes: bool = False
) -> Outcome:
    """Does what was planned.

    An upgrade stops at the first unit that does not come back.

    Args:
        loaded: what is configured.
        software: as it was for `plan`: what is installed after that is a change for the next one.
        steps: what was planned.
        say: told of each step that is taken, and of what is left alone by hand.
        whatever_comes: go on with an upgrade although a unit did not come back.

    Raises:
        UnitsError: systemd refused. What was done so far stays, and the same call goes on from there.
    """
    starts = [step.unit for step in steps if step.action == "start"]
    target = systemd.show([TARGET])[TARGET]
    respected = bool(by_hand(target))
    enabled = [
        step.unit
        for step in steps
        if step.action != "stop" and step.hand not in ("disabled", "masked") and step.unit != ROUTE
    ]
    # before the copies: a unit that has one, and is disabled, was disabled by hand
    systemd.enable(enabled if respected else [TARGET, *enabled])
    changed = prepare(loaded)
    _stop([step for step in steps if step.action == "stop"], loaded, say)
    for step in steps:
        if step.action == "leave":
            say(step)
    for step in steps:
        if step.action == "start":
            say(step)
            if step.unit != SNAPD:  # what lies there is no running unit's
                remove_abandoned(loaded.shm.prefix, camera_code(step.unit))
    # a target that is there already would start what was stopped by hand
    beginning = starts if respected or target.active == "active" else [TARGET, *starts]
    if beginning:
        systemctl("start", "--no-block", *beginning)
    faults = _await_live(starts, loaded)
    begun = [step.unit for step in steps if step.action in ("start", "keep", "reload")]
    software.note(systemd.show(begun).values())
    faults += _restarting([step.unit for step in steps if step.action == "keep"])
    faults += _change(steps, loaded, software, say, whatever_comes=whatever_comes)
    codes = [camera.code for camera in loaded.cameras]
    applied.keep(codes)
    users.keep(codes)
    return Outcome(changed or any(step.acts for step in steps), faults)


def _change(steps: list[Step], loaded: Settings, software: Software, say: Say, *, whatever_comes: bool) -> list[str]:
    """Restarts and reloads, one at a time; gives a sentence for each that did not come back, one for what is left."""
    faults: list[str] = []
    stopped, left = "", []
    for step in steps:
        if step.upgrade and not whatever_comes:
            stopped = stopped or upgrade.stopped_at(loaded, software)
        if step.upgrade and stopped:
            left.append(step.unit)
        elif step.action == "restart":
            say(step)
            found = _restart(step.unit, loaded, software)
            faults += found
            if found and step.upgrade and not whatever_comes:
                stopped = step.unit
                upgrade.stop_at(stopped, software)
        elif step.action == "reload":
            say(step)
            systemctl("reload", step.unit)
    if left:
        faults.append(upgrade.sentence(stopped, left))
    elif not stopped:
        upgrade.forget()
    return faults


def _restarting(names: list[str]) -> list[str]:
    """A sentence for each of these that systemd has to start again and again."""
    return [
        f"{unit.name} was started again {unit.restarts} times, the last time {time.time() - unit.started_at:.0f} s "
        f"ago; journalctl -u '{unit.name}' says why"
        for unit in systemd.show(names).values()
        if unit.restarts >= AGAIN and time.time() - unit.started_at < JUST_NOW
    ]


def _stop(steps: list[Step], loaded: Settings, say: Say) -> None:
    if not steps:
        return
    for step in steps:
        say(step)
    names = [step.unit for step in steps]
    systemctl("disable", "--quiet", *names)
    systemctl("stop", *names, timeout=STOP_PATIENCE)
    for unit in systemd.show(names).values():
        if unit.active == "failed":
            systemctl("reset-failed", unit.name)
        remove_abandoned(loaded.shm.prefix, camera_code(unit.name))  # of one that had to be killed
        configuration.forget(unit.name)


def _restart(name: str, loaded: Settings, software: Software) -> list[str]:
    code = camera_code(name)
    # "down" may be the segment of another version, which this one cannot read
    was_away = name in (SNAPD, ROUTE) or (
        camera_status(loaded.shm.prefix, code, owner=loaded.shm.owner).state in ("connecting", "stalled")
        and not upgrade.failed_at(name, software)  # which was live before that
    )
    if faults := _ready("restart", name):
        return faults
    software.note(systemd.show([name]).values())
    if name == SNAPD:
        return _serves()
    return [] if was_away else _live(code, loaded, LIVE_PATIENCE)


def _ready(action: Literal["start", "restart"], name: str) -> list[str]:
    """Waits until a unit is ready; a sentence if it does not become so."""
    try:
        systemctl(action, name, timeout=READY_PATIENCE)
    except UnitsError as error:
        return [str(error)]
    return []


def _serves() -> list[str]:
    """Waits until snapd reads requests; a sentence if it does not, as without Redis."""
    deadline = time.monotonic() + SERVING_PATIENCE
    while not (status := systemd.show([SNAPD])[SNAPD].status).startswith("serving"):
        if time.monotonic() > deadline:
            return [f"{SNAPD} runs and does not serve yet, which was not waited for: {status or 'no status'}"]
        time.sleep(LOOK_EVERY)
    return []


def _await_live(names: list[str], loaded: Settings) -> list[str]:
    """Waits for all that was started, each with the same deadline; a sentence for each that is not there by then."""
    patience = START_PATIENCE[0] + START_PATIENCE[1] * len(names)
    cameras = [camera_code(name) for name in names if name != SNAPD]
    with ThreadPoolExecutor(max_workers=max(1, len(cameras))) as pool:
        lives = pool.map(lambda code: _live(code, loaded, patience), cameras)
        faults = _ready("start", SNAPD) or _serves() if SNAPD in names else []
        return [fault for live in lives for fault in live] + faults


def _live(code: str, loaded: Settings, patience: float) -> list[str]:
    """Waits for a frame that is newer than this call; a sentence if none comes, at once where waiting is in vain."""
    deadline = time.monotonic() + patience
    more = f"; journalctl -u '{unit_name(code)}' says more"
    try:
        with SegmentReader(code, prefix=loaded.shm.prefix, owner=loaded.shm.owner) as reader:
            while True:
                left = deadline - time.monotonic()
                try:
                    next(reader.frames(timeout=max(0.0, min(TURN, left))))
                except FrameUnavailableError as error:
                    now = camera_status(loaded.shm.prefix, code, owner=loaded.shm.owner)
                    if left <= TURN or (now.attempts and now.cause in IN_VAIN):
                        return [f"{error}{more}"]
                else:
                    return []
    except FramesrvError as error:
        return [f"{error}{more}"]
