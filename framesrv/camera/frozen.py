"""Whether a camera repeats one picture: its encoder hangs, or its sensor, while the stream goes on.

A scene that stands still is not that: a sensor's noise changes every picture of it. So pictures are compared to the
bit, a few rows of one every two seconds. Key frames are compared with key frames and others with others, as a codec
refines a picture that stands still from one key frame to the next.
"""

import zlib
from dataclasses import dataclass

from framesrv.camera.sources import SourceFrame

EVERY = 2_000_000_000  # ns between looks
AFTER = 120_000_000_000  # ns of the same picture; where nothing moves, some cameras repeat one for a whole group
LOOKS = 3  # at the same picture, at least: on demand there are few
ROWS = 8  # one row of so many is compared; a clock drawn into the picture is higher


@dataclass(slots=True)
class _Run:
    """The same picture again and again.

    Attributes:
        digest: of its rows; None before the first.
        since: arrival of the first, by the monotonic clock, nanoseconds.
        looked: arrival of the newest.
        looks: how many.
    """

    digest: int | None = None
    since: int = 0
    looked: int = -EVERY
    looks: int = 0

    @property
    def is_long(self) -> bool:
        return self.looks >= LOOKS and self.looked - self.since >= AFTER


class Frozen:
    """Compares the pictures of one camera.

    Attributes:
        since: arrival of the first of the pictures that are all the same, by the monotonic clock in nanoseconds; 0
            while they change.
    """

    def __init__(self) -> None:
        self._runs = {True: _Run(), False: _Run()}
        self.since = 0

    def look(self, frame: SourceFrame) -> bool:
        """Whether `since` is another now, or 0."""
        arrived, key = frame.stamp.arrived_ns, frame.stamp.key_frame
        run, other = self._runs[key], self._runs[not key]
        if arrived - run.looked < EVERY:
            return False
        digest = _digest(frame)
        if digest != run.digest:
            run.digest, run.since, run.looks = digest, arrived, 0
            if arrived - other.looked > AFTER:  # there are none of these any more
                self._runs[not key] = _Run()
        run.looked = arrived
        run.looks += 1
        before, self.since = self.since, min((one.since for one in self._runs.values() if one.is_long), default=0)
        return self.since != before


def _digest(frame: SourceFrame) -> int:
    digest = frame.width << 16 | frame.height
    for row in frame.planes[0][::ROWS]:
        digest = zlib.crc32(row, digest)
    return digest
