"""How many cameras this machine carries, by policy, before frames are lost or late or snapshots take too long.

The server of the streams, Redis, storage and platform run on the same cores. From the cost of a few cameras follows
a first guess; from there it goes up or down in steps.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measures import video
from benchmarks.measures.backend import Backend, open_backend
from benchmarks.measures.charts import Lines
from benchmarks.measures.cpu_meter import CpuMeter
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.load import SHARE, SLOWEST, Load, Trial
from benchmarks.measures.process import BenchmarkError, Memory, memory
from benchmarks.measures.progress import wait
from benchmarks.measures.table import Figure, Goal, Report

CORES = len(os.sched_getaffinity(0))
MOST = 64 * CORES  # cameras tried
FEW = 4  # cameras, for their cost
STEPS = 4  # trials of a policy, at most
GUESS = 0.9  # of all cores, which the first trial should need for decoding and serving
STEP = 1.25  # from one trial to the next, until the first that fails
CLOSE = 1.1  # between what is carried and what is not: near enough
WINDOW = 0.6  # of `seconds` for a trial
WORKERS = 8
LEAST = 100  # idle cameras on demand, which two cores should carry


@dataclass(frozen=True, slots=True)
class PolicyCase:
    """A decode policy.

    Attributes:
        decode: as in the configuration.
        fps: frames that it promises each second.
        max_age: seconds; the age of frames that snapd is told to take.
        rate: snapshots a second; on demand each has a camera decode for more than two seconds.
        longer: how much longer than the others it is tried, for more snapshots.
    """

    decode: str
    fps: float
    max_age: float = 2.0
    rate: float = 4.0
    longer: float = 1.0


POLICIES = (
    PolicyCase("all", video.FPS),
    PolicyCase("fps:5", 5),
    PolicyCase("keyframes", video.FPS / video.GOP, max_age=2.0 * video.GOP / video.FPS),
    PolicyCase("demand", 0, rate=1.0, longer=3.0),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """A few cameras that nobody asks for, beside a bare PyAV loop at once: CPU in % of a core, a camera's memory."""

    camera: float
    server: float
    loop: float
    memory: Memory
    loop_memory: Memory


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was found for a policy; `trials` in the order they were made."""

    policy: PolicyCase
    cost: Cost
    trials: list[Trial]
    reasons: list[str]

    @property
    def best(self) -> Trial | None:
        """The one with the most cameras carried."""
        carried = [trial for trial in self.trials if not trial.failures]
        return max(carried, key=lambda trial: trial.cameras, default=None)


def run(seconds: float) -> Report:
    found = []
    for policy in POLICIES:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
            backend = stack.enter_context(open_backend(directory))
            found.append(_policy(policy, backend, directory, seconds * WINDOW))
    return Report(
        "scale: cameras of 1920x1080 at 25/s, H.264 4 Mb/s, that this machine carries, the RTSP server on its cores",
        [figure for one in found for figure in _figures(one)],
        [
            *(note for one in found for note in _notes(one)),
            f"carried: {SHARE * 100:.0f} % of all frames and bytes or more, nothing left lying in sockets, nothing "
            f"dropped, all snapshots answered with a picture, p99 within {SLOWEST:.0f} ms (of fewer than 100 nearly "
            "the slowest)",
        ],
        [
            Lines(
                "scale",
                f"CPU time of all decoders, with snapshots ({FEW} cameras: without)",
                "cameras",
                "% of one core",
                {one.policy.decode: _points(one) for one in found},
            )
        ],
    )


def _policy(policy: PolicyCase, backend: Backend, directory: Path, seconds: float) -> Capacity:
    cameras = [Camera(f"camera{number}", policy.decode) for number in range(1, MOST + 1)]
    sections = {**backend.sections, "snapshot": {"max_age": policy.max_age}}
    with (
        Host(directory, cameras, sections=sections) as host,
        Load(host, backend, policy.fps, policy.decode) as load,
        host.snapd(WORKERS),
    ):
        load.resize(FEW)
        cost = _cost(host, load, policy, seconds)
        trials, reasons = _search(load, _guess(cost), seconds * policy.longer, policy.rate)
    return Capacity(policy, cost, trials, reasons)


def _cost(host: Host, load: Load, policy: PolicyCase, seconds: float) -> Cost:
    with host.loops("pyav") as loops:
        loop = loops["pyav"]
        pids = load.pids.values()
        meter = CpuMeter({"cameras": pids, "server": [host.server], "loop": [loop]})
        wait(f"{policy.decode}: {FEW} cameras and a bare PyAV loop", seconds)
        shares = meter.shares()
        memories = [memory(pid) for pid in pids]
        average = Memory(
            sum(one.private for one in memories) / len(memories), sum(one.shared for one in memories) / len(memories)
        )
        return Cost(shares["cameras"] / FEW, shares["server"] / (FEW + 1), shares["loop"], average, memory(loop))


def _guess(cost: Cost) -> int:
    return max(1, min(MOST, round(GUESS * CORES * 100 / (cost.camera + cost.server))))


def _search(load: Load, first: int, seconds: float, rate: float) -> tuple[list[Trial], list[str]]:
    """Trials until what is carried and what is not lie close together, and why those failed that did."""
    trials: list[Trial] = []
    reasons: list[str] = []
    carried, failed, cameras = 0, MOST + 1, first
    for _ in range(STEPS):
        try:
            load.resize(cameras)
            trial = load.trial(seconds, rate)
        except BenchmarkError as error:
            failures = [str(error)]
        else:
            trials.append(trial)
            failures = list(trial.failures)
        if failures:
            failed = cameras
            reasons.append(f"{cameras} not carried: {'; '.join(failures)}")
        else:
            carried = cameras
        if failed - carried <= 1 or failed <= carried * CLOSE:
            break
        if failed > MOST:
            cameras = min(MOST, max(cameras + 1, round(cameras * STEP)))
        elif carried:
            cameras = (carried + failed) // 2
        else:
            cameras = max(1, round(cameras / STEP))
    return trials, reasons


def _figures(found: Capacity) -> list[Figure]:
    name, cost, best = found.policy.decode, found.cost, found.best
    idle = name == "demand"
    figures = [
        Figure(
            f"{name}: cameras carried",
            best.cameras if best else 0,
            "",
            "all cores by the CPU time of a PyAV loop",
            CORES * 100 / cost.loop,
            Goal("value", LEAST, at_least=True) if idle else None,
        )
    ]
    if best and len(best.snapshots) > 1:
        target = Goal("value", SLOWEST) if idle else None
        snapshots = best.snapshots
        figures.append(
            Figure(f"{name}: their snapshots, p99", snapshots.total(99), "ms", "p50", snapshots.total(50), target)
        )
    return [
        *figures,
        Figure(f"{name}: CPU time of one of {FEW}", cost.camera, "%", "a PyAV loop", cost.loop),
        Figure(f"{name}: private memory", cost.memory.private, "MB", "a PyAV loop", cost.loop_memory.private),
        Figure(f"{name}: shared memory", cost.memory.shared, "MB", "a PyAV loop", cost.loop_memory.shared),
    ]


def _notes(found: Capacity) -> list[str]:
    name, best, notes = found.policy.decode, found.best, []
    if best:
        share = best.server / (best.server + best.decoders) * 100
        notes.append(
            f"{name}, {best.cameras} cameras: decoders {best.decoders:.0f} % of a core, the RTSP server "
            f"{best.server:.0f} % ({share:.0f} % of both), all cores {best.busy:.0f} % busy; {len(best.snapshots)} "
            f"snapshots, {found.policy.rate:g} a second, of one camera after the other; memory of a decoder "
            f"{best.memory.private:.1f} MB private, {best.memory.shared:.1f} MB shared"
        )
        if not found.reasons:
            notes.append(f"{name}: more than {best.cameras} cameras were not tried")
    return notes + [f"{name}, {reason}" for reason in found.reasons]


def _points(found: Capacity) -> list[tuple[float, float]]:
    few = (FEW, found.cost.camera * FEW)
    return [few, *((trial.cameras, trial.decoders) for trial in found.trials)]
