"""What has been found of one camera: the way that its packets come, which of its tracks gives any, its pace.

It lasts as long as the decoder: sessions come and go.
"""

import logging
import time
from collections import deque

from framesrv.camera.attempts import ANSWER
from framesrv.settings import Camera

LOSSES, WITHIN = 20, 60.0  # holes between packets, in so many s, after which UDP is given up
AGAIN = 3600.0  # s after which that is done once more

logger = logging.getLogger(__name__)


class Experience:
    """With one camera.

    Attributes:
        transport: the way that is tried first, or that is in use.
        patience: seconds that a session may take to open.
        track: how many of the tracks that could be played are passed over, since they gave nothing.
        told: what has been said, and is not to be said again.
    """

    def __init__(self, camera: Camera) -> None:
        # packets beside a connection through TLS could be read by anybody
        auto = ("tcp",) if camera.source[:6].lower() == "rtsps:" else ("tcp", "udp")
        self._ways = auto if camera.transport == "auto" else (str(camera.transport),)
        self._timeout = camera.timeout
        self.transport = self._ways[0]
        self.patience = camera.timeout
        self.track = 0
        self.told: set[str] = set()
        self._proven: set[tuple[str, int]] = set()
        self._losses: deque[float] = deque(maxlen=LOSSES)
        self._given_up = -AGAIN

    @property
    def ways(self) -> list[str]:
        """Those that may be tried, `transport` first."""
        return [self.transport, *(way for way in self._ways if way != self.transport)]

    def agreed(self, way: str) -> None:
        """The camera has taken that way."""
        if way != self.transport:
            logger.info("RTP comes another way transport=%s instead_of=%s", way, self.transport)
        self.transport = way

    def late(self) -> None:
        """It is there, and has not answered within `patience`: it gets more."""
        self.patience = max(self._timeout, min(2 * self.patience, ANSWER))

    def came(self) -> None:
        """Packets come."""
        self._proven.add((self.transport, self.track))

    def fruitless(self, tracks: int) -> str:
        """No packet has come: what is tried next, in words; empty if it is the same again.

        Args:
            tracks: among which there is a choice.
        """
        if (self.transport, self.track) in self._proven:
            return ""
        self.track += 1
        if self.track < tracks:
            return "the next track is tried"
        self.track = 0
        others = self.ways[1:]
        if not others:
            return ""
        self.transport = others[0]
        return f"{self.transport.upper()} is tried"

    def missed(self) -> bool:
        """Packets are missing: whether UDP is to be given up for TCP."""
        if self.transport != "udp" or len(self._ways) == 1:
            return False
        now = time.monotonic()
        self._losses.append(now)
        many = len(self._losses) == LOSSES and now - self._losses[0] < WITHIN
        if not many or now - self._given_up < AGAIN:
            return False
        self._given_up = now
        self._losses.clear()
        self.transport = "tcp"
        return True
