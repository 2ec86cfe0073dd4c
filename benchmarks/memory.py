"""A decoder process beside the barest loop that does the same for itself: its private memory, its CPU time."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import progress
from benchmarks.host import Host
from benchmarks.process import command, cpu_seconds, has_mapped, private_megabytes, wait_until
from benchmarks.table import Figure, Report, Target

SETTLING = 3.0  # s before CPU time counts

BARE_LOOP = """
import sys, av, numpy
container = av.open(sys.argv[1], options={"rtsp_transport": "tcp"})
stream = container.streams.video[0]
stream.codec_context.thread_count = 1
planes = [numpy.empty((1080, 1920), "u1"), numpy.empty((540, 960), "u1"), numpy.empty((540, 960), "u1")]
print("ready", flush=True)
for frame in container.decode(stream):
    for target, plane in zip(planes, frame.planes):
        source = numpy.frombuffer(plane, "u1").reshape(-1, plane.line_size)
        numpy.copyto(target, source[:plane.height, :plane.width])
"""


def run(seconds: float) -> Report:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
        host = stack.enter_context(Host(directory, cameras=1))
        code = host.codes[0]
        said = directory / "bare.log"
        ours = stack.enter_context(host.decoder(code))
        bare = stack.enter_context(command([sys.executable, "-c", BARE_LOOP, host.url(code)], said))
        wait_until(lambda: "ready" in said.read_text(), "the bare loop's first frame")
        progress.wait("both loops settle", SETTLING)
        began = time.monotonic()
        before = [cpu_seconds(pid) for pid in (ours, bare)]
        progress.wait("decode, beside a bare PyAV loop", max(seconds, 10 - SETTLING))
        after = [cpu_seconds(pid) for pid in (ours, bare)]
        spent = time.monotonic() - began
        ours_cpu, bare_cpu = [(end - start) / spent * 100 for start, end in zip(before, after, strict=True)]
        beside = "bare PyAV loop"
        figures = [
            Figure(
                "decoder's private memory",
                private_megabytes(ours),
                "MB",
                beside,
                private_megabytes(bare),
                Target("difference", 20),
            ),
            Figure("decoder's CPU time, of one core", ours_cpu, "%", beside, bare_cpu),
        ]
        notes = [
            f"cv2 is {'' if has_mapped(ours, 'cv2') else 'not '}mapped in the decoder",
            "nobody else has the decoder's two slots mapped, so they count as private here (6.2 MB); "
            "so does the bare loop's own picture (3.1 MB)",
        ]
    return Report(
        "memory: 1920x1080 at 25/s, H.264 4 Mb/s over RTSP, both at once on the same stream", figures, notes
    )
