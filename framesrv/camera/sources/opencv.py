"""Anything ``cv2.VideoCapture`` opens: a V4L2 index, a GStreamer pipeline. The only module that imports cv2."""

import time
from collections.abc import Iterator
from typing import Any

import av

from framesrv.camera.policy import Demand, Policy
from framesrv.camera.sources import Facts, Sink, SourceFrame
from framesrv.errors import SourceError, SourceUsageError
from framesrv.process.extras import sentence
from framesrv.segment import colour
from framesrv.segment.stamp import Stamp
from framesrv.settings import Camera

try:
    import cv2
except ImportError as problem:
    raise SourceUsageError(f"a source of kind opencv: {sentence(problem.name or '') or problem}") from problem

STALL_SHARE = 3  # a stall blocks read() for three times the time-out that OpenCV is told


class OpenCV:
    """A device, pipeline, file or URL as OpenCV reads it: BGR frames without times or colour tags."""

    def __init__(self, argument: str, camera: Camera, policy: Policy) -> None:
        if not argument:
            raise SourceUsageError("opencv: expects an index, a pipeline or a URL after the colon")
        self._argument = int(argument) if argument.isdigit() else argument
        self._camera = camera
        self._policy = policy

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """See `Source.frames`."""
        limit = max(1, int(self._camera.timeout * 1000 / STALL_SHARE))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
        capture = cv2.VideoCapture(self._argument, cv2.CAP_ANY, [] if isinstance(self._argument, int) else limits)
        if not capture.isOpened():  # a backend that does not know these properties refuses them
            capture.open(self._argument, cv2.CAP_ANY)
        try:
            if not capture.isOpened():
                raise SourceError("OpenCV cannot open it")
            recorded = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
            interval = 1 / (capture.get(cv2.CAP_PROP_FPS) or 25) if recorded else 0.0
            due = time.monotonic()
            demand = Demand(sink)
            while True:
                if not capture.grab():
                    raise SourceError("OpenCV reads no further frame")
                arrived, captured = time.monotonic_ns(), time.time_ns()
                sink.active()
                if self._policy.demand and not demand.stands():
                    self._idle(capture, sink)
                    yield None
                elif self._policy.wants(arrived):
                    began = time.perf_counter_ns()
                    done, bgr = capture.retrieve()
                    if not done:
                        raise SourceError("OpenCV gives no picture of a frame that it has read")
                    sink.count("decode", time.perf_counter_ns() - began)
                    yield self._source_frame(bgr, arrived, captured)
                else:
                    yield None
                due += interval
                time.sleep(max(0.0, due - time.monotonic()))
        finally:
            capture.release()

    def facts(self) -> Facts:
        """See `Source.facts`."""
        return Facts()

    def _idle(self, capture: Any, sink: Sink) -> None:
        width, height = (int(capture.get(it)) for it in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width and height:
            sink.idle(width, height, self._camera.pixel_format)

    def _source_frame(self, bgr: Any, arrived: int, captured: int) -> SourceFrame:
        height, width = bgr.shape[:2]
        stamp = Stamp.now(height)._replace(arrived_ns=arrived, captured_ns=captured)
        if self._camera.pixel_format == "bgr24":
            return SourceFrame((bgr,), width, height, "bgr24", stamp)
        frame = av.VideoFrame.from_numpy_buffer(bgr, "bgr24")
        converted = colour.convert(frame, "yuv420p", stamp.matrix, full_range=False)
        return SourceFrame(colour.planes_of(converted), width, height, "yuv420p", stamp)
