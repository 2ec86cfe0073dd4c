"""What a snapshot of an idle camera costs, as cameras grow in number and requests in rate.

Cameras on demand that nobody looks at, asked one after the other, so that each question is the first one for a
while. The server of the streams, Redis, storage and platform run on the same cores.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measures import baseline_lingering
from benchmarks.measures.backend import Backend, open_backend
from benchmarks.measures.charts import Lines
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.load import SLOWEST, Load, Trial
from benchmarks.measures.process import BenchmarkError
from benchmarks.measures.table import Figure, Goal, Report

WORKERS = 8
CAMERAS = (10, 50, 100, 250)
RATE = 1.0  # snapshots a second, while cameras grow in number
FIXED = 100  # cameras, while the rate grows
RATES = (1.0, 5.0, 10.0)
WANTED = (FIXED, 5.0), (250, RATE)  # answered, and 99 of 100 within `SLOWEST`
BESIDE = WANTED[0]  # what is measured as it was before, too
LONGER = 3.0  # times `seconds` for a trial, so that there are enough snapshots


@dataclass(frozen=True, slots=True)
class Step:
    """So many cameras, and snapshots a second of all of them; `trial` is None where it failed, for that `reason`."""

    cameras: int
    rate: float
    trial: Trial | None
    reason: str = ""

    @property
    def name(self) -> str:
        """As a table has it."""
        return f"{self.cameras} idle cameras, {self.rate:g} snapshots/s"

    @property
    def answered(self) -> int:
        """Snapshots that were answered with a picture."""
        return len(self.trial.snapshots) if self.trial else 0

    def milliseconds(self, percent: int) -> float:
        """From request to callback, what `percent` of all do not exceed; 0 where too few were answered."""
        return self.trial.snapshots.total(percent) if self.trial and self.answered > 1 else 0.0


def run(seconds: float) -> Report:
    """Measures each step for three times `seconds`."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
        backend = stack.enter_context(open_backend(directory))
        (before,) = _steps([BESIDE], backend, directory, seconds * LONGER, through=baseline_lingering.__name__)
        plan = sorted({*((count, RATE) for count in CAMERAS), *((FIXED, rate) for rate in RATES)})
        steps = {(one.cameras, one.rate): one for one in _steps(plan, backend, directory, seconds * LONGER)}
    return Report(
        "idle: snapshots of cameras on demand, 1920x1080 at 25/s, H.264 4 Mb/s, one camera after the other, the RTSP "
        "server on the same cores",
        [figure for one in steps.values() for figure in _figures(one, before)],
        [note for one in (before, *steps.values()) for note in _notes(one, is_before=one is before)],
        [
            _chart("idle-cameras", f"{RATE:g} a second", "cameras", [(n, steps[n, RATE]) for n in CAMERAS]),
            _chart("idle-requests", f"{FIXED} cameras", "a second", [(rate, steps[FIXED, rate]) for rate in RATES]),
        ],
    )


def _steps(
    plan: list[tuple[int, float]], backend: Backend, directory: Path, seconds: float, through: str = ""
) -> Iterator[Step]:
    cameras = [Camera(f"camera{number}", "demand") for number in range(1, max(count for count, _ in plan) + 1)]
    with (
        Host(directory, cameras, sections=backend.sections, through=through) as host,
        Load(host, backend, 0, "demand") as load,
        host.snapd(WORKERS),
    ):
        for count, rate in plan:
            try:
                load.resize(count)
                yield Step(count, rate, load.trial(seconds, rate))
            except BenchmarkError as error:
                yield Step(count, rate, None, str(error))


def _figures(step: Step, before: Step) -> list[Figure]:
    same = (step.cameras, step.rate) == BESIDE
    wanted = (step.cameras, step.rate) in WANTED
    asked = step.trial.asked if step.trial else 1
    p50, p99 = step.milliseconds(50), step.milliseconds(99)
    as_before = "as before: 2 s of decoding after each, all at once"
    return [
        Figure(
            f"{step.name}: answered of {asked}",
            step.answered,
            "",
            as_before if same else "asked",
            before.answered if same else asked,
            Goal("value", asked, at_least=True) if wanted else None,
        ),
        Figure(
            f"{step.name}: p50", p50, "ms", as_before if same else "p99", before.milliseconds(50) if same else p99
        ),
        Figure(
            f"{step.name}: p99",
            p99,
            "ms",
            as_before if same else "p50",
            before.milliseconds(99) if same else p50,
            Goal("value", SLOWEST) if wanted else None,
        ),
    ]


def _notes(step: Step, *, is_before: bool) -> list[str]:
    name = f"{step.name}, as before" if is_before else step.name
    trial = step.trial
    if trial is None:
        return [f"{name}: {step.reason}"]
    share = trial.server / max(trial.server + trial.decoders, 0.1) * 100
    notes = [
        f"{name}: decoders {trial.decoders:.0f} % of a core, the RTSP server {trial.server:.0f} % ({share:.0f} % of "
        f"both), all cores {trial.busy:.0f} % busy"
    ]
    kinds = dict.fromkeys(failure.partition(":")[0] for failure in trial.failures)
    return notes + [f"{name}: {kind}" for kind in kinds]


def _chart(name: str, title: str, axis: str, steps: list[tuple[float, Step]]) -> Lines:
    measured = [(x, step) for x, step in steps if step.answered > 1]
    return Lines(
        name,
        f"Snapshots of idle cameras, {title}",
        axis,
        "ms from request to callback",
        {f"p{percent}": [(x, step.milliseconds(percent)) for x, step in measured] for percent in (50, 99)},
    )
