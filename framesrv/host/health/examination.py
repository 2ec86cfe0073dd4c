"""All looks at a host, made at once and each with a deadline, and what they come to."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import click

from framesrv.errors import FramesrvError
from framesrv.host.health import looks
from framesrv.host.health.looks import Seen, Unseen
from framesrv.log import mask, shown
from framesrv.process.finding import Finding

DEADLINE = 4.0  # s for each of the two rounds
STATES = ("well", "impaired", "down")
COLOURS = ("green", "yellow", "red")
CAMERAS_SHOWN = 10

Look = Callable[[], Seen]


@dataclass(frozen=True)
class Examination:
    """What was found, what mattered most as a cause first, and what could not be looked at."""

    findings: Sequence[Finding]
    unseen: Sequence[Unseen]

    @property
    def status(self) -> int:
        """0 well, 1 impaired, 2 down: as the worst finding."""
        return max((one.status for one in self.findings), default=0)

    @property
    def cause(self) -> str:
        """The trouble that matters most, in a sentence; that all is well if there is none."""
        if not self.status:
            return "; ".join(one.message for one in self.findings if one.name in ("cameras", "requests"))
        worst = [one for one in self.findings if one.status == self.status]
        first, others = worst[0], len({one.name for one in worst}) - 1
        more = f" (and {others} more)" if others else ""
        return f"{first.name}: {first.message}{more}"

    @property
    def headline(self) -> str:
        """One line, as Nagios shows it."""
        return mask(f"{STATES[self.status]}: {self.cause}".removesuffix(": "))

    def to_json(self) -> dict[str, Any]:
        """As ``health --json`` shows it; without secrets."""
        return {
            "status": self.status,
            "state": STATES[self.status],
            "cause": mask(self.cause) if self.status else "",
            "findings": [
                {"name": one.name, "status": one.status, "message": mask(one.message)} for one in self.findings
            ],
            "unseen": [{"name": one.name, "message": mask(one.reason)} for one in self.unseen],
        }

    def lines(self) -> Iterator[str]:
        """One screen."""
        yield click.style(shown(self.headline), fg=COLOURS[self.status])
        rows = [(STATES[one.status], one.name, mask(one.message), COLOURS[one.status]) for one in self.findings]
        cameras = [row for row in rows if row[1].startswith(looks.CAMERA)]
        left_out = cameras[CAMERAS_SHOWN:]
        rows = [row for row in rows if row not in left_out]
        if left_out:
            rows.append(("", "cameras", f"{len(left_out)} more are not well: framesrv ls", ""))
        rows += [("unseen", one.name, mask(one.reason), "") for one in self.unseen]
        width = max((len(shown(name)) for _, name, _, _ in rows), default=0)
        for state, name, message, colour in rows:
            yield f"{click.style(f'{state:8}', fg=colour or None)}  {shown(name):{width}}  {shown(message)}".rstrip()


def examine(config: Path | None) -> Examination:
    """Looks at everything there is.

    Args:
        config: as it was given, None where it is to be found.
    """
    (first,) = _at_once({"configuration": lambda: looks.configuration(config)})
    known = first.known
    others = {
        "memory": looks.shared_memory,
        "disk": lambda: looks.disk(known),
        "clock": lambda: looks.clock(known),
        "units": lambda: looks.units(known),
        "snapd": lambda: looks.snapd(known),
        "cameras": lambda: looks.cameras(known),
        "versions": lambda: looks.versions(known),
    }
    *seen, versions = _at_once(others)
    seen += [first, versions]
    # the order is that of causes: what is full, or told the wrong time, makes trouble further down
    return Examination([one for part in seen for one in part.findings], [one for part in seen for one in part.unseen])


def _at_once(looking: Mapping[str, Look]) -> list[Seen]:
    """What these see, in their order; each in a thread of its own, which is left alone where it hangs."""
    answers: SimpleQueue[tuple[str, Seen]] = SimpleQueue()

    def work(name: str, look: Look) -> None:
        try:
            seen = look()
        except (FramesrvError, OSError, ValueError) as error:
            seen = Seen(unseen=[Unseen(name, str(error))])
        answers.put((name, seen))

    for name, look in looking.items():
        threading.Thread(target=work, args=(name, look), daemon=True).start()
    until = monotonic() + DEADLINE
    found: dict[str, Seen] = {}
    while len(found) < len(looking):
        try:
            name, seen = answers.get(timeout=max(0.0, until - monotonic()))
        except Empty:
            break
        found[name] = seen
    late = f"no answer within {DEADLINE:g} s"
    return [found.get(name) or Seen(unseen=[Unseen(name, late)]) for name in looking]


def health(config: Path | None, *, as_json: bool) -> int:
    """Prints it, and gives the exit status."""
    found = examine(config)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        for line in found.lines():
            click.echo(line)
    return found.status
