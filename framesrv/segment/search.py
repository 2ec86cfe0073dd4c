"""`Search`: what one caller looks for on a camera, step by step, for whoever waits between the steps."""

import time
from types import TracebackType
from typing import Self

from framesrv.errors import FrameUnavailableError, Reason
from framesrv.segment.attachment import Attacher, Attachment, DemandLock
from framesrv.segment.frame import Frame

LIVENESS = 0.5  # s between looks at what cannot wake a waiter: a writer killed, a file removed by hand
NEVER = -1  # no futex word is that


class Search:
    """Looks for a frame fresh enough, and newer than the one that it found last.

    Its caller looks; where there is nothing, it asks, sleeps until the segment's futex word is no more `sequence`, or
    until there is a segment, and looks again. Within a ``with`` the decoder stays asked.

    Args:
        attacher: the way to the camera.
        max_age: seconds; None: any age.

    Attributes:
        attachment: what the last look was at; None where there was no segment.
        sequence: its futex word, as it was before that look.
    """

    def __init__(self, attacher: Attacher, max_age: float | None = None) -> None:
        self.attachment: Attachment | None = None
        self.sequence = 0
        self._attacher = attacher
        self._max_age = max_age
        self._began = time.monotonic_ns()
        self._origin: Attachment | None = None  # where the last frame was found, and its number
        self._last = 0
        self._demand = DemandLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def code(self) -> str:
        """The camera's."""
        return self._attacher.code

    @property
    def is_changed(self) -> bool:
        """Whether there may be something new in the segment since the last look."""
        attachment = self.attachment
        return attachment is not None and (attachment.segment.sequence != self.sequence or attachment.segment.retired)

    def close(self) -> None:
        """Asks for frames no more."""
        self._demand.give_up()

    def pass_over(self) -> None:
        """Takes the newest frame for one that was found already."""
        frame = self.look()
        if frame is not None:
            frame.release()

    def look(self) -> Frame | None:
        """Such a frame, pinned, if there is one now.

        Raises:
            SegmentError: the segment is damaged, of another version, or not for this user to read.
            ValueError: the reader is closed.
        """
        self.attachment = attachment = self._attacher.attached()
        if attachment is None:
            return None
        self.sequence = attachment.segment.sequence
        frame = attachment.newest()
        if frame is None or (attachment is self._origin and frame.seq <= self._last):
            return None
        is_fresh = self._max_age is None or frame.age <= attachment.fresh_for(self._max_age)
        if not is_fresh and frame.stamp.arrived_ns <= self._began:
            return None
        self._origin, self._last = attachment, frame.seq
        return frame

    def ask(self) -> None:
        """Asks the decoder for fresher frames, until this is closed."""
        if self.attachment is not None:
            self._demand.to(self.attachment)

    def check(self) -> None:
        """Leaves a segment that has lost its name, and looks for one: every `LIVENESS` seconds in which nothing came.

        Raises:
            SegmentError: as `look`.
        """
        if self.attachment is not None:
            self._attacher.look_for_another(self.attachment)
        attachment = self._attacher.attached()
        if attachment is not self.attachment:
            self.attachment, self.sequence = attachment, NEVER

    @property
    def reason(self) -> Reason:
        """Why there is no frame."""
        if self.attachment is None:
            return "absent"
        state = self.attachment.state
        return "stale" if state == "live" else state

    def unavailable(self) -> FrameUnavailableError:
        """The error that says why there is no frame."""
        segment = None if self.attachment is None else self.attachment.segment
        arrived = None if segment is None else segment.arrived
        age = None if arrived is None else (time.monotonic_ns() - arrived) / 1e9
        reason = self.reason
        sentence = {
            "absent": f"there is no {self._attacher.path}: its decoder was never started, or has been stopped",
            "down": "its decoder is not running",
            "connecting": "its decoder has no picture yet",
            "stalled": "its stream stands still",
            "stale": f"no {f'frame younger than {self._max_age} s' if self._max_age else 'new frame'} came in time",
        }[reason]
        old = "" if age is None else f"; the newest frame is {age:.1f} s old"
        because = f" ({segment.error})" if segment is not None and segment.error else ""
        cause = "" if segment is None else segment.cause
        words = f"camera {self.code}: {sentence}{because}{old}"
        return FrameUnavailableError(self.code, reason, words, age, cause)
