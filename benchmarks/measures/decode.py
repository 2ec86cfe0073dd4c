"""What a camera costs by decode policy, in CPU time and memory, beside other ways to the same stream.

Those that are compared run at once, each on a connection of its own to the same server, so that noise falls on all;
in rounds, so that they do not take the cores from each other: ``all`` beside the bare loop alone; beside all that
decodes every frame; and what decodes less beside ``all``. The first round has several trials, as each start decides
anew which of the two decodes first, and leaves the caches to the other.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measures import baseline_loops, video
from benchmarks.measures.cpu_meter import CpuMeter
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.process import BenchmarkError, has_mapped, memory
from benchmarks.measures.progress import rounds, wait
from benchmarks.measures.table import Figure, Goal, Report
from framesrv import FrameReader
from tests.support.footage import Codec

CODECS: tuple[Codec, ...] = ("h264", "hevc")
TRIALS = 5  # of two alone
SETTLING = 3.0  # s from when all run until CPU time counts
KEPT_FOR = 6.0  # s, three groups of pictures
RESTING = 6.0  # s likewise, from the last question until memory counts
NO_REDIS = "redis://127.0.0.1:9/0"  # snapd tries it again and again
ASKED_EVERY = 10.0  # s
ASKED_AFTER = 1.0  # s, the first time
MAX_AGE = 2.0  # s, as snapd asks
TICK = 0.1  # s
IDLE = "demand, idle"
ASKED = f"demand, a snapshot every {ASKED_EVERY:g} s"

CAMERAS = {
    "all": Camera("all"),
    "fps:5": Camera("fps-5", "fps:5"),
    "keyframes": Camera("keyframes", "keyframes"),
    IDLE: Camera("demand", "demand"),
    ASKED: Camera("asked", "demand"),
}
LOOPS = {
    "PyAV loop, decode and copy": "pyav",
    "cv2.VideoCapture, read and copy": "opencv",
    "ffmpeg piping raw frames": "ffmpeg",
    "PyAV loop, key frames": "keyframes",
    "PyAV loop, packets": "packets",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of our cameras and what stands beside it: another of ours, or a loop."""

    ours: str
    beside: str
    target: Goal | None = None


ALONE = Comparison("all", "PyAV loop, decode and copy", Goal("ratio", 1.05))
ROUNDS = (
    (
        Comparison("all", "PyAV loop, decode and copy", Goal("ratio", 1.05)),
        Comparison("all", "cv2.VideoCapture, read and copy", Goal("ratio", 1)),
        Comparison("all", "ffmpeg piping raw frames"),
    ),
    (
        Comparison("fps:5", "all"),
        Comparison("keyframes", "all", Goal("ratio", 0.20)),
        Comparison("keyframes", "PyAV loop, key frames"),
        Comparison(IDLE, "all", Goal("ratio", 0.08)),
        Comparison(IDLE, "PyAV loop, packets", Goal("ratio", 1.25)),
        Comparison(ASKED, "all"),
    ),
)
MEMORY = (
    Comparison("all", "PyAV loop, decode and copy", Goal("difference", 20)),
    Comparison(IDLE, "all"),
)


def run(seconds: float) -> Report:
    figures: list[Figure] = []
    notes: list[str] = []
    for codec in CODECS:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
            sections = {"store": {"kind": "dir", "path": str(directory)}, "redis": {"url": NO_REDIS}}
            host = stack.enter_context(Host(directory, list(CAMERAS.values()), codec, sections))
            figure, note = _alone(host, ALONE, seconds, video.NAMES[codec])
            figures.append(figure)
            notes.append(note)
            for number, comparisons in enumerate(ROUNDS, 1):
                found, note = _round(host, comparisons, seconds, f"{video.NAMES[codec]}, round {number}")
                figures += found
                notes.append(note)
            figures.append(_kept(host, video.NAMES[codec], figures))
    if not baseline_loops.available("ffmpeg"):
        notes.append("ffmpeg is not installed here: nothing stands for the way that pipes raw frames from it")
    notes.append("every frame of the footage is referred to by another, so that fps:5 can leave out no decoding")
    notes.append(
        "private memory includes the decoder's two slots (6.2 MB) once they have been written to, as nobody else had "
        "mapped them, and the loop's own picture (3.1 MB)"
    )
    return Report(
        f"decode: a camera of 1920x1080 at 25/s over RTSP, 4 Mb/s, a key frame every {video.GOP} frames; CPU time "
        "of one core",
        figures,
        notes,
    )


def _alone(host: Host, comparison: Comparison, seconds: float, codec: str) -> tuple[Figure, str]:
    """One of our cameras and a loop, each begun anew for each trial; the means of all."""
    ours, beside = comparison.ours, comparison.beside
    trials: list[Mapping[str, float]] = []
    for number in range(1, TRIALS + 1):
        name = f"{codec}, two alone, {number} of {TRIALS}"
        with host.decoders(CAMERAS[ours].code) as decoders, host.loops(LOOPS[beside]) as loops:
            wait(f"{name}: both settle", SETTLING)
            meter = CpuMeter({ours: decoders.values(), beside: loops.values()})
            wait(name, seconds)
            trials.append(meter.shares())
            _check_streams(host, [CAMERAS[ours].code], name)
    ratios = sorted(one[ours] / one[beside] for one in trials)
    shares = {party: sum(one[party] for one in trials) / TRIALS for party in (ours, beside)}
    note = (
        f"{codec}, these two alone: {TRIALS} trials of {seconds:g} s, both begun anew for each; their ratios are "
        f"{', '.join(f'{one:.2f}' for one in ratios)}"
    )
    return _cpu(codec, comparison, shares, ", these two alone"), note


def _check_streams(host: Host, codes: Iterable[str], name: str) -> None:
    """Raises BenchmarkError where a camera's stream was lost, which would pass for cheap."""
    lost = [code for code in codes if host.status(code).reconnects]
    if lost:
        raise BenchmarkError(f"{name}: {', '.join(lost)} lost the stream while CPU time was measured")


def _round(host: Host, comparisons: tuple[Comparison, ...], seconds: float, name: str) -> tuple[list[Figure], str]:
    comparisons = tuple(one for one in comparisons if baseline_loops.available(LOOPS.get(one.beside, "")))
    parties = dict.fromkeys(party for one in comparisons for party in (one.ours, one.beside))
    with ExitStack() as stack:
        codes = {party: CAMERAS[party].code for party in parties if party in CAMERAS}
        ways = {party: LOOPS[party] for party in parties if party in LOOPS}
        decoders = stack.enter_context(host.decoders(*codes.values()))
        others = stack.enter_context(host.loops(*ways.values()))
        pids = {party: decoders[code] for party, code in codes.items()}
        pids |= {party: others[way] for party, way in ways.items()}
        wait(f"{name}: all settle", SETTLING)
        meter = CpuMeter({party: [pid] for party, pid in pids.items()} | {"server": [host.server]})
        if ASKED in parties:
            _ask(host, f"{name}: {len(parties)} at once", max(seconds, ASKED_EVERY))
        else:
            wait(f"{name}: {len(parties)} at once", seconds)
        shares = meter.shares()
        _check_streams(host, codes.values(), name)
        codec = name.partition(",")[0]
        figures = [*(_cpu(codec, one, shares) for one in comparisons), *_memory(codec, pids)]
        if ASKED in parties:
            wait(f"{name}: nobody asks any more", RESTING)
            figures.append(_rested(codec, pids))
        note = (
            f"{name}: {len(parties)} at once for {meter.seconds:.0f} s after {SETTLING:g} s to settle, the machine's "
            f"cores {meter.busy:.0f} % busy, the RTSP server at {shares['server']:.1f} % of a core; cv2 is "
            f"{'' if has_mapped(pids['all'], 'cv2') else 'not '}mapped in the decoder"
        )
    return figures, note


def _rested(codec: str, pids: Mapping[str, int]) -> Figure:
    """Memory of a decoder that was asked and is idle again, beside one that nobody has asked yet."""
    asked, idle = (memory(pids[party]).private for party in (ASKED, IDLE))
    return Figure(f"{codec}, demand, asked and idle again: private memory", asked, "MB", f"{IDLE}, never asked", idle)


def _kept(host: Host, codec: str, figures: list[Figure]) -> Figure:
    """Memory of an idle decoder where one process has forked those of all cameras, beside one of its own."""
    name = f"{codec}, {IDLE}: private memory"
    alone = next(figure.value for figure in figures if figure.name == name)
    with host.up() as pids:
        wait(f"{codec}: all settle, as one process keeps them", KEPT_FOR)
        kept = memory(pids[CAMERAS[IDLE].code]).private
    return Figure(f"{name}, of `framesrv up`", kept, "MB", f"{IDLE}, on its own", alone, Goal("value", 12))


def _ask(host: Host, label: str, seconds: float) -> None:
    """Waits, and looks at one camera as a snapshot does every `ASKED_EVERY` seconds."""
    began, due = time.monotonic(), ASKED_AFTER
    with FrameReader(CAMERAS[ASKED].code, prefix=host.prefix) as reader:
        for _ in rounds(label, seconds):
            if time.monotonic() - began >= due:
                due += ASKED_EVERY
                with reader.latest(MAX_AGE, timeout=10.0) as frame:
                    frame.bgr()
            time.sleep(TICK)


def _cpu(codec: str, one: Comparison, shares: Mapping[str, float], how: str = "") -> Figure:
    return Figure(f"{codec}, {one.ours}{how}", shares[one.ours], "%", one.beside, shares[one.beside], one.target)


def _memory(codec: str, pids: Mapping[str, int]) -> list[Figure]:
    """Of the cameras whose memory is compared, those that are in this round."""
    return [
        Figure(
            f"{codec}, {one.ours}: private memory",
            memory(pids[one.ours]).private,
            "MB",
            one.beside,
            memory(pids[one.beside]).private,
            one.target,
        )
        for one in MEMORY
        if one.ours in pids and one.beside in pids
    ]
