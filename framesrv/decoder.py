"""One camera's decoder: a process that fills the camera's segment until it is told to end.

The main thread owns the segment's life and waits for signals; a second one decodes, so that a source that hangs in
a call of its own never keeps the process from ending.
"""

import logging
import os
import random
import signal
import threading

from framesrv.errors import SourceError
from framesrv.policy import Policy
from framesrv.settings import Camera, Settings
from framesrv.sources import Source, open_source
from framesrv.writer import FrameWriter

GRACE = 1.0  # s that the decoding thread gets to end by itself
FIRST_DELAY, LONGEST_DELAY = 0.25, 3.0  # s between attempts to reach a source

logger = logging.getLogger(__name__)


def decode(camera: Camera, settings: Settings) -> None:
    """Runs the camera's decoder until SIGTERM or SIGINT, then removes the segment.

    Raises:
        SegmentError: the segment cannot be made, another decoder has it, or shared memory is too small.
        SourceUsageError: the source string is none that can work.
    """
    source = open_source(camera, Policy(camera.decode))
    alarm = Alarm()
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
        ended = Decoder(camera, source, writer).run(alarm)
    if not ended:
        os._exit(0)  # the thread hangs in a library, which must not be taken down around it


class Alarm:
    """What the main thread sleeps on: SIGTERM, SIGINT, or another thread's call. Made before there is a segment."""

    def __init__(self) -> None:
        self._end, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)  # written to whichever thread the signal hits
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def ring(self) -> None:
        """Wakes the main thread."""
        os.write(self._wake, b"\0")

    def wait(self) -> None:
        """Sleeps until a signal has come or `ring` was called."""
        os.read(self._end, 1)


class Decoder:
    """The decoding thread and what becomes of it."""

    def __init__(self, camera: Camera, source: Source, writer: FrameWriter) -> None:
        self._camera = camera
        self._source = source
        self._writer = writer
        self._stopping = threading.Event()
        self._failure: Exception | None = None

    def run(self, alarm: Alarm) -> bool:
        """Decodes until the alarm rings; False if the decoding thread did not end.

        Raises:
            Exception: what ended the thread, where trying again does not mend it.
        """
        thread = threading.Thread(target=self._work, args=(alarm,), name="decode", daemon=True)
        thread.start()
        alarm.wait()
        self._stopping.set()
        thread.join(GRACE)
        if self._failure is not None:
            raise self._failure
        logger.info("decoder ended frames=%d", self._writer.frames)
        return not thread.is_alive()

    def _work(self, alarm: Alarm) -> None:
        try:
            self._follow()
        except Exception as error:  # noqa: BLE001  the thread's outermost: the main thread raises it
            self._failure = error
        finally:
            alarm.ring()

    def _follow(self) -> None:
        """Plays the source, and opens it again whenever it is lost."""
        attempt = 0
        said = ""
        while not self._stopping.is_set():
            try:
                self._play()
            except SourceError as error:
                reason = str(error)
            else:
                return
            if self._writer.flowing:
                attempt, said = 0, ""
                self._writer.count("reconnects")
            self._writer.connecting()
            self._writer.describe(error=reason)
            attempt += 1
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt, 16)) * random.uniform(0.5, 1)  # noqa: S311
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
            self._stopping.wait(delay)

    def _play(self) -> None:
        said = False
        for picture in self._source.pictures(self._writer):
            if self._stopping.is_set():
                return
            if picture is not None:
                if self._writer.resize(picture.width, picture.height, picture.pixel_format):
                    said = False
                self._writer.write(picture.planes, picture.stamp)
            if not said and self._writer.flowing:
                said = True
                geometry = self._writer.geometry
                logger.info("live %dx%d source=%s", geometry.width, geometry.height, self._camera.source)
