"""What a writer does about readers that keep every slot pinned: it leaves them the segment, and makes another.

They keep the memory of theirs: of `KEPT` segments at most, and of each for `HELD` seconds, where more are needed.
"""

from time import monotonic

from framesrv.segment.holders import holders
from framesrv.segment.mapping import Segment

STARVED = 3.0  # s for which every slot may be pinned and no frame be published
KEPT = 2
HELD = 30.0  # s after which the oldest is cut short


class Starvation:
    """How long one writer has had no slot to fill, and the segments that it has given up for that."""

    def __init__(self) -> None:
        self._since = 0.0
        self._given_up: list[tuple[Segment, float]] = []

    def end(self) -> None:
        """Notes that a slot is free."""
        self._since = 0.0

    def is_due(self) -> bool:
        """Notes that none is; whether another segment is to be made now, for which there is room then."""
        now = monotonic()
        self._since = self._since or now
        if now - self._since < STARVED:
            return False
        self._since = now  # whatever comes of it: not again at once
        self.free()
        if len(self._given_up) >= KEPT:
            oldest, since = self._given_up[0]
            if now - since < HELD:
                return False
            oldest.cut_short()
            oldest.close()
            del self._given_up[0]
        return True

    def give_up(self, segment: Segment) -> None:
        """Leaves a retired segment to its readers."""
        self._given_up.append((segment, monotonic()))

    def free(self) -> None:
        """Gives back the memory of segments given up that nobody has pinned any more."""
        if not self._given_up:
            return
        kept = []
        for segment, since in self._given_up:
            if segment.empty():
                segment.close()
            else:
                kept.append((segment, since))
        self._given_up = kept

    def close(self) -> None:
        """Leaves everything given up to its readers for good."""
        for segment, _ in self._given_up:
            segment.close()
        self._given_up = []


def pinning(segment: Segment) -> str:
    """The processes that pin slots of a segment, in words."""
    return ", ".join(map(str, holders(segment.fd, segment.slot_bytes))) or "processes that this user may not see"
