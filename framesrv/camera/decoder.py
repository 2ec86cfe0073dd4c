"""One camera's decoder: a process that fills the camera's segment until it is told to end.

The main thread owns the segment's life, waits for signals and speaks with the service manager; a second one decodes,
so that a source that hangs in a call of its own never keeps the process from ending, nor goes unnoticed.
"""

import logging
import os
import signal
import threading
import time
import traceback
from collections import deque
from contextlib import ExitStack, suppress

from framesrv.camera.attempts import ANSWER, LONG, UNFORESEEN, Attempts
from framesrv.camera.frozen import Frozen
from framesrv.camera.policy import Policy
from framesrv.camera.shaped_sink import ShapedSink
from framesrv.camera.sources import Source, SourceFrame, has_packets, open_source
from framesrv.camera.sources.size_limit import SizeLimit
from framesrv.codec.shape import Shape
from framesrv.errors import (
    FramesrvError,
    SegmentBusyError,
    SegmentError,
    SegmentOwnerError,
    SegmentSpaceError,
    SourceError,
    SourceLimitError,
)
from framesrv.history.file import HistoryFile
from framesrv.history.writer import HistoryWriter
from framesrv.log import mask
from framesrv.process.hang import Hang
from framesrv.process.notify import Notifier, Progress
from framesrv.process.repeats import Repeats
from framesrv.process.retry import pause_after
from framesrv.process.signals import Signals
from framesrv.segment.status import camera_status
from framesrv.segment.writer import FrameWriter
from framesrv.settings import Camera, Settings

KEPT_EVERY = 5.0  # s between two looks at the decoding thread, where no service manager wants to know
LOOK_EVERY = 1.0  # s between two looks at the names in shared memory
GRACE = 1.0  # s that the decoding thread gets to end by itself
RETRY = signal.SIGUSR1  # try the source again at once, see `framesrv retry`
CHANGES, CHANGES_WITHIN = 5, 60.0  # changes of size, in so many s: each makes a new segment

# How long the decoding thread may be silent before it counts as hung. A source notices a stall within twice its
# time-out, to open and to probe it are two such waits, and to close it is one.
RESOLVING = 30.0  # s that name servers take at most, see resolv.conf(5)
OPENCV_OPENING = 120.0  # s that OpenCV's own time-outs may add, where a backend does not know ours
MARGIN = 5.0  # s for a busy host

# OpenCV writes to standard error itself, at every attempt to reach a source and without the camera's code
QUIET = {"OPENCV_LOG_LEVEL": "OFF", "OPENCV_FFMPEG_LOGLEVEL": "-8"}

logger = logging.getLogger(__name__)


def run(camera: Camera, settings: Settings, *, kept: bool = False) -> None:
    """Runs the camera's decoder until SIGTERM or SIGINT, then removes the segment.

    Args:
        camera: the one, of one stream.
        settings: all of them.
        kept: by a process of ours, which starts it again: where its source hangs it ends itself.

    Raises:
        SegmentOwnerError: another user has the segment's name.
        SegmentError: the segment cannot be made, another decoder has it, or shared memory is too small.
        SourceUsageError: the source string is none that can work.
    """
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    signals, notifier = Signals(signal.SIGTERM, signal.SIGINT, RETRY), Notifier()  # before there is a segment
    with ExitStack() as stack:
        history = _history(camera, settings, stack)
        source = open_source(camera, Policy(camera.decode), history)
        writer = FrameWriter(
            camera.code,
            0,
            0,
            camera.pixel_format,
            slots=camera.slots,
            prefix=settings.shm.prefix,
            mode=settings.shm.permissions,
            group=settings.shm.group,
        )
        stack.enter_context(writer)
        writer.describe(decode=camera.decode, error="")
        decoder = Decoder(camera, settings.shm.prefix, source, writer, notifier, history, kept=kept)
        ended = decoder.run(signals)
    if not ended:
        os._exit(0)  # the thread hangs in a library, which must not be taken down around it


def _history(camera: Camera, settings: Settings, stack: ExitStack) -> HistoryWriter | None:
    """The camera's history, if it is to keep one; None where there is no room: pictures are worth more."""
    if not camera.history:
        with suppress(SegmentError):  # another user's file: no reader trusts it
            HistoryFile.remove_abandoned(settings.shm.prefix, camera.code)  # of a time when it kept one
        return None
    if not has_packets(camera.source):
        logger.warning("No history is kept: %s gives pictures, no packets", camera.source)
        return None
    shm = settings.shm
    try:
        history = HistoryWriter(
            camera.code,
            camera.history,
            camera.history_room,
            prefix=shm.prefix,
            mode=shm.permissions,
            group=shm.group,
        )
    except SegmentSpaceError as error:
        logger.error("No history is kept: %s", error)  # noqa: TRY400  a sentence
        return None
    stack.callback(history.close)
    return history


class Decoder:
    """The decoding thread and what becomes of it."""

    def __init__(
        self,
        camera: Camera,
        prefix: str,
        source: Source,
        writer: FrameWriter,
        notifier: Notifier,
        history: HistoryWriter | None = None,
        *,
        kept: bool = False,
    ) -> None:
        self._camera = camera
        self._history = history
        self._prefix = prefix
        self._source = source
        self._writer = writer
        self._notifier = notifier
        self._kept = kept
        self._progress = Progress()
        self._attempt = 0  # to reach the source, since it was lost
        self._looked_at = 0.0  # monotonic time
        self._starved_at: int | None = None  # frames there were when it was told last that every slot is pinned
        self._changes: deque[float] = deque(maxlen=CHANGES)  # monotonic times at which the size changed
        self._attempts = Attempts()
        self._limit = SizeLimit(camera)
        self._shape = Shape(camera.presentation)
        self._said = Repeats()
        self._frozen = Frozen()
        self._going_on = threading.Event()  # whoever waits for the next attempt does not any longer
        self._stopping = threading.Event()
        self._ended = False
        self._hang = Hang(logger)
        self._failure: Exception | None = None

    def run(self, signals: Signals) -> bool:
        """Decodes until a signal comes; False if the decoding thread did not end.

        Raises:
            Exception: what ended the thread, where trying again does not mend it.
        """
        thread = threading.Thread(target=self._work, args=(signals,), name="decode", daemon=True)
        thread.start()
        self._notifier.ready(self._status())
        interval = self._notifier.interval or (KEPT_EVERY if self._kept else None)
        while (heard := signals.wait(interval)) in (None, 0, RETRY) and not self._ended:
            if heard == RETRY:
                logger.info("asked to try the source again at once")
                self._going_on.set()
            self._tell(changed=heard is not None)
            if self._kept and self._progress.overdue:
                logger.error("Decoder hangs in its source %s: it ends, to be started again", self._camera.source)
                os._exit(1)  # the segment stays for the next one
        self._notifier.stopping("stopping" if self._failure is None else f"failed: {self._failure}")
        self._stopping.set()
        self._going_on.set()
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
        self._hang.tell(f"Decoder hangs in its source {self._camera.source}" if hangs else "")
        words = "hangs in its source" if hangs else self._status()
        if changed or hangs:
            self._notifier.status(words)
        if not hangs:
            self._notifier.alive(words)

    def _status(self) -> str:
        """How the camera does, in words."""
        now = camera_status(self._prefix, self._camera.code)
        self._starved_at = now.frames if now.pinned else None
        if now.state == "live":
            return now.reason or f"live {now.width}x{now.height}" + (f" {now.fps:.1f} fps" if now.fps else "")
        if now.state == "stalled":
            return "stalled, nothing comes"
        return f"reconnecting, attempt {self._attempt}: {now.error}" if self._attempt else "connecting"

    def _went_on(self, signals: Signals) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        self._progress.expect(LOOK_EVERY + 3 * self._camera.timeout + MARGIN)
        self._writer.keep_name()
        if self._history:
            self._history.keep_name()
        if self._starved_at not in (None, self._writer.frames):
            signals.wake()  # frames flow again, and the service manager does not know

    def _follow(self, signals: Signals) -> None:
        """Plays the source, and opens it again whenever it is lost."""
        opening = OPENCV_OPENING if self._camera.source.startswith("opencv:") else RESOLVING
        self._recover(signals)
        while not self._stopping.is_set():
            self._progress.expect(opening + 2 * ANSWER + 5 * self._camera.timeout + MARGIN)
            self._writer.keep_name()
            try:
                self._play(signals)
            except (SegmentBusyError, SegmentOwnerError):
                raise  # the camera is another's
            except Exception as error:  # noqa: BLE001  whatever it is: the camera may do better the next time
                self._lost(error, signals)
            else:
                return

    def _recover(self, signals: Signals) -> None:
        """Waits where decoders of this camera have ended one soon after the other, as of what it sends."""
        pause = pause_after(self._writer.crashes, UNFORESEEN[1])
        if not pause:
            return
        words = f"{self._writer.crashes} decoders before this one ended soon: waits {pause:.0f} s"
        logger.warning("%s", words)
        self._writer.describe(error=words)
        self._wait(pause, signals)

    def _lost(self, error: Exception, signals: Signals) -> None:
        """Tells that the source is lost, and waits until it is to be tried again."""
        if self._writer.flowing:
            self._attempts.reached()
            self._said.forget()
            self._writer.count("reconnects")
        self._writer.connecting()
        reason = str(error) if isinstance(error, FramesrvError) else f"{type(error).__name__}: {error}"
        delay = self._attempts.failed(error)
        at = f"; next try at {time.strftime('%H:%M:%S', time.localtime(time.time() + delay))}" if delay > LONG else ""
        cause = error.cause if isinstance(error, SourceError) else ""
        self._attempt = self._attempts.failures
        self._writer.describe(error=mask(reason) + at, cause=cause, attempts=self._attempt)
        unforeseen = not isinstance(error, FramesrvError)
        logger.log(
            logging.WARNING if self._said.is_news(reason) else logging.DEBUG,
            "no stream source=%s attempt=%d next_in=%.1fs: %s",
            self._camera.source,
            self._attempt,
            delay,
            reason,
            exc_info=error if unforeseen and self._said.is_news(f"traceback of {reason}") else None,
        )
        traceback.clear_frames(error.__traceback__)  # in a circle with the error they keep segments that have ended
        self._wait(delay, signals)

    def _wait(self, seconds: float, signals: Signals) -> None:
        """Until then, or until somebody wants it to go on."""
        self._progress.expect(seconds + MARGIN)
        signals.wake()
        self._going_on.wait(seconds)
        self._going_on.clear()

    def _check_size(self, frame: SourceFrame) -> None:
        """Raises SourceLimitError for a frame that is too large, or one of too many sizes."""
        self._limit.checked(frame.width, frame.height)
        geometry = self._writer.geometry
        if geometry.slots and (geometry.width, geometry.height) != (frame.width, frame.height):
            now = time.monotonic()
            if len(self._changes) == CHANGES and now - self._changes[0] < CHANGES_WITHIN:
                size = f"{frame.width}x{frame.height}"
                raise SourceLimitError(f"its pictures change their size all the time, to {size} at last")
            self._changes.append(now)

    def _compare(self, frame: SourceFrame) -> None:
        """Tells where the camera begins to repeat one picture, and where it does no longer."""
        was_frozen = self._frozen.since
        if not self._frozen.look(frame):
            return
        since = self._frozen.since
        self._writer.frozen(since)
        if since and not was_frozen:
            seconds = (frame.stamp.arrived_ns - since) / 1e9
            logger.warning("The camera has sent the same picture for %.0f s: it may hang, start it anew", seconds)
        elif not since:
            logger.info("The camera's picture changes again")

    def _play(self, signals: Signals) -> None:
        said = checked = False
        self._looked_at = 0.0
        for taken in self._source.frames(ShapedSink(self._writer, self._shape)):
            self._went_on(signals)
            if self._stopping.is_set():
                return
            if taken is not None:
                frame = self._shape.applied(taken)
                if not checked or not self._writer.fits(frame.width, frame.height, frame.pixel_format):
                    self._check_size(frame)
                    checked = True
                    if self._writer.resize(frame.width, frame.height, frame.pixel_format):
                        said = False
                self._writer.write(frame.planes, frame.stamp)
                self._compare(taken)
                del frame
            del taken  # both keep the codec's memory, also while no other comes
            if not said and self._writer.flowing:
                said = True
                self._attempt = 0
                self._writer.describe(attempts=0)
                signals.wake()
                geometry = self._writer.geometry
                logger.info("live %dx%d source=%s", geometry.width, geometry.height, self._camera.source)
