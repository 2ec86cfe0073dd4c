"""What was asked and what was answered, and whether the two agree.

Times are seconds of the monotonic clock. An answer is a callback that arrived or a key that was written; a
callback that arrived after it had been given up, and the key with the same content, are one answer.
"""

import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

REPEATED_SHARE = 0.01  # of all that was asked; more is wrong
MARGIN = 2.0  # s backend two answers in which what explains the second may have happened
SHOWN = 5  # ids named in a sentence


@dataclass(frozen=True, slots=True)
class Answer:
    """A result that reached its sender."""

    request_id: str
    status: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Totals:
    """The ledger, counted.

    Attributes:
        dead: on the dead-letter stream, and not answered.
        strange: sentences about answers that fit no request.
        histories: what happened to each of `repeated`, and when, in seconds since the ledger was begun.
        latency: quantiles of seconds from the request's arrival in the stream to its first answer.
    """

    asked: int
    ok: int
    errors: dict[str, int]
    by_callback: int
    by_key: int
    by_both: int
    repeated: tuple[str, ...]
    unexplained: tuple[str, ...]
    lost: tuple[str, ...]
    dead: tuple[str, ...]
    strange: tuple[str, ...]
    histories: dict[str, str]
    latency: dict[str, float]

    @property
    def problems(self) -> list[str]:
        """What is wrong, in sentences; empty if all is well."""
        found = []
        if self.lost:
            found.append(f"{len(self.lost)} lost: {_some(self.lost)}")
        if len(self.repeated) > REPEATED_SHARE * self.asked:
            share = len(self.repeated) / max(1, self.asked)
            found.append(f"{share:.1%} answered twice, {REPEATED_SHARE:.0%} allowed: {_some(self.repeated)}")
        if self.unexplained:
            found.append(f"{len(self.unexplained)} answered twice without a reason: {_some(self.unexplained)}")
            found += [f"{name}: {self.histories[name]}" for name in self.unexplained[:SHOWN]]
        if self.strange:
            found.append(f"{len(self.strange)} answers that nobody could understand: {_some(self.strange)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Ledger:
    """For several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._asked: dict[str, float] = {}
        self._sent: Counter[str] = Counter()
        self._callbacks: defaultdict[str, list[Answer]] = defaultdict(list)
        self._keys: dict[str, Answer] = {}
        self._dead: set[str] = set()
        self._strange: list[str] = []
        self._disturbances: list[tuple[float, float]] = []
        self._others: list[Ledger] = []

    def also(self, other: "Ledger") -> None:
        """Every callback is entered in `other`, too."""
        self._others.append(other)

    def asked(self, request_id: str, at: float) -> None:
        """The request came to the stream, at the time at which it was sent; once for each time that it did."""
        with self._lock:
            self._asked.setdefault(request_id, at)
            self._sent[request_id] += 1

    def perhaps_sent(self, request_id: str) -> None:
        """Redis did not say whether it took the request: there may be an entry more, which is answered as well."""
        with self._lock:
            self._sent[request_id] += 1

    def called_back(self, answer: Answer) -> None:
        """A callback arrived; one that does not conform has the status "bad" and its reason as the message."""
        with self._lock:
            if answer.status == "bad":
                self._strange.append(answer.message)
            else:
                self._callbacks[answer.request_id].append(answer)
        for other in self._others:
            other.called_back(answer)

    def kept(self, answer: Answer) -> None:
        """A key holds this result."""
        with self._lock:
            self._keys[answer.request_id] = answer

    def dead(self, request_id: str) -> None:
        """The request lies on the dead-letter stream."""
        with self._lock:
            self._dead.add(request_id)

    def disturbed(self, begin: float, end: float) -> None:
        """In this time somebody was killed or cut off, and may not have been able to note what he had answered."""
        with self._lock:
            self._disturbances.append((begin, end))

    @property
    def counts(self) -> tuple[int, int]:
        """How many were asked and how many were called back so far."""
        with self._lock:
            return len(self._asked), len(self._callbacks)

    def unanswered(self) -> set[str]:
        """Requests that have neither a callback nor a key nor a dead letter."""
        with self._lock:
            return self._asked.keys() - self._callbacks.keys() - self._keys.keys() - self._dead

    def totals(self) -> Totals:
        """Counts everything."""
        lost = self.unanswered()
        with self._lock:
            first = {}
            repeated = []
            for request_id in self._asked:
                answers = self._answers(request_id)
                if answers:
                    first[request_id] = answers[0]
                if len(answers) > self._sent[request_id]:  # each time it was sent it is answered
                    repeated.append(request_id)
            called, kept = self._callbacks.keys(), self._keys.keys()
            strangers = [f"{name} was never asked" for name in (called | kept) - self._asked.keys()]
            return Totals(
                asked=len(self._asked),
                ok=sum(answer.status == "ok" for answer in first.values()),
                errors=dict(Counter(answer.message for answer in first.values() if answer.status != "ok")),
                by_callback=len(called - kept),
                by_key=len(kept - called),
                by_both=len(called & kept),
                repeated=tuple(repeated),
                unexplained=tuple(name for name in repeated if not self._explained(self._answers(name))),
                lost=tuple(sorted(lost)),
                dead=tuple(sorted(self._dead - called - kept)),
                strange=(*self._strange, *strangers),
                histories={name: self._history(name) for name in repeated},
                latency=_quantiles([max(0.0, answer.at - self._asked[name]) for name, answer in first.items()]),
            )

    def _answers(self, request_id: str) -> list[Answer]:
        """What its sender takes for an answer each, by time: every callback, and a key that says something else."""
        answers = self._callbacks.get(request_id, [])
        key = self._keys.get(request_id)
        if key is not None and all((key.status, key.message) != (one.status, one.message) for one in answers):
            answers = [*answers, key]
        return sorted(answers, key=lambda answer: answer.at)

    def _history(self, request_id: str) -> str:
        events = [(self._asked[request_id], f"sent {self._sent[request_id]} times")]
        events += [(one.at, f"callback {one.status}{one.message}") for one in self._callbacks.get(request_id, [])]
        key = self._keys.get(request_id)
        if key is not None:
            events.append((key.at, f"key {key.status}{key.message}"))
        return ", ".join(f"{at - self._began:.2f} {what}" for at, what in sorted(events))

    def _explained(self, answers: Sequence[Answer]) -> bool:
        begin, end = answers[0].at - MARGIN, answers[-1].at + MARGIN
        return any(since <= end and until >= begin for since, until in self._disturbances)


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    parts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": parts[49], "p90": parts[89], "p99": parts[98], "max": max(seconds)}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
