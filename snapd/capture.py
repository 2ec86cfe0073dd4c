"""One picture for all the requests that arrive together.

A `Capture` is a picture that will be taken when the first of its requests gets to it. Requests for the same
camera join it until then; from then on the next one gets a capture of its own, so that nobody is given a
frame that was pinned before his request arrived.
"""

import threading

from framesrv import FrameReader, FramesrvError
from snapd.encoder import Encoder, Picture


class Capture:
    """A picture of one camera, taken once, whoever asks first."""

    def __init__(self, captures: "Captures", code: str) -> None:
        self.code = code
        self._captures = captures
        self._lock = threading.Lock()
        self._outcome: Picture | FramesrvError | None = None

    def picture(self) -> Picture:
        """The picture; the first call takes it and the others wait for that.

        Raises:
            FramesrvError: the camera gave no frame (FrameUnavailableError), or its segment is unusable.
        """
        with self._lock:
            if self._outcome is None:
                self._captures.close_to_others(self)
                try:
                    self._outcome = self._captures.take(self.code)
                except FramesrvError as error:
                    self._outcome = error
        if isinstance(self._outcome, Picture):
            return self._outcome
        raise self._outcome


class Captures:
    """The captures of all cameras, and the readers they use, which are kept.

    Args:
        encoder: makes the pictures.
        prefix: of the segments' names.
        max_age: seconds; an older frame is not taken.
        wait: seconds to wait for one.
    """

    def __init__(self, encoder: Encoder, *, prefix: str, max_age: float, wait: float) -> None:
        self._encoder = encoder
        self._prefix = prefix
        self._max_age = max_age
        self._wait = wait
        self._lock = threading.Lock()
        self._open: dict[str, Capture] = {}
        self._readers: dict[str, FrameReader] = {}

    def join(self, code: str) -> Capture:
        """The capture of that camera which has not begun yet, or a new one."""
        with self._lock:
            capture = self._open.get(code)
            if capture is None:
                capture = self._open[code] = Capture(self, code)
            return capture

    def close_to_others(self, capture: Capture) -> None:
        """Nobody joins `capture` any more."""
        with self._lock:
            if self._open.get(capture.code) is capture:
                del self._open[capture.code]

    def take(self, code: str) -> Picture:
        """A picture of the camera now. Raises FrameUnavailableError or another FramesrvError."""
        frame = self._reader(code).latest(max_age=self._max_age, timeout=self._wait)
        return self._encoder.picture(frame)

    def close(self) -> None:
        """Detaches from every segment."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()

    def _reader(self, code: str) -> FrameReader:
        with self._lock:
            reader = self._readers.get(code)
            if reader is None:
                reader = self._readers[code] = FrameReader(code, prefix=self._prefix)
            return reader
