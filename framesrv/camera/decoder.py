"""One camera's decoder: a process that fills the camera's segment until it is told to end.

The main thread owns the segment's life, waits for signals and speaks with the service manager; a second one decodes,
so that a source that hangs in a call of its own never keeps the process from ending, nor goes unnoticed.
"""

import logging
import os
import signal
import threading
import time
from collections import deque

from framesrv.camera.policy import Policy
from framesrv.camera.sources import Source, SourceFrame, open_source
from framesrv.errors import SourceError, SourceLimitError
from framesrv.log import mask
from framesrv.process.notify import Notifier, Progress
from framesrv.process.retry import Backoff
from framesrv.process.signals import Signals
from framesrv.segment.status import camera_status
from framesrv.segment.writer import FrameWriter
from framesrv.settings import Camera, Settings

GRACE = 1.0  # s that the decoding thread gets to end by itself
FIRST_DELAY, LONGEST_DELAY = 0.5, 3.0  # s between attempts to reach a source

# Of a stream that costs more than it may.
LIMIT_DELAY, LONGEST_LIMIT_DELAY = 30.0, 300.0
CHANGES, CHANGES_WITHIN = 5, 60.0  # changes of size, in so many s: each makes a new segment

# How long the decoding thread may be silent before it counts as hung. A source notices a stall within twice its
# time-out, to open and to probe it are two such waits, and to close it is one.
RESOLVING = 30.0  # s that name servers take at most, see resolv.conf(5)
OPENCV_OPENING = 120.0  # s that OpenCV's own time-outs may add, where a backend does not know ours
MARGIN = 5.0  # s for a busy host

# OpenCV writes to standard error itself, at every attempt to reach a source and without the camera's code
QUIET = {"OPENCV_LOG_LEVEL": "OFF", "OPENCV_FFMPEG_LOGLEVEL": "-8"}

logger = logging.getLogger(__name__)


def run(camera: Camera, settings: Settings) -> None:
    """Runs the camera's decoder until SIGTERM or SIGINT, then removes the segment.

    Raises:
        SegmentOwnerError: another user has the segment's name.
        SegmentError: the segment cannot be made, another decoder has it, or shared memory is too small.
        SourceUsageError: the source string is none that can work.
    """
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    source = open_source(camera, Policy(camera.decode))
    signals, notifier = Signals(signal.SIGTERM, signal.SIGINT), Notifier()  # before there is a segment
    with FrameWriter(
        camera.code,
        0,
        0,
        camera.pixel_format,
        slots=camera.slots,
        prefix=settings.shm.prefix,
        mode=settings.shm.permissions,
        group=settings.shm.group,
    ) as writer:
        writer.describe(decode=camera.decode, error="")
        ended = Decoder(camera, settings.shm.prefix, source, writer, notifier).run(signals)
    if not ended:
        os._exit(0)  # the thread hangs in a library, which must not be taken down around it


class Decoder:
    """The decoding thread and what becomes of it."""

    def __init__(self, camera: Camera, prefix: str, source: Source, writer: FrameWriter, notifier: Notifier) -> None:
        self._camera = camera
        self._prefix = prefix
        self._source = source
        self._writer = writer
        self._notifier = notifier
        self._progress = Progress()
        self._attempt = 0  # to reach the source, since it was lost
        self._looked_at = 0.0  # monotonic time, for the segment's name
        self._changes: deque[float] = deque(maxlen=CHANGES)  # monotonic times at which the size changed
        self._stopping = threading.Event()
        self._ended = False
        self._hangs = False
        self._failure: Exception | None = None

    def run(self, signals: Signals) -> bool:
        """Decodes until a signal comes; False if the decoding thread did not end.

        Raises:
            Exception: what ended the thread, where trying again does not mend it.
        """
        thread = threading.Thread(target=self._work, args=(signals,), name="decode", daemon=True)
        thread.start()
        self._notifier.ready(self._status())
        while not (heard := signals.wait(self._notifier.interval)) and not self._ended:
            self._tell(changed=heard is not None)
        self._notifier.stopping("stopping" if self._failure is None else f"failed: {self._failure}")
        self._stopping.set()
        thread.join(GRACE)
        if self._failure is not None:
            raise self._failure
        logger.info("decoder ended frames=%d", self._writer.frames)
        return not thread.is_alive()

    def _work(self, signals: Signals) -> None:
        try:
            self._follow(signals)
        except Exception as error:  # noqa: BLE001  the thread's outermost: the main thread raises it
            self._failure = error
        finally:
            self._ended = True
            signals.wake()

    def _tell(self, *, changed: bool) -> None:
        """Tells the service manager how it goes, and that it does: unless the decoding thread hangs."""
        if not self._notifier.listens:
            return
        hangs = self._progress.overdue > 0
        if hangs and not self._hangs:
            logger.error("Decoder hangs in its source, the watchdog is told no more source=%s", self._camera.source)
        self._hangs = hangs
        words = "hangs in its source" if hangs else self._status()
        if changed or hangs:
            self._notifier.status(words)
        if not hangs:
            self._notifier.alive(words)

    def _status(self) -> str:
        """How the camera does, in words."""
        now = camera_status(self._prefix, self._camera.code)
        if now.state == "live":
            return f"live {now.width}x{now.height}" + (f" {now.fps:.1f} fps" if now.fps else "")
        if now.state == "stalled":
            return "stalled, nothing comes"
        return f"reconnecting, attempt {self._attempt}: {now.error}" if self._attempt else "connecting"

    def _went_on(self) -> None:
        self._progress.expect(3 * self._camera.timeout + MARGIN)
        now = time.monotonic()
        if now - self._looked_at >= 1.0:
            self._looked_at = now
            self._writer.keep_name()

    def _follow(self, signals: Signals) -> None:
        """Plays the source, and opens it again whenever it is lost."""
        lost, limited = Backoff(FIRST_DELAY, LONGEST_DELAY), Backoff(LIMIT_DELAY, LONGEST_LIMIT_DELAY)
        said = ""
        opening = OPENCV_OPENING if self._camera.source.startswith("opencv:") else RESOLVING
        while not self._stopping.is_set():
            self._progress.expect(opening + 5 * self._camera.timeout + MARGIN)
            self._writer.keep_name()
            try:
                self._play(signals)
            except SourceError as error:
                reason = str(error)
                backoff, other = (limited, lost) if isinstance(error, SourceLimitError) else (lost, limited)
            else:
                return
            other.reset()
            if self._writer.flowing:
                lost.reset()
                said = ""
                self._writer.count("reconnects")
            self._writer.connecting()
            self._writer.describe(error=mask(reason))
            delay = backoff.pause()
            attempt = backoff.failures
            # once an error, then ever more rarely: an absent camera must not fill the log
            known = reason == said and attempt & (attempt - 1)
            logger.log(
                logging.DEBUG if known else logging.WARNING,
                "no stream source=%s attempt=%d next_in=%.1fs: %s",
                self._camera.source,
                attempt,
                delay,
                reason,
            )
            said = reason
            self._attempt = attempt
            self._progress.expect(delay + MARGIN)
            signals.wake()
            self._stopping.wait(delay)

    def _check_size(self, frame: SourceFrame) -> None:
        """Raises SourceLimitError for a frame that is too large, or one of too many sizes."""
        size = f"{frame.width}x{frame.height}"
        if frame.width * frame.height > self._camera.max_pixels:
            raise SourceLimitError(f"its pictures of {size} are larger than max_pixels = {self._camera.max_pixels}")
        geometry = self._writer.geometry
        if geometry.slots and (geometry.width, geometry.height) != (frame.width, frame.height):
            now = time.monotonic()
            if len(self._changes) == CHANGES and now - self._changes[0] < CHANGES_WITHIN:
                raise SourceLimitError(f"its pictures change their size all the time, to {size} at last")
            self._changes.append(now)

    def _play(self, signals: Signals) -> None:
        said = False
        for frame in self._source.frames(self._writer):
            self._went_on()
            if self._stopping.is_set():
                return
            if frame is not None:
                self._check_size(frame)
                if self._writer.resize(frame.width, frame.height, frame.pixel_format):
                    said = False
                self._writer.write(frame.planes, frame.stamp)
            if not said and self._writer.flowing:
                said = True
                self._attempt = 0
                signals.wake()
                geometry = self._writer.geometry
                logger.info("live %dx%d source=%s", geometry.width, geometry.height, self._camera.source)
