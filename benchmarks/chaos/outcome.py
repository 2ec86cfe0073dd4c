"""What became of a run: everything that was counted, what of it is wrong, and how it is shown."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.chaos.ledger import Totals
from benchmarks.chaos.sampler import Growth

MEMORY_GROWTH, DESCRIPTOR_GROWTH = 30.0, 32  # MB and number; what a run may add to a snapd
BUSY = 0.5  # of a core; an idle snapd that uses more spins


@dataclass(frozen=True, slots=True)
class Idle:
    """A snapd at the end, with nothing to do: `cpu` as the share of a core, `status` its exit status on SIGTERM."""

    name: str
    alive: bool
    cpu: float
    status: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run.

    Attributes:
        redis: how that was set up.
        faults: how many of each there were.
        resent: how often the generator had to repeat itself.
        pending: entries not acknowledged when the patience was over.
        settled: seconds from the end of the last fault until nothing was pending.
        redelivered: entries seen pending with more than one delivery.
        deliveries: the most that one entry had.
        afterwards: of a last round of requests, with all healed: asked, answered ok, and the slowest's seconds.
        ended: exit statuses of processes that ended by themselves.
    """

    redis: str
    seed: int
    seconds: float
    totals: Totals
    faults: Mapping[str, int]
    resent: int
    pending: int
    settled: float
    redelivered: int
    deliveries: int
    afterwards: tuple[int, int, float]
    growth: Sequence[Growth]
    idle: Sequence[Idle]
    ended: Mapping[str, Sequence[int]]

    @property
    def problems(self) -> list[str]:
        """What is wrong, in sentences; empty if all is well."""
        return [*self.totals.problems, *self._unfinished(), *self._unwell(), *self._grown()]

    def _unfinished(self) -> Iterator[str]:
        if self.pending:
            yield f"{self.pending} entries are still pending {self.settled:.0f} s after the last fault"
        asked, answered, _ = self.afterwards
        if answered < asked:
            yield f"only {answered} of {asked} requests are answered well when all is healed"

    def _unwell(self) -> Iterator[str]:
        for one in self.idle:
            if not one.alive:
                yield f"{one.name} is not alive at the end"
            elif one.cpu > BUSY:
                yield f"{one.name} has nothing to do and uses {one.cpu:.0%} of a core"
            if one.alive and one.status != 0:
                yield f"{one.name} ended with status {one.status} when told to end"
        for name, statuses in self.ended.items():
            yield f"{name} ended by itself {len(statuses)} times, with status {statuses[0]}"

    def _grown(self) -> Iterator[str]:
        for one in self.growth:
            if one.late.memory - one.early.memory > MEMORY_GROWTH:
                yield f"{one.name} grew from {one.early.memory:.0f} to {one.late.memory:.0f} MB"
            if one.late.descriptors - one.early.descriptors > DESCRIPTOR_GROWTH:
                yield f"{one.name} grew from {one.early.descriptors} to {one.late.descriptors} descriptors"

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self) | {"totals": self.totals.to_json(), "problems": self.problems}


def render(outcome: Outcome) -> str:
    """The outcome as a table, and a sentence at the end."""
    totals = outcome.totals
    asked, answered, slowest = outcome.afterwards
    rows: list[tuple[str, str]] = [
        ("asked", f"{totals.asked}, repeated to Redis {outcome.resent} times"),
        ("answered ok", str(totals.ok)),
        *((f"answered {message}", str(count)) for message, count in sorted(totals.errors.items())),
        ("by callback", str(totals.by_callback)),
        ("by key", str(totals.by_key)),
        ("by both, the same", str(totals.by_both)),
        ("answered twice", f"{len(totals.repeated)}, without a reason {len(totals.unexplained)}"),
        ("lost", str(len(totals.lost))),
        ("dead-lettered", f"{len(totals.dead)} without an answer"),
        ("delivered again", f"{outcome.redelivered} seen, one at most {outcome.deliveries} times"),
        ("latency", ", ".join(f"{name} {value:.2f} s" for name, value in totals.latency.items())),
        ("settled", f"{outcome.settled:.1f} s after the last fault, {outcome.pending} pending"),
        ("a last round", f"{answered} of {asked} ok, the slowest in {slowest:.2f} s"),
        *((one.name, f"alive, {one.cpu:.1%} of a core" if one.alive else "DOWN") for one in outcome.idle),
        *((f"{one.name}, process {one.pid}", _grown(one)) for one in outcome.growth),
        *((f"fault {name}", str(count)) for name, count in sorted(outcome.faults.items())),
    ]
    width = max(_columns(name) for name, _ in rows)
    lines = [
        f"redis {outcome.redis}, seed {outcome.seed}, {outcome.seconds:g} s, {sum(outcome.faults.values())} faults",
        "",
    ]
    lines += [f"{name}{' ' * (width - _columns(name))}  {value}" for name, value in rows]
    lines += ["", *(f"WRONG: {problem}" for problem in outcome.problems)]
    if not outcome.problems:
        lines.append("Nothing is lost, nothing is pending, everybody is well.")
    return "\n".join(lines)


def _columns(text: str) -> int:
    """How wide it is on a terminal, where Chinese takes two columns a character."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _grown(one: Growth) -> str:
    early, late = one.early, one.late
    return (
        f"in {one.seconds:.0f} s from {early.memory:.1f} to {late.memory:.1f} MB, "
        f"{early.descriptors} to {late.descriptors} descriptors, {early.threads} to {late.threads} threads"
    )
