"""When pictures were captured whose camera does not tell, where they come in another order than they are shown in.

A picture comes after those that it refers to, be they shown before it or after. So its arrival says little of when it
is shown: what came soonest after its own time on the stream's clock says how far that clock is from the host's.
"""

from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.ticks import Tick

JUMP = 2_000_000_000  # ns by which the two clocks part where the stream's begins anew, or has stood still
DRIFT = 1000  # ns, of which clocks run apart by one at most: what came soonest counts less and less


class Presented:
    """Notes it with the packets of one stream, which have one time base."""

    def __init__(self) -> None:
        self._ahead: int | None = None  # of the stream's clock, the host's
        self._arrived = self._newest = 0
        self._reordered = False
        self._tick: Tick | None = None  # of the stream; a packet makes it anew each time

    def note(self, packet: Packet, arrival: Arrival) -> None:
        """Looks at a packet, and tells its arrival."""
        pts = packet.pts
        if pts is None or arrival.captured is not None:
            return
        if self._tick is None:
            if not packet.time_base:
                return
            self._tick = Tick.of(packet.time_base)
        at = self._tick.nanoseconds(pts)
        ahead = arrival.unix - at
        if self._ahead is None or not -JUMP < ahead - self._ahead < JUMP:
            self._ahead, self._newest = ahead, at
        else:
            self._ahead = min(ahead, self._ahead + (arrival.monotonic - self._arrived) // DRIFT)
        self._arrived = arrival.monotonic
        if at > self._newest:
            self._newest = at
        elif at < self._newest:
            self._reordered = True
        if self._reordered:
            arrival.presented = at + self._ahead
