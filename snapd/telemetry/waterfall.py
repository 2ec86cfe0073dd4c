"""The stages of one request as a small picture in text: each a bar that begins where the one before ends."""

from collections.abc import Iterator

from snapd.telemetry.trace import Trace

WIDTH = 48  # columns of the bars; with what stands before them a line has less than 80
BAR = "█"


def waterfall(trace: Trace) -> Iterator[str]:
    """The lines of `trace`: a stage's name, its milliseconds and its bar; then the whole time."""
    columns = WIDTH / trace.seconds if trace.seconds else 0.0
    began = 0.0
    for name, seconds in trace.stages:
        first = min(int(began * columns), WIDTH - 1)
        last = max(first + 1, round((began + seconds) * columns))
        yield f"{name:10}  {seconds * 1000:9.1f} ms  {' ' * first}{BAR * (last - first)}"
        began += seconds
    yield f"{'total':10}  {trace.seconds * 1000:9.1f} ms"
