"""One picture for all the requests that arrive together.

A `Capture` is a picture that will be taken when the first of its requests gets to it. Requests for the same
camera, and for a picture of the same form, join it until its frame is pinned; from then on the next one gets a
capture of its own, so that nobody is given a frame that was pinned before his request arrived.

A camera that gave no frame in time is not waited for again until it gives one, but for a request now and
then: else requests for a few dead cameras would hold every worker.

Of a camera on demand only a frame that has arrived after the request will do: its newest one may be from the
last time that somebody looked. Its decoder has to catch up then, which takes a core for a while. So no more do
at a time than that helps, in the order of their requests, however many workers there are.
"""

import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace

from framesrv import Frame, FrameReader, FramesrvError, FrameUnavailableError
from framesrv.process.breaker import Breaker
from framesrv.settings import ShmSettings
from snapd.pictures.encoder import Encoder, Jpeg
from snapd.pictures.turns import Turns
from snapd.wire.form import AS_IT_IS, Form

BRIEFLY = 0.02  # s to wait for a camera that is known to fail; enough to find a new segment of it
SLOWEST = 15.0  # s that a slow camera on demand is waited for
TRY_EVERY = 10.0  # s between requests that wait for such a camera as long as for any other
FLOWS = 0.1  # s; a camera on demand with a frame that is no older is decoded already
# cameras that catch up at a time; with three on two cores that others used as well, forty at once took twice as long
PLACES = 4 * len(os.sched_getaffinity(0))
LONGEST = 1.0  # s that a camera counts as one of them


class Capture:
    """A picture of one camera in one form, taken once, whoever asks first."""

    def __init__(self, captures: "Captures", code: str, form: Form) -> None:
        self.code = code
        self.form = form
        self._captures = captures
        self._lock = threading.Lock()
        self._outcome: Jpeg | FramesrvError | None = None

    @property
    def key(self) -> tuple[str, Form]:
        """What is the same for all that join it."""
        return self.code, self.form

    def picture(self) -> Jpeg:
        """The picture; the first call takes it and the others wait for that, with no time of converting or encoding.

        Raises:
            FramesrvError: the camera gave no frame (FrameUnavailableError), its segment is unusable, or the picture
                cannot be made in that form (CropError, EncoderError).
        """
        with self._lock:
            shared = self._outcome is not None
            if self._outcome is None:
                try:
                    self._outcome = self._captures.take(self)
                except FramesrvError as error:
                    self._outcome = error
                finally:
                    self._captures.close_to_others(self)
        if isinstance(self._outcome, Jpeg):
            return replace(self._outcome, converted=0.0, encoded=0.0) if shared else self._outcome
        raise self._outcome


class Captures:
    """The captures of all cameras, and the readers they use, which are kept until nobody has a capture any more.

    Args:
        encoder: makes the pictures.
        shm: how segments are named, and whose are read.
        max_age: seconds; an older frame is not taken.
        wait: seconds to wait for one.
        on_demand: the codes of cameras that decode on demand.
        processes: that have cameras catch up on this host, of which this is one.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        shm: ShmSettings,
        max_age: float,
        wait: float,
        on_demand: Collection[str] = (),
        processes: int = 1,
    ) -> None:
        self._encoder = encoder
        self._shm = shm
        self._max_age = max_age
        self._wait = wait
        self._on_demand = frozenset(on_demand)
        self._lock = threading.Lock()
        self._open: dict[tuple[str, Form], Capture] = {}
        self._readers: dict[str, FrameReader] = {}
        self._finalizer = weakref.finalize(self, _detach, self._readers)
        self._turns = Turns(places(processes), longest=LONGEST)
        self._breakers: defaultdict[str, Breaker] = defaultdict(lambda: Breaker(pause=TRY_EVERY))

    def join(self, code: str, form: Form = AS_IT_IS) -> Capture:
        """The capture of that camera, in that form, which has no frame yet, or a new one."""
        with self._lock:
            capture = self._open.get((code, form))
            if capture is None:
                capture = self._open[code, form] = Capture(self, code, form)
            return capture

    def close_to_others(self, capture: Capture) -> None:
        """Nobody joins `capture` any more."""
        with self._lock:
            if self._open.get(capture.key) is capture:
                del self._open[capture.key]

    def take(self, capture: Capture) -> Jpeg:
        """A picture of the camera now. Raises FrameUnavailableError or another FramesrvError."""
        with self._lock:
            breaker = self._breakers[capture.code]
        call = breaker.begin()
        if call.probe:
            self.close_to_others(capture)  # of a failing camera's requests, one at a time waits
        failed = True
        try:
            frame = self._frame(capture.code, min(BRIEFLY, self._wait) if call.refused else self._wait)
            failed = False
        finally:
            breaker.end(call, failed=failed)
        self.close_to_others(capture)
        return self._encoder.jpeg(frame, capture.code, capture.form)

    def at(self, code: str, form: Form, moment: float) -> Jpeg:
        """A picture of what the camera showed at a moment, in Unix seconds.

        Raises:
            HistoryUnavailableError: that is not known.
            FramesrvError: otherwise, as `Capture.picture`.
        """
        frame = self._reader(code).at(moment, tolerance=self._max_age, timeout=self._wait)
        return self._encoder.jpeg(frame, code, form)

    def _frame(self, code: str, wait: float) -> Frame:
        reader = self._reader(code)
        if code not in self._on_demand:
            return reader.latest(max_age=self._max_age, timeout=wait)
        due_after = reader.due_after
        if due_after or self._flows(reader):  # a slow one has little to catch up with, and waits for its packet
            return self._fresh(reader, max(wait, min(due_after, SLOWEST)))
        with self._turns.turn(patience=wait):
            return self._fresh(reader, wait)

    def _flows(self, reader: FrameReader) -> bool:
        """Whether a camera on demand is decoded at this moment."""
        try:
            reader.latest(max_age=FLOWS, timeout=0).release()
        except FrameUnavailableError:
            return False
        return True

    def _fresh(self, reader: FrameReader, wait: float) -> Frame:
        """A frame that has arrived after this question: it is decoded with the next packet."""
        try:
            return reader.latest(max_age=0, timeout=wait)
        except FrameUnavailableError as error:
            if error.reason != "stale" or wait >= self._wait:
                raise
        return reader.latest(max_age=0, timeout=self._wait)  # it is there again, and decoding takes its time

    def close(self) -> None:
        """Detaches from every segment."""
        with self._lock:
            self._finalizer()

    def _reader(self, code: str) -> FrameReader:
        with self._lock:
            reader = self._readers.get(code)
            if reader is None:
                reader = self._readers[code] = FrameReader(code, prefix=self._shm.prefix, owner=self._shm.owner)
            return reader


def places(processes: int) -> int:
    """Turns that each of so many processes gives at a time: together those of a host, one each at the least."""
    return -(-PLACES // processes)


def _detach(readers: dict[str, FrameReader]) -> None:
    for reader in readers.values():
        reader.close()
    readers.clear()
