"""A program that looks at three cameras: the example of the documents, beside one that reads them with OpenCV itself.

Both look for motion in each picture, in the same way; the other one has a thread for each camera, which keeps a copy
of the newest picture.
"""

import re
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measures import video
from benchmarks.measures.cpu_meter import CpuMeter
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.process import ROOT, SPAWN, BenchmarkError, child, command, wait_until
from benchmarks.measures.progress import wait
from benchmarks.measures.table import Figure, Report
from tests.support.processes import alive

CODES = ("camera1", "camera2", "camera3")
WIDTH, HEIGHT, LEAST = 640, 360, 400
STARTING = 30.0  # s
ROUNDS = 2  # of each, in turns


def run(seconds: float) -> Report:
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with (
        TemporaryDirectory(prefix="framesrv-benchmark-") as directory,
        Host(Path(directory), [Camera(code) for code in CODES]) as host,
    ):
        for _ in range(ROUNDS):
            with host.decoders(*CODES) as decoders:
                ours.append(_ours(host, list(decoders.values()), Path(directory), seconds))
            theirs.append(_theirs(host, seconds))
    (rate, share), (their_rate, their_share) = (
        tuple(sum(values) / ROUNDS for values in zip(*found, strict=True)) for found in (ours, theirs)
    )
    beside = "cv2.VideoCapture in threads"
    figures = [
        Figure("3 cameras: frames looked at a second", rate, "", beside, their_rate),
        Figure("3 cameras: CPU, decoders included", share, "%", beside, their_share),
        Figure("CPU for each frame looked at", share * 10 / rate, "ms", beside, their_share * 10 / their_rate),
    ]
    note = (
        f"{video.WIDTH}x{video.HEIGHT}, H.264, {video.FPS} frames a second each; MOG2 on {WIDTH}x{HEIGHT}, one thread"
    )
    return Report("inference: motion in three cameras", figures, [note])


def example(prefix: str) -> str:
    """The program of the documents, for cameras of that prefix."""
    page = (ROOT / "docs/inference.md").read_text("utf-8")
    programs = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(programs[0]).replace("FrameSet(codes)", f"FrameSet(codes, prefix={prefix!r})")


def _ours(host: Host, decoders: Sequence[int], directory: Path, seconds: float) -> tuple[float, float]:
    """Frames a second, and the share of a core that decoders and program took, in %."""
    program, log = directory / "motion.py", directory / "motion.log"
    program.write_text(example(host.prefix), "utf-8")
    log.unlink(missing_ok=True)
    longer = seconds + 1  # its start is not measured, and it is to live while it is
    with command([sys.executable, str(program), str(longer), *CODES], log) as pid:
        time.sleep(1)
        meter = CpuMeter({"all": [pid, *decoders]})
        wait("the example of the documents", max(0.5, seconds - 1))
        share = meter.shares()["all"]
        wait_until(lambda: not alive(pid) or "frames a second" in log.read_text(), "the example ends", STARTING)
    found = re.match(r"([\d.]+) frames a second", log.read_text())
    if found is None:
        raise BenchmarkError(f"the example of the documents: {log.read_text()}")
    return float(found[1]), share


def _theirs(host: Host, seconds: float) -> tuple[float, float]:
    ours, theirs = SPAWN.Pipe()
    with child(look_by_threads, host.url, len(CODES), seconds, theirs):
        if not ours.poll(STARTING):
            raise BenchmarkError("OpenCV reads no frame")
        ours.recv()
        wait("cv2.VideoCapture in threads", seconds)
        if not ours.poll(STARTING):
            raise BenchmarkError("the program that reads with OpenCV tells nothing")
        looked, spent = ours.recv()
    return looked / seconds, spent / seconds * 100


def look_by_threads(url: str, cameras: int, seconds: float, told: Connection) -> None:
    """Tells when each camera has a frame; then how many frames it has looked at, and the CPU time for that."""
    import cv2

    cv2.setNumThreads(1)
    newest: list[tuple[int, cv2.typing.MatLike] | None] = [None] * cameras
    is_new = threading.Condition()

    def follow(index: int) -> None:
        capture, number = cv2.VideoCapture(url, cv2.CAP_FFMPEG), 0
        while True:
            done, picture = capture.read()
            if not done:
                return
            number += 1
            with is_new:
                newest[index] = (number, picture.copy())
                is_new.notify()

    for index in range(cameras):
        threading.Thread(target=follow, args=(index,), daemon=True).start()
    with is_new:
        is_new.wait_for(lambda: None not in newest, STARTING)
    told.send("ready")
    backgrounds = [cv2.createBackgroundSubtractorMOG2(detectShadows=False) for _ in range(cameras)]
    seen, looked = [0] * cameras, 0
    spent, until = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        with is_new:
            is_new.wait_for(lambda: [one and one[0] for one in newest] != seen, 1)
            found = list(newest)
        for index, one in enumerate(found):
            if one is not None and one[0] != seen[index]:
                seen[index] = one[0]
                foreground = backgrounds[index].apply(cv2.resize(one[1], (WIDTH, HEIGHT)))
                outlines, _ = cv2.findContours(foreground, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
                _ = [cv2.boundingRect(outline) for outline in outlines if cv2.contourArea(outline) >= LEAST]
                looked += 1
    told.send((looked, time.process_time() - spent))
