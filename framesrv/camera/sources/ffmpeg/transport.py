"""Which way RTP comes from an RTSP camera: as the configuration says, or what has been found to work.

TCP loses nothing, so it is tried first. Some cameras refuse it, and some networks let nothing else through.
"""

import logging
import socket
import time
from collections import deque

from framesrv.settings import Camera

NAMES = {"tcp": "tcp", "udp": "udp", "multicast": "udp_multicast", "http": "http"}  # FFmpeg's rtsp_transport
DATAGRAMS = ("udp", "multicast")
BUFFER = 4 * 2**20  # bytes to receive into: the kernel counts more than twice the bytes of a packet
LOSSES, WITHIN = 20, 60.0  # packets with a hole, in so many s, after which UDP is given up
AGAIN = 3600.0  # s after which that is tried once more

logger = logging.getLogger(__name__)


class Transport:
    """The ways of one camera, and what is known of each.

    Attributes:
        current: the way that is tried first, or that is in use.
    """

    def __init__(self, camera: Camera) -> None:
        ways = ("tcp",) if camera.source.lower().startswith("rtsps:") else ("tcp", "udp")
        self._ways = ways if camera.transport == "auto" else (camera.transport,)
        self.current = self._ways[0]
        self._proven: set[str] = set()
        self._losses: deque[float] = deque(maxlen=LOSSES)
        self._given_up = -AGAIN
        self._said = False

    @property
    def ways(self) -> list[str]:
        """Those that may be tried, `current` first."""
        return [self.current, *(way for way in self._ways if way != self.current)]

    def options(self, way: str) -> dict[str, str]:
        """FFmpeg's, for that way."""
        options = {"rtsp_transport": NAMES[way]}
        if way in DATAGRAMS:
            self._look_at_the_kernel()
            return options | {"buffer_size": str(BUFFER)}
        # nothing is reordered there, but without a queue no loss is told of
        return options | {"reorder_queue_size": "2"}

    def taken(self, way: str) -> None:
        """The camera has taken that way."""
        if way != self.current:
            logger.info("RTP comes another way transport=%s instead_of=%s", way, self.current)
        self.current = way

    def works(self) -> None:
        """Packets have come."""
        self._proven.add(self.current)

    def fruitless(self) -> str:
        """No packet has come: the way that is tried next, empty if it is the same."""
        others = self.ways[1:]
        if not others or self.current in self._proven:
            return ""
        self.current = others[0]
        return self.current

    def lost(self) -> bool:
        """A packet has a hole: whether UDP is to be given up for TCP."""
        if self.current != "udp" or len(self._ways) == 1:
            return False
        now = time.monotonic()
        self._losses.append(now)
        many = len(self._losses) == LOSSES and now - self._losses[0] < WITHIN
        if not many or now - self._given_up < AGAIN:
            return False
        self._given_up = now
        self._losses.clear()
        self.current = "tcp"
        return True

    def _look_at_the_kernel(self) -> None:
        """Says once if the kernel lets a socket have less than `BUFFER`."""
        if self._said:
            return
        self._said = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            allowed = (
                one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            )  # it doubles what it is told, socket(7)
        if allowed < BUFFER:
            logger.warning(
                "The kernel lets a socket keep %d bytes, so key frames may be lost over UDP: "
                "sysctl net.core.rmem_max=%d",
                allowed,
                BUFFER,
            )
